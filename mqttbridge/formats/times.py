"""Times as documents write them, and as the model counts them: milliseconds since the Unix epoch, whole and exact."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

__all__ = ["iso", "milliseconds", "moment"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def moment(time: int) -> datetime:
    """Give a time in ms as a moment in UTC."""
    return EPOCH + timedelta(milliseconds=time)


def iso(time: int) -> str:
    """Write a time in ms as ThingPark does: `2026-01-02T03:04:05.678+00:00`."""
    return moment(time).isoformat(timespec="milliseconds")


def milliseconds(given: datetime) -> int:
    """Count a moment, which must have an offset, in ms; what is finer is left out."""
    return (given - EPOCH) // MILLISECOND
