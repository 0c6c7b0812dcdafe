"""When an alarm's window is open: over midnight, on some days, on days of 23 and 25 hours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mqttbridge.control.alarm_windows import is_open, open_throughout
from mqttbridge.settings.alarms import Alarm, Recurrence, Schedule

HOUR = timedelta(hours=1)


def schedule(start: str, end: str, *days: str, zone: str = "UTC") -> Schedule:
    """Give the schedule of a window: on these days of the week, else every day, once if it has a date."""
    recurs = (Recurrence(frequency="weekly", by_days=days),) if days else ()
    alarm = Alarm(start_time=start, end_time=end, timezone=zone, recurrence=recurs, uplink_rate_min_per_hour=1)
    return alarm.schedule()


def at(text: str) -> datetime:
    """Give a moment; UTC, unless it says otherwise."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-11-23T08:59:59", False),
        ("2026-11-23T09:00:00", True),
        ("2026-11-23T17:59:59", True),
        ("2026-11-23T18:00:00", False),
        ("2026-11-28T12:00:00", False),
    ],
)
def test_a_window_is_open_from_its_start_until_its_end_on_its_days(moment: str, expected: bool) -> None:
    assert is_open(schedule("09:00", "18:00", "monday", "friday"), at(moment)) is expected


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday_night = schedule("22:00", "06:00", "friday")
    assert is_open(friday_night, at("2026-11-28T05:59"))
    assert not is_open(friday_night, at("2026-11-28T22:30"))
    assert not is_open(friday_night, at("2026-11-27T05:59"))


def test_the_whole_hour_must_lie_in_the_window() -> None:
    window = schedule("09:00", "18:00")
    for end, expected in (("09:59", False), ("10:00", True), ("18:00", True), ("18:01", False)):
        moment = at(f"2026-11-23T{end}")
        assert open_throughout(window, moment - HOUR, moment) is expected, end


def test_windows_that_join_are_one() -> None:
    moment = at("2026-11-24T00:10")
    assert open_throughout(schedule("00:00", "00:00"), moment - HOUR, moment)
    weekdays = schedule("00:00", "00:00", "monday", "tuesday")
    assert open_throughout(weekdays, moment - HOUR, moment)
    assert not open_throughout(weekdays, at("2026-11-25T00:10") - HOUR, at("2026-11-25T00:10"))


def test_the_clock_on_the_wall_counts_in_summer_and_in_winter() -> None:
    window = schedule("09:00", "18:00", zone="Europe/Paris")
    assert is_open(window, at("2026-07-01T07:00"))
    assert not is_open(window, at("2026-12-01T07:00"))
    assert is_open(window, at("2026-12-01T08:00"))


def test_a_night_on_which_the_clock_changes_has_an_hour_more_or_less() -> None:
    night = schedule("22:00", "06:00", zone="Europe/Paris")
    for end in ("2026-03-29T06:00+02:00", "2026-10-25T06:00+01:00"):
        assert is_open(night, at(end) - timedelta(minutes=1))
        assert not is_open(night, at(end))
        assert open_throughout(night, at(end) - 7 * HOUR, at(end))
    assert not open_throughout(night, at("2026-03-29T06:00+02:00") - 8 * HOUR, at("2026-03-29T06:00+02:00"))
    assert open_throughout(night, at("2026-10-25T06:00+01:00") - 9 * HOUR, at("2026-10-25T06:00+01:00"))


def test_a_window_that_begins_in_the_hour_that_is_left_out_is_still_looked_at() -> None:
    left_out = schedule("02:30", "12:00", zone="Europe/Paris")
    assert is_open(left_out, at("2026-03-29T04:00+02:00"))


def test_a_window_in_the_hour_that_is_left_out_does_not_happen() -> None:
    left_out = schedule("02:00", "03:00", zone="Europe/Paris")
    assert not any(is_open(left_out, at("2026-03-29T00:00Z") + minutes * HOUR / 60) for minutes in range(180))


def test_once_is_once() -> None:
    once = schedule("2026-11-23T09:00:00", "2026-11-24T18:00:00")
    assert is_open(once, at("2026-11-24T17:00"))
    assert not is_open(once, at("2026-11-24T18:00"))
    assert not is_open(once, at("2026-11-30T10:00"))


def test_nothing_is_looked_at_before_the_first_day() -> None:
    window = Alarm(
        start_time="2026-11-23T09:00:00",
        end_time="2026-11-23T18:00:00",
        recurrence=(Recurrence(),),
        uplink_rate_min_per_hour=1,
    ).schedule()
    assert not is_open(window, at("2026-11-22T12:00"))
    assert is_open(window, at("2026-11-23T12:00"))
    assert is_open(window, at("2027-11-23T12:00"))
