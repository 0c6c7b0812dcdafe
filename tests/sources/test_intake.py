"""The one way in: routed, stored, counted; or refused and counted as nothing else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.errors import JournalFailed, JournalFull
from mqttbridge.formats.thingpark import parse
from mqttbridge.journal.downlink_protocol import Sender
from mqttbridge.journal.protocol import JournalHealth
from mqttbridge.model import Counts, Device, DocumentKind, Entry, Uplink
from mqttbridge.observe import throttle
from mqttbridge.observe.metrics import Metrics
from mqttbridge.observe.throttle import BURST, Throttle
from mqttbridge.sources import intake as module
from mqttbridge.sources.gaps import FrameCounters
from mqttbridge.sources.intake import Intake
from tests.support.bridge import SAMPLE, uplink
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEALTH = JournalHealth("", 0, 1024 * 1024)
MISSING = "{} missing between FCntUp {} and {}"


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def now(self) -> int:
        return int(self.seconds * 1000)

    def monotonic(self) -> float:
        return self.seconds


class Journal:
    """Takes everything, or nothing."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.full = False
        self.again: list[int] = []

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        if self.full:
            raise JournalFull("full")
        self.entries.extend(entries)
        return self.again

    def health(self) -> JournalHealth:
        return HEALTH


class Devices:
    """Remembers what it was taught, and who sent a downlink."""

    def __init__(self) -> None:
        self.learnt: list[Device] = []
        self.senders: dict[tuple[str, str], Sender] = {}
        self.broken = False

    def learn(self, devices: Iterable[Device]) -> None:
        self.learnt += devices

    async def sender(self, dev_eui: str, name: str) -> Sender | None:
        if self.broken:
            raise JournalFailed("the disk fails")
        return self.senders.get((dev_eui, name))


class Router:
    """Routes even frame counters to `acme`, odd ones nowhere."""

    def route(self, one: Uplink) -> tuple[str, ...]:
        return () if (one.fcnt or 0) % 2 else ("acme",)

    def with_sender(self, connections: tuple[str, ...], sender: str) -> tuple[str, ...]:
        return (*connections, sender)


class Passed:
    """Remembers what did not go into the journal."""

    def __init__(self) -> None:
        self.nowhere: list[int | None] = []
        self.copies: list[tuple[str, int | None]] = []

    def unrouted(self, uplinks: Sequence[Uplink]) -> None:
        self.nowhere += [one.fcnt for one in uplinks]

    def duplicates(self, source: str, uplinks: Sequence[Uplink]) -> None:
        self.copies += [(source, one.fcnt) for one in uplinks]


