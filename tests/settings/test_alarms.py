"""The alarms of a connection: what may be written, and when their windows are open."""

from __future__ import annotations

from datetime import date, time, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.settings import alarms
from mqttbridge.settings.alarms import ALARM_CHECKS, Alarm, Recurrence, contradictions
from tests.settings.helpers import complaints, loaded

OF_THINGPARK = """\
connections:
  acme:
    alarms:
      - startTime: 2019-01-31T09:00:00+01:00
        endTime: 2019-01-31T18:00:00+01:00
        timezone: Europe/Paris
        recurrence:
          - frequency: weekly
            byDays: [monday, tuesday, wednesday, thursday, friday]
        uplinkRateMinPerHour: 15
        message: Low rate during business day...
    configuration:
      hostName: broker.example
"""


def alarm(start: str = "00:00", end: str = "00:00", *, zone: str = "UTC", recurs: tuple[Recurrence, ...] = ()) -> Alarm:
    """Give an alarm of ten uplinks an hour."""
    return Alarm(
        start_time=ALARM_CHECKS["alarmTime"](start),
        end_time=ALARM_CHECKS["alarmTime"](end),
        timezone=zone,
        recurrence=recurs,
        uplink_rate_min_per_hour=10,
    )


def test_an_alarm_of_thingpark_works_unchanged(tmp_path: Path) -> None:
    (one,) = loaded(tmp_path, OF_THINGPARK).settings.connections["acme"].alarms
    assert (one.uplink_rate_min_per_hour, one.message) == (15, "Low rate during business day...")
    schedule = one.schedule()
    assert (schedule.start, schedule.length) == (time(9), timedelta(hours=9))
    assert (schedule.days, schedule.first) == ({0, 1, 2, 3, 4}, date(2019, 1, 31))
    assert schedule.zone.key == "Europe/Paris"


def test_an_alarm_needs_no_more_than_its_rate(tmp_path: Path) -> None:
    text = "connections: {acme: {alarms: [{uplinkRateMinPerHour: 1}], configuration: {hostName: h}}}"
    (one,) = loaded(tmp_path, text).settings.connections["acme"].alarms
    schedule = one.schedule()
    assert (schedule.start, schedule.length, schedule.first) == (time(0), timedelta(days=1), None)
    assert (schedule.days, schedule.zone.key) == (set(range(7)), "UTC")
    assert contradictions(one) == []


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("alarmTime", "9:00", "09:00"),
        ("alarmTime", " 17:30:15 ", "17:30:15"),
        ("alarmTime", "24:00", "00:00"),
        ("alarmTime", "2026-11-23T09:00Z", "2026-11-23T09:00:00+00:00"),
        ("alarmTime", "2026-11-23 09:00", "2026-11-23T09:00:00"),
        ("timezone", "Europe/Paris", "Europe/Paris"),
        ("timezone", "europe/paris", "Europe/Paris"),
        ("timezone", "UTC", "UTC"),
        ("frequency", "WEEKLY", "weekly"),
        ("frequency", "Daily", "daily"),
        ("weekday", "MO", "monday"),
        ("weekday", "thu", "thursday"),
        ("weekday", "SUNDAY", "sunday"),
    ],
)
def test_the_obvious_spellings_are_accepted(kind: str, text: str, value: str) -> None:
    assert ALARM_CHECKS[kind](text) == value


