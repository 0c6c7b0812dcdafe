"""kill -9 at any moment: what was accepted is there, in order, and what was ended stays ended."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from mqttbridge.journal.downlinks import SqliteDownlinks
from tests.journal.downlink_samples import Clock, numbers, query

ROOT = Path(__file__).parents[2]


async def run_and_kill(directory: Path, first: int, lines: int) -> dict[str, set[int]]:
    """Kill the worker after so many lines; give all that it said, by word."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.journal.downlink_crash_worker", str(directory), str(first)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    said: dict[str, set[int]] = {"A": set(), "C": set(), "R": set()}
    assert process.stdout is not None
    async with asyncio.timeout(20):
        count = 0
        async for line in process.stdout:
            count += 1
            if count == lines:
                process.kill()
            word, number = line.split()
            said[word.decode()].add(int(number))
        await process.wait()
    assert process.returncode == -9
    return said


async def test_nothing_answered_is_lost_after_kill_9(tmp_path: Path) -> None:
    rng = random.Random()  # noqa: S311 - the moment of the kill; any is as good
    first = 0
    accepted: set[int] = set()
    concluded: set[int] = set()
    published: set[int] = set()
    for _ in range(4):
        said = await run_and_kill(tmp_path, first, rng.randrange(1, 400))
        accepted |= said["A"]
        concluded |= said["C"]
        published |= said["R"]
        journal = await SqliteDownlinks.open(tmp_path, clock=Clock())
        stored = [int(key, 16) for (key,) in query(tmp_path, "SELECT key FROM downlink ORDER BY seq")]
        pending = await numbers(journal)
        waits = {stored[one.seq - 1] for one in await journal.receipts("a", 0, 100_000)}
        assert stored == list(range(len(stored)))
        assert accepted <= set(stored)
        assert pending == sorted(pending)
        assert not set(pending) & concluded, "what has ended does not begin again"
        assert {number for number in stored if number % 2} <= set(pending) | waits, "no receipt is lost"
        assert not waits & published
        assert journal.waiting("a") == len(pending)
        assert journal.unfinished("a") == len(pending) + len(waits)
        first = len(stored)
        await journal.close()
