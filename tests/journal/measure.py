"""How fast the journal is and what it costs, on this machine. Not a test: `python -m tests.journal.measure [UPLINKS]`.

First uplinks are appended, read and settled while something keeps the event loop's thread busy; then a backlog is
built up for two connections, read from disk and drained. Bodies of 1.2 kB.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from pathlib import Path

from mqttbridge.clock import SystemClock
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Entry
from tests.journal.samples import delivered, uplink

BODY = 1200
PRODUCERS = 8


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def memory() -> int:
    """Give the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 // 2**20


def entries(number: int, *names: str) -> list[Entry]:
    """Make uplinks, each with a body of its own."""
    return [Entry(uplink(n, body=bytes(bytearray(BODY))), names) for n in range(number)]


async def spin() -> None:
    """Take all the time that the loop has, in slices of 0.2 ms."""
    while True:
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def produce(journal: SqliteJournal, number: int, batch: int, *names: str) -> None:
    """Append from several tasks at once."""

    async def one() -> None:
        for _ in range(number // PRODUCERS // batch):
            await journal.append(entries(batch, *names))

    async with asyncio.TaskGroup() as tasks:
        for _ in range(PRODUCERS):
            tasks.create_task(one())


async def consume(journal: SqliteJournal, name: str, number: int) -> None:
    """Read and settle as it comes."""
    stored = asyncio.Event()
    journal.watch(name, stored.set)
    after = 0
    while number > 0:
        stored.clear()
        found = await journal.read(name, after, 500)
        if not found:
            await stored.wait()
            continue
        after = found[-1].seq
        number -= len(found)
        await journal.settle(name, delivered(found))


async def live(journal: SqliteJournal, connections: int, batch: int, *, busy: bool) -> None:
    """Measure sessions that keep up."""
    number = 16_000 if batch == 1 else 40_000
    names = [f"{connections}-{batch}-{busy}-{n}" for n in range(connections)]
    spinning = asyncio.create_task(spin()) if busy else None
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(consume(journal, name, number))
        tasks.create_task(produce(journal, number, batch, *sorted(names)))
    rate = number / (time.perf_counter() - begin)
    if spinning:
        spinning.cancel()
    say(f"live: {connections} connections, {batch} a batch, {'busy' if busy else 'idle'} loop: {rate:.0f} uplinks/s")


async def backlog(journal: SqliteJournal, number: int) -> None:
    """Measure a broker outage and what follows."""
    before, begin = memory(), time.perf_counter()
    await produce(journal, number, 100, "a", "b")
    rate = number / (time.perf_counter() - begin)
    say(f"backlog of {number}: {rate:.0f} appended/s, {memory() - before} MiB more memory")
    for limit in (1, 100, 1000):
        begin = time.perf_counter()
        for _ in range(20):
            await journal.read("a", 0, limit)
        say(f"a read of {limit} from disk: {(time.perf_counter() - begin) / 20 * 1000:.2f} ms")
    for name in ("a", "b"):
        begin = time.perf_counter()
        await consume(journal, name, number)
        rate = number / (time.perf_counter() - begin)
        say(f"drained {name}: {rate:.0f} read and settled/s, {memory() - before} MiB more memory")


async def main() -> None:
    """Measure all of it."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    with tempfile.TemporaryDirectory() as directory:
        journal = await SqliteJournal.open(Path(directory), max_size=2**40, when_full="block", clock=SystemClock())
        for busy in (False, True):
            for connections, batch in ((1, 1), (1, 20), (10, 20)):
                await live(journal, connections, batch, busy=busy)
        await backlog(journal, number)
        await journal.close()


if __name__ == "__main__":
    asyncio.run(main())
