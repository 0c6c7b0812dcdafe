"""The durable queue of downlinks on SQLite: what the daemon opens. See `downlink_protocol` for what it promises.

This is the event loop's half: it hands tasks to the writer thread, keeps the counts as the writer reports them, and
what is known of devices. It never touches the disk and never blocks. The directory is locked by the main journal.

`former_key` knows the messages of the last 24 hours. What is concluded is remembered for 7 days, the
newest 100,000; where there are more, the connection that has most loses its oldest.
A receipt that nobody published for 7 days goes with it: its connection was removed, or was inactive all the time.
What is pending is never deleted.
"""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING, Any, Self

from mqttbridge.errors import JournalFailed, StartError
from mqttbridge.journal import schema
from mqttbridge.journal.downlink_devices import Devices
from mqttbridge.journal.downlink_writer import DownlinkWriter, Report, Task
from mqttbridge.journal.futures import resolve

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.journal.downlink_protocol import (
        AcceptedDownlink,
        ConcludedDownlink,
        DownlinkJournal,
        PendingDownlink,
        Receipt,
        Sender,
    )
    from mqttbridge.journal.downlink_store import DownlinkStore, Numbers
    from mqttbridge.journal.schema import Connect
    from mqttbridge.model import Device

__all__ = ["SqliteDownlinks"]

FILE = "downlinks.db"
MOST_ASKED = 1024
"""Tasks that wait for the writer; who asks for more waits."""
MOST_OF_A_DEVICE = 100
"""Downlinks."""
LEARN_AFTER = 0.2
"""Seconds for which devices are collected before they are written."""
NOTHING = (0, 0)


