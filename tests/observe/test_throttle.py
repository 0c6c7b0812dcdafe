"""Of news that repeats, one line in a while, and none is lost count of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.observe.throttle import MAX_KEYS, Throttle


class Hands:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> int:
        """Give milliseconds."""
        return int(self.time * 1000)

    def monotonic(self) -> float:
        """Give seconds."""
        return self.time


def test_the_first_is_told_then_none_for_a_minute_then_one_with_the_number_left_out() -> None:
    clock = Hands()
    throttle = Throttle(clock)
    assert throttle.due("parked") == 0
    for _ in range(41):
        clock.time += 1
        assert throttle.due("parked") is None
    clock.time = 60
    assert throttle.due("parked") == 41
    assert throttle.due("parked") is None
    clock.time = 120
    assert throttle.due("parked") == 1


def test_keys_do_not_hold_each_other_back() -> None:
    throttle = Throttle(Hands())
    assert throttle.due(("acme", "uplink.parked")) == 0
    assert throttle.due(("other", "uplink.parked")) == 0
    assert throttle.due(("acme", "uplink.expired")) == 0
    assert throttle.due(("acme", "uplink.parked")) is None


def test_memory_is_bounded_however_many_keys_come() -> None:
    throttle = Throttle(Hands())
    for number in range(MAX_KEYS + 1000):
        throttle.due(number)
    assert len(throttle._seen) == MAX_KEYS


@given(st.lists(st.integers(0, 100), max_size=50))
def test_every_one_is_either_told_or_counted(pauses: list[int]) -> None:
    clock = Hands()
    throttle = Throttle(clock, every=60)
    accounted = 0
    for pause in pauses:
        clock.time += pause
        left_out = throttle.due("x")
        accounted += 0 if left_out is None else 1 + left_out
    clock.time += 60
    assert accounted + (throttle.due("x") or 0) == len(pauses)
