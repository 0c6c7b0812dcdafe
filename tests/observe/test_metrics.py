"""Metrics: exact numbers, a bounded number of series, cheap counting."""

from __future__ import annotations

import timeit
from typing import TYPE_CHECKING

import msgspec
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mqttbridge.model import Counts, DownlinkOutcome
from mqttbridge.observe.metrics import REJECTIONS, STATES, Metrics, Taken

if TYPE_CHECKING:
    from collections.abc import Mapping


class Health(msgspec.Struct):
    """What the journal gives."""

    problem: str = ""
    size: int = 4096
    max_size: int = 2**30


class World:
    """The parts that metrics are read from."""

    def __init__(self) -> None:
        self.counts: dict[str, Counts] = {}
        self.states: dict[str, str] = {}
        self.health = Health()
        self.waiting: dict[str, int] = {}
        self.metrics = Metrics(lambda: self.counts, lambda: self.states, lambda: self.health, lambda: self.waiting)

    def scrape(self) -> Mapping[tuple[str, frozenset[tuple[str, str]]], float]:
        """Read the page as Prometheus does."""
        text = self.metrics.render()[0].decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float | None:
        """Read one number."""
        return self.scrape().get((name, frozenset(labels.items())))


@pytest.fixture
def world() -> World:
    return World()


def test_what_sources_count_is_on_the_page(world: World) -> None:
    world.metrics.accepted("lrc")
    world.metrics.accepted("lrc", 41)
    world.metrics.accepted("ns", 7)
    world.metrics.rejected("lrc", "unauthorised", 3)
    world.metrics.unrouted("ns", 2)
    assert world.value("mqttbridge_source_uplinks_accepted_total", source="lrc") == 42
    assert world.value("mqttbridge_source_uplinks_accepted_total", source="ns") == 7
    assert world.value("mqttbridge_source_uplinks_rejected_total", source="lrc", reason="unauthorised") == 3
    assert world.value("mqttbridge_source_uplinks_unrouted_total", source="ns") == 2


def test_the_reasons_are_a_fixed_set(world: World) -> None:
    for number in range(100):
        world.metrics.rejected("lrc", f"reason {number}")
    assert world.value("mqttbridge_source_uplinks_rejected_total", source="lrc", reason="other") == 100


def test_an_announced_source_stands_there_with_zeros_and_keeps_what_it_counted(world: World) -> None:
    world.metrics.accepted("lrc", 5)
    world.metrics.announce("lrc")
    assert world.value("mqttbridge_source_uplinks_accepted_total", source="lrc") == 5
    assert world.value("mqttbridge_source_uplinks_unrouted_total", source="lrc") == 0
    for reason in REJECTIONS:
        assert world.value("mqttbridge_source_uplinks_rejected_total", source="lrc", reason=reason) == 0


def test_the_account_of_a_connection_adds_up(world: World) -> None:
    world.counts["acme"] = Counts(routed=100, delivered=60, expired=5, parked=3, dropped=2)
    scraped = world.scrape()
    account = {
        dict(labels)["outcome"]: value
        for (name, labels), value in scraped.items()
        if name == "mqttbridge_connection_uplinks_total"
    }
    queued = world.value("mqttbridge_connection_uplinks_queued", connection="acme")
    assert account == {"routed": 100, "delivered": 60, "expired": 5, "parked": 3, "dropped": 2}
    assert queued == 30
    assert account.pop("routed") == sum(account.values()) + queued


def test_a_connection_has_one_state(world: World) -> None:
    world.states["acme"] = "UNREACHABLE"
    for state in STATES:
        expected = 1 if state == "UNREACHABLE" else 0
        assert world.value("mqttbridge_connection_state", connection="acme", state=state) == expected


def test_the_journal_shows_its_size_and_its_health(world: World) -> None:
    assert world.value("mqttbridge_journal_size_bytes") == 4096
    assert world.value("mqttbridge_journal_max_size_bytes") == 2**30
    assert world.value("mqttbridge_journal_healthy") == 1
    world.health.problem = "the disk is full"
    assert world.value("mqttbridge_journal_healthy") == 0


def test_the_process_is_on_the_page(world: World) -> None:
    assert (world.value("process_resident_memory_bytes") or 0) > 1_000_000
    assert (world.value("process_open_fds") or 0) > 0


def test_what_is_gone_leaves_the_page(world: World) -> None:
    world.counts["acme"] = Counts(routed=1)
    world.states["acme"] = "OPENED"
    before = len(world.scrape())
    world.counts.clear()
    world.states.clear()
    assert len(world.scrape()) == before - len(STATES) - 6


def test_odd_ids_are_escaped(world: World) -> None:
    odd = 'a"b\\c\nd'
    world.counts[odd] = Counts(routed=1)
    assert world.value("mqttbridge_connection_uplinks_queued", connection=odd) == 1


def test_no_label_names_a_device_and_no_series_tells_its_birth(world: World) -> None:
    world.metrics.announce("lrc")
    world.counts["acme"] = Counts(routed=1)
    world.states["acme"] = "OPENED"
    world.metrics.certificates = lambda: {"connection acme": 1}
    names = {name for name, _ in world.scrape()}
    labels = {label for _, pairs in world.scrape() for label, _ in pairs}
    assert labels == {"source", "reason", "connection", "outcome", "state", "owner"}
    assert not [name for name in names if name.endswith("_created")]


def test_the_page_is_in_the_text_format() -> None:
    page, content_type = World().metrics.render()
    assert content_type.startswith("text/plain; version=0.0.4")
    assert page.endswith(b"\n")


