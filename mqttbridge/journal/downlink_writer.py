"""The thread that owns `downlinks.db`. The event loop submits tasks; nobody else touches the database.

Invariants:

1. Group commit: writes that wait go into one transaction, in the order of submission, and are answered after COMMIT
   has returned, which with `synchronous=FULL` means after the fsync. Reads follow, in the same thread.
2. Whatever goes wrong in a transaction fails everyone in it with `JournalFailed`. What cannot be stored fails alone.
3. After a failure nothing is read or written before two things are done. First, unless the disk was only full or
   locked, the file is opened anew, with a checkpoint that writes and syncs all that SQLite sees: a failed fsync may
   have left pages that look written and are not. Second, what was accepted there but reported as failed is deleted.
   A conclusion so found stays: to conclude again is harmless.
   (A crash between failure and healing may bring such a downlink back. Its broker never got a PUBACK and sends it
   again; the new copy takes the same key.)
4. The loop hears of every change of the counts once, in order; after a failure it gets them all anew.
"""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import JournalFailed
from mqttbridge.journal.downlink_store import DownlinkStore

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.journal.downlink_store import Numbers
    from mqttbridge.journal.schema import Connect

__all__ = ["DownlinkWriter", "Report", "Task"]

MOST_TASKS = 1024
"""In one transaction."""
REST_AFTER = 0.2
"""Seconds without work after which what is old is deleted; after `TIDY_AFTER` writing tasks without rest, too."""
TIDY_AFTER = 512
TIDY_EVERY = 600.0
PROBE_EVERY = 1.0
"""Seconds between attempts to recover by itself."""
NOT_THE_DISK = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    TypeError,
    ValueError,
    OverflowError,
)
LEFT_NO_TRACE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_BUSY)


class Task(msgspec.Struct, frozen=True, eq=False):
    """Something to do with the store. `what` names a read; empty: it writes. `run` None: close, nothing follows."""

    run: Callable[[DownlinkStore], object] | None
    future: asyncio.Future[Any]
    what: str = ""


class Report(msgspec.Struct, frozen=True):
    """What the loop learns. `changes` are to be added to the counts; `numbers` replaces them."""

    problem: str
    done: Sequence[tuple[Task, object]] = ()
    changes: Numbers = {}
    numbers: Numbers | None = None


