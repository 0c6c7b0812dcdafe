"""When a broker is tried again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.mqtt.backoff import FRESH, JITTER_FOR, Backoff, jitter, next_try

HOUR = 3600.0
DAY = 24 * HOUR


def delays(strategy: str, until: float, *, refused: bool = False) -> list[tuple[float, float]]:
    """Fail again and again without a pause of its own: (moment, delay) until a time or giving up."""
    now, backoff, found = 0.0, FRESH, []
    while now < until:
        backoff, delay = next_try(backoff, now=now, random=0.5, strategy=strategy, refused=refused)
        if delay is None:
            break
        found.append((now, delay))
        now += delay
    return found


def test_a_healthy_link_that_is_lost_is_tried_again_at_once() -> None:
    _, delay = next_try(FRESH, now=5.0, random=0.9, strategy="NORMAL", at_once=True)
    assert delay == 0.0


def test_a_second_loss_in_the_same_episode_is_not_tried_at_once() -> None:
    backoff, _ = next_try(FRESH, now=5.0, random=0.9, strategy="NORMAL", at_once=True)
    _, delay = next_try(backoff, now=6.0, random=0.9, strategy="NORMAL", at_once=True)
    assert delay is not None
    assert delay >= 1.0


@given(last=st.floats(0, 1000), random=st.floats(0, 1, exclude_max=True))
def test_jitter_stays_between_one_second_and_a_minute(last: float, random: float) -> None:
    assert 1.0 <= jitter(last, random) <= 60.0


def test_jitter_lasts_five_minutes_and_then_the_schedule_begins() -> None:
    for moment, delay in delays("NORMAL", 2 * HOUR):
        if moment < JITTER_FOR:
            assert delay <= 60.0
        else:
            assert delay >= 270.0


@pytest.mark.parametrize(
    ("strategy", "steps"),
    [
        ("NORMAL", [(HOUR, 300.0), (HOUR + DAY, HOUR), (30 * DAY, DAY)]),
        ("AGGRESSIVE", [(3 * HOUR, 180.0), (3 * HOUR + 7 * DAY, 1800.0), (30 * DAY, HOUR)]),
        ("CALM", [(12 * HOUR, 600.0), (12 * HOUR + DAY, HOUR)]),
    ],
)
def test_each_strategy_follows_its_schedule(strategy: str, steps: list[tuple[float, float]]) -> None:
    tried = delays(strategy, steps[-1][0], refused=True)
    for moment, delay in tried:
        interval = next(each for end, each in steps if moment < end)
        assert delay == pytest.approx(interval, rel=0.06)


def test_calm_gives_up_after_twelve_hours_and_a_day() -> None:
    tried = delays("CALM", 10 * DAY)
    assert tried[-1][0] < JITTER_FOR + 12 * HOUR + DAY + 2 * HOUR
    end = sum(delay for _, delay in tried)
    backoff = Backoff(since=0.0, schedule_since=0.0)
    assert next_try(backoff, now=end + DAY, random=0.5, strategy="CALM")[1] is None


def test_a_refused_login_goes_straight_to_the_schedule() -> None:
    _, delay = next_try(FRESH, now=0.0, random=0.5, strategy="NORMAL", refused=True)
    assert delay == pytest.approx(300.0, rel=0.06)
