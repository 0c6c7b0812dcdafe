"""The process is killed: the file is whole, and what could be read before can be read again."""

from __future__ import annotations

import asyncio
import random
import sys
from typing import TYPE_CHECKING

from tests.history.samples import Told, all_of, opened, seqs

if TYPE_CHECKING:
    from pathlib import Path


async def killed(directory: Path, first: int, after: int) -> int:
    """Let the worker run and kill it after so many lines; give the last number that it said could be read."""
    worker = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.history.crash_worker", str(directory), str(first), stdout=asyncio.subprocess.PIPE
    )
    assert worker.stdout is not None
    last = first - 1
    for _ in range(after):
        last = int((await worker.stdout.readline()).split()[1])
    worker.kill()
    rest = (await worker.stdout.read()).splitlines(keepends=True)
    await worker.wait()
    whole = [line for line in rest if line.endswith(b"\n")]
    return int(whole[-1].split()[1]) if whole else last


async def test_after_a_kill_everything_that_was_read_is_there_without_a_gap(tmp_path: Path) -> None:
    rng = random.Random()  # noqa: S311 - the moment of the kill; any is as good
    first = 1
    for _ in range(3):
        last = await killed(tmp_path, first, rng.randrange(1, 120))
        told = Told()
        history = await opened(tmp_path, tell=told)
        found = await all_of(history)
        assert seqs(found) == [one.id for one in found] == list(range(1, len(found) + 1))
        assert len(found) >= last
        assert [one.seq for one in await history.ends(range(1, len(found) + 100))] == seqs(found)
        assert (await history.events(limit=1))[0].fields == {"number": len(found)}
        await history.close()
        assert not told.lines, "nothing was damaged"
        first = len(found) + 1
