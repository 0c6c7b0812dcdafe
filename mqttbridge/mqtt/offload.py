"""A few threads of our own for the two calls that block: DNS lookups and reading certificates.

The threads are daemons, so that a lookup that hangs never holds up the shutdown; the loop's default pool is not used,
so that nothing else waits behind them. Equal work asked for at the same time is done once. Callers may be cancelled
at any moment; the work then ends unheard.
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


class _Work:
    """One piece of work and who waits for it."""

    def __init__(self, key: Hashable, function: Callable[[], Any]) -> None:
        self.key = key
        self.function = function
        self.waiters: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[Any]]] = []


class Offload:
    """Runs blocking functions in at most `limit` threads, which live only while there is work."""

    def __init__(self, limit: int, name: str) -> None:
        """Take how many may run at once, and the name of their threads."""
        self._limit = limit
        self._name = name
        self._lock = threading.Lock()
        self._work: dict[Hashable, _Work] = {}
        self._queue: deque[_Work] = deque()
        self._threads = 0

    async def run(self, key: Hashable, function: Callable[[], T]) -> T:
        """Give what `function` gives or raises; who asks for the same key meanwhile gets the same.

        Raises `OSError` if it needs a thread and the system gives none.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        with self._lock:
            work = self._work.get(key)
            if work is None:
                work = self._work[key] = _Work(key, function)
                self._queue.append(work)
                start = self._threads < self._limit
                self._threads += start
            else:
                start = False
            work.waiters.append((loop, future))
        if start:
            try:
                threading.Thread(target=self._serve, name=self._name, daemon=True).start()
            except RuntimeError:
                self._give_up()
        return await future

    def _give_up(self) -> None:
        """Take back a thread that could not be started; what no other thread will do has failed."""
        with self._lock:
            self._threads -= 1
            left = [] if self._threads else list(self._queue)
            for work in left:
                del self._work[work.key]
                self._queue.popleft()
        for work in left:
            _answer(work, None, OSError(errno.EAGAIN, "no thread can be started"))

    def _serve(self) -> None:
        """Work until there is none left: the body of a thread."""
        while True:
            with self._lock:
                if not self._queue:
                    self._threads -= 1
                    return
                work = self._queue.popleft()
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
            _answer(work, result, error)


def _answer(work: _Work, result: Any, error: BaseException | None) -> None:  # noqa: ANN401
    """Tell everybody who waits for it how it ended."""
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
