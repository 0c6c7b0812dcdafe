"""Something is done unless a stop request comes first."""

from __future__ import annotations

import asyncio

import pytest

from mqttbridge.mqtt.until import unless


class Work:
    """Waits until it may end, and notes how it did."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()
        self.ended = ""

    async def run(self, result: int | Exception = 7) -> int:
        try:
            await self.may_end.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.ended = "cancelled"
            raise
        if isinstance(result, Exception):
            raise result
        return result


async def test_what_ends_first_gives_its_result_or_raises() -> None:
    work = Work()
    work.may_end.set()
    assert await unless(asyncio.Event(), work.run()) == 7
    with pytest.raises(ZeroDivisionError):
        await unless(asyncio.Event(), work.run(ZeroDivisionError()))


async def test_a_stop_cancels_it_and_waits_for_its_end() -> None:
    work, stop = Work(), asyncio.Event()
    doing = asyncio.ensure_future(unless(stop, work.run()))
    await asyncio.sleep(0)
    stop.set()
    assert await doing is None
    assert work.ended == "cancelled"


async def test_a_stop_that_was_asked_for_before_wins_even_over_a_failure() -> None:
    work, stop = Work(), asyncio.Event()
    work.may_end.set()
    stop.set()
    assert await unless(stop, work.run(ZeroDivisionError())) is None


async def test_who_is_cancelled_leaves_nothing_behind() -> None:
    work = Work()
    doing = asyncio.ensure_future(unless(asyncio.Event(), work.run()))
    await asyncio.sleep(0)
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert work.ended == "cancelled"
    assert asyncio.all_tasks() == {asyncio.current_task()}
