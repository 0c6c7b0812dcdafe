"""How full the journal is, how fast it grows, and when that is worth a line in the log. Pure; for `journal_watch`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.model import Counts

__all__ = ["Growth", "Level", "largest_queues", "outlook"]

LEVELS: Final = (50, 80, 95)
"""Percent."""
HYSTERESIS: Final = 10
"""Percent points below a level before it is told again."""

SAMPLE_EVERY: Final = 10.0
SAMPLES: Final = 61
ENOUGH: Final = 60.0
"""How long a growth must have been seen to be told, in seconds."""
LONGEST: Final = 30 * 24 * 3600.0
"""A growth that fills the journal later than this is none."""
SHOWN: Final = 3
MANY: Final = 2
UNITS: Final = ((24 * 3600.0, "day"), (3600.0, "hour"), (60.0, "minute"))
SIZES: Final = ((1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


class Level:
    """The highest level that the journal has reached, and has not left again."""

    def __init__(self) -> None:
        """Begin below all of them."""
        self.reached = 0
        """Percent; 0: none."""

    def rises(self, percent: float) -> bool:
        """Tell whether a level is reached now that was not."""
        highest = max((level for level in LEVELS if percent >= level), default=0)
        if highest <= self.reached:
            return False
        self.reached = highest
        return True

    def falls(self, percent: float) -> bool:
        """Tell whether all levels are left now."""
        before = self.reached
        while self.reached and percent < self.reached - HYSTERESIS:
            self.reached = max((level for level in LEVELS if level < self.reached), default=0)
        return bool(before) and not self.reached


class Growth:
    """How fast a size grows: over the last ten minutes, as far as they were seen."""

    def __init__(self) -> None:
        """Begin without having seen anything."""
        self._samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    def see(self, size: int, now: float) -> None:
        """Take note of a size in bytes; `now` is monotonic, in seconds."""
        if not self._samples or now - self._samples[-1][0] >= SAMPLE_EVERY:
            self._samples.append((now, size))

    def rate(self, size: int, now: float) -> float | None:
        """Give the growth in bytes a second; None: not seen for long enough."""
        if not self._samples or now - self._samples[0][0] < ENOUGH:
            return None
        since, before = self._samples[0]
        return (size - before) / (now - since)


def outlook(size: int, max_size: int, rate: float | None) -> str:
    """Say how it goes on, as a sentence without its subject. `rate`: bytes a second, or None."""
    left = max_size - size
    if left <= 0:
        return "it is full"
    if rate is None:
        return "how fast it grows is not known yet"
    if rate <= 0 or left / rate > LONGEST:
        return "it does not grow now"
    return f"it grows by {_size(rate * 60)} a minute, and is full in {_about(left / rate)} at this rate"


def largest_queues(counts: Mapping[str, Counts]) -> str:
    """Name the connections with most queued uplinks; nothing if there are none."""
    largest = sorted(counts, key=lambda name: (-counts[name].queued, name))[:SHOWN]
    return ", ".join(f"{name} {counts[name].queued}" for name in largest if counts[name].queued > 0)


def _about(seconds: float) -> str:
    for length, unit in UNITS:
        # From two of a unit on: "about 90 minutes" says more than "about 2 hours".
        if (many := round(seconds / length)) >= MANY and seconds >= MANY * length:
            return f"about {many} {unit}s"
    return "less than two minutes"


def _size(amount: float) -> str:
    for length, unit in SIZES:
        if amount >= length:
            return f"{amount / length:.1f} {unit}"
    return f"{round(amount)} bytes"
