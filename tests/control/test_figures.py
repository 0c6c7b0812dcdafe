"""Rates, the time to drain, and what will expire: the figures agree with a queue that is played through."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.control.figures import MINUTE, SAMPLE_EVERY, Window, drain_time, expiring, per_second

HOUR = 3600.0


# -- the window ------------------------------------------------------------------------------------------------------


def test_nothing_is_told_in_the_first_second() -> None:
    window: Window[int] = Window()
    assert window.before(5.0) is None
    window.note(5.0, 100)
    assert window.before(5.9) is None
    assert window.before(6.0) == (1.0, 100)


def test_a_rate_is_that_of_the_last_minute_and_no_older() -> None:
    window: Window[int] = Window()
    now, total = 1000.0, 0
    for _ in range(200):
        # 50 a second for long, then silence for the last 90 s.
        window.note(now, total)
        total += 100 if now < 1000 + 400 - 90 else 0
        now += SAMPLE_EVERY
    found = window.before(now)
    assert found is not None
    seconds, sample = found
    assert MINUTE - SAMPLE_EVERY <= seconds <= MINUTE + SAMPLE_EVERY
    assert per_second(total - sample, seconds) == 0


def test_the_window_is_bounded_and_its_minute_whole() -> None:
    window: Window[int] = Window()
    for number in range(10_000):
        window.note(number * SAMPLE_EVERY, number)
        found = window.before(number * SAMPLE_EVERY)
        if number > MINUTE:
            assert found is not None
            assert found[0] == MINUTE
    assert len(window._samples) == MINUTE / SAMPLE_EVERY + 1


def test_what_was_before_a_shorter_time_does_not_count() -> None:
    window: Window[str] = Window()
    for at in range(0, 60, 2):
        window.note(float(at), "closed" if at < 51 else "open")
    assert window.before(60.0, 9.0) == (8.0, "open")
    assert window.before(52.5, 1.5) is None, "half a second tells nothing"


def test_after_a_pause_an_old_sample_is_not_taken_for_the_minute() -> None:
    window: Window[int] = Window()
    window.note(0.0, 1)
    assert window.before(500.0) is None


# -- rates and draining ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "seconds", "rate"), [(0, 60, 0), (60, 60, 1), (1, 60, 0.0167), (123456, 60, 2060), (-5, 60, 0)]
)
def test_a_rate_reads_well(more: int, seconds: float, rate: float) -> None:
    assert per_second(more, seconds) == rate


@pytest.mark.parametrize(
    ("queued", "leaving", "coming", "expected"),
    [
        (0, 0, 0, 0),
        (1000, 0, 0, None),
        (1000, 10, 0, 100),
        (1000, 10, 5, 200),
        (1000, 10, 10, None),
        (1000, 10, 12, None),
        # What is under way in a steady flow is no backlog.
        (30, 10, 10, 3),
    ],
)
def test_the_time_to_drain(queued: int, leaving: float, coming: float, expected: float | None) -> None:
    assert drain_time(queued, leaving, coming) == expected


# -- expiring --------------------------------------------------------------------------------------------------------


def played(queued: int, oldest: float, validity: float, wait: float | None, leaving: float | None) -> int:
    """Play a queue through, uplink by uplink: those that expire."""
    if wait is None:
        return queued
    ages = deque(oldest * (1 - number / queued) for number in range(queued))
    now, expired = wait, 0
    for age in ages:
        if age + now > validity:
            expired += 1
        elif leaving is not None:
            now = now + 1 / leaving if leaving else float("inf")
    return expired


@settings(max_examples=300, deadline=None)
@given(
    queued=st.integers(1, 1500),
    oldest=st.floats(1, 100),
    validity=st.floats(1, 100),
    wait=st.none() | st.floats(0, 150),
    leaving=st.none() | st.just(0.0) | st.floats(0.1, 50),
)
def test_the_estimate_is_what_becomes_of_a_queue_that_came_evenly(
    queued: int, oldest: float, validity: float, wait: float | None, leaving: float | None
) -> None:
    expected = played(queued, oldest, validity, wait, leaving)
    assert expiring(queued, oldest, validity, wait, leaving) == pytest.approx(expected, abs=3 + queued * 0.01)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((0, 0, HOUR, None, None), 0),
        ((100, HOUR, 3 * HOUR, 0, 100), 0),
        ((100, HOUR, 3 * HOUR, None, None), 100),
        ((100, HOUR, HOUR, 1800, None), 50),
        ((100, 0, HOUR, 2 * HOUR, None), 100),
        ((100, 0, HOUR, 0, 0.01), 64),
        ((100, HOUR, 2 * HOUR, 0, 0), 100),
    ],
)
def test_what_will_expire(arguments: tuple[int, float, float, float | None, float | None], expected: int) -> None:
    assert expiring(*arguments) == expected
