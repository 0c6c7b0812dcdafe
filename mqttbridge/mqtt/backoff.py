"""When to try a broker again: pure.

Used by sessions and by MQTT sources. A failing time begins with the first failure and ends only when the link has
been healthy for 30 s (`HEALTHY_AFTER`; the caller then starts from `FRESH` again). In it: the first retry of a link
that was healthy comes at once, then decorrelated jitter from 1 s to 60 s for five minutes, then the strategy's
schedule. A refused login goes straight to the schedule: trying a wrong password fast locks accounts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FRESH", "HEALTHY_AFTER", "STRATEGIES", "Backoff", "Step", "jitter", "next_try"]

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR

HEALTHY_AFTER = 30.0
"""Seconds that a link must stay open before its past failures are forgotten."""

JITTER_LOW = 1.0
JITTER_HIGH = 60.0
JITTER_FOR = 5 * MINUTE

Step = tuple[float, float]
"""(seconds between tries, for how many seconds)."""

FOREVER = float("inf")

STRATEGIES: Mapping[str, Sequence[Step]] = {
    "CALM": ((10 * MINUTE, 12 * HOUR), (HOUR, DAY)),
    "NORMAL": ((5 * MINUTE, HOUR), (HOUR, DAY), (DAY, FOREVER)),
    "AGGRESSIVE": ((3 * MINUTE, 3 * HOUR), (30 * MINUTE, 7 * DAY), (HOUR, FOREVER)),
}
"""What follows the five minutes of jitter, by `reconnectStrategy`. A list that ends means giving up."""


class Backoff(msgspec.Struct, frozen=True):
    """Where in the failing time we are. Monotonic seconds; `last` is the last jittered delay."""

    since: float | None = None
    last: float = 0.0
    schedule_since: float | None = None


FRESH = Backoff()


def jitter(last: float, random: float) -> float:
    """Decorrelated jitter: the next delay in seconds, from the last one and a random number in [0, 1)."""
    return min(JITTER_HIGH, JITTER_LOW + random * max(0.0, 3 * max(last, JITTER_LOW) - JITTER_LOW))


def next_try(
    backoff: Backoff,
    *,
    now: float,
    random: float,
    strategy: str,
    at_once: bool = False,
    refused: bool = False,
) -> tuple[Backoff, float | None]:
    """Decide on the delay before the next try, in seconds; None: give up.

    `at_once`: a healthy link was lost just now. `refused`: the broker refused the login.
    """
    since = now if backoff.since is None else backoff.since
    if at_once and backoff.since is None and not refused:
        return Backoff(since=since), 0.0
    if backoff.schedule_since is None and not refused and now - since < JITTER_FOR:
        delay = jitter(backoff.last, random)
        return Backoff(since=since, last=delay), delay
    schedule_since = now if backoff.schedule_since is None else backoff.schedule_since
    interval = _scheduled(STRATEGIES[strategy], now - schedule_since)
    following = Backoff(since=since, last=backoff.last, schedule_since=schedule_since)
    # A tenth of spread, so that a thousand sessions that failed together do not return together.
    return following, None if interval is None else interval * (0.95 + random / 10)


def _scheduled(steps: Sequence[Step], elapsed: float) -> float | None:
    """Give the interval of the step in which `elapsed` seconds fall; None behind the last."""
    for interval, lasts in steps:
        if elapsed < lasts:
            return interval
        elapsed -= lasts
    return None
