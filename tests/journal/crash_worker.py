"""A process to be killed: appends numbers and delivers them, and says on stdout what was acknowledged.

Arguments: state directory, first number. Lines: `A n` (number n is stored), `S n` (n uplinks in all are settled).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mqttbridge.journal.sqlite import SqliteJournal
from tests.journal.samples import FixedClock, delivered, marked


def say(line: str) -> None:
    """Write a line at once."""
    os.write(1, f"{line}\n".encode())


async def produce(journal: SqliteJournal, number: int) -> None:
    """Append without end, in batches of growing size."""
    while True:
        batch = range(number, number + 1 + number % 7)
        await journal.append(marked(batch, "a", "slow", size=700))
        number = batch.stop
        say(f"A {number - 1}")


async def deliver(journal: SqliteJournal) -> None:
    """Settle what comes, but leave the newest."""
    while True:
        found = await journal.read("a", 0, 50)
        if len(found) > 5:
            await journal.settle("a", delivered(found[:-5]))
            say(f"S {journal.counts()['a'].delivered}")
        else:
            await asyncio.sleep(0)


async def main() -> None:
    """Run until killed."""
    directory, first = sys.argv[1:]
    journal = await SqliteJournal.open(Path(directory), max_size=2**30, when_full="block", clock=FixedClock())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(produce(journal, int(first)))
        tasks.create_task(deliver(journal))


if __name__ == "__main__":
    asyncio.run(main())
