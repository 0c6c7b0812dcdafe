"""How fast downlinks of a connection are taken: a token bucket. Pure; the caller brings the (monotonic) time.

It holds ten seconds' worth, and is full at first.
"""

from __future__ import annotations

__all__ = ["Bucket"]

HOLDS = 10.0
"""Seconds' worth of tokens."""
STEP = 0.1
"""Seconds' worth of tokens that a wait is for: whoever wants a thousand does not wake up a thousand times."""


class Bucket:
    """Tokens that come at a rate; each downlink takes one."""

    def __init__(self, rate: float, now: float) -> None:
        """Fill it with `rate` tokens a second, from now on."""
        self._rate = rate
        self._holds = rate * HOLDS
        self._tokens = self._holds
        self._at = now

    def change(self, rate: float, now: float) -> None:
        """Have another rate from now on. It stays as full as it is: no change is worth a burst, nor costs one."""
        self.available(now)
        self._tokens *= rate / self._rate
        self._rate = rate
        self._holds = rate * HOLDS

    def available(self, now: float) -> int:
        """How many may be taken at this moment."""
        self._tokens = min(self._holds, self._tokens + max(0.0, now - self._at) * self._rate)
        self._at = max(self._at, now)
        # What is a rounding error short of a token is one: a wait must not end just before it.
        return int(self._tokens + 1e-6)

    def take(self, number: int, now: float) -> None:
        """Take so many, or all that are there."""
        self.available(now)
        self._tokens = max(0.0, self._tokens - number)

    def wait(self, wanted: int, now: float) -> float:
        """How long to wait, in seconds, until some of the wanted ones may be taken; 0.0: now."""
        if self.available(now):
            return 0.0
        enough = min(wanted, max(1.0, self._rate * STEP))
        return max(0.0, enough - self._tokens) / self._rate
