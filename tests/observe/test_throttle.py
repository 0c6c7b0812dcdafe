"""News that repeats is told in full for a while, then by number; nothing is left untold at the end."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqttbridge.observe import throttle
from mqttbridge.observe.throttle import Throttle
from tests.support.inside import Told


class Hands:
    """A clock whose hands the test turns."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.time


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> Told:
    told = Told()
    monkeypatch.setattr(throttle, "log", told)
    return told


def warnings(log: Told) -> list[tuple[Any, int]]:
    """Give what was told above DEBUG: the number of the news, and how many were left out."""
    return [(fields["number"], fields.get("left_out", 0)) for level, _, fields in log.lines if level == "warning"]


def test_the_first_of_a_minute_are_told_and_the_others_by_number_when_it_is_over(log: Told) -> None:
    hands = Hands()
    told = Throttle(hands, burst=3)
    for number in range(10):
        told.tell("warning", "uplink.parked", "acme", number=number)
    hands.time = 59.0
    told.look()
    assert warnings(log) == [(0, 0), (1, 0), (2, 0)]
    hands.time = 60.0
    told.look()
    told.look()
    assert warnings(log) == [(0, 0), (1, 0), (2, 0), (9, 7)]
    assert sum(level == "debug" for level, _, _ in log.lines) == 7


def test_news_after_the_minute_begin_a_new_one_behind_what_was_left_out(log: Told) -> None:
    hands = Hands()
    told = Throttle(hands, burst=1)
    for number in range(3):
        told.tell("warning", "uplink.parked", "acme", number=number)
    hands.time = 61.0
    told.tell("warning", "uplink.parked", "acme", number=3)
    assert warnings(log) == [(0, 0), (2, 2), (3, 0)]


def test_each_event_and_key_has_its_own_minute(log: Told) -> None:
    told = Throttle(Hands(), burst=1)
    for event, key in (("uplink.parked", "acme"), ("uplink.expired", "acme"), ("uplink.parked", "other")):
        for number in range(2):
            told.tell("warning", event, key, number=number)
    assert warnings(log) == [(0, 0)] * 3


@pytest.mark.asyncio
async def test_when_it_is_cancelled_it_tells_what_was_left_out(log: Told) -> None:
    told = Throttle(Hands(), burst=1)
    async with anyio.create_task_group() as group:
        group.start_soon(told.run)
        for number in range(5):
            told.tell("warning", "uplink.parked", "acme", number=number)
        group.cancel_scope.cancel()
    assert warnings(log) == [(0, 0), (4, 4)]


def test_memory_is_bounded_however_many_keys_there_are(log: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "MAX_KEYS", 100)
    told = Throttle(Hands(), burst=1)
    for key in range(1000):
        told.tell("warning", "uplink.parked", key, number=0)
    assert len(told._minutes) == 100
    assert len(warnings(log)) == 1000


@given(moves=st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 50)), max_size=80), burst=st.integers(1, 5))
def test_told_and_left_out_are_all(moves: list[tuple[str, float]], burst: int) -> None:
    hands, log = Hands(), Told()
    told = Throttle(hands, burst=burst)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(throttle, "log", log)
        for number, (key, later) in enumerate(moves):
            hands.time += later
            told.tell("warning", "uplink.parked", key, number=number)
            told.look()
        told.end()
    found = warnings(log)
    assert sum(left_out or 1 for _, left_out in found) == len(moves)
