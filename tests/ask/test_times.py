"""The moments that an operator writes: in their own zone, and never a surprise where the clock is changed."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from mqttbridge.ask.times import moment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HOUR = 3600 * 1000


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


NOW = ms("2026-11-22T19:40:00Z")


@pytest.fixture(params=["Europe/Paris"], autouse=True)
def _zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", "2026-11-22T18:10:00Z"),
        ("1d", "2026-11-21T19:40:00Z"),
        ("14:30", "2026-11-22T13:30:00Z"),
        (" 02:00:05 ", "2026-11-22T01:00:05Z"),
        ("2026-11-22 14:30", "2026-11-22T13:30:00Z"),
        ("2026-11-22", "2026-11-21T23:00:00Z"),
        ("2026-07-01 14:30", "2026-07-01T12:30:00Z"),
        ("2026-11-22T14:30:00Z", "2026-11-22T14:30:00Z"),
        ("2026-11-22T14:30+09:00", "2026-11-22T05:30:00Z"),
        ("2026-11-22T14:30:00.120+00:00", "2026-11-22T14:30:00.120Z"),
    ],
)
def test_a_time_is_local_unless_it_says_otherwise(text: str, moment: str) -> None:
    assert moment_of(text, NOW) == ms(moment)


def test_an_hour_that_comes_twice_is_the_first_of_both() -> None:
    assert moment_of("2026-10-25 02:30", NOW) == ms("2026-10-25T00:30:00Z")
    assert moment_of("2026-10-25 03:00", NOW) - moment_of("2026-10-25 02:00", NOW) == 2 * HOUR


def test_a_time_that_the_clock_leaves_out_is_not_before_those_that_it_showed() -> None:
    assert moment_of("2026-03-29 03:00", NOW) - moment_of("2026-03-29 01:59", NOW) == 60_000
    assert moment_of("2026-03-29 02:30", NOW) == ms("2026-03-29T01:30:00Z")
    assert moment_of("02:30", ms("2026-03-29T12:00:00Z")) == ms("2026-03-29T01:30:00Z")


def test_today_has_the_offset_of_the_moment_itself() -> None:
    evening = ms("2026-10-25T21:00:00Z")
    assert moment_of("01:00", evening) == ms("2026-10-24T23:00:00Z")
    assert moment_of("12:00", evening) == ms("2026-10-25T11:00:00Z")


def test_what_was_before_all_uplinks_is_the_beginning_of_time() -> None:
    assert moment_of("1960-01-01", NOW) == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "25:00",
        "-1h",
        "3600",
        "yesterday",
        "2026-13-01",
        "2026-11-31",
        "100000d",
        "0001-01-01",
    ],
)
def test_what_is_no_time_is_told_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match="is no time: write 90m"):
        moment_of(text, NOW)
