"""A journal of downlinks in memory, and what else the tests of this room share. Strict about its callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.downlink_protocol import PendingDownlink, Receipt, Sender
from mqttbridge.model import Downlink
from mqttbridge.settings.schema import Configuration, Connection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mqttbridge.journal.downlink_protocol import AcceptedDownlink, ConcludedDownlink, ReceiptBody
    from mqttbridge.model import Device, DownlinkOutcome

NOW = 1_700_000_000_000
DEV_EUI = "0018B20000000B20"


class Hands:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.wall = NOW
        self.time = 1000.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.time

    def turn(self, seconds: float) -> None:
        self.time += seconds
        self.wall += round(seconds * 1000)

    async def sleep(self, seconds: float) -> None:
        """Let so much time pass, at once."""
        self.turn(seconds)
        await asyncio.sleep(0)


class MemoryDownlinks:
    """A `DownlinkJournal` that keeps everything in memory, and fails when it is told to."""

    def __init__(self) -> None:
        self.failing = False
        self.failing_from: int | None = None
        """After so many acceptances it fails once."""
        self.accepted: list[AcceptedDownlink] = []
        self.batches: list[int] = []
        self.queue: dict[int, PendingDownlink] = {}
        self.concluded: dict[int, ReceiptBody | None] = {}
        self.waiting_receipts: dict[int, tuple[str, ReceiptBody]] = {}
        self.devices: dict[str, Device] = {}
        self.reads: list[tuple[int, int]] = []
        self._seq = 0
        self._keys: dict[tuple[str, int], tuple[bytes, str]] = {}
        self._watchers: dict[str, Callable[[], None]] = {}

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        if self.failing:
            raise JournalFailed("the disk is full")

    async def former_key(self, connection: str, mid: int, digest: bytes) -> str | None:
        await self._turn()
        newest, key = self._keys.get((connection, mid), (b"", ""))
        return key if newest == digest else None

    async def accept(self, downlinks: Sequence[AcceptedDownlink]) -> None:
        await self._turn()
        if self.failing_from is not None and len(self.batches) >= self.failing_from:
            self.failing_from = None
            raise JournalFailed("the disk had a moment")
        assert downlinks
        self.batches.append(len(downlinks))
        for one in downlinks:
            self._seq += 1
            self.accepted.append(one)
            self._keys[one.connection, one.mid] = (one.digest, one.key)
            if one.downlink is not None:
                assert one.source
                assert one.receipt is None
                parts = (one.source, one.way, one.downlink, one.correlation, one.warnings)
                self.queue[self._seq] = PendingDownlink(self._seq, one.connection, one.key, one.received, *parts)
            elif one.receipt is not None:
                self.waiting_receipts[self._seq] = (one.connection, one.receipt)

    def put(self, *downlinks: PendingDownlink) -> None:
        """Have them pending."""
        for one in downlinks:
            self.queue[one.seq] = one

    async def pending(self, source: str, after: int, limit: int) -> list[PendingDownlink]:
        self.reads.append((after, limit))
        await self._turn()
        return [one for seq, one in sorted(self.queue.items()) if seq > after and one.source == source][:limit]

    async def sources(self) -> list[str]:
        await self._turn()
        return sorted({one.source for one in self.queue.values()})

    async def conclude(self, ends: Sequence[ConcludedDownlink]) -> None:
        await self._turn()
        for end in ends:
            assert end.seq not in self.concluded, "never concluded twice"
            pending = self.queue.pop(end.seq)
            self.concluded[end.seq] = end.receipt
            if end.receipt is not None:
                self.waiting_receipts[end.seq] = (pending.connection, end.receipt)

    async def receipts(self, connection: str, after: int, limit: int) -> list[Receipt]:
        await self._turn()
        return [
            Receipt(seq, body)
            for seq, (whose, body) in sorted(self.waiting_receipts.items())
            if seq > after and whose == connection
        ][:limit]

    async def receipted(self, seqs: Iterable[int]) -> None:
        await self._turn()
        for seq in seqs:
            self.waiting_receipts.pop(seq, None)

    async def sender(self, dev_eui: str, name: str) -> Sender | None:
        raise NotImplementedError

    def unfinished(self, connection: str) -> int:
        return self.waiting(connection) + sum(whose == connection for whose, _ in self.waiting_receipts.values())

    def waiting(self, connection: str) -> int:
        return sum(one.connection == connection for one in self.queue.values())

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        raise AssertionError(f"the watch of {connection} is its session's: {callback}")

    def learn(self, devices: Iterable[Device]) -> None:
        for device in devices:
            self.devices[device.dev_eui] = device

    async def device(self, dev_eui: str) -> Device | None:
        await self._turn()
        return self.devices.get(dev_eui)

    def problem(self) -> str:
        return "the disk is full" if self.failing else ""

    async def close(self) -> None: ...


class CountedMetrics:
    """What `DownlinkMetrics` counts."""

    def __init__(self) -> None:
        self.received: Counter[str] = Counter()
        self.ended: Counter[tuple[str, str]] = Counter()
        self.delayed: Counter[str] = Counter()
        self.retried: Counter[str] = Counter()
        self.lost: Counter[str] = Counter()

    def receipt_lost(self, connection: str) -> None:
        self.lost[connection] += 1

    def downlink_received(self, connection: str, count: int = 1) -> None:
        self.received[connection] += count

    def downlink_ended(self, connection: str, outcome: DownlinkOutcome) -> None:
        self.ended[connection, outcome.value] += 1

    def downlink_delayed(self, connection: str) -> None:
        self.delayed[connection] += 1

    def downlink_retried(self, source: str, count: int = 1) -> None:
        self.retried[source] += count


def connection(*, receipts: bool = True, **configuration: Any) -> Connection:  # noqa: ANN401 (any property)
    """Make a connection that takes downlinks."""
    given = {
        "host_name": "broker.example",
        "downlink_topic_pattern": "mqtt/things/{DevEUI}/downlink",
        "downlink_receipt_topic_pattern": "mqtt/things/{DevEUI}/receipt" if receipts else None,
    }
    return Connection(configuration=Configuration(**{**given, **configuration}))


def pending(
    seq: int,
    dev_eui: str = DEV_EUI,
    *,
    expires: int | None = None,
    received: int = NOW,
    source: str = "lrc",
    correlation: bytes = b"",
    payload: bytes = b"",
    connection: str = "acme",
) -> PendingDownlink:
    """Make a pending downlink."""
    downlink = Downlink(dev_eui, 1, None if payload else "01", payload, expires=expires)
    return PendingDownlink(seq, connection, f"{seq:016x}", received, source, "", downlink, correlation)


async def until(condition: Callable[[], bool], *, limit: float = 10.0) -> None:
    """Wait until it is so, turn by turn of the loop."""
    async with asyncio.timeout(limit):
        while not condition():  # noqa: ASYNC110 (any condition; each turn is one of the loop's)
            await asyncio.sleep(0)
