"""What every test gets: a loop that must not be blocked, no task left behind, and brokers."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import shutil
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from blockbuster import blockbuster_ctx

from tests.brokers.mosquitto import mosquitto
from tests.brokers.nats import nats

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from tests.brokers.mosquitto import Mosquitto
    from tests.brokers.nats import Nats


MEMORY = Path("/dev/shm")
ROOM = 2 * 1024**3


def pytest_configure(config: pytest.Config) -> None:
    """Keep the files of the tests in memory, if there is room and nobody says where: half of their time is fsync."""
    given = config.option.basetemp is not None or "PYTEST_DEBUG_TEMPROOT" in os.environ
    if not given and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)
    # Whoever starts the tests in the background of a shell has them ignore Ctrl-C, and all that they start as well.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _no_blocking_calls() -> Iterator[None]:
    """Fail a test in which mqttbridge makes a blocking call in the event loop's thread."""
    with blockbuster_ctx("mqttbridge") as guard:
        # A thread that starts reports so through a lock, after microseconds.
        guard.functions["threading.Lock.acquire"].can_block_in("threading.py", {"start", "wait"})
        # Importing a module for the first time reads its files; each happens once in a process.
        for function in guard.functions.values():
            function.can_block_in("<frozen importlib._bootstrap>", {"_find_and_load"})
            # A log line goes out at once, to a pipe or a terminal; a traceback reads the sources that it quotes.
            function.can_block_in("mqttbridge/observe/log.py", {"msg", "_traceback"})
        yield


def pytest_itemcollected(item: pytest.Item) -> None:
    """Have every async test checked for tasks that it leaves behind; this fixture ends after all others."""
    if inspect.iscoroutinefunction(getattr(item, "function", None)):
        item.fixturenames.insert(0, "_no_task_left")


@pytest_asyncio.fixture
async def _no_task_left() -> AsyncIterator[None]:
    """Fail a test that leaves a task behind; what is ending gets a second for it."""
    before = asyncio.all_tasks()
    yield
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    if left:
        _, left = await asyncio.wait(left, timeout=1.0)
    assert not left, f"tasks left behind: {[task.get_coro() for task in left]}"


@pytest_asyncio.fixture
async def start_mosquitto(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Mosquitto]]]:
    """Start a mosquitto with the arguments of `tests.brokers.mosquitto.mosquitto`; it ends with the test."""
    async with AsyncExitStack() as stack:
        started = 0

        async def start(**arguments: object) -> Mosquitto:
            nonlocal started
            started += 1
            return await stack.enter_async_context(mosquitto(tmp_path / f"mosquitto{started}", **arguments))

        yield start


@pytest_asyncio.fixture
async def plain_mosquitto(start_mosquitto: Callable[..., Awaitable[Mosquitto]]) -> Mosquitto:
    """Give a mosquitto with one plain listener that lets everybody in."""
    return await start_mosquitto()


@pytest_asyncio.fixture
async def nats_broker(tmp_path: Path) -> AsyncIterator[Nats]:
    """Give a NATS server that speaks MQTT 3.1.1."""
    async with nats(tmp_path / "nats") as broker:
        yield broker
