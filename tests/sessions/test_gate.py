"""Connects are spaced, in the order of asking."""

from __future__ import annotations

import pytest

from mqttbridge.clock import SystemClock
from mqttbridge.sessions.gate import ConnectGate

BROKER = ("broker.example", 8883)


class Hands:
    """A clock whose hands the test turns; sleeping is written down."""

    def __init__(self) -> None:
        self.time = 100.0
        self.slept: list[float] = []

    def now(self) -> int:
        return 0

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))


async def test_each_waits_a_spacing_longer_than_the_one_before() -> None:
    hands = Hands()
    gate = ConnectGate(hands, per_second=50, sleep=hands.sleep)
    for _ in range(5):
        await gate.turn(BROKER)
    assert hands.slept == [0.02, 0.04, 0.06, 0.08], "the first goes at once"


async def test_whoever_comes_after_a_pause_goes_at_once() -> None:
    hands = Hands()
    gate = ConnectGate(hands, per_second=50, sleep=hands.sleep)
    await gate.turn(BROKER)
    await gate.turn(BROKER)
    hands.time += 1.0
    await gate.turn(BROKER)
    assert hands.slept == [0.02]


@pytest.mark.parametrize("number", [1000])
async def test_a_thousand_sessions_start_within_twenty_seconds(number: int) -> None:
    hands = Hands()
    gate = ConnectGate(hands, sleep=hands.sleep)
    for _ in range(number):
        await gate.turn(BROKER)
    assert hands.slept == sorted(hands.slept)
    assert 19.0 < hands.slept[-1] < 20.0


async def test_a_thousand_dead_brokers_delay_no_other() -> None:
    hands = Hands()
    gate = ConnectGate(hands, sleep=hands.sleep)
    for number in range(1000):
        await gate.turn((f"dead{number}.example", 8883))
        await gate.turn((BROKER[0], 10_000 + number))
    await gate.turn(BROKER)
    assert hands.slept == []


async def test_it_really_waits() -> None:
    clock = SystemClock()
    gate = ConnectGate(clock, per_second=100)
    began = clock.monotonic()
    for _ in range(4):
        await gate.turn(BROKER)
    assert clock.monotonic() - began >= 0.03
