"""An inbox and a queue of receipts in memory, for tests of sessions."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.downlink_protocol import Receipt, ReceiptBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mqttbridge.model import DownlinkOutcome
    from mqttbridge.mqtt.link import Received


class MemoryInbox:
    """Takes downlinks when `ready` is set; fails `failures` times first. Beyond `at_once`, when there is `room`."""

    def __init__(self) -> None:
        self.ready = asyncio.Event()
        self.ready.set()
        self.room = asyncio.Event()
        self.at_once = 1000
        self.given: list[Received] = []
        self.taken: list[Received] = []
        self.failures = 0
        self.crashes = 0
        self.cancelled = 0

    async def take(
        self, connection: str, messages: Sequence[Received], stored: Callable[[int], None] = lambda _: None
    ) -> None:
        assert connection == "acme"
        self.given += messages
        try:
            await self.ready.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.crashes:
            self.crashes -= 1
            raise ZeroDivisionError("a bug")
        if self.failures:
            self.failures -= 1
            raise JournalFailed("the disk is full")
        first, rest = messages[: self.at_once], messages[self.at_once :]
        self.taken += first
        stored(len(first))
        if rest:
            await self.room.wait()
            self.taken += rest
            stored(len(rest))

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.taken]


class MemoryReceipts:
    """The receipts of one connection; of `DownlinkJournal` what a session uses."""

    def __init__(self) -> None:
        self.queue: dict[int, ReceiptBody] = {}
        self.failing = False
        self._watcher: Callable[[], None] = lambda: None

    def put(self, seq: int, body: bytes = b"{}", dev_eui: str = "", correlation: bytes = b"") -> None:
        self.queue[seq] = ReceiptBody(dev_eui, body, correlation)
        self._watcher()

    async def receipts(self, connection: str, after: int, limit: int) -> list[Receipt]:
        assert connection == "acme"
        await asyncio.sleep(0)
        self._check()
        return [Receipt(seq, self.queue[seq]) for seq in sorted(self.queue) if seq > after][:limit]

    async def receipted(self, seqs: Iterable[int]) -> None:
        done = list(seqs)
        await asyncio.sleep(0)
        self._check()
        for seq in done:
            self.queue.pop(seq, None)
        self._watcher()

    def unfinished(self, connection: str) -> int:  # noqa: ARG002 - there is one
        return len(self.queue) + 3

    def waiting(self, connection: str) -> int:  # noqa: ARG002
        return 3

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        assert connection == "acme"
        self._watcher = callback

    def _check(self) -> None:
        if self.failing:
            raise JournalFailed("the disk is full")


class Counted:
    """Counts as the metrics do."""

    def __init__(self) -> None:
        self.received = self.lost = 0
        self.ended: list[DownlinkOutcome] = []

    def downlink_received(self, connection: str) -> None:
        assert connection == "acme"
        self.received += 1

    def downlink_ended(self, connection: str, outcome: DownlinkOutcome) -> None:
        assert connection == "acme"
        self.ended.append(outcome)

    def receipt_lost(self, connection: str) -> None:
        assert connection == "acme"
        self.lost += 1
