"""A link and a journal that the test plays itself, for `test_delivery.py` alone."""

from __future__ import annotations

import asyncio
import itertools
from typing import TYPE_CHECKING

from mqttbridge.errors import JournalFailed, LinkError
from mqttbridge.model import Counts, DocumentKind, Outcome, Queued, Settled, Uplink
from mqttbridge.mqtt.link import Ack, Grant, Publish, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mqttbridge.journal.protocol import JournalHealth
    from mqttbridge.model import Entry

NOW = 1_700_000_000_000


class Hands:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.wall = NOW
        self.time = 0.0

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.time


class SimulatedLink:
    """A link that keeps what it is given until the test answers."""

    def __init__(self, delivery_acks: Callable[[Sequence[Ack]], None]) -> None:
        self._acknowledged = delivery_acks
        self.sent: list[int] = []
        self.messages: list[Publish] = []
        self.waiting: list[int] = []

    def publish(self, batch: Sequence[Publish]) -> None:
        self.messages += batch
        self.sent += [item.token for item in batch]
        self.waiting += [item.token for item in batch]

    def answer(self, *tokens: int, code: int = 0) -> None:
        for token in tokens:
            self.waiting.remove(token)
        self._acknowledged([Ack(token, code) for token in tokens])

    def acknowledge(self, messages: Sequence[Received]) -> None: ...

    async def connect(self) -> None: ...

    async def login(self) -> Grant:
        return Grant()

    async def subscribe(self, filters: Sequence[str], qos: int) -> list[int]:
        return [qos for _ in filters]

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def close(self) -> None: ...


class SimulatedJournal:
    """One connection's queue in memory, strict about how it is settled."""

    def __init__(self) -> None:
        self.queue: list[Queued] = []
        self.ends: dict[int, Settled] = {}
        self.cursor = 0
        self.failing = False
        self.settling_fails = False
        self._seq = itertools.count(1, 2)
        self._watcher: Callable[[], None] = lambda: None

    def put(self, number: int = 1, *, body: bytes | None = None, time: int = NOW) -> list[int]:
        """Queue uplinks; gives their seqs, which are every second number."""
        seqs = [next(self._seq) for _ in range(number)]
        for seq in seqs:
            data = b'{"DevEUI_uplink": {"FCntUp": %d}}' % seq if body is None else body
            uplink = Uplink("lrc", DocumentKind.UPLINK, "0018B20000000B20", time, NOW, seq, data)
            self.queue.append(Queued(seq, uplink))
        self._watcher()
        return seqs

    @property
    def unsettled(self) -> list[int]:
        return [one.seq for one in self.queue if one.seq > self.cursor]

    def drop_oldest(self, number: int) -> None:
        for seq in self.unsettled[:number]:
            self.ends[seq] = Settled(seq, Outcome.DROPPED, "made room")
            self.cursor = seq

    async def read(self, connection: str, after: int, limit: int) -> list[Queued]:
        assert connection == "acme"
        await asyncio.sleep(0)
        if self.failing:
            raise JournalFailed("the disk is full")
        return [one for one in self.queue if one.seq > max(after, self.cursor)][:limit]

    async def settle(self, connection: str, settled: Sequence[Settled]) -> None:
        assert connection == "acme"
        failing = self.failing or self.settling_fails
        await asyncio.sleep(0)
        if failing:
            raise JournalFailed("the disk is full")
        seqs = [end.seq for end in settled]
        assert seqs == sorted(set(seqs))
        new = [end for end in settled if end.seq > self.cursor]
        assert [end.seq for end in new] == self.unsettled[: len(new)], "contiguous, nothing left out"
        for end in new:
            assert end.seq not in self.ends, "each ends once"
            self.ends[end.seq] = end
            self.cursor = end.seq

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        assert connection == "acme"
        self._watcher = callback

    def outcomes(self, outcome: Outcome) -> list[int]:
        return [seq for seq, end in self.ends.items() if end.outcome is outcome]

    async def append(self, entries: Sequence[Entry]) -> None:
        raise NotImplementedError

    def counts(self) -> Mapping[str, Counts]:
        return {}

    def oldest(self, connection: str) -> int | None:
        return NOW if connection == "acme" and self.unsettled else None

    def health(self) -> JournalHealth:
        raise NotImplementedError

    async def close(self) -> None: ...


class Ended(LinkError):
    """Only to be told apart from real ones."""
