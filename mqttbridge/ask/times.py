"""The moments that an operator writes: `90m` (ago), `14:30` (today), `2026-11-22 14:30`, ISO 8601. Pure.

Without an offset a time is local, as the operator's clock has it.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

from mqttbridge.settings.scalars import duration

__all__ = ["moment_of"]

EXAMPLES = "write 90m (so long ago), 14:30 (today), '2026-11-22 14:30' or 2026-11-22T14:30:00Z"
LONGEST = 3650 * 24 * 3600 * 1000
"""Milliseconds."""


def moment_of(text: str, now: int) -> int:
    """Give the moment in ms; `now` is the present, in ms. Raises `ValueError` with a sentence."""
    written = text.strip()
    if not written.isdigit():
        with contextlib.suppress(ValueError):
            return now - duration(written, 0, LONGEST)
    today = datetime.fromtimestamp(now / 1000, tz=UTC).astimezone()
    try:
        clock = datetime.strptime(written, "%H:%M:%S" if written.count(":") > 1 else "%H:%M")  # noqa: DTZ007
        # The offset is that of the moment itself: a day may have two.
        local = datetime(today.year, today.month, today.day, clock.hour, clock.minute, clock.second)  # noqa: DTZ001
        return _ms(local)
    except ValueError:
        pass
    try:
        given = datetime.fromisoformat(written)
        return _ms(given)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no time: {EXAMPLES}") from None


def _ms(moment: datetime) -> int:
    """Give ms, 0 at least. A local time that comes twice is its first; one that is left out is as much later."""
    return max(0, round(moment.timestamp() * 1000))
