"""The history: what the daemon opens, what is told to it, and what it is asked. The event loop's half.

It hears of uplinks, of their ends and of events, and keeps references until its thread has written them. It costs the
loop next to nothing, never blocks it, never raises at those who tell it, and never keeps the daemon from starting: a
file that cannot be used is told of as `history.failed`, in `problem`, and tried again. Under pressure, and while its
disk fails, it leaves things out, counts them in `lost` and tells of them as `history.behind`.

What was told is on disk about a second later. After a kill or a crash that last second may be missing, and after a
power failure somewhat more: nothing that keeps the promise may rely on the history.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Self, TypeVar

from mqttbridge.errors import HistoryFailed
from mqttbridge.history import schema
from mqttbridge.history.events import row_of
from mqttbridge.history.reader import EventFilter, Reader
from mqttbridge.history.waiting import Waiting
from mqttbridge.history.writer import Close, Damaged, Flush, Tidy, Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.history.records import Ended, KeptEvent, Passed
    from mqttbridge.history.schema import Connect
    from mqttbridge.model import Connections, Queued, Settled, Uplink

__all__ = ["History"]

FILE = "history.db"
Found = TypeVar("Found")


class History:
    """What passed. Make one with `open`. It is a `Witness` of the journal."""

    def __init__(
        self,
        path: Path,
        clock: Clock,
        connect: Connect,
        loop: asyncio.AbstractEventLoop,
        tell: Callable[[str, str, dict[str, object]], object] | None,
    ) -> None:
        """Prepare; `open` does the rest."""
        self._path = path
        self._connect = connect
        self._loop = loop
        self._tell = tell
        self._waiting = Waiting()
        self._writer = Writer(path, self._waiting, clock, connect, self._post_done, self._post_tell)
        self._reading = ThreadPoolExecutor(1, "history-reader")
        self._reading_ended = False
        self._keeps = False
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        retention: int,
        max_size: int,
        clock: Clock,
        connect: Connect = schema.connect,
        tell: Callable[[str, str, dict[str, object]], object] | None = None,
    ) -> Self:
        """Open the history in `directory`, which is created if need be, and start its thread. Never fails.

        `retention`: how long uplinks and ends are kept, in ms; 0: they are not. `max_size`: bytes that the file may
        have. `tell` is called in the loop with level, name and fields of what is to be logged.
        """
        history = cls(directory / FILE, clock, connect, asyncio.get_running_loop(), tell)
        history._set(retention, max_size)
        await asyncio.to_thread(history._writer.open)
        history._writer.start()
        return history

    @property
    def lost(self) -> int:
        """How many uplinks, ends and events were left out since the start."""
        return self._waiting.lost

    def problem(self) -> str:
        """Give the sentence that says why it cannot be written; empty while it can."""
        return self._writer.problem

    def configure(self, *, retention: int, max_size: int) -> None:
        """Have these hold from now on (ms, bytes): what is too old or too much is deleted soon."""
        self._set(retention, max_size)
        self._writer.submit(Tidy())

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        """Hear of uplinks that the journal stored, by where they go. Nobody may change the sequences afterwards."""
        if self._keeps:
            self._waiting.stored(queued)
            self._writer.announce()

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Hear how uplinks ended. Nobody may change the sequence afterwards."""
        if self._keeps:
            self._waiting.settled(connection, settled)
            self._writer.announce()

    def seen(self, connection: str, queued: Sequence[Queued]) -> None:
        """Hear what a connection takes from its backlog: nothing that is kept."""

    def unrouted(self, uplinks: Sequence[Uplink]) -> None:
        """Hear of uplinks that no connection gets. Nobody may change the sequence afterwards."""
        if self._keeps and uplinks:
            self._waiting.unrouted(uplinks)
            self._writer.announce()

    def event(self, at: int, level: str, name: str, fields: Mapping[str, object]) -> None:
        """Keep one line of the log, of this moment (ms). From any thread, and from inside logging; without secrets."""
        if self._closing is None:
            self._waiting.event(row_of(at, level, name, fields))
            self._writer.announce()

    async def of_device(self, dev_eui: str, *, limit: int) -> list[Passed]:
        """Give the last uplinks of a device, the newest first. This and the other answers raise `HistoryFailed`.

        An answer is also bounded in bytes (some 8 MiB of bodies, one uplink at least).
        """
        return await self._ask(lambda reader: reader.of_device(dev_eui, limit))

    async def ends(self, seqs: Collection[int]) -> list[Ended]:
        """Give how these uplinks ended for each connection, as far as they did; by seq, then by connection."""
        return await self._ask(lambda reader: reader.ends(seqs))

    async def between(
        self,
        start: int,
        end: int,
        *,
        after: int = 0,
        limit: int,
        device: str | None = None,
        connection: str | None = None,
    ) -> list[Passed]:
        """Give uplinks that were received in [start, end), with `id > after`, the oldest first.

        Of this device alone, routed to this connection alone, if given. There are no more when none is found: fewer
        than `limit` may also mean that they are large.
        """
        return await self._ask(lambda reader: reader.between(start, end, after, limit, device, connection))

    async def latest(self, connection: str, limit: int) -> list[Passed]:
        """Give the last uplinks that were routed to a connection, the newest first."""
        return await self._ask(lambda reader: reader.latest(connection, limit))

    async def frame_counters(self, limit: int) -> dict[str, int]:
        """Give the last FCntUp by DevEUI, of at most so many devices: those heard of last. Replays do not count.

        None, if the history cannot be read: this is asked at the start, which shall not fail for it.
        """
        try:
            return await self._ask(lambda reader: reader.frame_counters(limit))
        except HistoryFailed:
            return {}

    async def events(
        self,
        *,
        limit: int,
        after: int = 0,
        since: int = 0,
        level: str = "info",
        name: str = "",
        connection: str = "",
        source: str = "",
        device: str = "",
    ) -> list[KeptEvent]:
        """Give events, the oldest first: the newest `limit`, or with `after` > 0 the next ones after that id.

        `since`: not before this moment (ms). `level`: this and what is worse. `name`: this, or all of a kind, as in
        `uplink.*`. The others: what the fields connection, source and dev_eui say.
        """
        what = EventFilter(limit, after, since, level, name, connection, source, device.upper())
        return await self._ask(lambda reader: reader.events(what))

    async def close(self) -> None:
        """Write what waits, and let go of the file. May be called twice."""
        first = self._closing is None
        if self._closing is None:
            self._keeps = False
            self._closing = self._loop.create_future()
            self._writer.submit(Close(self._closing))
        try:
            await asyncio.shield(self._closing)
        finally:
            if first:
                self._reading_ended = True
                await asyncio.to_thread(self._stop)

    def _set(self, retention: int, max_size: int) -> None:
        self._writer.retention, self._writer.max_size = retention, max_size
        self._keeps = retention > 0 and self._closing is None

    async def _ask(self, question: Callable[[Reader], Found]) -> Found:
        """Have everything written that was given so far, then answer."""
        if self._closing is not None:
            raise HistoryFailed(f"The history {self._path} is closed.")
        written: asyncio.Future[None] = self._loop.create_future()
        self._writer.submit(Flush(written))
        await written
        if self._reading_ended:
            raise HistoryFailed(f"The history {self._path} is closed.")
        return await self._loop.run_in_executor(self._reading, self._answer, question)

    # What follows runs in a thread.

    def _answer(self, question: Callable[[Reader], Found]) -> Found:
        moves = self._writer.moves
        try:
            with Reader(self._path, self._connect) as reader:
                return question(reader)
        except Exception as error:
            if schema.damaged(error):
                self._writer.submit(Damaged(error, moves))
            raise HistoryFailed(f"The history {self._path} cannot be read: {error}. Check the disk.") from error

    def _stop(self) -> None:
        self._writer.join()
        self._reading.shutdown()

    def _post_done(self, future: asyncio.Future[None]) -> None:
        self._post(_finish, future)

    def _post_tell(self, level: str, name: str, fields: dict[str, object]) -> None:
        if self._tell is not None:
            self._post(self._tell, level, name, fields)

    def _post(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is gone, and with it everyone who waited.
            return


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
