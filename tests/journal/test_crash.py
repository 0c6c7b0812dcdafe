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
    said: dict[str, int] = {"A": -1, "S": 0}
    for line in await killed("crash_worker", directory, first, lines):
        word, number = line.split()
        said[word] = int(number)
    return said["A"], said["S"]


async def killed(worker: str, directory: Path, first: int, lines: int) -> list[str]:
    """Kill a worker after so many lines; give what it said."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"tests.journal.{worker}", str(directory), str(first)),
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env=environment,
    )
    said: list[str] = []
    assert process.stdout is not None
    async with asyncio.timeout(20):
        async for line in process.stdout:
            said.append(line.decode())
            if len(said) == lines:
                process.kill()
        await process.wait()
    assert process.returncode == -9
    return said


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


async def test_a_parked_uplink_is_in_one_place_whenever_its_retry_is_killed(tmp_path: Path) -> None:
    """Each uplink is delivered, queued or parked: once, whatever was acknowledged, and nothing else is left on disk."""
    rng = random.Random()  # noqa: S311 - the moment of the kill; any is as good
    first = 0
    for _ in range(3):
        await killed("parked_worker", tmp_path, first, rng.randrange(1, 60))
        journal = await SqliteJournal.open(tmp_path, max_size=2**30, when_full="block", clock=FixedClock())
        places: dict[str, list[int | None]] = {}
        for name in ("a", "b"):
            counts, kept = journal.counts()[name], journal.parked_kept().get(name, 0)
            parked = await journal.parked(name, 100_000)
            queued = await journal.read(name, 0, 100_000)
            assert len(parked) == kept
            assert len(queued) == counts.queued
            places[name] = [one.fcnt for one in parked] + [one.uplink.fcnt for one in queued]
            assert len(set(places[name])) == len(places[name]), "none is there twice"
            # Routed: every uplink once, and once more for each that was parked and is not any more.
            assert counts.delivered + len(places[name]) == counts.routed - (counts.parked - kept)
        one, other = (journal.counts()[name].routed - journal.counts()[name].parked for name in ("a", "b"))
        kept = journal.parked_kept()
        assert one + kept.get("a", 0) == other + kept.get("b", 0)
        first = one + kept.get("a", 0)
        await journal.close()
