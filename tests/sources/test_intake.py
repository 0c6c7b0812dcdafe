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
from mqttbridge.sources.intake import Intake
from tests.support.bridge import SAMPLE, uplink
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HEALTH = JournalHealth("", 0, 1024 * 1024)


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


class Parts:
    """An intake and what it works with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.told = Told()
        monkeypatch.setattr(module, "log", self.told)
        monkeypatch.setattr(throttle, "log", self.told)
        self.clock, self.journal, self.devices = Clock(), Journal(), Devices()
        self._metrics = Metrics(lambda: {"acme": Counts()}, dict, lambda: HEALTH)
        throttled = Throttle(self.clock)
        self.intake = Intake(
            self.journal, self.devices, Router(), clock=self.clock, metrics=self._metrics, throttle=throttled
        )

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
