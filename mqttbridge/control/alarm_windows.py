"""Whether an alarm's window is open: pure. For the alarms of this room.

A window that joins the next one without a gap, as that of every whole day does, is one window.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from mqttbridge.settings.alarms import DAY

if TYPE_CHECKING:
    from datetime import date

    from mqttbridge.settings.alarms import Schedule

__all__ = ["is_open", "open_throughout"]


def is_open(schedule: Schedule, at: datetime) -> bool:
    """Tell whether the window is open at a moment (aware)."""
    return _open_until(schedule, at) is not None


def open_throughout(schedule: Schedule, start: datetime, end: datetime) -> bool:
    """Tell whether the window is open from `start` to `end` (aware), without a break."""
    reached = start
    while reached < end:
        until = _open_until(schedule, reached)
        if until is None:
            return False
        reached = until
    return True


def _open_until(schedule: Schedule, at: datetime) -> datetime | None:
    """Give when the window that is open at a moment closes, the latest if there are several; None: none is open."""
    if not schedule.days:
        assert schedule.first is not None  # noqa: S101 - what does not recur has its day
        candidates = [schedule.first]
    else:
        today = at.astimezone(schedule.zone).date()
        candidates = [today - timedelta(days=back) for back in range(schedule.length // DAY + 2)]
    spans = [_span(schedule, day) for day in candidates if _begins_on(schedule, day)]
    return max((end for start, end in spans if start <= at < end), default=None)


def _begins_on(schedule: Schedule, day: date) -> bool:
    if schedule.first is not None and day < schedule.first:
        return False
    return not schedule.days or day.weekday() in schedule.days


def _span(schedule: Schedule, day: date) -> tuple[datetime, datetime]:
    """Give when the window of a day opens and closes. By the clock on the wall: a day may have 23 or 25 hours."""
    start = datetime.combine(day, schedule.start)
    end = start + schedule.length
    return start.replace(tzinfo=schedule.zone).astimezone(UTC), end.replace(tzinfo=schedule.zone).astimezone(UTC)
