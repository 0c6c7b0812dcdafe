"""The journal on SQLite: what the daemon opens. See `protocol` for what it promises.

This is the event loop's half: it hands operations to the writer thread and reads to the tail cache or the reader
thread, and keeps the accounts as the writer reports them. It never touches the disk and never blocks.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Self

from msgspec.structs import replace

from mqttbridge.errors import JournalFailed, StartError
from mqttbridge.journal import lock, parked, schema
from mqttbridge.journal.futures import resolve
from mqttbridge.journal.head import Head
from mqttbridge.journal.operations import Append, Close, Configure, Declare, Operation, Options, Report, Settle, Unpark
from mqttbridge.journal.plan import estimate
from mqttbridge.journal.protocol import Journal, JournalHealth, Witness
from mqttbridge.journal.reader import Reader, backlog
from mqttbridge.journal.tail import Tail
from mqttbridge.journal.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.journal.ledger import Ledger
    from mqttbridge.journal.operations import Answer
    from mqttbridge.journal.parked import Parked, ParkedUplink, Unparked
    from mqttbridge.journal.schema import Connect
    from mqttbridge.model import Connections, Counts, Entry, Queued, Settled

__all__ = ["SqliteJournal"]

FILE = "journal.db"
WAITING_BYTES = 16 * 1024 * 1024
"""Bodies that wait for the writer; further appenders wait."""
TAIL_BYTES = 4 * 1024 * 1024


class SqliteJournal:
    """The durable queue on SQLite. Make one with `open`."""

    def __init__(
        self, directory: Path, options: Options, loop: asyncio.AbstractEventLoop, witness: Witness | None = None
    ) -> None:
        """Prepare; `open` does the rest."""
        self.witness = witness
        self._directory = directory
        self._options = options
        self._loop = loop
        self._reader = Reader(options.path, options.max_size, options.connect, self._post_read)
        self._writer = Writer(options, self._reader, self._post_report)
        self._tail = Tail(TAIL_BYTES)
        self._ledger: Ledger
        self._heads: dict[str, Head] = {}
        self._watchers: dict[str, Callable[[], None]] = {}
        self._waiting = 0
        self._gate = asyncio.Lock()
        self._room = asyncio.Event()
        self._used = 0
        self._problem = ""
        self._unreadable: dict[str, str] = {}
        self._closing: asyncio.Future[None] | None = None
        self._lock = -1

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        max_size: int,
        when_full: str,
        clock: Clock,
        connect: Connect = schema.connect,
        witness: Witness | None = None,
    ) -> Self:
        """Open the journal in `directory`, which is created if need be, and start its threads.

        `max_size` is in bytes; `when_full` is `block` or `drop-oldest`. Raises `JournalInUse` and `StartError`.
        """
        schema.check_library()
        options = Options(directory / FILE, max_size, when_full == "drop-oldest", clock, connect)
        journal = cls(directory, options, asyncio.get_running_loop(), witness)
        await asyncio.to_thread(journal._start)
        return journal

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """Store the entries durably, or none; give the places of the duplicates, which are not stored.

        Raises `JournalFull` and `JournalFailed`.
        """
        if not entries:
            return []
        if not all(entry.connections for entry in entries):
            raise ValueError("an entry goes to one connection at least")
        lengths = [len(entry.uplink.body) for entry in entries]
        size, need = sum(lengths), estimate(lengths)
        async with self._gate:
            while self._waiting >= WAITING_BYTES:
                self._room.clear()
                await self._room.wait()
            self._check_open()
            future: asyncio.Future[list[int]] = self._loop.create_future()
            self._waiting += size
            self._writer.submit(Append(entries, size, need, future))
        return await future

    async def settle(self, connection: str, settled: Sequence[Settled]) -> None:
        """Record how uplinks ended. Raises `JournalFailed`."""
        if settled:
            future = self._future()
            self._writer.submit(Settle(connection, settled, future))
            await future

    async def declare(self, connections: Iterable[str]) -> None:
        """Open an account for each of these connections, so that `counts` shows them. Raises `JournalFailed`."""
        unknown = tuple(name for name in connections if name not in self._ledger.accounts)
        if unknown:
            future = self._future()
            self._writer.submit(Declare(unknown, future))
            await future

    async def read(self, connection: str, after: int, limit: int) -> list[Queued]:
        """Give at most `limit` unsettled uplinks with `seq > after`, oldest first. Raises `JournalFailed`."""
        try:
            found = await self._read(connection, after, limit)
        except JournalFailed as error:
            if self._closing is None:
                self._unreadable[connection] = str(error)
            raise
        self._unreadable.pop(connection, None)
        if found and self.witness is not None:
            self.witness.seen(connection, found)
        return found

    async def _read(self, connection: str, after: int, limit: int) -> list[Queued]:
        while limit > 0:
            account = self._ledger.accounts.get(connection)
            if account is None or not account.queued:
                break
            start, upto = max(after, account.cursor), self._ledger.last_seq
            found = self._tail.read(account.routes, start, limit)
            if found is None:
                routes = [route.id for route in account.routes if route.last > start]
                future: asyncio.Future[list[Queued]] = self._loop.create_future()
                self._check_open()
                self._reader.submit(partial(backlog, routes=routes, after=start, limit=limit), future)
                found = await future
            # Meanwhile drop-oldest may have taken some. Others may have come, but perhaps not all of them are found: a
            # route that was asked for shows its newest, and one that got its first since then was not asked for.
            account = self._ledger.accounts.get(connection, account)
            wanted = [one for one in found if account.cursor < one.seq <= upto]
            if wanted:
                self._heads.setdefault(connection, Head()).note(wanted, fresh=start <= account.cursor)
                return wanted
            if self._ledger.last_seq == upto and (not found or found[-1].seq > upto):
                break
        return []

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        """Have `callback` called, in the loop, whenever uplinks for this connection were stored."""
        self._watchers[connection] = callback

    def counts(self) -> Mapping[str, Counts]:
        """Give the account of each connection, configured or not, as committed."""
        # The list is made in one step: the loop may add accounts while a thread is counting.
        return {name: account.counts for name, account in list(self._ledger.accounts.items())}

    def oldest(self, connection: str) -> int | None:
        """Give when the oldest queued uplink was received, or a little earlier; None if nothing is queued."""
        account = self._ledger.accounts.get(connection)
        head = self._heads.get(connection)
        if account is None or head is None or not account.queued:
            return None
        return head.received(account.cursor)

    def health(self) -> JournalHealth:
        """Give the size, and what is wrong, if anything is."""
        problem = next(filter(None, (self._problem, *self._unreadable.values())), "")
        return JournalHealth(problem, self._used, self._options.max_size)

    async def parked(self, connection: str | None, limit: int, before: int = 0) -> list[Parked]:
        """Give parked uplinks, of one connection or (None) of all, newest first. Raises `JournalFailed`."""
        account = self._ledger.accounts.get(connection) if connection is not None else None
        if connection is not None and account is None:
            return []
        ident = account.id if account is not None else None
        return await self._query(partial(parked.listed, connection=ident, limit=limit, before=before))

    async def parked_named(self, numbers: Sequence[int]) -> list[Parked]:
        """Give the parked uplinks with these numbers, as far as there are such. Raises `JournalFailed`."""
        return await self._query(partial(parked.named, numbers=tuple(numbers)))

    async def parked_one(self, number: int) -> ParkedUplink | None:
        """Give one parked uplink with its body, or None. Raises `JournalFailed`."""
        found: list[ParkedUplink] = await self._query(partial(parked.body_of, number=number))
        return found[0] if found else None

    def parked_kept(self) -> Mapping[str, int]:
        """Give how many parked uplinks each connection has that were neither retried nor dropped since. Cheap."""
        return {name: account.kept for name, account in list(self._ledger.accounts.items()) if account.kept}

    @property
    def last_parked(self) -> int:
        """The highest number that a parked uplink has ever got; 0: none was parked."""
        return self._ledger.numbered

    async def unpark(self, which: str | Sequence[int], *, retry: bool, upto: int = 0) -> Unparked:
        """Queue parked uplinks again, or let them go: a portion, see the protocol. Raises `JournalError`."""
        self._check_open()
        future: asyncio.Future[Unparked] = self._loop.create_future()
        which = which if isinstance(which, str) else tuple(which)
        self._writer.submit(Unpark(which, upto or parked.HIGHEST, retry, future))
        return await future

    def is_queued(self, connection: str, seq: int) -> bool:
        """Tell whether this uplink, which was routed to the connection, still waits there. Cheap."""
        account = self._ledger.accounts.get(connection)
        return account is not None and seq > account.cursor

    async def configure(self, *, max_size: int, when_full: str) -> None:
        """Go on with these, from the next transaction on; see `open`. A journal that is larger then is simply full."""
        future = self._future()
        self._writer.submit(Configure(max_size, when_full == "drop-oldest", future))
        await future

    async def _query(self, query: Callable[[sqlite3.Connection], list[Any]]) -> list[Any]:
        self._check_open()
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        self._reader.submit(query, future)
        return await future

    async def close(self) -> None:
        """Finish what was asked for, write all back, and let go of the files. May be called twice."""
        async with self._gate:
            first = self._closing is None
            if self._closing is None:
                self._closing = self._loop.create_future()
                self._writer.submit(Close(self._closing))
        try:
            await asyncio.shield(self._closing)
        finally:
            if first:
                await asyncio.to_thread(self._stop)

    def _future(self) -> asyncio.Future[None]:
        self._check_open()
        return self._loop.create_future()

    def _check_open(self) -> None:
        if self._closing is not None:
            raise JournalFailed(f"The journal {self._options.path} is closed.")

    # What follows runs in a thread.

    def _start(self) -> None:
        self._lock = lock.acquire(self._directory)
        try:
            if not self._options.path.exists():
                self._options.path.touch(mode=0o600)
            self._ledger, heads, self._used = self._writer.open()
        except (sqlite3.Error, OSError, KeyError, ValueError, TypeError) as error:
            # The last three: rows that make no sense, as after a damage that SQLite did not notice.
            self._abandon()
            raise StartError(
                f"The journal {self._options.path} cannot be opened: {error}. Check the disk and the permissions; "
                "if the file is damaged, move it away to start with an empty journal."
            ) from error
        except BaseException:
            self._abandon()
            raise
        self._heads = {name: Head(*head) for name, head in heads.items()}
        self._reader.start()
        self._writer.start()

    def _abandon(self) -> None:
        self._writer.abandon()
        os.close(self._lock)

    def _stop(self) -> None:
        self._reader.stop()
        self._writer.join()
        os.close(self._lock)

    def _post_report(self, report: Report) -> None:
        self._post(self._reported, report)

    def _post_read(self, future: asyncio.Future[Any], found: object) -> None:
        self._post(resolve, future, found)

    def _post(self, callback: Callable[..., None], *args: object) -> None:
        try:
            self._loop.call_soon_threadsafe(callback, *args)
        except RuntimeError:
            # The loop is gone, and with it everyone who waited.
            return

    # What follows runs in the loop.

    def _reported(self, report: Report) -> None:
        self._used, self._problem = report.used, report.problem
        if report.ledger is not None:
            self._ledger = report.ledger
            self._tail.clear()
        if report.change is not None:
            self._take_over(report)
        for operation, answer in report.done:
            self._finish(operation, answer)
        self._call_watchers(report.queued)
        if report.ledger is not None:
            self._call_watchers(self._ledger.routes)

    def _take_over(self, report: Report) -> None:
        """Apply a committed change to the accounts, and remember the new uplinks."""
        ledger = self._ledger
        floors = {names: route.last for names in report.queued if (route := ledger.routes.get(names))}
        for names, queued in report.queued.items():
            for name in names:
                account = ledger.accounts.get(name)
                if account is None or not account.queued:
                    self._heads.setdefault(name, Head()).note(queued, fresh=True)
        if report.change is not None:
            ledger.apply(report.change)
        for names, queued in report.queued.items():
            self._tail.add(ledger.routes[names].id, floors.get(names, 0), queued)
        if self.witness is not None and report.queued:
            self.witness.stored(report.queued)

    def _finish(self, operation: Operation, answer: Answer) -> None:
        if isinstance(operation, Append):
            self._waiting -= operation.size
            self._room.set()
        elif isinstance(operation, Configure):
            size, drop = operation.max_size, operation.drop_oldest
            self._options = replace(self._options, max_size=size, drop_oldest=drop)
            self._reader.max_size = size
        elif self.witness is not None and answer is None and isinstance(operation, Settle):
            self.witness.settled(operation.connection, operation.settled)
        resolve(operation.future, answer)

    def _call_watchers(self, routes: Iterable[Connections]) -> None:
        watchers = self._watchers
        for name in {name for names in routes for name in names if name in watchers}:
            try:
                watchers[name]()
            except Exception as error:  # noqa: BLE001 - one session's mistake is not another's
                context = {"message": f"the watcher of {name} failed", "exception": error}
                self._loop.call_exception_handler(context)


_conforms: type[Journal] = SqliteJournal
