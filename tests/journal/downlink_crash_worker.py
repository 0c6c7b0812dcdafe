"""A process to be killed: accepts numbered downlinks and ends them, and says on stdout what was answered.

Arguments: directory, first number. Lines: `A n` (number n is stored), `C n` (number n is concluded), `R n` (its
receipt is done).
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from mqttbridge.journal.downlinks import SqliteDownlinks
from tests.journal.downlink_samples import Clock, downlink, ends


def say(word: str, keys: list[str]) -> None:
    """Write lines at once."""
    os.write(1, b"".join(f"{word} {int(key, 16)}\n".encode() for key in keys))


async def accept(journal: SqliteDownlinks, number: int) -> None:
    """Accept without end, in batches of growing size."""
    while True:
        batch = [downlink(number + offset) for offset in range(1 + number % 7)]
        await journal.accept(batch)
        number += len(batch)
        say("A", [one.key for one in batch])


async def conclude(journal: SqliteDownlinks) -> None:
    """End what comes, but leave the newest; then let go of the receipts of even numbers."""
    while True:
        found = await journal.pending("lrc", 0, 20)
        if len(found) <= 5:
            await asyncio.sleep(0)
            continue
        batch = found[:-5]
        await journal.conclude(ends(one.seq for one in batch))
        say("C", [one.key for one in batch])
        even = [one for one in batch if int(one.key, 16) % 2 == 0]
        await journal.receipted(one.seq for one in even)
        say("R", [one.key for one in even])


async def main() -> None:
    """Run until killed."""
    directory, first = sys.argv[1:]
    journal = await SqliteDownlinks.open(Path(directory), clock=Clock())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(accept(journal, int(first)))
        tasks.create_task(conclude(journal))


if __name__ == "__main__":
    asyncio.run(main())