class DownlinkWriter:
    """Owns the database. `open` first, then `start`."""

    def __init__(self, path: Path, clock: Clock, connect: Connect, report: Callable[[Report], None]) -> None:
        """Take whom to tell; `report` is called in this thread."""
        self._path = path
        self._clock = clock
        self._connect = connect
        self._report = report
        self._tasks: queue.SimpleQueue[Task] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="downlinks-writer", daemon=True)
        self._store: DownlinkStore | None = None
        self._last = 0
        self._doubt = False
        self._failure = ""
        self._unreadable: dict[str, tuple[str, Callable[[DownlinkStore], object]]] = {}
        self._written = 0
        self._untidy = True
        self._probed = 0.0

    def submit(self, task: Task) -> None:
        """Hand over one task. Does not block; called by the loop."""
        self._tasks.put(task)

    def open(self) -> Numbers:
        """Open the file and count. Blocks. Raises `StartError`, sqlite3.Error, OSError."""
        self._store = self._open(strict=False)
        try:
            numbers = self._store.load()
        except BaseException:
            self._drop()
            raise
        self._last = self._store.last
        return numbers

    def start(self) -> None:
        """Begin to take tasks."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, after the task that closes. Blocks."""
        self._thread.join()

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            tasks = self._take()
            writes = [task for task in tasks if task.run is not None and not task.what]
            if writes:
                self._write(writes)
            for task in tasks:
                if task.what:
                    self._read(task)
            if tasks and tasks[-1].run is None:
                self._shut(tasks[-1])
                return
            if not tasks or self._written >= TIDY_AFTER or self._due():
                self._rest()

    def _take(self) -> list[Task]:
        """Wait for tasks and take all that wait, up to a bound; none if there is other work to do."""
        timeout = PROBE_EVERY if self._failure or self._unreadable else REST_AFTER if self._untidy else TIDY_EVERY
        tasks: list[Task] = []
        with contextlib.suppress(queue.Empty):
            tasks.append(self._tasks.get(timeout=timeout))
            while len(tasks) < MOST_TASKS:
                tasks.append(self._tasks.get_nowait())
        return tasks

    def _due(self) -> bool:
        """Tell whether it is time to recover, though reads come without a pause."""
        return bool(self._failure or self._unreadable) and self._clock.monotonic() - self._probed >= PROBE_EVERY

    def _write(self, tasks: list[Task]) -> None:
        """One transaction for all of these."""
        try:
            store = self._ready()
            store.begin()
            done = [(task, task.run(store)) for task in tasks if task.run is not None]
            changes = store.commit()
        except NOT_THE_DISK as error:
            self._refuse(error, tasks)
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may believe that it was stored
            self._fail(error, tasks)
            return
        self._last = store.last
        self._failure = ""
        self._untidy = True
        self._written += len(tasks)
        self._tell(done, changes)

    def _refuse(self, error: Exception, tasks: list[Task]) -> None:
        """One of these holds what cannot be stored: it shall not take the others with it."""
        self._doubt = True
        self._roll_back()
        if len(tasks) > 1:
            for task in tasks:
                self._write([task])
        else:
            self._tell([(tasks[0], JournalFailed(f"{self._path} cannot store this downlink: {error}."))])

    def _fail(self, error: Exception, tasks: Sequence[Task]) -> None:
        """Nothing of this was stored, as far as we know: say so, and decide whether the connection is still good."""
        self._doubt = True
        self._failure = (
            f"The queue of downlinks {self._path} cannot be written: {error}. "
            "No downlink is taken or ended until it can; check the disk and its free space."
        )
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in LEFT_NO_TRACE:
            self._roll_back()
        else:
            self._drop()
        self._tell([(task, JournalFailed(self._failure)) for task in tasks])

    def _roll_back(self) -> None:
        try:
            if self._store is not None:
                self._store.rollback()
        except sqlite3.Error:
            self._drop()

    def _read(self, task: Task) -> None:
        if task.run is None:
            return
        try:
            store = self._ready()
        except Exception as error:  # noqa: BLE001 - the next attempt follows
            self._fail(error, [task])
            return
        try:
            result = task.run(store)
        except NOT_THE_DISK as error:
            self._tell([(task, JournalFailed(f"{self._path} cannot be asked for this: {error}."))])
        except Exception as error:  # noqa: BLE001 - the disk or a damaged file; both are told
            sentence = f"The queue of downlinks {self._path} cannot be read: {error}."
            self._unreadable[task.what] = (sentence, task.run)
            self._doubt = True
            self._drop()
            self._tell([(task, JournalFailed(sentence))])
        else:
            self._unreadable.pop(task.what, None)
            self._tell([(task, result)])

    def _tell(
        self, done: Sequence[tuple[Task, object]] = (), changes: Numbers | None = None, numbers: Numbers | None = None
    ) -> None:
        problem = next(filter(None, (self._failure, *(sentence for sentence, _ in self._unreadable.values()))), "")
        self._report(Report(problem, done, changes or {}, numbers))

    def _open(self, *, strict: bool) -> DownlinkStore:
        store = DownlinkStore(self._path, self._connect)
        try:
            # Whatever the WAL holds is written and synced anew, or (after a failure) the file is not used.
            store.sync(strict=strict)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                store.close()
            raise
        return store

    def _ready(self) -> DownlinkStore:
        """Give a file that can be trusted: the open one, or opened again; see invariant 3."""
        store = self._store = self._store or self._open(strict=True)
        if self._doubt:
            store.undo(self._last)
            numbers = store.load()
            self._last = store.last
            self._doubt = False
            self._tell(numbers=numbers)
        return store

    def _drop(self) -> None:
        """Close the file, so that SQLite forgets all that it believes about it."""
        store, self._store = self._store, None
        if store is not None:
            with contextlib.suppress(sqlite3.Error):
                store.close()

    def _rest(self) -> None:
        """Recover if need be, else one bounded step of tidying."""
        self._written = 0
        self._probed = self._clock.monotonic()
        try:
            store = self._ready()
            if self._failure:
                store.probe()
                self._failure = ""
                self._tell()
                return
            self._reread(store)
            store.begin()
            self._untidy = store.tidy(self._clock.now())
            if changes := store.commit():
                self._tell(changes=changes)
        except Exception as error:  # noqa: BLE001 - the next attempt follows
            self._fail(error, ())

    def _reread(self, store: DownlinkStore) -> None:
        """Try again what could not be read, though nobody waits for it."""
        for what, (_, run) in list(self._unreadable.items()):
            with contextlib.suppress(sqlite3.DatabaseError):
                run(store)
                del self._unreadable[what]
                self._tell()

    def _shut(self, closing: Task) -> None:
        """Close the file. Should the disk fail now: all that was acknowledged is in the WAL, for the next start."""
        if self._doubt:
            with contextlib.suppress(Exception):
                self._ready()
        self._drop()
        self._tell([(closing, None)])
