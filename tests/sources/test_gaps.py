"""Gaps in frame counters: told when uplinks are missing, and never for anything else."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.sources import gaps
from mqttbridge.sources.gaps import MAX_FCNT_GAP, FrameCounters

DEVICE = "0018B20000000B20"


def told(*fcnts: int, known: int | None = None) -> list[int]:
    """Give what each of these counters of one device is answered with."""
    counters = FrameCounters({} if known is None else {DEVICE: known})
    return [counters.note(DEVICE, fcnt) for fcnt in fcnts]


@pytest.mark.parametrize(
    ("fcnts", "missing"),
    [
        ([7], [0]),
        ([7, 8, 9], [0, 0, 0]),
        ([7, 9], [0, 1]),
        ([7, 12, 13, 15], [0, 4, 0, 1]),
        ([0, MAX_FCNT_GAP], [0, MAX_FCNT_GAP - 1]),
        ([70_000, 70_002], [0, 1]),
    ],
)
def test_what_lies_between_two_uplinks_is_missing(fcnts: list[int], missing: list[int]) -> None:
    assert told(*fcnts) == missing


def test_a_leap_beyond_what_lorawan_allows_starts_anew() -> None:
    assert told(5, 5 + MAX_FCNT_GAP + 1, 5 + MAX_FCNT_GAP + 3) == [0, 0, 1]
    assert told(5, 30_000, 60_000, 60_002) == [0, 0, 0, 1]


def test_a_repeat_is_no_gap() -> None:
    assert told(7, 7, 8, 8, 8, 9) == [0] * 6


def test_a_late_arrival_does_not_lower_the_counter() -> None:
    assert told(997, 1000, 999, 998, 1001) == [0, 2, 0, 0, 0]
    assert told(30, 5, 31) == [0, 0, 0]
    assert told(1000, *range(5, 21), 1001, 1003) == [0] * 18 + [1]


def test_a_rejoin_or_reset_starts_anew_and_its_gaps_are_told() -> None:
    assert told(1000, 0, 1, 3) == [0, 0, 0, 1]
    assert told(20_000, 300, 302) == [0, 0, 1]
    assert told(1000, 400, 0, 1, 2, 4) == [0, 0, 0, 0, 0, 1]


def test_a_new_session_that_passes_where_the_old_one_ended_is_no_gap() -> None:
    assert told(1000, *range(1100), 1101) == [0] * 1101 + [1]


def test_a_counter_of_16_bits_rolls_over() -> None:
    assert told(65_534, 65_535, 0, 1) == [0, 0, 0, 0]
    assert told(65_534, 2, 3) == [0, 3, 0]
    assert told(65_534, 1, 65_535, 2) == [0, 2, 0, 0]


def test_a_counter_of_32_bits_goes_on_beyond_16() -> None:
    assert told(65_535, 65_536, 65_538) == [0, 0, 1]


def test_a_reset_far_from_the_end_of_16_bits_is_no_rollover() -> None:
    assert told(60_000, 0, 1) == [0, 0, 0]


def test_two_servers_that_count_the_same_device_apart_are_no_gaps() -> None:
    assert told(1000, 5, 1001, 6, 1002, 7, 1004, 8) == [0, 0, 0, 0, 0, 0, 1, 0]


def test_what_was_missed_before_the_start_is_told() -> None:
    assert told(12, known=9) == [2]


def test_devices_count_apart() -> None:
    counters = FrameCounters()
    assert [counters.note(f"{number:016X}", 10 * number) for number in range(100)] == [0] * 100
    assert [counters.note(f"{number:016X}", 10 * number + 2) for number in range(100)] == [1] * 100


def test_the_device_not_seen_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gaps, "MAX_DEVICES", 3)
    counters = FrameCounters({"A": 1, "B": 1, "C": 1})
    counters.note("A", 2)
    counters.note("D", 1)
    assert len(counters) == 3
    assert counters.note("A", 4) == 1
    assert counters.note("C", 3) == 1
    assert counters.note("B", 9) == 0


@settings(max_examples=100)
@given(st.integers(0, 100_000), st.lists(st.tuples(st.integers(1, 300), st.booleans()), min_size=1, max_size=40))
def test_in_order_every_uplink_that_does_not_come_is_counted_once(start: int, steps: list[tuple[int, bool]]) -> None:
    counters = FrameCounters({DEVICE: start})
    fcnt, missing = start, 0
    for step, repeated in steps:
        fcnt += step
        missing += sum(counters.note(DEVICE, fcnt) for _ in range(1 + repeated))
    assert missing == fcnt - start - len(steps)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=60))
def test_whatever_comes_a_gap_is_never_negative_nor_larger_than_allowed(fcnts: list[int]) -> None:
    assert all(0 <= missing < MAX_FCNT_GAP for missing in told(*fcnts))
