"""kill -9 at any moment: what was acknowledged is there, in order, once, and every account is exact."""

from __future__ import annotations

import asyncio
import os
import random
import sys
from pathlib import Path

from mqttbridge.journal.sqlite import SqliteJournal
from tests.journal.samples import FixedClock, drain, marked

ROOT = Path(__file__).parents[2]


async def run_and_kill(directory: Path, first: int, lines: int) -> tuple[int, int]:
    """Kill the worker after so many lines; give the highest number stored and the number settled, as it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.journal.crash_worker", str(directory), str(first)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    said: dict[str, int] = {"A": -1, "S": 0}
    assert process.stdout is not None
    async with asyncio.timeout(20):
        count = 0
        async for line in process.stdout:
            count += 1
            if count == lines:
                process.kill()
            word, number = line.split()
            said[word.decode()] = int(number)
        await process.wait()
    assert process.returncode == -9
    return said["A"], said["S"]


async def test_nothing_acknowledged_is_lost_and_nothing_is_out_of_order_after_kill_9(tmp_path: Path) -> None:
    rng = random.Random()  # noqa: S311 - the moment of the kill; any is as good
    first = settled_before = 0
    for _ in range(4):
        acknowledged, settled = await run_and_kill(tmp_path, first, rng.randrange(1, 400))
        journal = await SqliteJournal.open(tmp_path, max_size=2**30, when_full="block", clock=FixedClock())
        stored = journal.counts()["slow"].routed
        again = range(max(0, acknowledged - 20), acknowledged + 10)
        # The sender knows what was acknowledged, and sends again what may have been stored without a word.
        assert await journal.append(marked(again, "a", "slow", size=700)) == [
            n for n, v in enumerate(again) if v < stored
        ]
        counts = journal.counts()
        assert counts["slow"].routed == max(stored, again.stop)
        assert counts["a"].routed == counts["slow"].routed >= acknowledged + 1
        assert counts["a"].delivered >= max(settled, settled_before)
        assert counts["slow"].queued == counts["slow"].routed
        seen: list[int | None] = []
        after = 0
        while found := await journal.read("slow", after, 1000):
            seen += [one.uplink.fcnt for one in found]
            after = found[-1].seq
        assert seen == list(range(counts["slow"].routed))
        assert await drain(journal, "a") == list(range(counts["a"].delivered, counts["a"].routed))
        assert journal.counts()["a"].queued == 0
        first, settled_before = counts["a"].routed, counts["a"].routed
        await journal.close()
