"""A process to be killed: appends numbers, parks a third of them, and retries what is parked, again and again.

Arguments: state directory, first number. A line for each retry that was acknowledged: how many it took up.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Outcome, Settled
from tests.journal.samples import FixedClock, entries


async def produce(journal: SqliteJournal, number: int) -> None:
    """Append without end, while not too many wait."""
    while True:
        if journal.counts()["a"].queued > 500:
            await asyncio.sleep(0)
            continue
        batch = range(number, number + 1 + number % 5)
        await journal.append(entries(batch, "a", "b", size=300))
        number = batch.stop


async def settle(journal: SqliteJournal, name: str) -> None:
    """Park every third uplink that comes, deliver the others."""
    while True:
        found = await journal.read(name, 0, 50)
        outcomes = [Outcome.DELIVERED if one.seq % 3 else Outcome.PARKED for one in found]
        await journal.settle(name, [Settled(one.seq, out, "why") for one, out in zip(found, outcomes, strict=True)])
        await asyncio.sleep(0)


async def retry(journal: SqliteJournal) -> None:
    """Retry what is parked, some at a time."""
    while True:
        for name in ("a", "b"):
            done = await journal.unpark(name, retry=True)
            if done.count:
                os.write(1, f"{done.count}\n".encode())
        await asyncio.sleep(0.001)


async def main() -> None:
    """Run until killed."""
    directory, first = sys.argv[1:]
    journal = await SqliteJournal.open(Path(directory), max_size=2**30, when_full="block", clock=FixedClock())
    await journal.declare(["a", "b"])
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(produce(journal, int(first)))
        tasks.create_task(settle(journal, "a"))
        tasks.create_task(settle(journal, "b"))
        tasks.create_task(retry(journal))


if __name__ == "__main__":
    asyncio.run(main())
