"""News that repeats is told once a minute, with a count."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.observe import throttle
from mqttbridge.observe.throttle import Throttle


class Hands:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.time


def test_the_first_is_told_and_the_next_minute_left_out() -> None:
    hands = Hands()
    told = Throttle(hands)
    assert told.due("acme") == 0
    for second in range(1, 60):
        hands.time = float(second)
        assert told.due("acme") is None
    hands.time = 60.0
    assert told.due("acme") == 59
    assert told.due("acme") is None
    hands.time = 120.0
    assert told.due("acme") == 1


def test_each_key_has_its_own_minute() -> None:
    told = Throttle(Hands())
    assert told.due(("acme", "uplink.parked")) == 0
    assert told.due(("acme", "uplink.expired")) == 0
    assert told.due(("other", "uplink.parked")) == 0
    assert told.due(("acme", "uplink.parked")) is None


def test_memory_is_bounded_however_many_keys_there_are() -> None:
    told = Throttle(Hands())
    for number in range(3 * throttle.MAX_KEYS):
        assert told.due(number) == 0
    assert len(told._seen) == throttle.MAX_KEYS
    assert sys.getsizeof(told._seen) < 4 * 1024 * 1024


def test_who_was_told_longest_ago_is_forgotten_first() -> None:
    hands = Hands()
    told = Throttle(hands)
    told.due("old")
    hands.time = 100.0
    for number in range(throttle.MAX_KEYS - 1):
        told.due(number)
    assert told.due("old") == 0, "told again: the youngest now"
    told.due("one more")
    assert told.due("old") is None


@given(steps=st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 200)), max_size=80))
def test_nothing_is_lost_from_the_count(steps: list[tuple[str, float]]) -> None:
    hands = Hands()
    told = Throttle(hands)
    silent = {"a": 0, "b": 0}
    for key, later in steps:
        hands.time += later
        due = told.due(key)
        if due is None:
            silent[key] += 1
        else:
            assert due == silent[key]
            silent[key] = 0
