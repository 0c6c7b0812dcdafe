"""Metrics: exact numbers, a bounded number of series, cheap counting."""

from __future__ import annotations

import timeit
from typing import TYPE_CHECKING

import msgspec
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from mqttbridge.model import Counts
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
        self.metrics = Metrics(lambda: self.counts, lambda: self.states, lambda: self.health)

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
    names = {name for name, _ in world.scrape()}
    labels = {label for _, pairs in world.scrape() for label, _ in pairs}
    assert labels == {"source", "reason", "connection", "outcome", "state"}
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
