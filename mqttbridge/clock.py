"""Floor 0: wall and monotonic time, injected wherever time matters, so that tests turn the hands.

Wall time is for what people read and for expiry; it may jump. Monotonic time is for every wait and timeout.
"""

from __future__ import annotations

import time
from typing import Protocol

__all__ = ["Clock", "SystemClock"]


class Clock(Protocol):
    """What reads the time."""

    def now(self) -> int:
        """Wall time in milliseconds since the Unix epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds from some fixed moment; never jumps."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> int:
        """Wall time in milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds from some fixed moment; never jumps."""
        return time.monotonic()