@pytest.mark.parametrize(
    ("kind", "text", "words"),
    [
        ("alarmTime", "25:00", "a time of day, such as 09:00"),
        ("alarmTime", "9", "a time of day"),
        ("alarmTime", "2026-02-30T09:00", "a date and time"),
        ("alarmTime", "0001-01-01T00:00+14:00", "a date and time"),
        ("timezone", "Europe/Pari", "did you mean Europe/Paris"),
        ("timezone", "../../etc/passwd", "the name of a time zone"),
        ("timezone", "x" * 100_000, "the name of a time zone"),
        ("frequency", "monthly", "daily or weekly"),
        ("weekday", "m", "a day of the week"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_what_would_be_right(kind: str, text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ALARM_CHECKS[kind](text)


def test_every_mistake_in_an_alarm_is_told_with_its_place(tmp_path: Path) -> None:
    text = (
        OF_THINGPARK.replace("Europe/Paris", "Europe/Pariss")
        .replace("friday", "fryday")
        .replace("weekly", "yearly")
        .replace("Hour: 15", "Hour: many")
    )
    assert [line.partition(": ")[0] for line in complaints(tmp_path, text)] == [
        "mqttbridge.yaml:6:19",
        "mqttbridge.yaml:8:24",
        "mqttbridge.yaml:9:60",
        "mqttbridge.yaml:10:31",
    ]
    assert "acme.alarms[0].timezone: must be the name of a time zone" in complaints(tmp_path, text)[0]


@pytest.mark.parametrize(
    ("lines", "place", "words"),
    [
        ("startTime: 09:00\n        endTime: 09:59", "5:18", "endTime: must be an hour after startTime at least"),
        ("recurrence: [{frequency: weekly}]", "4:9", "recurrence: weekly needs byDays"),
    ],
)
def test_what_does_not_fit_together_is_refused(tmp_path: Path, lines: str, place: str, words: str) -> None:
    text = f"""\
connections:
  acme:
    alarms:
      - {lines}
        uplinkRateMinPerHour: 15
    configuration: {{hostName: h}}
"""
    (line,) = complaints(tmp_path, text)
    assert line.startswith(f"mqttbridge.yaml:{place}: connections.acme.alarms[0].{words}")


def test_a_system_without_time_zones_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    alarms._zone_names.cache_clear()
    monkeypatch.setattr(alarms.zoneinfo, "available_timezones", set)
    try:
        with pytest.raises(ValueError, match="install tzdata"):
            ALARM_CHECKS["timezone"]("Europe/Paris")
    finally:
        alarms._zone_names.cache_clear()


def test_a_window_that_ends_before_it_begins_ends_on_the_next_day() -> None:
    assert alarm("22:00", "06:00").schedule().length == timedelta(hours=8)
    assert alarm("2026-11-23T22:00", "2026-11-23T06:00").schedule().length == timedelta(hours=8)


def test_times_with_an_offset_are_moved_to_the_time_zone() -> None:
    schedule = alarm("2026-11-23T23:30:00Z", "2026-11-24T08:00:00Z", zone="Europe/Paris").schedule()
    assert (schedule.start, schedule.first, schedule.length) == (time(0, 30), date(2026, 11, 24), timedelta(hours=8.5))


def test_with_a_date_and_no_recurrence_it_happens_once() -> None:
    schedule = alarm("2026-11-23T09:00", "2026-11-25T18:00").schedule()
    assert (schedule.days, schedule.first, schedule.length) == (set(), date(2026, 11, 23), timedelta(hours=57))


def test_weekly_without_days_is_the_day_of_the_week_of_its_date() -> None:
    recurs = (Recurrence(frequency="weekly"),)
    assert alarm("2026-11-23T09:00", "2026-11-23T18:00", recurs=recurs).schedule().days == {0}


def test_several_recurrences_add_up() -> None:
    recurs = (Recurrence(by_days=("monday",)), Recurrence(frequency="weekly", by_days=("sunday",)))
    assert alarm(recurs=recurs).schedule().days == {0, 6}


def test_a_window_that_recurs_is_no_longer_than_a_week() -> None:
    schedule = alarm("2026-01-01T00:00", "2027-01-01T00:00", recurs=(Recurrence(),)).schedule()
    assert schedule.length == timedelta(days=7)


TIMES = st.sampled_from(
    ["00:00", "09:30", "23:59", "2026-03-29T02:30", "2026-11-23T22:00:00+01:00", "1999-01-01T00:00Z"]
)


@given(TIMES, TIMES, st.sampled_from(["UTC", "Europe/Paris", "Pacific/Apia"]), st.booleans())
def test_whatever_is_accepted_has_a_window(start: str, end: str, zone: str, daily: bool) -> None:
    schedule = alarm(start, end, zone=zone, recurs=(Recurrence(),) if daily else ()).schedule()
    assert schedule.length > timedelta()
    assert bool(schedule.days) or schedule.first is not None


def test_the_example_of_the_page_loads(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "alarms.md").read_text()
    text = page.partition("```yaml\n")[2].partition("```")[0]
    business, always = loaded(tmp_path, text).settings.connections["acme"].alarms
    assert (business.schedule().days, always.schedule().days) == ({0, 1, 2, 3, 4}, set(range(7)))


@pytest.mark.parametrize("struct", [Alarm, Recurrence])
def test_the_page_and_the_full_example_show_every_property(struct: type) -> None:
    root = Path(__file__).parents[2]
    page, full = ((root / name).read_text() for name in ("docs/alarms.md", "config/full.yaml"))
    for field in msgspec.structs.fields(struct):
        assert f"`{field.encode_name}`" in page.replace("recurrence[].", "")
        assert f" {field.encode_name}:" in full
