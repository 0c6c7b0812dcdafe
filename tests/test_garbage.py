"""What is there is set aside, and what becomes garbage is freed all the same."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING

import pytest

from mqttbridge import daemon
from mqttbridge.garbage import EVERY, SETTLED, spare
from mqttbridge.settings.loader import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Cycle:
    """Garbage that only a search finds."""

    def __init__(self) -> None:
        self.own = self


@pytest.fixture(autouse=True)
def _thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


async def test_a_search_does_not_look_at_what_was_there_and_an_hour_later_it_is_freed_if_it_is_garbage() -> None:
    cycle: Cycle | None = Cycle()
    seen = weakref.ref(cycle)
    asked: asyncio.Queue[float] = asyncio.Queue()
    go_on = asyncio.Semaphore(0)

    async def sleep(seconds: float) -> None:
        asked.put_nowait(seconds)
        await go_on.acquire()

    task = asyncio.create_task(spare(sleep))
    assert await asked.get() == SETTLED
    go_on.release()
    assert await asked.get() == EVERY
    assert gc.get_freeze_count() > 10_000
    assert not any(one is cycle for one in gc.get_objects())
    cycle = None
    gc.collect()
    assert seen() is not None
    go_on.release()
    assert await asked.get() == EVERY
    assert seen() is None
    task.cancel()
    await asyncio.wait([task])


async def test_what_comes_later_is_freed_as_ever() -> None:
    asked = asyncio.Event()

    async def sleep(_: float) -> None:
        asked.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(spare(sleep))
    await asked.wait()
    seen = weakref.ref(Cycle())
    gc.collect()
    assert seen() is None
    task.cancel()
    await asyncio.wait([task])


async def test_it_goes_on_while_a_daemon_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    async def spared() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(daemon, "spare", spared)
    monkeypatch.setattr(daemon, "_tune_process", lambda: None)
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("http: {listen: '127.0.0.1:0'}\n")
    loaded = await asyncio.to_thread(load, path, environ={})
    running = asyncio.create_task(daemon.run_daemon(loaded, environ={}, learn_secrets=lambda *_: lambda: None))
    await began.wait()
    assert not ended.is_set()
    running.cancel()
    await asyncio.wait([running])
    assert ended.is_set()
