"""What is computed from counted numbers: rates, the time to drain a queue, and how much of it will expire. Pure.

Estimates are honest guesses: they take it that the last minute goes on, and that the uplinks of a queue came evenly
between the oldest one and now. Times are seconds; times of a `Window` are monotonic.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

__all__ = ["SAMPLE_EVERY", "Window", "drain_time", "expiring", "per_second"]

Sample = TypeVar("Sample")

MINUTE = 60.0
SAMPLE_EVERY = 2.0
SHORTEST = 1.0
"""Nothing is said of a shorter time."""
KEEPS_UP = 5.0
"""A queue that is gone within so long is not behind: it is what is under way."""


class Window(Generic[Sample]):
    """Samples of running totals over the last minute; a rate is the difference of two. Bounded."""

    def __init__(self) -> None:
        """Start without samples."""
        self._samples: deque[tuple[float, Sample]] = deque()

    def note(self, now: float, sample: Sample) -> None:
        """Keep a sample, and let go of those that nobody will ask for."""
        self._samples.append((now, sample))
        # The oldest that is a minute old stays: it is where the minute begins.
        while len(self._samples) > 1 and self._samples[1][0] <= now - MINUTE:
            self._samples.popleft()

    def before(self, now: float, at_most: float = MINUTE) -> tuple[float, Sample] | None:
        """Give how long ago the oldest sample of the last `at_most` seconds was, and the sample itself.

        None: there is none that is old enough to tell anything. One that is `SAMPLE_EVERY` older counts as within the
        minute, but not as within a shorter time: what was then does not count.
        """
        limit = at_most + SAMPLE_EVERY if at_most >= MINUTE else at_most
        for at, sample in self._samples:
            if now - at <= limit:
                return (now - at, sample) if now - at >= SHORTEST else None
        return None


def per_second(more: int, seconds: float) -> float:
    """Give a rate that reads well: three digits of it are enough."""
    return float(f"{more / seconds:.3g}") if more > 0 else 0.0


def drain_time(queued: int, leaving: float, coming: float) -> float | None:
    """How long until the queue is empty, at these rates (uplinks/s); None: it does not become shorter."""
    if not queued:
        return 0.0
    if leaving <= 0:
        return None
    if queued / leaving <= KEEPS_UP:
        return queued / leaving
    return queued / (leaving - coming) if leaving > coming else None


def expiring(queued: int, oldest: float, validity: float, wait: float | None, leaving: float | None) -> int:
    """Estimate how many of those queued now will expire before they can be delivered.

    `oldest`: the age of the oldest. `wait`: how long nothing is delivered (None: for ever). `leaving`: the rate from
    then on, in uplinks/s (None: not known, and taken as very fast; the true number is then this or more).
    """
    if wait is None or not queued:
        return queued
    until_first = validity - oldest
    if oldest <= 0:
        if wait > validity:
            return queued
        return 0 if leaving is None else max(0, round(queued - leaving * (validity - wait)))
    ageing = queued / oldest
    """How many reach the end of their validity in a second, once the first has."""
    late = queued * min(max((wait - until_first) / oldest, 0.0), 1.0)
    if leaving is None or leaving >= ageing:
        return round(late)
    # Delivery begins at `wait` behind what is late by then, and is slower than the ageing: that catches up with it.
    caught_at = (late - leaving * wait + ageing * until_first) / (ageing - leaving)
    delivered_until = late + leaving * (max(caught_at, wait) - wait)
    if delivered_until >= queued:
        return round(late)
    return round(late + (queued - delivered_until) * (1 - leaving / ageing))