class Parts:
    """An intake and what it works with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = Told()
        monkeypatch.setattr(module, "log", self.told)
        monkeypatch.setattr(throttle, "log", self.told)
        self.clock, self.journal, self.devices = Clock(), Journal(), Devices()
        self._metrics = Metrics(lambda: {"acme": Counts()}, dict, lambda: HEALTH)
        self.throttle = Throttle(self.clock)
        self.intake = self.make()

    def make(self, **other: Any) -> Intake:  # noqa: ANN401 (any argument)
        arguments: dict[str, Any] = {
            "clock": self.clock,
            "metrics": self._metrics,
            "throttle": self.throttle,
            **other,
        }
        return Intake(self.journal, self.devices, Router(), **arguments)

    async def count(self, name: str) -> int:
        text = (await asyncio.to_thread(self._metrics.render))[0].decode()
        return sum(int(float(value)) for found, _, value in SAMPLE.findall(text) if found.endswith(name + "_total"))


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    return Parts(monkeypatch)


def uplinks(*fcnts: int) -> list[Any]:
    return [parse(uplink(fcnt), source="lrc", received=0) for fcnt in fcnts]


async def test_what_is_routed_is_stored_in_order_and_the_rest_is_counted(parts: Parts) -> None:
    await parts.intake.accept("lrc", uplinks(0, 1, 2, 3))
    assert [(entry.uplink.fcnt, entry.connections) for entry in parts.journal.entries] == [
        (0, ("acme",)),
        (2, ("acme",)),
    ]
    assert (await parts.count("accepted"), await parts.count("unrouted")) == (4, 2)
    assert parts.told.events() == ["uplink.unrouted"] * 2


async def test_what_is_not_stored_is_counted_as_nothing(parts: Parts) -> None:
    parts.journal.full = True
    with pytest.raises(JournalFull):
        await parts.intake.accept("lrc", uplinks(0, 1))
    assert (await parts.count("accepted"), await parts.count("unrouted")) == (0, 0)
    assert parts.told.events() == []


async def test_the_journal_is_not_asked_to_store_nothing(parts: Parts) -> None:
    parts.journal.full = True
    await parts.intake.accept("lrc", [])
    await parts.intake.accept("lrc", uplinks(1))
    assert await parts.count("unrouted") == 1


async def test_a_refusal_is_told_some_times_a_minute_and_counted_every_time(parts: Parts) -> None:
    for _ in range(100):
        parts.intake.rejected("lrc", "malformed", "no uplink")
    parts.intake.rejected("lrc", "too_large", "another kind")
    parts.intake.rejected("ns", "malformed", "another source")
    assert len(parts.told.events("warning")) == BURST + 2
    parts.clock.seconds += 61
    parts.intake.rejected("lrc", "malformed", "no uplink")
    assert [fields.get("left_out") for _, _, fields in parts.told.lines[-2:]] == [100 - BURST, None]
    assert await parts.count("rejected") == 103


def test_one_document_may_be_a_quarter_of_a_journal_and_no_more(parts: Parts) -> None:
    assert parts.intake.largest == 256 * 1024


async def test_duplicates_are_taken_counted_and_told_as_such(parts: Parts) -> None:
    parts.journal.again = [1]
    await parts.intake.accept("lrc", uplinks(0, 2), window=600_000)
    assert [entry.window for entry in parts.journal.entries] == [600_000] * 2
    assert (await parts.count("accepted"), await parts.count("duplicate")) == (2, 1)
    assert parts.told.events("debug") == ["uplink.accepted", "uplink.duplicate"]


async def test_a_copy_that_comes_by_another_source_does_not_move_its_device(parts: Parts) -> None:
    await parts.intake.accept("lrc", uplinks(2), window=1000)
    parts.journal.again = [0]
    await parts.intake.accept("lrc2", uplinks(2, 1), window=1000)
    assert [device.source for device in parts.devices.learnt] == ["lrc", "lrc2"], "of the copy nothing is learnt"


async def test_where_devices_are_is_learnt_from_uplinks_also_from_those_that_go_nowhere(parts: Parts) -> None:
    await parts.intake.accept("lrc", uplinks(0, 1))
    assert parts.devices.learnt == [Device("0018B20000000B20", "lrc", "", frozenset({"temperatureservice"}))] * 2


def report(correlation_id: str) -> Uplink:
    kind = DocumentKind.DOWNLINK_SENT
    return Uplink(
        "lrc", kind, "0018B20000000B20", 0, 0, 1, b'{"DevEUI_downlink_Sent":{}}', correlation_id=correlation_id
    )


async def test_a_report_goes_to_whoever_sent_the_downlink_too(parts: Parts) -> None:
    parts.devices.senders["0018B20000000B20", "its-own-name"] = Sender("boss", "00000000000000AA")
    await parts.intake.accept("lrc", [report("its-own-name"), report("00000000000000BB")])
    (entry,) = parts.journal.entries
    assert entry.connections == ("boss",)
    assert b'"CorrelationID":"00000000000000AA"' in entry.uplink.body
    assert parts.devices.learnt == []


async def test_a_report_is_not_lost_when_its_sender_cannot_be_found_out(parts: Parts) -> None:
    parts.devices.broken = True
    await parts.intake.accept("lrc", [report("00000000000000AA"), *uplinks(2)])
    assert [entry.uplink.fcnt for entry in parts.journal.entries] == [2]
    assert await parts.count("unrouted") == 1


# -- what the history hears, and gaps --------------------------------------------------------------------------------


async def test_what_goes_nowhere_and_what_came_before_is_heard_of(parts: Parts) -> None:
    passed = Passed()
    intake = parts.make(passage=passed)
    await intake.accept("lrc", uplinks(0, 1, 2, 3))
    parts.journal.again = [1]
    await intake.accept("ns", uplinks(4, 6, 5))
    assert passed.nowhere == [1, 3, 5]
    assert passed.copies == [("ns", 6)]


async def test_what_is_not_stored_is_not_heard_of(parts: Parts) -> None:
    passed, counters = Passed(), FrameCounters()
    intake = parts.make(passage=passed, counters=counters)
    parts.journal.full = True
    with pytest.raises(JournalFull):
        await intake.accept("lrc", uplinks(0, 1))
    assert (passed.nowhere, len(counters)) == ([], 0)


async def test_uplinks_that_are_missing_are_counted_and_told(parts: Parts) -> None:
    intake = parts.make(counters=FrameCounters({"0018B20000000B20": 10}))
    await intake.accept("lrc", uplinks(11, 12, 16))
    await intake.accept("ns", uplinks(17, 19))
    told = [(level, fields) for level, event, fields in parts.told.lines if event == "uplink.missing"]
    device = {"dev_eui": "0018B20000000B20"}
    assert told == [
        ("info", {"source": "lrc", **device, "fcnt": 16, "count": 3, "reason": MISSING.format("3 uplinks", 12, 16)}),
        ("info", {"source": "ns", **device, "fcnt": 19, "count": 1, "reason": MISSING.format("1 uplink", 17, 19)}),
    ]
    assert await parts.count("missing") == 4


async def test_over_the_end_of_a_counter_the_sentence_is_right_too(parts: Parts) -> None:
    intake = parts.make(counters=FrameCounters({"0018B20000000B20": 65_530}))
    await intake.accept("lrc", uplinks(2))
    await intake.accept("lrc", uplinks(70_000, 70_004))
    reasons = [fields["reason"] for _, event, fields in parts.told.lines if event == "uplink.missing"]
    assert reasons[0] == MISSING.format("7 uplinks", 65_530, 2)
    assert reasons[-1] == MISSING.format("3 uplinks", 70_000, 70_004)


async def test_copies_and_reports_make_no_gap(parts: Parts) -> None:
    intake = parts.make(counters=FrameCounters({"0018B20000000B20": 3}))
    parts.journal.again = [0]
    await intake.accept("lrc", uplinks(8))
    parts.journal.again = []
    await intake.accept("lrc", [report("")])
    assert "uplink.missing" not in parts.told.events("info")


async def test_gaps_do_not_flood_the_log(parts: Parts) -> None:
    intake = parts.make(counters=FrameCounters())
    await intake.accept("lrc", uplinks(*range(0, 200, 2)))
    assert parts.told.events("info").count("uplink.missing") == BURST
    assert await parts.count("missing") == 99


async def test_other_flows_count_from_the_next_uplink_on_and_never_amid_one_batch(parts: Parts) -> None:
    class Everywhere(Router):
        def route(self, one: Uplink) -> tuple[str, ...]:  # noqa: ARG002
            return ("beta",)

    asked, go_on = asyncio.Event(), asyncio.Event()

    async def sender(dev_eui: str, name: str) -> None:  # noqa: ARG001
        asked.set()
        await go_on.wait()

    parts.devices.sender = sender  # type: ignore[method-assign]
    batch = asyncio.ensure_future(parts.intake.accept("lrc", [*uplinks(2), report("x"), *uplinks(4)]))
    await asked.wait()
    parts.intake.use(Everywhere())
    go_on.set()
    await batch
    assert {entry.connections for entry in parts.journal.entries} == {("beta",)}
