"""Keeps the log readable where a line an uplink could flood it (unrouted, rejected, parked, expired).

Of each kind of news the first 20 in a minute are told in full; the others one by one at DEBUG only, and together in
one line when the minute is over, or at the end: the last of them, with their number as `left_out`. Every one is
counted in the metrics all the same. The daemon runs `run` as a task; the others call `tell`.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import anyio

from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from mqttbridge.clock import Clock

__all__ = ["Throttle"]

log = get_logger()

EVERY = 60.0
BURST = 20
MAX_KEYS = 10_000
LOOK_EVERY = 1.0
"""Seconds."""


class _Minute:
    """What was told of one kind of news since `began`, and the last that was left out."""

    __slots__ = ("began", "last", "left_out", "told")

    def __init__(self, began: float) -> None:
        self.began = began
        self.told = 0
        self.left_out = 0
        self.last: Callable[[int], None] | None = None

    def end(self) -> None:
        """Tell what was left out."""
        if self.last is not None:
            self.last(self.left_out)


class Throttle:
    """Tells news, and leaves out what repeats too often."""

    def __init__(self, clock: Clock, *, every: float = EVERY, burst: int = BURST) -> None:
        """Tell `burst` lines of each key in `every` seconds."""
        self._clock = clock
        self._every = every
        self._burst = burst
        self._minutes: OrderedDict[Hashable, _Minute] = OrderedDict()

    def tell(
        self,
        level: str,
        event: str,
        key: Hashable,
        *,
        burst: int | None = None,
        **fields: Any,  # noqa: ANN401 (what a logger takes)
    ) -> None:
        """Log the event now, or count it as left out. News of one event and `key` are of one kind.

        `burst`: how many of a minute are told, if not the usual number.
        """
        kind = (event, key)
        minute = self._minutes.get(kind)
        now = self._clock.monotonic()
        if minute is None or now - minute.began >= self._every:
            if minute is not None:
                minute.end()
            minute = self._minutes[kind] = _Minute(now)
            self._minutes.move_to_end(kind)
            self._forget()
        if minute.told < (self._burst if burst is None else burst):
            minute.told += 1
            getattr(log, level)(event, **fields)
            return
        minute.left_out += 1
        minute.last = lambda left_out: getattr(log, level)(event, **fields, left_out=left_out)
        log.debug(event, **fields)

    def look(self) -> None:
        """End the minutes that are over. They stand in the order in which they began."""
        now = self._clock.monotonic()
        while self._minutes:
            kind, minute = next(iter(self._minutes.items()))
            if now - minute.began < self._every:
                return
            del self._minutes[kind]
            minute.end()

    def end(self) -> None:
        """Tell all that was left out, at once."""
        while self._minutes:
            self._minutes.popitem(last=False)[1].end()

    async def run(self) -> None:
        """Look once a second, until cancelled; then end."""
        try:
            while True:
                self.look()
                await anyio.sleep(LOOK_EVERY)
        finally:
            self.end()

    def _forget(self) -> None:
        if len(self._minutes) > MAX_KEYS:
            self._minutes.popitem(last=False)[1].end()
