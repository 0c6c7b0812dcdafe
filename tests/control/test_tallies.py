"""What was counted minute by minute and hour by hour, with a clock whose hands the test turns."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.control import tallies as room
from mqttbridge.control.tallies import HOUR, MINUTE, Tallies
from mqttbridge.model import Counts, DocumentKind, Queued, Uplink

if TYPE_CHECKING:
    from mqttbridge.control.tallies import Tally

NOW = 1_770_001_200_000
"""On the hour."""
assert NOW % HOUR == 0


class World:
    """Accounts and a clock."""

    def __init__(self, now: int = NOW, **accounts: Counts) -> None:
        self.wall = now
        self.accounts = accounts
        self.tallies = Tallies(lambda: dict(self.accounts), self)

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return self.wall / 1000

    def count(self, name: str, routed: int = 0, delivered: int = 0) -> None:
        before = self.accounts.get(name, Counts())
        self.accounts[name] = Counts(before.routed + routed, before.delivered + delivered)

    def passes(self, milliseconds: int) -> None:
        self.wall += milliseconds
        self.tallies.look()

    def minutes(self, name: str = "a") -> dict[int, int]:
        """Give what was routed, by minutes since NOW, where there was something."""
        return routed(self.tallies.of(name).minutes, MINUTE)

    def hours(self, name: str = "a") -> dict[int, int]:
        return routed(self.tallies.of(name).hours, HOUR)


def routed(spans: tuple[Tally, ...], length: int) -> dict[int, int]:
    assert all(span.start % length == 0 for span in spans)
    assert [span.start for span in spans] == [spans[0].start + length * number for number in range(len(spans))]
    return {(span.start - NOW) // length: span.routed for span in spans if span.routed}


def queued(*devices: str) -> list[Queued]:
    return [Queued(1, Uplink("s", DocumentKind.UPLINK, dev_eui, 0, 0, 1, b"")) for dev_eui in devices]


def test_each_minute_and_hour_has_what_was_counted_in_it_and_the_open_one_what_was_counted_so_far() -> None:
    world = World(NOW + 30_000, a=Counts(routed=1000, delivered=900))
    assert world.minutes() == {}, "what was before the start does not count"
    world.count("a", 3, 1)
    assert world.minutes() == world.hours() == {0: 3}
    world.passes(30_000)
    world.count("a", 4)
    assert world.minutes() == {0: 3, 1: 4}
    world.passes(58 * MINUTE)
    assert world.hours() == {0: 7}
    world.passes(MINUTE)
    world.count("a", 5)
    shown = world.tallies.of("a")
    assert routed(shown.minutes, MINUTE) == {1: 4, 60: 5}, "the first is an hour ago"
    assert routed(shown.hours, HOUR) == {0: 7, 1: 5}
    assert (len(shown.minutes), len(shown.hours)) == (60, 2)
    assert shown.hours[0].delivered == 1


def test_all_five_numbers_are_kept_apart() -> None:
    world = World(a=Counts(1, 1, 1, 1, 1))
    world.accounts["a"] = Counts(11, 3, 4, 5, 6)
    for _ in range(2):
        one = world.tallies.of("a").hours[-1]
        assert (one.routed, one.delivered, one.expired, one.parked, one.dropped) == (10, 2, 3, 4, 5)
        world.passes(MINUTE)


def test_a_new_daemon_shows_no_time_before_its_start() -> None:
    world = World(NOW + 90_000)
    assert [span.start for span in world.tallies.of("a").minutes] == [NOW + MINUTE]
    assert [span.start for span in world.tallies.of("a").hours] == [NOW]


def test_a_connection_that_comes_later_counts_from_zero_and_one_that_begins_anew_does_too() -> None:
    world = World()
    world.count("new", 7)
    assert world.minutes("new") == {0: 7}
    world.passes(MINUTE)
    world.accounts["new"] = Counts(routed=2)
    assert world.minutes("new") == {0: 7, 1: 2}
    world.passes(MINUTE)
    assert world.minutes("new") == {0: 7, 1: 2}


def test_a_connection_that_nobody_knows_any_more_is_forgotten() -> None:
    world = World()
    world.count("a", 7)
    world.passes(MINUTE)
    del world.accounts["a"]
    world.passes(MINUTE)
    assert world.minutes() == {}
    assert world.tallies._minutes._rows == {}


def test_a_day_goes_by_and_its_first_hour_with_it() -> None:
    world = World()
    for _ in range(48):
        world.count("a", 1)
        world.passes(HOUR)
    assert world.hours() == dict.fromkeys(range(25, 48), 1)
    assert len(world.tallies.of("a").hours) == 24
    assert world.minutes() == {}


def test_a_clock_that_steps_forward_leaves_empty_minutes() -> None:
    world = World()
    world.count("a", 3)
    world.passes(10 * MINUTE)
    world.count("a", 4)
    assert world.minutes() == {0: 3, 10: 4}
    world.passes(365 * 24 * HOUR)
    assert world.minutes() == {}
    assert len(world.tallies.of("a").minutes) == 60


def test_a_clock_that_is_set_back_takes_the_past_with_it() -> None:
    world = World()
    for number in range(1, 4):
        world.count("a", number)
        world.passes(MINUTE)
    world.passes(2 * HOUR)
    world.count("a", 9)
    world.passes(-5 * HOUR - 30 * MINUTE)
    hours = world.hours()
    assert hours == {-6: 6, -4: 9}
    world.passes(MINUTE)
    world.count("a", 1)
    assert world.minutes() == {-207: 9, -206: 1}


def test_a_clock_that_is_a_little_behind_is_waited_for() -> None:
    world = World()
    world.count("a", 1)
    world.passes(MINUTE)
    world.passes(-2000)
    world.count("a", 2)
    world.passes(1000)
    assert world.minutes() == {0: 1, 1: 2}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3 * HOUR, 3 * HOUR), st.integers(0, 5)), max_size=60))
def test_whatever_the_clock_does_nothing_is_counted_twice_and_spans_follow_each_other(
    steps: list[tuple[int, int]],
) -> None:
    world, total = World(), 0
    for step, number in steps:
        world.passes(step)
        world.count("a", number)
        total += number
        shown = world.tallies.of("a")
        assert sum(routed(shown.minutes, MINUTE).values()) <= sum(routed(shown.hours, HOUR).values()) <= total
        assert len(shown.minutes) <= 60
        assert len(shown.hours) <= 24
        late = world.wall - shown.minutes[-1].start
        assert -room.HOLD <= late < MINUTE
        assert shown.minutes[-1].routed >= number


def test_devices_are_counted_once_for_each_connection_that_they_go_to() -> None:
    world = World()
    world.tallies.stored({("a", "b"): queued("1", "2"), ("b",): queued("2", "3")})
    world.tallies.stored({("a", "b"): queued("1"), ("ab",): queued("9")})
    assert Counter({name: world.tallies.of(name).devices for name in ("a", "b", "ab", "c")}) == Counter(
        {"a": 2, "b": 3, "ab": 1, "c": 0}
    )


def test_a_device_that_was_silent_for_a_day_is_not_active_any_more() -> None:
    world = World()
    world.tallies.stored({("a",): queued("1", "2")})
    world.passes(HOUR)
    world.tallies.stored({("a",): queued("2")})
    world.passes(22 * HOUR)
    assert world.tallies.of("a").devices == 2
    world.passes(HOUR)
    assert world.tallies.of("a").devices == 1
    world.passes(-3 * HOUR)
    world.passes(HOUR)
    assert world.tallies.of("a").devices == 0, "24 hours went by all the same"


def test_too_many_devices_are_not_counted_until_a_day_was_seen_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_DEVICES", 10)
    world = World()
    world.tallies.stored({("a",): queued(*map(str, range(10)))})
    assert world.tallies.of("a").devices == 10
    world.tallies.stored({("b",): queued("10")})
    assert world.tallies.of("a").devices is None
    assert world.tallies.of("b").devices is None
    world.passes(23 * HOUR)
    world.tallies.stored({("a",): queued("1", "2")})
    assert world.tallies.of("a").devices is None
    world.passes(HOUR)
    assert world.tallies.of("a").devices == 2
    assert world.tallies._devices._number == 2


def test_a_thousand_connections_cost_little_memory_and_little_time() -> None:
    world = World()
    for number in range(1000):
        world.count(f"connection-{number}", 1)
    tracemalloc.start()
    try:
        world.passes(MINUTE)
        assert tracemalloc.get_traced_memory()[0] < 6_000_000
    finally:
        tracemalloc.stop()
    for number in range(1000):
        world.count(f"connection-{number}", 1)
    began = time.perf_counter()
    world.passes(MINUTE)
    assert time.perf_counter() - began < 0.05


async def test_the_task_closes_each_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(NOW + 59_000)
    naps: list[float] = []
    done = asyncio.Event()

    async def sleep(seconds: float) -> None:
        naps.append(seconds)
        world.wall += round(seconds * 1000)
        world.count("a", 1)
        if len(naps) == 14:
            done.set()
            await asyncio.Event().wait()

    monkeypatch.setattr(room.anyio, "sleep", sleep)
    task = asyncio.create_task(world.tallies.run())
    try:
        async with asyncio.timeout(5):
            await done.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert naps[0] == pytest.approx(1.001)
    assert max(naps) <= 5
    assert world.minutes() == {0: 1, 1: 12, 2: 1}
