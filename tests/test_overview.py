"""What GET /status shows, from parts that the test plays, with a clock whose hands it turns."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from mqttbridge.control.figures import SAMPLE_EVERY
from mqttbridge.downlinks.dispatch import DispatchStatus
from mqttbridge.journal.protocol import JournalHealth
from mqttbridge.model import Counts
from mqttbridge.observe.metrics import Metrics
from mqttbridge.overview import Overview, Remarks
from mqttbridge.sessions.machine import State
from mqttbridge.sessions.runner import SessionStatus
from mqttbridge.sources.mqtt import SourceStatus
from tests.settings.helpers import loaded

if TYPE_CHECKING:
    from pathlib import Path

    from mqttbridge.control import status as shown
    from mqttbridge.parts import Parts

NOW = 1_770_000_000_000
HOUR = 3600
REFUSED = "connection refused"


class Is:
    """A part that is as the test says."""

    def __init__(self, status: object) -> None:
        self.now = status

    def status(self) -> object:
        return self.now


class World:
    """A daemon without anything in it."""

    def __init__(self, directory: Path, connections: int = 1) -> None:
        self.wall, self.mono = NOW, 1000.0
        self.ids = [f"c{number}" for number in range(connections)]
        one = "configuration: {hostName: h, protocol: TCP, downlinkTopicPattern: 'd/{DevEUI}'}"
        lines = [f"  {name}: {{{one}}}" for name in self.ids]
        self.loaded = loaded(
            directory,
            "\n".join(
                [
                    "sources:",
                    "  lrc: {transport: http}",
                    "  ns: {transport: mqtt, hostName: h, protocol: TCP, topics: [a]}",
                    "connections:",
                    *lines,
                    "  off: {active: false, configuration: {hostName: h, protocol: TCP}}",
                ]
            ),
        )
        self.accounts: dict[str, Counts] = {}
        self.received: dict[str, int] = {}
        self.down: dict[str, int] = {}
        self.sessions = {name: Is(SessionStatus(State.OPENED, self.mono, "", None, 0)) for name in self.ids}
        self.source = Is(SourceStatus(open=True, since=self.mono, why=""))
        self.dispatcher = Is(DispatchStatus("", 0))
        self.metrics = Metrics(dict, dict, self.health)
        for source in ("lrc", "ns"):
            self.metrics.announce(source)
        self.attention: tuple[str, ...] = ()
        self.parked: dict[str, int] = {}
        self.low_rate: dict[str, str] = {}
        self.overview = Overview(
            self.loaded.path, cast("Any", self), lambda: self.down, metrics=self.metrics, clock=self
        )

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.mono

    def counts(self) -> dict[str, Counts]:
        return dict(self.accounts)

    def oldest(self, name: str) -> int | None:
        return self.received.get(name)

    def health(self) -> JournalHealth:
        return JournalHealth("", 4096, 2**30)

    def passes(self, seconds: float, **totals: tuple[int, int]) -> None:
        """Let time pass; of each connection so many are routed and delivered a second."""
        for _ in range(round(seconds / SAMPLE_EVERY)):
            self.mono += SAMPLE_EVERY
            self.wall += round(SAMPLE_EVERY * 1000)
            for name, (routed, delivered) in totals.items():
                counts = self.accounts.get(name, Counts())
                self.accounts[name] = msgspec.structs.replace(
                    counts,
                    routed=counts.routed + round(routed * SAMPLE_EVERY),
                    delivered=counts.delivered + round(delivered * SAMPLE_EVERY),
                )
            self.overview.sample()

    def status(self, *reasons: str) -> shown.Status:
        parts = SimpleNamespace(
            sessions=self.sessions, sources={"ns": self.source}, dispatchers={"lrc": self.dispatcher}
        )
        remarks = Remarks(reasons, self.attention, self.parked, self.low_rate)
        return self.overview.status(self.loaded, cast("Parts", parts), remarks)

    def one(self, name: str = "c0") -> shown.ConnectionStatus:
        return next(one for one in self.status().connections if one.id == name)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def at(world: World, seconds: float) -> datetime:
    """Give the wall time in so many seconds."""
    return datetime.fromtimestamp((world.wall + seconds * 1000) / 1000, UTC)


def test_a_daemon_in_which_nothing_is_wrong_is_well(world: World) -> None:
    world.passes(60, c0=(5, 5))
    status = world.status()
    assert status.ok
    assert [one.id for one in status.connections] == ["c0", "off"]
    assert [one.transport for one in status.sources] == ["http", "mqtt"]
    assert (status.started, status.now) == (at(world, -60), at(world, 0))
    assert not world.status("journal: the disk is full").ok


def test_rates_are_those_of_the_last_minute(world: World) -> None:
    assert world.one().rates is None
    world.passes(100, c0=(50, 50))
    world.passes(60, c0=(10, 5))
    rates = world.one().rates
    assert rates is not None
    assert (rates.routed, rates.delivered) == (10, 5)


def test_one_that_is_not_open_says_why_since_when_and_when_it_tries_again(world: World) -> None:
    world.passes(200)
    down = SessionStatus(State.UNREACHABLE, world.mono - 5, REFUSED, world.mono + 30, 0, "", 4, world.mono - 100)
    world.sessions["c0"] = Is(down)
    one = world.one()
    assert (one.ok, one.state, one.why, one.attempts) == (False, "UNREACHABLE", REFUSED, 4)
    assert (one.since, one.down_since, one.retry_at) == (at(world, -5), at(world, -100), at(world, 30))
    assert not world.status().ok


def test_the_outlook_of_one_that_is_not_open_counts_what_expires_until_the_next_try(world: World) -> None:
    world.accounts["c0"] = Counts(routed=1000)
    world.received["c0"] = world.wall - 72 * HOUR * 1000
    world.sessions["c0"] = Is(SessionStatus(State.UNREACHABLE, 0, REFUSED, world.mono + 7.2 * HOUR, 0, "", 9, 0))
    one = world.one()
    assert (one.drain_seconds, one.expiring, one.expires) == (None, 100, at(world, 0))
    world.sessions["c0"] = Is(SessionStatus(State.CLOSED, 0, REFUSED, None, 0, "", 9, 0))
    assert world.one().expiring == 1000, "it does not try again"


def test_one_that_catches_up_says_when_it_is_done(world: World) -> None:
    world.accounts["c0"] = Counts(routed=100_000)
    world.received["c0"] = world.wall - HOUR * 1000
    world.passes(100, c0=(10, 110))
    one = world.one()
    assert (one.ok, one.queued, one.expiring) == (True, 90_000, 0)
    assert one.drain_seconds == pytest.approx(900)


def test_what_was_before_it_opened_does_not_make_it_look_slow(world: World) -> None:
    world.accounts["c0"] = Counts(routed=100_000)
    world.received["c0"] = world.wall - HOUR * 1000
    world.passes(58)
    world.sessions["c0"] = Is(SessionStatus(State.OPENED, world.mono, "", None, 100))
    assert (world.one().drain_seconds, world.one().expiring, world.one().ok) == (None, None, True)
    world.passes(10, c0=(0, 1000))
    assert world.one().drain_seconds == pytest.approx(90)


def test_one_that_takes_less_than_comes_needs_attention_once_it_is_behind(world: World) -> None:
    world.passes(60, c0=(100, 50))
    world.received["c0"] = world.wall - 30_000
    assert world.one().ok
    world.received["c0"] = world.wall - 90_000
    one = world.one()
    assert (one.ok, one.drain_seconds) == (False, None)


def test_a_queue_of_which_some_will_expire_needs_attention(world: World) -> None:
    world.accounts["c0"] = Counts(routed=1_000_000)
    world.received["c0"] = world.wall - 70 * HOUR * 1000
    world.passes(60, c0=(0, 1))
    one = world.one()
    assert one.expiring is not None
    assert one.expiring > 700_000
    assert not one.ok


@pytest.mark.parametrize(("way", "ok"), [("expired", False), ("dropped", False), ("parked", True)])
def test_one_that_has_just_lost_uplinks_needs_attention(world: World, way: str, ok: bool) -> None:
    world.passes(60, c0=(5, 5))
    assert world.one().ok
    world.accounts["c0"] = msgspec.structs.replace(world.accounts["c0"], routed=301, **{way: 1})
    assert world.one().ok is ok
    world.passes(70, c0=(5, 5))
    assert world.one().ok


def test_an_inactive_one_is_no_fault_and_one_that_is_gone_is_shown_while_it_has_something(world: World) -> None:
    world.accounts |= {
        "off": Counts(routed=5),
        "gone": Counts(routed=9, delivered=2),
        "empty": Counts(routed=3, delivered=3),
    }
    world.down["left"] = 0
    off, gone = world.one("off"), world.one("gone")
    assert (off.ok, off.state, off.why, off.since, off.expiring) == (True, "DEACTIVATED", "active is false", None, 5)
    assert (gone.ok, gone.state, gone.queued) == (True, "REMOVED", 7)
    assert [one.id for one in world.status().connections] == ["c0", "off", "gone"]


def test_downlinks_are_shown_with_what_holds_them_up(world: World) -> None:
    assert world.one("off").downlinks is None
    world.down["c0"] = 3
    downlinks = world.one().downlinks
    assert downlinks is not None
    assert (downlinks.waiting, downlinks.why, world.one().ok) == (3, "", True)
    world.sessions["c0"] = Is(SessionStatus(State.OPENED, 0, "", None, 0, "SUBACK: not authorised"))
    downlinks = world.one().downlinks
    assert downlinks is not None
    assert (downlinks.why, world.one().ok) == ("SUBACK: not authorised", False)
    world.dispatcher.now = DispatchStatus("the LRC cannot be reached", 7)
    lrc = world.status().sources[0]
    assert (lrc.ok, lrc.downlinks.waiting, lrc.downlinks.why) == (False, 7, "the LRC cannot be reached")


def test_a_source_has_its_rates_and_its_last_uplink(world: World) -> None:
    for _ in range(30):
        world.passes(SAMPLE_EVERY)
        world.metrics.accepted("lrc", 10, at=world.wall)
        world.metrics.rejected("lrc", "malformed")
    world.metrics.accepted("lrc", 0, at=world.wall + 999)
    lrc, ns = world.status().sources
    assert (lrc.rate, lrc.rejected_rate, lrc.accepted, lrc.rejected) == (5, 0.5, 300, 30)
    assert (lrc.last_uplink, lrc.open, lrc.ok) == (at(world, 0), True, True)
    assert (ns.rate, ns.last_uplink) == (0, None)


def test_a_source_that_is_not_open_says_why_and_since_when(world: World) -> None:
    world.source.now = SourceStatus(open=False, since=world.mono - 50, why=REFUSED, retry_at=world.mono + 5)
    ns = world.status().sources[1]
    assert (ns.ok, ns.open, ns.why, ns.since) == (False, False, REFUSED, at(world, -50))
    assert ns.retry_at == at(world, 5)


def test_500_connections_cost_less_than_10_ms_of_the_loop(tmp_path: Path) -> None:
    world = World(tmp_path, 500)
    world.accounts = {name: Counts(routed=2000) for name in world.ids}
    world.received = dict.fromkeys(world.ids, NOW - HOUR * 1000)
    for name in world.ids[:250]:
        world.sessions[name] = Is(SessionStatus(State.UNREACHABLE, 0, REFUSED, world.mono + 30, 0, "", 4, 0))
    world.passes(60)
    costs, samples = [], []
    for _ in range(20):
        began = time.thread_time()
        body = msgspec.json.encode(world.status())
        costs.append(time.thread_time() - began)
        began = time.thread_time()
        world.overview.sample()
        samples.append(time.thread_time() - began)
    assert len(body) > 100_000
    assert min(costs) < 0.010
    assert min(samples) < 0.001


def test_what_others_say_is_shown_and_needs_attention(world: World) -> None:
    world.attention = ("the file as it stands is not in force: …",)
    assert not world.status().ok
    assert world.status().attention == world.attention
    world.attention = ()
    assert world.status().ok
    world.parked, world.low_rate = {"c0": 3}, {"c0": "gets 2 uplinks an hour, at least 10 are asked for"}
    assert not world.status().ok
    one = world.one()
    assert (one.ok, one.parked, one.low_rate) == (False, 3, world.low_rate["c0"])
    world.low_rate = {}
    # What is parked has been accounted for: it is shown, and waits for somebody to decide.
    assert world.status().ok
