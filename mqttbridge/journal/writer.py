"""The thread that writes. The event loop submits operations; nobody else touches the writer's database connection.

Invariants:

1. Group commit: what waits goes into one transaction, in the order of submission. Its futures are answered after
   COMMIT has returned, which with `synchronous=FULL` means after the fsync; never before.
2. The ledger mirrors what is committed, and is changed after COMMIT only. The loop gets each change once, in order.
3. Whatever goes wrong in a transaction fails everyone in it with `JournalFailed`. Nobody may be told "stored" later.
4. After an error other than "disk full" the connection is not trusted any more: a failed fsync may have left pages
   that look written and are not. It is closed; the next one starts with a checkpoint that writes and syncs anew all
   that it sees. Should an append be found there that was reported as failed, it is deleted before anything else.
   A settlement so found stays: settling again is harmless, its uplinks lie below the cursor.
   Its fingerprints go with it, and all others are read again: memory has what the disk has.
5. A seq never comes twice: the highest one ever given is the highest `route.last` on disk, and routes stay.
6. What waits is bounded by the facade, transactions by `BATCH_BYTES`, the WAL by `WAL_FACTOR` times its usual size.
7. Nothing is dropped for an append that can never be stored, and with drop-oldest any other is stored. In a journal
   without uplinks there is room for one append, even if the accounts take what `journal.maxSize` allows.
8. A fingerprint is stored with its uplink, in one transaction, and known from COMMIT on. A copy meets it there, or is
   in the same transaction and shares its fate: nobody is told "duplicate" before the original is safe. A copy takes
   no room. The fingerprints' share of the file is given back when no uplink is left that could make room.
9. Parked uplinks are taken up in a transaction that does nothing else. Should it be found there though it was reported
   as failed, it stays as a settlement does: undone, a retried uplink would be nowhere.
"""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import threading
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mqttbridge.errors import JournalFailed, JournalFull
from mqttbridge.journal import room
from mqttbridge.journal.inbox import Inbox
from mqttbridge.journal.ledger import Change, Ledger
from mqttbridge.journal.operations import Close, Configure, Operation, Options, Report, Settle, Unpark
from mqttbridge.journal.plan import Plan, copied
from mqttbridge.journal.planner import Planner
from mqttbridge.journal.schema import PAGE
from mqttbridge.journal.seen import Seen, Sieve
from mqttbridge.journal.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mqttbridge.journal.operations import Answer
    from mqttbridge.journal.reader import Reader
    from mqttbridge.model import Queued

__all__ = ["Writer"]

BATCH_BYTES = 8 * 1024 * 1024
COLLECT_AFTER = 512
"""Settled uplinks after which a transaction also deletes what everybody settled."""
REST_AFTER = 0.2
"""Seconds without work after which the file is tidied."""
PROBE_EVERY = 1.0
"""Seconds between attempts to recover by itself."""
SPARE_BYTES = 1024 * 1024
"""Free pages that the file keeps, for what comes next."""
WAL_FACTOR = 4
SQL_ERRORS = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)
NOT_THE_DISK = (*SQL_ERRORS, TypeError, ValueError, OverflowError)