class SqliteDownlinks:
    """The queue of downlinks on SQLite. Make one with `open`."""

    def __init__(self, path: Path, clock: Clock, connect: Connect, loop: asyncio.AbstractEventLoop) -> None:
        """Prepare; `open` does the rest."""
        self._path = path
        self._clock = clock
        self._loop = loop
        self._writer = DownlinkWriter(path, clock, connect, self._post_report)
        self._numbers: Numbers = {}
        self._watchers: dict[str, Callable[[], None]] = {}
        self._devices = Devices()
        self._learning: asyncio.TimerHandle | None = None
        self._asked = 0
        self._room = asyncio.Event()
        self._problem = ""
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, directory: Path, *, clock: Clock, connect: Connect = schema.connect) -> Self:
        """Open `downlinks.db` in `directory`, make it if need be, and start its thread. Raises `StartError`."""
        schema.check_library()
        journal = cls(directory / FILE, clock, connect, asyncio.get_running_loop())
        await asyncio.to_thread(journal._start)
        return journal

    async def former_key(self, connection: str, mid: int, digest: bytes) -> str | None:
        """Give the key of the newest message with this mid, if its digest is this one and it is not 24 hours old.

        Raises `JournalFailed`.
        """
        now = self._clock.now()
        found: str | None = await self._ask(
            lambda store: store.former_key(connection, mid, digest, now), what="former_key"
        )
        return found

    async def accept(self, downlinks: Sequence[AcceptedDownlink]) -> None:
        """Store all of them durably, or none. Raises `JournalFailed`."""
        if any(one.downlink is not None and one.receipt is not None for one in downlinks):
            raise ValueError("a downlink that is to be sent has no receipt yet")
        if downlinks:
            now = self._clock.now()
            await self._ask(lambda store: store.accept(downlinks, now))

    async def pending(self, source: str, after: int, limit: int) -> list[PendingDownlink]:
        """Give pending downlinks of a source with `seq > after`, oldest first. Raises `JournalFailed`."""
        found: list[PendingDownlink] = await self._ask(
            lambda store: store.pending(source, after, max(0, limit)), what=f"pending of {source}"
        )
        return found

    async def pending_of(self, dev_eui: str) -> list[PendingDownlink]:
        """Give the pending downlinks of a device, oldest first, the first 100. Raises `JournalFailed`."""
        found: list[PendingDownlink] = await self._ask(
            lambda store: store.pending_of(dev_eui, MOST_OF_A_DEVICE), what=f"pending of {dev_eui}"
        )
        return found

    async def sources(self) -> list[str]:
        """Give the sources that pending downlinks wait for. Raises `JournalFailed`."""
        found: list[str] = await self._ask(lambda store: store.sources(), what="sources")
        return found

    async def conclude(self, ends: Sequence[ConcludedDownlink]) -> None:
        """Record how pending downlinks ended, durably. What has ended already is passed by. Raises `JournalFailed`."""
        if ends:
            now = self._clock.now()
            await self._ask(lambda store: store.conclude(ends, now))

    async def receipts(self, connection: str, after: int, limit: int) -> list[Receipt]:
        """Give receipts that wait, with `seq > after`, in the order of their downlinks. Raises `JournalFailed`."""
        found: list[Receipt] = await self._ask(
            lambda store: store.receipts(connection, after, max(0, limit)), what=f"receipts of {connection}"
        )
        return found

    async def receipted(self, seqs: Iterable[int]) -> None:
        """Record that these receipts need not be published any more. Raises `JournalFailed`."""
        if gone := list(seqs):
            await self._ask(lambda store: store.receipted(gone))

    async def sender(self, dev_eui: str, name: str) -> Sender | None:
        """Give whose the newest downlink to this device was that goes by this name. Raises `JournalFailed`."""
        found: Sender | None = await self._ask(lambda store: store.sender(dev_eui, name), what="sender")
        return found

    def unfinished(self, connection: str) -> int:
        """How many of a connection's downlinks are pending, or have a receipt that waits."""
        return sum(self._numbers.get(connection, NOTHING))

    def waiting(self, connection: str) -> int:
        """How many of a connection's downlinks are pending."""
        return self._numbers.get(connection, NOTHING)[0]

    def all_waiting(self) -> dict[str, int]:
        """How many are pending, by connection, configured or not; of those alone that have some. For any thread."""
        return {name: pending for name, (pending, _) in list(self._numbers.items()) if pending}

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        """Have `callback` called, in the loop, whenever `unfinished` or `waiting` of a connection changed."""
        self._watchers[connection] = callback

    def learn(self, devices: Iterable[Device]) -> None:
        """Note where devices are; what is known already costs nothing. Stored soon, not before it returns."""
        if self._devices.learn(devices) and self._learning is None and self._closing is None:
            self._learning = self._loop.call_later(LEARN_AFTER, self._write_devices)

    async def device(self, dev_eui: str) -> Device | None:
        """Give what was learnt of a device. Raises `JournalFailed`."""
        if known := self._devices.find(dev_eui):
            return known
        found: Device | None = await self._ask(lambda store: store.device(dev_eui), what="device")
        # It may have been learnt meanwhile.
        return self._devices.find(dev_eui) or found

    async def devices(self, after: str, limit: int) -> list[Device]:
        """Give at most `limit` devices with a DevEUI beyond `after`, by DevEUI. Raises `JournalFailed`.

        What was learnt in the last moment may be missing.
        """
        found: list[Device] = await self._ask(lambda store: store.devices(after, max(0, limit)), what="devices")
        return [self._devices.find(one.dev_eui) or one for one in found]

    def problem(self) -> str:
        """Tell what is wrong with the disk, as a sentence; empty while all is well."""
        return self._problem

    async def close(self) -> None:
        """Finish what was asked for, and let go of the files. May be called twice."""
        first = self._closing is None
        if self._closing is None:
            if self._learning is not None:
                self._learning.cancel()
            self._write_devices()
            self._closing = self._loop.create_future()
            self._writer.submit(Task(None, self._closing))
            self._room.set()
        try:
            await asyncio.shield(self._closing)
        finally:
            if first:
                await asyncio.to_thread(self._writer.join)

    async def _ask(self, run: Callable[[DownlinkStore], object], *, what: str = "") -> Any:  # noqa: ANN401 - as `run`
        """Have the thread do this. What was begun is done, even if nobody waits for it any more."""
        while self._asked >= MOST_ASKED and self._closing is None:
            self._room.clear()
            await self._room.wait()
        if self._closing is not None:
            raise JournalFailed(f"The queue of downlinks {self._path} is closed.")
        return await self._submit(run, what)

    def _submit(self, run: Callable[[DownlinkStore], object], what: str = "") -> asyncio.Future[Any]:
        future: asyncio.Future[Any] = self._loop.create_future()
        self._asked += 1
        self._writer.submit(Task(run, future, what))
        return future

    def _write_devices(self) -> None:
        if batch := self._devices.take():
            self._submit(lambda store: store.learn(batch)).add_done_callback(self._devices_written)
        else:
            self._learning = None

    def _devices_written(self, future: asyncio.Future[None]) -> None:
        if future.cancelled() or future.exception() is not None:
            self._devices.failed()
        else:
            self._devices.written()
        self._learning = None
        self.learn(())

    # What follows runs in a thread.

    def _start(self) -> None:
        try:
            self._numbers = self._writer.open()
        except (sqlite3.Error, OSError) as error:
            raise StartError(
                f"The queue of downlinks {self._path} cannot be opened: {error}. Check the disk and the permissions; "
                "if the file is damaged, move it away to start without the downlinks that wait in it."
            ) from error
        self._writer.start()

    def _post_report(self, report: Report) -> None:
        try:
            self._loop.call_soon_threadsafe(self._reported, report)
        except RuntimeError:
            # The loop is gone, and with it everyone who waited.
            return

    # What follows runs in the loop.

    def _reported(self, report: Report) -> None:
        self._problem = report.problem
        changed = self._take_over(report)
        for task, result in report.done:
            self._asked -= task.run is not None
            resolve(task.future, result)
        self._room.set()
        for name in changed:
            self._call_watcher(name)

    def _take_over(self, report: Report) -> list[str]:
        """Bring the counts up to date; give the connections whose counts changed."""
        if report.numbers is not None:
            before, self._numbers = self._numbers, dict(report.numbers)
            names = before.keys() | self._numbers.keys()
            return [name for name in names if before.get(name) != self._numbers.get(name)]
        for name, (pending, receipts) in report.changes.items():
            before_pending, before_receipts = self._numbers.pop(name, NOTHING)
            after = (before_pending + pending, before_receipts + receipts)
            if after != NOTHING:
                self._numbers[name] = after
        return list(report.changes)

    def _call_watcher(self, name: str) -> None:
        try:
            if (watcher := self._watchers.get(name)) is not None:
                watcher()
        except Exception as error:  # noqa: BLE001 - one session's mistake is not another's
            context = {"message": f"the watcher of {name} failed", "exception": error}
            self._loop.call_exception_handler(context)


if TYPE_CHECKING:
    _conforms: type[DownlinkJournal] = SqliteDownlinks
