"""A few threads of our own for the two calls that block: DNS lookups and reading certificates.

The threads are daemons, so that a lookup that hangs never holds up the shutdown; the loop's default pool is not used,
so that nothing else waits behind them. Equal work asked for at the same time is done once, however long it hangs.
Callers may be cancelled at any moment; the work then ends unheard.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Offload"]

T = TypeVar("T")

PATIENCE = 0.1
"""Seconds that work waits for one of the usual threads before it gets one more."""


class _Work:
    """One piece of work and who waits for it."""

    def __init__(self, key: Hashable, function: Callable[[], Any]) -> None:
        self.key = key
        self.function = function
        self.begun = False
        self.waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = []


class Offload:
    """Runs blocking functions in threads that live only while there is work.

    There are at most `limit` of them, unless they hang: whatever waits for longer than `PATIENCE` gets one more, up to
    `most`.
    """

    def __init__(self, limit: int, name: str, *, most: int = 0) -> None:
        """Take how many may run at once, the name of the threads, and how many there may be when some hang."""
        self._limit = limit
        self._most = max(limit, most)
        self._name = name
        self._lock = threading.Lock()
        self._work: dict[Hashable, _Work] = {}
        self._queue: deque[_Work] = deque()
        self._threads = 0

    async def run(self, key: Hashable, function: Callable[[], T]) -> T:
        """Give what `function` gives or raises; who asks for the same key meanwhile gets the same.

        Raises `OSError` (EAGAIN) if the system gives no thread at all.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            work = self._work.get(key)
            if work is None:
                work = self._work[key] = _Work(key, function)
                self._queue.append(work)
            work.waiters = [(theirs, other) for theirs, other in work.waiters if not other.done()]
            work.waiters.append((loop, future))
        self._help(work, self._limit)
        timer = loop.call_later(PATIENCE, self._help, work, self._most)
        try:
            return await future
        finally:
            timer.cancel()

    def _help(self, work: _Work, limit: int) -> None:
        """Start a thread if the work still waits for one, and fewer than `limit` run."""
        with self._lock:
            if work.begun or self._threads >= limit:
                return
            self._threads += 1
        try:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()
        except RuntimeError:  # the system gives no more
            self._give_up()

    def _give_up(self) -> None:
        """Take back a thread that could not start; if there is no other, nothing that waits can be done."""
        with self._lock:
            self._threads -= 1
            orphans = [] if self._threads else list(self._queue)
            for work in orphans:
                self._queue.popleft()
                del self._work[work.key]
        for work in orphans:
            _tell(work, None, OSError(errno.EAGAIN, "no thread can be started"))

    def _serve(self) -> None:
        """Work until there is none left: the body of a thread."""
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                work = self._queue.popleft()
                work.begun = True
                if all(future.done() for _, future in work.waiters):  # everybody was cancelled
                    del self._work[work.key]
                    continue
            result: Any = None
            error: BaseException | None = None
            try:
                result = work.function()
            except Exception as caught:  # noqa: BLE001 - it is raised where it is awaited
                error = caught
            with self._lock:
                del self._work[work.key]
            _tell(work, result, error)


def _tell(work: _Work, result: Any, error: BaseException | None) -> None:  # noqa: ANN401 - whatever the work gives
    """Hand the outcome to all who wait."""
    for loop, future in work.waiters:
        with suppress(RuntimeError):  # that loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_resolve, future, result, error)


def _resolve(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:  # noqa: ANN401
    """Hand the outcome to a waiter that still waits."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