class Writer:
    """Owns the database. `open` first, then `start`."""

    def __init__(self, options: Options, reader: Reader, report: Callable[[Report], None]) -> None:
        """Take whom to stop for a moment (the reader), and whom to tell; `report` is called in this thread."""
        self._options = options
        self._reader = reader
        self._report = report
        self._inbox = Inbox()
        self._thread = threading.Thread(target=self._run, name="journal-writer", daemon=True)
        self._store: Store | None = None
        self._ledger: Ledger | None = None
        self._seen = Seen(options.max_size)
        self._used = 0
        self._failure = ""
        self._full = ""
        self._full_size = 0
        self._settled = 0
        self._untidy = True
        self._scarce = False
        self._vacant = False
        self._undo = True
        """Whether an append is undone that is found on disk, though it was reported as failed."""

    def submit(self, operation: Operation) -> None:
        """Hand over one operation. Does not block; called by the loop."""
        self._inbox.put(operation)

    def open(self) -> tuple[Ledger, dict[str, tuple[int, int]], int]:
        """Open the file; give a ledger for the loop, the heads of the backlogs, and the size. Blocks.

        Raises `StartError` and sqlite3.Error.
        """
        store = self._open()
        ledger = store.load()
        return ledger, store.oldest(ledger), store.used

    def start(self) -> None:
        """Begin to take operations."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, after a `Close`. Blocks."""
        self._thread.join()

    def abandon(self) -> None:
        """Close the file of a writer that was never started."""
        if self._store is not None:
            self._store.close()

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            operations = self._take()
            closing = [one for one in operations if isinstance(one, Close)]
            if operations != closing:
                for one in operations:
                    if isinstance(one, Configure):
                        self._configure(one)
                others = [one for one in operations if not isinstance(one, (Close, Configure))]
                for portion in self._portions(others):
                    self._work(portion)
            elif closing:
                self._shut(closing)
                return
            else:
                self._rest()
            for one in closing:
                self._inbox.put(one)

    def _take(self) -> list[Operation]:
        """Wait for operations and take all that wait, up to a bound; none if there is other work to do."""
        timeout = PROBE_EVERY if self._failure else REST_AFTER if self._untidy else None
        return self._inbox.take(timeout, min(BATCH_BYTES, self._options.max_size // 4))

    def _configure(self, one: Configure) -> None:
        """Go on with another size: from the next transaction on, and even if the disk fails."""
        self._options = replace(self._options, max_size=one.max_size, drop_oldest=one.drop_oldest)
        self._seen.resize(one.max_size)
        self._untidy = True
        if one.drop_oldest or room.missing(self._used, self._full_size, one.max_size) <= 0:
            self._full = ""
        try:
            if self._store is not None:
                self._store.resize(one.max_size)
        except sqlite3.Error as error:
            self._fail(error, [])
        self._tell([(one, None)])

    def _portions(self, operations: Sequence[Operation]) -> Iterator[list[Operation]]:
        """Cut into transactions: what takes up parked uplinks has its own."""
        for alone, group in itertools.groupby(operations, lambda one: isinstance(one, Unpark)):
            together = list(group)
            yield from ([one] for one in together) if alone else self._cut(together)

    def _cut(self, operations: list[Operation]) -> Iterator[list[Operation]]:
        """Cut what may share them. Where uplinks are to be dropped, settlements come first: what arrived is not."""
        limit = self._options.max_size
        if self._options.drop_oldest and room.missing(self._used, room.needed(operations, limit), limit) > 0:
            if settlements := [one for one in operations if isinstance(one, Settle)]:
                yield [*settlements]
            operations = [one for one in operations if not isinstance(one, Settle)]
        yield from room.portions(operations, limit)

    def _work(self, operations: list[Operation]) -> None:
        """One transaction for all of these."""
        done: list[tuple[Operation, Answer]] = []
        try:
            store, ledger = self._ready()
            now = self._options.clock.now()
            self._make_room(store, ledger, operations, now)
            plan = Plan(ledger, self._seen, now)
            planner = Planner(plan, store, ledger, self._options)
            done = planner.fill(operations, self._used, vacant=self._vacant)
            change, row = plan.change(), plan.row()
            due = self._settled >= COLLECT_AFTER
            ranges = ledger.collectable() if due else []
            if change != Change() or ranges:
                store.commit(plan, change, ranges, row)
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may believe that it was stored
            if len(operations) > 1 and isinstance(error, NOT_THE_DISK):
                # One of them holds what cannot be stored: it shall not take the others with it.
                self._drop_store()
                for one in operations:
                    self._work([one])
            else:
                self._fail(error, operations)
            return
        ledger.apply(change)
        if row is not None:
            self._seen.apply(row)
        if due:
            ledger.collected(ranges)
            self._settled = 0
        if planner.full:
            self._full, self._full_size = planner.full, planner.full_size
        self._undo = True
        self._settled += sum(one.delivered + one.expired + one.parked + one.dropped for one in change.settled)
        self._untidy = True
        self._succeed(done, change, {names: group.queued for names, group in plan.groups.items()})
        self._limit_wal()

    def _make_room(self, store: Store, ledger: Ledger, operations: list[Operation], now: int) -> None:
        """If the appends do not fit, delete what is settled, then (drop-oldest) what is not, until they do."""
        limit = self._options.max_size
        first = operations[0]
        retry = isinstance(first, Unpark) and first.retry
        needed = room.needed(operations, limit)
        if isinstance(first, Unpark) and retry:
            needed = copied(ledger, store.picked(ledger, first, bodies=False))
        self._vacant = False
        if needed and (self._scarce or room.missing(self._used, needed, limit) > 0):
            needed = needed if retry else room.needed_by_new(operations, limit, Sieve(self._seen, now))
            self._collect(store, ledger)
            store.measure()
            self._used = store.used
            self._vacant = room.missing(self._used, needed, limit) > 0 and store.vacant()
        while self._options.drop_oldest and needed and (missing := room.missing(self._used, needed, limit)) > 0:
            # What is deleted may free no page at all. Only if nothing is left to delete, it has to be enough.
            if self._vacant:
                break
            change = store.drop_oldest(ledger, room.to_drop(missing, limit))
            ledger.apply(change)
            self._used = store.used
            self._vacant = store.vacant()
            self._tell(change=change)
        if needed and self._vacant and self._seen.size > PAGE:
            self._forget(store, self._seen.last)

    def _forget(self, store: Store, upto: int) -> None:
        if upto:
            store.forget(upto)
            self._seen.forget(upto)
            self._used = store.used

    def _succeed(
        self,
        done: list[tuple[Operation, Answer]],
        change: Change,
        queued: dict[tuple[str, ...], list[Queued]],
    ) -> None:
        if self._store is not None:
            self._used = self._store.used
        refused = any(isinstance(problem, JournalFull) for _, problem in done)
        if not refused and (queued or room.missing(self._used, self._full_size, self._options.max_size) <= 0):
            self._full = ""
        self._tell(done, change, queued)

    def _tell(
        self,
        done: list[tuple[Operation, Answer]] | None = None,
        change: Change | None = None,
        queued: dict[tuple[str, ...], list[Queued]] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        self._report(Report(done or [], self._used, self._failure or self._full, change, queued or {}, ledger))

    def _fail(self, error: Exception, operations: list[Operation]) -> None:
        """Nothing of this was stored: say so, and decide whether the connection is still good."""
        self._failure = (
            f"The journal {self._options.path} cannot be written: {error}. "
            "No uplink is accepted until it can; check the disk and its free space."
        )
        # A full disk has room again once what is settled is deleted: do it before the next append, not at rest.
        self._scarce = True
        self._undo = self._undo and not any(isinstance(one, Unpark) for one in operations)
        if not self._undo or not self._intact(error):
            self._drop_store()
        self._tell([(one, JournalFailed(self._failure)) for one in operations])

    def _intact(self, error: Exception) -> bool:
        """Tell whether the transaction that failed has left no trace: the disk was full, and it was rolled back."""
        if self._store is None or self._ledger is None:
            return False
        if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_FULL:
            return False
        try:
            self._store.rollback()
            self._store.measure()
            return self._store.last_seq() == self._ledger.last_seq
        except sqlite3.Error:
            return False

    def _drop_store(self) -> None:
        """Close the file; the reader's connection too, so that SQLite forgets all that it believes about it."""
        with self._reader.lock:
            self._reader.reset()
            if self._store is not None:
                store, self._store = self._store, None
                with contextlib.suppress(sqlite3.Error):
                    store.close()

    def _ready(self) -> tuple[Store, Ledger]:
        """Give a file that can be trusted: the open one, or opened again."""
        store = self._store or self._open()
        if self._ledger is None:
            raise AssertionError("an open store has a ledger")
        self._failure = ""
        return store, self._ledger

    def _collect(self, store: Store, ledger: Ledger) -> None:
        if ranges := ledger.collectable():
            store.collect(ranges)
            ledger.collected(ranges)

    def _open(self) -> Store:
        options = self._options
        with self._reader.lock:
            self._reader.reset()
            store = Store(options.path, options.max_size, options.connect)
            try:
                # Whatever the WAL holds is written and synced anew, or (after a failure) the file is not used.
                store.sync(strict=self._ledger is not None)
                ledger = store.load()
                if self._undo and self._ledger is not None and ledger.last_seq > self._ledger.last_seq:
                    store.undo_appends(self._ledger)
                    ledger = store.load()
                for_loop = store.load() if self._ledger is not None else None
                seen = store.load_seen()
            except BaseException:
                store.close()
                raise
        self._store, self._ledger, self._seen, self._used = store, ledger, seen, store.used
        self._undo = True
        if for_loop is not None:
            self._tell(ledger=for_loop)
        return store

    def _limit_wal(self) -> None:
        """Cut the WAL if SQLite's own checkpoints did not get round to it."""
        try:
            if self._store is not None and self._store.wal_exceeds(WAL_FACTOR):
                with self._reader.lock:
                    self._store.checkpoint()
        except (sqlite3.Error, OSError) as error:
            self._fail(error, [])

    def _rest(self) -> None:
        """Nothing waits: recover if need be, else one bounded step of tidying."""
        try:
            if self._failure:
                store, _ = self._ready()
                store.probe()
                self._tell()
            else:
                self._untidy = self._tidy()
        except Exception as error:  # noqa: BLE001 - the next attempt follows
            self._fail(error, [])

    def _tidy(self) -> bool:
        """Delete settled uplinks, then shrink the file, then the WAL; tell whether more is to do."""
        store, ledger = self._ready()
        store.measure()
        self._forget(store, self._seen.outdated(self._options.clock.now()))
        while self._inbox.empty():
            if ledger.collectable():
                self._collect(store, ledger)
            elif store.free > SPARE_BYTES:
                free = store.free
                store.vacuum()
                if store.free >= free:
                    break
            else:
                break
            if store.used != self._used:
                self._succeed([], Change(), {})
            if store.wal_exceeds(1):
                with self._reader.lock:
                    store.checkpoint()
        else:
            return True
        with self._reader.lock:
            store.checkpoint()
        self._scarce = False
        if self._full and store.vacant():
            self._full = ""
            self._tell()
        return False

    def _shut(self, closing: Sequence[Operation]) -> None:
        """Close the file. Should the disk fail now: all that was acknowledged is in the WAL, for the next start."""
        if self._store is not None and self._ledger is not None:
            with contextlib.suppress(sqlite3.Error, OSError):
                self._collect(self._store, self._ledger)
        self._drop_store()
        self._tell([(one, None) for one in closing])
