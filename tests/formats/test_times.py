"""Times go from milliseconds to text and back, exactly."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.formats.times import iso, milliseconds, moment

times = st.integers(-(2**40), 2**45)


@given(times)
def test_a_time_comes_back_as_it_was(time: int) -> None:
    assert milliseconds(moment(time)) == milliseconds(datetime.fromisoformat(iso(time))) == time


def test_it_is_written_as_thingpark_does() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000+00:00"
    assert iso(1_767_319_445_678) == "2026-01-02T02:04:05.678+00:00"


def test_offsets_count_and_what_is_finer_is_left_out() -> None:
    given = datetime(1970, 1, 1, 1, 0, 0, 1999, tzinfo=timezone(timedelta(hours=1)))
    assert milliseconds(given) == milliseconds(datetime(1970, 1, 1, 0, 0, 0, 1000, tzinfo=UTC)) == 1
