"""The token bucket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.downlinks.rate import Bucket


def test_ten_seconds_worth_may_come_at_once_and_then_the_rate_holds() -> None:
    bucket = Bucket(100, 5.0)
    assert bucket.available(5.0) == 1000
    bucket.take(1000, 5.0)
    assert bucket.available(5.0) == 0
    assert bucket.available(6.0) == 100
    bucket.take(100, 6.0)
    assert bucket.available(6.0) == 0


def test_it_never_holds_more_than_ten_seconds_worth() -> None:
    bucket = Bucket(3, 0.0)
    bucket.take(30, 0.0)
    assert bucket.available(1e9) == 30


def test_a_wait_is_for_a_tenth_of_a_second_worth_or_for_one() -> None:
    fast, slow = Bucket(100, 0.0), Bucket(1, 0.0)
    assert fast.wait(500, 0.0) == 0.0
    fast.take(1000, 0.0)
    slow.take(10, 0.0)
    assert fast.wait(500, 0.0) == 0.1
    assert fast.wait(2, 0.0) == 0.02
    assert slow.wait(500, 0.0) == 1.0


@given(rate=st.integers(1, 100_000), steps=st.lists(st.tuples(st.floats(0, 100), st.integers(1, 5000)), max_size=50))
def test_no_window_of_time_gives_more_than_its_worth(rate: int, steps: list[tuple[float, int]]) -> None:
    now = start = 1234.5
    bucket, taken = Bucket(rate, now), 0
    for delay, wanted in steps:
        now += delay
        number = min(wanted, bucket.available(now))
        bucket.take(number, now)
        taken += number
        assert taken <= rate * (10 + now - start) + 1


@given(rate=st.integers(1, 100_000), wanted=st.integers(1, 5000), ago=st.floats(0, 1))
def test_after_the_wait_it_told_there_is_one(rate: int, wanted: int, ago: float) -> None:
    bucket = Bucket(rate, 0.0)
    bucket.take(10 * rate, 0.0)
    wait = bucket.wait(wanted, ago)
    assert bucket.available(ago + wait) >= 1


@given(first=st.integers(1, 1000), second=st.integers(1, 1000), used=st.integers(0, 10_000), times=st.integers(1, 5))
def test_a_change_of_the_rate_keeps_it_as_full_as_it_is(first: int, second: int, used: int, times: int) -> None:
    bucket = Bucket(first, 0.0)
    bucket.take(min(used, 10 * first), 0.0)
    full = bucket._tokens / (10 * first)
    for _ in range(times):
        bucket.change(second, 0.0)
        assert abs(bucket._tokens / (10 * second) - full) < 1e-6
        bucket.change(first, 0.0)
    assert bucket.available(0.0) == max(0, 10 * first - used)
    bucket.change(second, 1000.0)
    assert bucket.available(1000.0) == 10 * second
    bucket.take(10 * second, 1000.0)
    assert bucket.available(1001.0) == second
