"""Keeps the log readable: of news that repeats, one line a minute, with a count of those left out.

Used where a line an uplink would flood the log (unrouted, rejected, parked, expired). Each is counted in the metrics
all the same, and told one by one at DEBUG.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable

    from mqttbridge.clock import Clock

__all__ = ["Throttle"]

MAX_KEYS = 10_000


class Throttle:
    """Says for each key whether its news is due, and how many were left out since the last time."""

    def __init__(self, clock: Clock, every: float = 60.0) -> None:
        """Let each key through once in `every` seconds."""
        self._clock = clock
        self._every = every
        self._seen: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()

    def due(self, key: Hashable) -> int | None:
        """Give None: leave it out; or how many of this key were left out since the last that was told."""
        now = self._clock.monotonic()
        told_at, left_out = self._seen.get(key, (None, 0))
        if told_at is not None and now - told_at < self._every:
            self._seen[key] = (told_at, left_out + 1)
            return None
        self._seen[key] = (now, 0)
        self._seen.move_to_end(key)
        if len(self._seen) > MAX_KEYS:
            self._seen.popitem(last=False)
        return left_out
