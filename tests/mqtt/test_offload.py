"""Threads for blocking calls."""

from __future__ import annotations

import asyncio
import threading

import pytest

from mqttbridge.mqtt.offload import Offload


async def until_no_thread(name: str) -> None:
    for thread in threading.enumerate():
        if thread.name == name:
            await asyncio.to_thread(thread.join, 5)
            assert not thread.is_alive()


async def test_equal_work_is_done_once_and_all_hear_of_it() -> None:
    offload, gate, calls = Offload(4, "t-once"), threading.Event(), []

    def work() -> int:
        calls.append(1)
        gate.wait(5)
        return 42

    tasks = [asyncio.create_task(offload.run("key", work)) for _ in range(10)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    gate.set()
    assert await asyncio.gather(*tasks[1:]) == [42] * 9
    assert len(calls) == 1
    assert await offload.run("key", lambda: 43) == 43
    await until_no_thread("t-once")


async def test_an_error_is_raised_where_it_is_awaited() -> None:
    offload = Offload(1, "t-error")
    with pytest.raises(ZeroDivisionError):
        await offload.run("a", lambda: 1 // 0)
    assert await offload.run("b", lambda: 1) == 1


async def test_no_more_threads_than_allowed_and_daemons_all() -> None:
    offload, gate = Offload(3, "t-limit"), threading.Event()
    tasks = [asyncio.create_task(offload.run(n, lambda: gate.wait(5))) for n in range(10)]
    await asyncio.sleep(0.01)
    threads = [thread for thread in threading.enumerate() if thread.name == "t-limit"]
    assert len(threads) == 3
    assert all(thread.daemon for thread in threads)
    gate.set()
    assert await asyncio.gather(*tasks) == [True] * 10
    await until_no_thread("t-limit")


async def test_work_that_hangs_does_not_delay_other_work_up_to_the_most_threads() -> None:
    offload, gate = Offload(2, "t-most", most=6), threading.Event()
    hung = [asyncio.create_task(offload.run(n, lambda: gate.wait(5))) for n in range(5)]
    await asyncio.sleep(0)
    async with asyncio.timeout(2):
        assert await offload.run("good", lambda: 1) == 1
    more = [asyncio.create_task(offload.run(n, lambda: gate.wait(5))) for n in range(5, 10)]
    await asyncio.sleep(0.3)
    assert sum(thread.name == "t-most" for thread in threading.enumerate()) == 6
    gate.set()
    assert await asyncio.gather(*hung, *more) == [True] * 10
    await until_no_thread("t-most")


async def test_callers_that_went_away_are_not_kept_by_work_that_hangs() -> None:
    offload, gate = Offload(1, "t-gone"), threading.Event()
    for _ in range(100):
        task = asyncio.create_task(offload.run("key", lambda: gate.wait(5)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    assert sum(len(work.waiters) for work in offload._work.values()) == 1
    gate.set()
    await until_no_thread("t-gone")


async def test_without_threads_the_work_fails_and_later_work_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    offload = Offload(2, "t-none")

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread"):
            await offload.run("a", lambda: 1)
    assert await offload.run("a", lambda: 2) == 2


async def test_without_more_threads_the_work_waits_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    offload, gate = Offload(2, "t-few"), threading.Event()
    first = asyncio.create_task(offload.run("a", lambda: gate.wait(5)))
    await asyncio.sleep(0)

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        second = asyncio.create_task(offload.run("b", lambda: 2))
        await asyncio.sleep(0.2)
    assert not second.done()
    gate.set()
    assert await first
    assert await second == 2
    await until_no_thread("t-few")


async def test_work_that_nobody_waits_for_any_more_is_not_begun() -> None:
    offload, gate, begun = Offload(1, "t-dropped"), threading.Event(), []
    first = asyncio.create_task(offload.run("first", lambda: gate.wait(5)))
    second = asyncio.create_task(offload.run("second", lambda: begun.append(1)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    gate.set()
    await first
    await until_no_thread("t-dropped")
    assert not begun


def test_a_loop_that_is_closed_meanwhile_does_no_harm() -> None:
    offload, gate = Offload(1, "t-closed"), threading.Event()

    async def leave() -> None:
        task = asyncio.create_task(offload.run("key", lambda: gate.wait(5)))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    gate.set()
    assert asyncio.run(offload.run("another", lambda: 7)) == 7


async def test_a_thread_that_cannot_be_started_fails_this_work_and_not_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offload = Offload(1, "test")

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        asked = [offload.run("a", lambda: 1), offload.run("a", lambda: 2), offload.run("b", lambda: 3)]
        answers = await asyncio.wait_for(asyncio.gather(*asked, return_exceptions=True), 5)
    assert all(isinstance(answer, OSError) for answer in answers)
    assert await asyncio.wait_for(offload.run("a", lambda: 4), 5) == 4
