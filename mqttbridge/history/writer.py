"""The thread that writes the history. The loop gives it what passed (`waiting`), and asks it to flush, tidy and close.

Invariants:

1. What waits is written about a second after it came, or at once when it is much or when somebody wants to read.
2. A disk that fails ends nothing: the batch stays, is tried again every second, and what comes meanwhile is bounded by
   `waiting`. `history.failed` is told once, and `history.recovered` once.
3. After any error the connection is not trusted and closed. Should the batch be found in the file nevertheless (its
   number in `state` tells), it is not written again.
4. What is no disk failure (values that SQLite does not take) costs its batch, never the thread.
5. A file that is damaged or not ours is moved aside, and a new one begun; a few times in the life of a process.
6. Size and age are bounded in small steps, between transactions.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from mqttbridge.history.packing import pack_given, pack_settled
from mqttbridge.history.schema import damaged, move_aside
from mqttbridge.history.store import FAN, Store

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.history.schema import Connect
    from mqttbridge.history.waiting import Batch, Waiting

__all__ = ["Close", "Damaged", "Flush", "Tidy", "Writer"]

PAUSE = 1.0
"""Seconds from the first thing that waits until it is written."""
PROBE_EVERY = 1.0
"""Seconds between attempts while the disk fails."""
TIDY_EVERY = 30.0
TELL_EVERY = 60.0
"""Seconds between two lines that tell of what was left out."""
SPARE_BYTES = 1024 * 1024
"""Free pages that the file keeps, for what comes next."""
MEASURE_EVERY = 64
"""The size is measured whenever this part of what is allowed was added."""
EVENT_AGE = 30 * 24 * 3600 * 1000
MOVES = 3
"""Files that are moved aside in a process, at most: a disk that damages each new one shall not be filled."""
ROUNDS = 32
"""Transactions in which all that can wait is written; what comes meanwhile is for the next time."""
NOT_THE_DISK = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH}


class Flush(NamedTuple):
    """Have everything that was given before written; then the future gets its result, whatever came of it."""

    future: asyncio.Future[None]


class Close(NamedTuple):
    """Flush, and end."""

    future: asyncio.Future[None]


class Damaged(NamedTuple):
    """A reader found the file damaged. `moves`: how many files had been moved aside before it opened this one."""

    error: Exception
    moves: int


class Tidy(NamedTuple):
    """The bounds were changed."""


class Wake(NamedTuple):
    """Something waits; `urgent`: much of it."""

    urgent: bool


Request = Flush | Close | Damaged | Tidy | Wake


class Writer:
    """Owns the writing connection. `open` first, then `start`."""

    def __init__(
        self,
        path: Path,
        waiting: Waiting,
        clock: Clock,
        connect: Connect,
        answer: Callable[[asyncio.Future[None]], None],
        tell: Callable[[str, str, dict[str, object]], None],
    ) -> None:
        """Take whom to answer, and whom to tell (level, event, fields); both are called in this thread."""
        self.problem = ""
        self.retention = 0
        self.max_size = 0
        self.moves = 0
        self._path = path
        self._waiting = waiting
        self._clock = clock
        self._connect = connect
        self._answer = answer
        self._tell = tell
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="history-writer", daemon=True)
        self._store: Store | None = None
        self._batch: Batch | None = None
        self._attempted = -1
        self._announced = False
        self._urged = False
        self._added = 0
        self._small = 0
        self._untidy = True
        self._tidied = self._told_at = -1e9
        self._told = 0

    def announce(self) -> None:
        """Say that something was given. Does not block; called by whoever gave it."""
        if not self._announced:
            self._announced = True
            self._requests.put(Wake(urgent=False))
        if not self._urged and self._waiting.much:
            self._urged = True
            self._requests.put(Wake(urgent=True))

    def submit(self, request: Request) -> None:
        """Ask for something. Does not block."""
        self._requests.put(request)

    def open(self) -> None:
        """Open the file, if that is possible; if not, the thread goes on trying. Blocks, and never raises."""
        self._attempt(lambda _: None)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def join(self) -> None:
        """Wait until the thread has ended, after a `Close`. Blocks."""
        self._thread.join()

    # What follows runs in the thread.

    def _run(self) -> None:
        while True:
            requests = self._collect()
            for request in requests:
                if isinstance(request, Damaged) and request.moves == self.moves:
                    self._fail(request.error)
            self._write_all()
            self._announce_lost()
            closing = False
            for request in requests:
                closing = closing or isinstance(request, Close)
                if isinstance(request, Flush):
                    self._answer(request.future)
            if closing:
                self._shut([request for request in requests if isinstance(request, Close)])
                return
            self._tidy(at_once=any(isinstance(one, Tidy) for one in requests))

    def _collect(self) -> list[Request]:
        """Wait until there is something to do, and for a second more if that does not hurt; give what was asked."""
        requests: list[Request] = []
        deadline = self._clock.monotonic() + self._patience()
        while True:
            try:
                request = self._requests.get(timeout=max(0.0, deadline - self._clock.monotonic()))
            except queue.Empty:
                return requests
            requests.append(request)
            if isinstance(request, Wake):
                if request.urgent and not self.problem:
                    return requests
                deadline = min(deadline, self._clock.monotonic() + PAUSE)
            else:
                return requests

    def _patience(self) -> float:
        """Give how long to wait if nothing is asked for, in seconds."""
        if self.problem:
            return PROBE_EVERY
        if self._untidy:
            return 0.0
        return TELL_EVERY if self._waiting.lost > self._told else TIDY_EVERY

    def _write_all(self) -> None:
        # First the flags, then the look: what is given in between announces itself anew.
        self._announced = False
        if not self.problem:
            self._urged = False
        elif self._batch is None and self._waiting.empty:
            self._attempt(lambda store: store.probe())
        for _ in range(ROUNDS):
            if (self._batch is None and self._waiting.empty) or not self._write():
                break
        if not self.problem:
            self._urged = False

    def _write(self) -> bool:
        """One transaction; tell whether it is done with."""
        if self._batch is None:
            self._batch = self._waiting.take()
        batch = self._batch
        if batch is None:
            return True
        written = self._attempt(lambda store: self._store_batch(store, batch))
        if written:
            self._batch = None
            self._attempt(self._limit)
        return written

    def _store_batch(self, store: Store, batch: Batch) -> None:
        if self._attempted >= 0 and store.batch == self._attempted:
            # The error came after the commit.
            self._attempted = -1
            self._waiting.done(batch)
            return
        try:
            uplinks, poor = pack_given(batch.given, store.names)
            ends, poor_ends = pack_settled(batch.ends, store.names, self._clock.now())
            self._attempted = store.batch + 1
            used = store.used
            store.write(uplinks, ends, batch.events)
        except Exception as error:
            if not _is_disk(error):
                self._drop_store()
                self._attempted = -1
                self._waiting.done(batch, batch.records)
                return
            raise
        self._attempted = -1
        self._added += store.used - used
        self._small += 1
        self._waiting.done(batch, poor + poor_ends)

    def _attempt(self, work: Callable[[Store], object]) -> bool:
        """Do this with an open file; tell whether it went well. A file that will never do is replaced at once."""
        while True:
            try:
                if self._store is None:
                    self._store = Store(self._path, self._connect)
                work(self._store)
            except Exception as error:  # noqa: BLE001 - the history must never be in the way, nor end
                if not self._fail(error):
                    return False
            else:
                if self.problem:
                    self.problem = ""
                    self._tell("info", "history.recovered", {})
                return True

    def _fail(self, error: Exception) -> bool:
        """Close the file, and say why; tell whether another attempt makes sense at once: the file was moved aside."""
        self._drop_store()
        what, moved = f"{error}. Check the disk and its free space", False
        if damaged(error) and self.moves < MOVES:
            try:
                aside = move_aside(self._path, _stamp(self._clock.now()))
            except OSError as failure:
                what = f"{error}, and it cannot be moved away: {failure}"
            else:
                self.moves += 1
                self._attempted = -1
                moved = True
                what = f"{error}. It was moved to {aside.name}, and a new one is begun"
        before, self.problem = self.problem, f"The history {self._path} cannot be used: {what}."
        if not before or moved:
            self._tell("warning", "history.failed", {"reason": self.problem})
        return moved

    def _drop_store(self) -> None:
        if self._store is not None:
            store, self._store = self._store, None
            store.close()

    def _limit(self, store: Store) -> None:
        """Keep the size within its bound; asking SQLite costs a step, so not each time."""
        if self._added > self.max_size // MEASURE_EVERY:
            store.measure()
            self._added = 0
        while store.used > self.max_size and store.drop_oldest():
            pass

    def _tidy(self, *, at_once: bool) -> None:
        """Bound the age, join small blocks, shrink the file: in small steps, as long as nothing much waits."""
        now = self._clock.monotonic()
        due = self._untidy or at_once or now - self._tidied >= TIDY_EVERY
        if self.problem or not (due or self._small >= FAN):
            return
        self._untidy = False
        steps = [self._join] if not due else [self._forget, self._join, self._measured, self._shrink]
        for step in steps:
            while self._attempt_step(step):
                if self._waiting.much or not self._requests.empty():
                    self._untidy = due
                    return
        if due:
            self._tidied = now

    def _attempt_step(self, step: Callable[[Store], bool]) -> bool:
        more = False

        def work(store: Store) -> None:
            nonlocal more
            more = step(store)

        return self._attempt(work) and more

    def _forget(self, store: Store) -> bool:
        now = self._clock.now()
        # All of it, if nothing is to be kept: also what the future may bring that a clock was ahead of.
        before = now - self.retention if self.retention > 0 else 2**62
        return store.forget(before) or store.forget_events(now - EVENT_AGE)

    def _join(self, store: Store) -> bool:
        self._small = 0
        return store.merge()

    def _measured(self, store: Store) -> bool:
        store.measure()
        return store.used > self.max_size and store.drop_oldest()

    @staticmethod
    def _shrink(store: Store) -> bool:
        free = store.free
        if free <= SPARE_BYTES:
            return False
        store.vacuum()
        return store.free < free

    def _announce_lost(self) -> None:
        """Tell how much was left out, at most once a minute."""
        lost, now = self._waiting.lost, self._clock.monotonic()
        if lost > self._told and now - self._told_at >= TELL_EVERY:
            self._tell("warning", "history.behind", {"count": lost - self._told, "reason": self._why()})
            self._told, self._told_at = lost, now

    def _why(self) -> str:
        return self.problem or "More passed than could be written in the same time."

    def _shut(self, closing: list[Close]) -> None:
        """Close the file. What could not be written is lost."""
        if self._batch is not None:
            self._waiting.done(self._batch, self._batch.records)
        while (batch := self._waiting.take()) is not None:
            self._waiting.done(batch, batch.records)
        self._told_at = -1e9
        self._announce_lost()
        self._drop_store()
        for request in closing:
            self._answer(request.future)


def _is_disk(error: Exception) -> bool:
    """Tell an error of the disk (or of the file) from one of the values."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is not None:
        return code & 0xFF not in NOT_THE_DISK
    return isinstance(error, (sqlite3.OperationalError, OSError, MemoryError))


def _stamp(now: int) -> str:
    return datetime.fromtimestamp(now / 1000, UTC).strftime("%Y%m%dT%H%M%SZ")
