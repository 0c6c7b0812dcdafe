"""The `alarms` of a connection: when fewer uplinks than these are worth a warning. Pure, but for the time zones.

Names and values are those of ThingPark X IoT Flow, "Configuring the Low Message Rate Alarm". The checks here are
registered in `checks`; what must fit together is told by `contradictions`.
"""

from __future__ import annotations

import difflib
import re
import zoneinfo
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
from msgspec import Meta

from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ALARM_CHECKS", "SPAN", "Alarm", "Recurrence", "Schedule", "contradictions"]

SPAN: Final = timedelta(hours=1)
"""What a rate is judged over."""
DAY: Final = timedelta(days=1)
WEEK: Final = timedelta(days=7)
DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
FREQUENCIES: Final = ("daily", "weekly")
FIRST_YEAR, LAST_YEAR = 1970, 2199
MAX_ZONE: Final = 64

CLOCK = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?").fullmatch
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}").match
MIDNIGHT = re.compile(r"24:00(?::00)?").fullmatch


def _text(kind: str, text: str, *, alias: str | None = None) -> Meta:
    extra: dict[str, Any] = {"kind": kind, "alias": alias}
    return Meta(description=text, extra=extra, extra_json_schema={"minLength": 1})


class _Section(msgspec.Struct, frozen=True, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What both have in common with every other section of the file."""


class Recurrence(_Section, frozen=True, kw_only=True):
    """On which days an alarm is looked at."""

    frequency: Annotated[str, _text("frequency", "daily or weekly")] = "daily"
    by_days: Annotated[
        tuple[Annotated[str, _text("weekday", "a day of the week, such as monday or MO")], ...],
        Meta(description="only these days; a window over midnight belongs to the day on which it begins"),
    ] = ()


class Schedule(msgspec.Struct, frozen=True):
    """When an alarm's window is open, computed: `length` from `start` on, by the clocks of `zone`."""

    zone: zoneinfo.ZoneInfo
    start: time
    length: timedelta
    """More than nothing; a week at most if it recurs."""
    days: frozenset[int]
    """0: Monday; none: once, on `first`."""
    first: date | None
    """The first day of all."""


class Alarm(_Section, frozen=True, kw_only=True):
    """One low message rate alarm."""

    start_time: Annotated[
        str,
        _text("alarmTime", "when the window opens: 09:00, or a date and time; its date is the first day"),
    ] = "00:00"
    end_time: Annotated[str, _text("alarmTime", "when it closes; not after startTime: on the next day")] = "00:00"
    timezone: Annotated[
        str,
        _text("timezone", "the time zone of all this, such as Europe/Paris", alias="timeZone"),
    ] = "UTC"
    recurrence: Annotated[
        tuple[Recurrence, ...],
        Meta(description="default: every day; once, if startTime has a date"),
    ] = ()
    uplink_rate_min_per_hour: Annotated[
        int,
        Meta(ge=0, le=1_000_000_000, description="fewer uplinks in an hour than this are worth a warning"),
    ]
    message: Annotated[str, Meta(description="what the warning says; default: the figures")] = ""

    def schedule(self) -> Schedule:
        """Compute when it is open."""
        zone = _zone(plain(self.timezone))
        (begin, first), (end, last) = (_moment(plain(text), zone) for text in (self.start_time, self.end_time))
        length = datetime.combine(last or date.min, end) - datetime.combine((last and first) or date.min, begin)
        if first is None or length <= timedelta():
            length = length % DAY or DAY
        days = frozenset(day for each in self.recurrence for day in _days_of(each, first))
        if not self.recurrence:
            days = frozenset(range(7)) if first is None else frozenset()
        return Schedule(zone, begin, min(length, WEEK) if days else length, days, first)


def contradictions(alarm: Alarm) -> list[tuple[str, str]]:
    """Say what does not fit together: the name of a property, and a sentence without its subject."""
    found = []
    if alarm.schedule().length < SPAN:
        found.append(("endTime", "must be an hour after startTime at least: the rate is that of a whole hour"))
    dated = MOMENT(plain(alarm.start_time))
    if not dated and any(each.frequency == "weekly" and not each.by_days for each in alarm.recurrence):
        found.append(("recurrence", "weekly needs byDays, such as [monday, friday], or a date in startTime"))
    return found


def _days_of(recurrence: Recurrence, first: date | None) -> frozenset[int]:
    if recurrence.by_days:
        return frozenset(DAYS.index(plain(day)) for day in recurrence.by_days)
    if plain(recurrence.frequency) == "weekly" and first is not None:
        return frozenset({first.weekday()})
    return frozenset(range(7))


def _moment(text: str, zone: zoneinfo.ZoneInfo) -> tuple[time, date | None]:
    """Give the time of day, in the zone, and the date if there is one. `text` has passed its check."""
    if not MOMENT(text):
        return time.fromisoformat(text), None
    moment = datetime.fromisoformat(text)
    local = moment if moment.tzinfo is None else moment.astimezone(zone)
    return local.time(), local.date()


@lru_cache(maxsize=1024)
def _zone(name: str) -> zoneinfo.ZoneInfo:
    """Read a time zone, once: loading does, so that nobody waits for the disk later."""
    return zoneinfo.ZoneInfo(name)


def check_timezone(text: str) -> str:
    """Check the name of a time zone (IANA)."""
    name = text.strip()
    names = {each.casefold(): each for each in _zone_names()}
    known = names.get(name.casefold())
    if known is None and not names:
        raise ValueError("cannot be looked up: this system knows no time zones; install tzdata")
    if known is None:
        near = difflib.get_close_matches(name.casefold()[:MAX_ZONE], names, n=1)
        hint = f"; did you mean {names[near[0]]}?" if near else ""
        raise ValueError(f"must be the name of a time zone, such as Europe/Paris or UTC{hint}")
    _zone(known)
    return known


@lru_cache(maxsize=1)
def _zone_names() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones())


def check_time(text: str) -> str:
    """Check a time of day, or a date and time (ISO 8601, with or without an offset)."""
    written = text.strip()
    if MIDNIGHT(written):
        return "00:00"
    try:
        if clock := CLOCK(written):
            given = time(int(clock[1]), int(clock[2]), int(clock[3] or 0))
            return given.isoformat("minutes" if not given.second else "seconds")
        if MOMENT(written):
            moment = datetime.fromisoformat(written)
            if FIRST_YEAR < moment.year < LAST_YEAR:
                return moment.isoformat()
    except ValueError:
        pass
    raise ValueError("must be a time of day, such as 09:00, or a date and time, such as 2026-11-23T09:00:00+01:00")


def check_frequency(text: str) -> str:
    """Check how often an alarm recurs."""
    if text.strip().lower() not in FREQUENCIES:
        raise ValueError("must be daily or weekly")
    return text.strip().lower()


def check_weekday(text: str) -> str:
    """Check a day of the week; two letters of it are enough (RFC 5545 writes MO)."""
    written = text.strip().lower()
    for day in DAYS:
        if written in {day, day[:2], day[:3]}:
            return day
    raise ValueError("must be a day of the week: monday, tuesday, wednesday, thursday, friday, saturday or sunday")


ALARM_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "alarmTime": check_time,
    "frequency": check_frequency,
    "timezone": check_timezone,
    "weekday": check_weekday,
}
"""By `Meta.extra["kind"]`, for `checks`."""