def test_two_daemons_in_one_process_do_not_share_and_the_global_registry_stays_clean() -> None:
    first, second = World(), World()
    first.metrics.accepted("lrc")
    assert second.value("mqttbridge_source_uplinks_accepted_total", source="lrc") is None
    assert not [family.name for family in REGISTRY.collect() if family.name.startswith("mqttbridge")]


def test_counting_a_batch_costs_less_than_two_microseconds(world: World) -> None:
    rounds = 500
    best = min(timeit.repeat(lambda: world.metrics.rejected("lrc", "malformed", 3), number=rounds, repeat=200))
    assert best / rounds < 2e-6


def test_what_each_source_brought_is_given_with_the_time_of_its_last_uplink() -> None:
    metrics = World().metrics
    metrics.announce("silent")
    metrics.accepted("lrc", 2, at=1000)
    metrics.accepted("lrc", 3, at=2000)
    metrics.accepted("lrc", 0, at=3000)
    metrics.rejected("lrc", "malformed")
    metrics.rejected("lrc", "unauthorised", 4)
    assert metrics.taken() == {"silent": Taken(), "lrc": Taken(5, 5, 2000)}


def test_what_a_reload_takes_away_leaves_the_page_and_what_stays_keeps_its_numbers(world: World) -> None:
    for source in ("lrc", "ns"):
        world.metrics.announce(source)
        world.metrics.accepted(source, 5, at=1)
        world.metrics.missing(source, 2)
        world.metrics.rejected(source, "malformed")
        world.metrics.downlinks.downlink_retried(source)
    world.metrics.forget("ns")
    world.metrics.announce("lrc")
    assert {dict(labels).get("source") for _, labels in world.scrape()} == {None, "", "lrc"}
    assert world.value("mqttbridge_source_uplinks_accepted_total", source="lrc") == 5
    assert world.value("mqttbridge_uplinks_missing_total", source="lrc") == 2
    assert world.value("mqttbridge_source_uplinks_rejected_total", source="lrc", reason="malformed") == 1
    assert world.value("mqttbridge_source_downlinks_retried_total", source="lrc") == 1
    assert set(world.metrics.taken()) == {"lrc"}


def test_a_source_that_is_gone_is_not_shown_again_by_what_it_had_under_way(world: World) -> None:
    world.metrics.announce("ns")
    world.metrics.forget("ns")
    world.metrics.accepted("ns", 3, at=1)
    assert world.value("mqttbridge_source_uplinks_accepted_total", source="ns") is None
    assert "ns" not in world.metrics.taken()
    world.metrics.announce("ns")
    world.metrics.accepted("ns", 1, at=2)
    assert world.value("mqttbridge_source_uplinks_accepted_total", source="ns") == 1
    assert world.metrics.taken() == {"ns": Taken(1, 0, 2)}


def test_the_downlinks_of_a_connection_that_is_gone_are_shown_while_anything_waits_for_it(world: World) -> None:
    downlinks = world.metrics.downlinks
    name = "mqttbridge_connection_downlinks_received_total"
    for connection in ("acme", "waits", "empty"):
        downlinks.announce(connection)
        downlinks.downlink_received(connection, 4)
    world.counts["acme"] = Counts(routed=1)
    world.waiting["waits"] = 1
    for connection in ("acme", "waits", "empty"):
        downlinks.forget(connection)
    assert [world.value(name, connection=each) for each in ("acme", "waits", "empty")] == [4, 4, None]
    downlinks.downlink_ended("waits", DownlinkOutcome.QUEUED)
    world.counts["acme"] = Counts(routed=1, expired=1)
    assert [world.value(name, connection=each) for each in ("acme", "waits")] == [None, 4]
    assert world.value("mqttbridge_connection_uplinks_total", connection="acme", outcome="expired") == 1
    assert world.value("mqttbridge_connection_downlinks_total", connection="waits", outcome="queued") == 1


def test_a_connection_that_comes_back_in_time_goes_on_with_its_numbers(world: World) -> None:
    downlinks = world.metrics.downlinks
    downlinks.announce("acme")
    downlinks.downlink_received("acme", 4)
    downlinks.forget("acme")
    downlinks.announce("acme")
    downlinks.downlink_received("acme")
    assert world.value("mqttbridge_connection_downlinks_received_total", connection="acme") == 5


def test_a_reload_that_fails_keeps_the_time_of_the_last_that_did_not(world: World) -> None:
    last, taken_at = (
        "mqttbridge_config_last_reload_successful",
        "mqttbridge_config_last_reload_success_timestamp_seconds",
    )
    assert (world.value(last), world.value(taken_at)) == (None, None)
    world.metrics.reloaded(ok=False, at=500)
    assert (world.value(last), world.value(taken_at)) == (0, None)
    world.metrics.reloaded(ok=True, at=1_700_000_000_500)
    assert (world.value(last), world.value(taken_at)) == (1, 1_700_000_000.5)
    world.metrics.reloaded(ok=False, at=1_800_000_000_000)
    assert (world.value(last), world.value(taken_at)) == (0, 1_700_000_000.5)


def test_what_others_know_is_read_at_each_scrape_once_they_are_named(world: World) -> None:
    lost = [7]
    assert world.value("mqttbridge_history_lost_total") is None
    world.metrics.history_lost = lambda: lost[0]
    world.metrics.parked_kept = lambda: {"acme": 3}
    world.metrics.certificates = lambda: {"connection acme": 1.8e9}
    assert world.value("mqttbridge_history_lost_total") == 7
    assert world.value("mqttbridge_uplinks_parked_kept", connection="acme") == 3
    assert world.value("mqttbridge_certificate_expiry_timestamp_seconds", owner="connection acme") == 1.8e9
    lost[0] = 8
    assert world.value("mqttbridge_history_lost_total") == 8
