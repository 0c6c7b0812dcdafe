"""How fast the journal is and what it costs, on this machine. Not a test: `python -m tests.journal.measure [UPLINKS]`.

First uplinks are appended, read and settled while something keeps the event loop's thread busy, also with fingerprints;
then a backlog is built up for two connections, read from disk and drained. Bodies of 1.2 kB.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

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


def entries(number: int, *names: str, marked: bool = False) -> list[Entry]:
    """Make uplinks, each with a body of its own, and with a fingerprint of its own if `marked`."""
    made = [Entry(uplink(n, body=bytes(bytearray(BODY))), names) for n in range(number)]
    if not marked:
        return made
    rng = random.Random()  # noqa: S311 - any numbers will do
    return [Entry(replace(one.uplink, fingerprint=1 + rng.getrandbits(62)), names, 60_000) for one in made]


def writer_time(journal: SqliteJournal) -> float:
    """Give the processor time that the writer thread has used, in seconds."""
    return time.clock_gettime(time.pthread_getcpuclockid(journal._writer._thread.ident or 0))


async def spin() -> None:
    """Take all the time that the loop has, in slices of 0.2 ms."""
    while True:
        until = time.perf_counter() + 0.0002
        while time.perf_counter() < until:
            pass
        await asyncio.sleep(0)


async def produce(journal: SqliteJournal, number: int, batch: int, *names: str, marked: bool = False) -> None:
    """Append from several tasks at once."""

    async def one() -> None:
        for _ in range(number // PRODUCERS // batch):
            await journal.append(entries(batch, *names, marked=marked))

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


async def live(journal: SqliteJournal, connections: int, batch: int, *, busy: bool, marked: bool = False) -> None:
    """Measure sessions that keep up."""
    number = 16_000 if batch == 1 else 40_000
    names = [f"{connections}-{batch}-{busy}-{marked}-{n}" for n in range(connections)]
    spinning = asyncio.create_task(spin()) if busy else None
    begin, used = time.perf_counter(), writer_time(journal)
    async with asyncio.TaskGroup() as tasks:
        for name in names:
            tasks.create_task(consume(journal, name, number))
        tasks.create_task(produce(journal, number, batch, *sorted(names), marked=marked))
    rate = number / (time.perf_counter() - begin)
    cost = (writer_time(journal) - used) / number * 1e6
    if spinning:
        spinning.cancel()
    say(
        f"live: {connections} connections, {batch} a batch, {'busy' if busy else 'idle'} loop"
        f"{', fingerprints' if marked else ''}: {rate:.0f} uplinks/s, the writer takes {cost:.1f} µs each"
    )


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
            await live(journal, 1, 20, busy=busy, marked=True)
        await backlog(journal, number)
        await journal.close()


if __name__ == "__main__":
    asyncio.run(main())
