"""What the history costs, on this machine. Not a test: `python -m tests.history.measure [UPLINKS [WAIT]]`.

Uplinks and their ends are told as the journal tells them, as quickly as the thread takes them; then questions are
asked. WAIT: seconds of the loop's own between two batches, 0 by default.
"""

from __future__ import annotations

import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from mqttbridge.clock import SystemClock
from mqttbridge.formats import sample
from mqttbridge.history.history import History
from mqttbridge.model import DocumentKind, Outcome, Queued, Settled, Uplink

BATCH = 100
DEVICES = 2000
SAMPLES = 4000
FIRST = 0x0018B20000000000


def say(text: str) -> None:
    """Write a line."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def memory() -> float:
    """Give the resident memory of this process in MiB."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096 / 2**20


def documents() -> list[tuple[str, int, bytes]]:
    """Make documents of many devices."""
    rng = random.Random(1)  # noqa: S311 - any numbers will do
    found = []
    for number in range(SAMPLES):
        device, fcnt = f"{FIRST + rng.randrange(DEVICES):016X}", rng.randrange(60_000)
        payload = rng.randbytes(12).hex()
        body = sample.uplink(device, fcnt=fcnt, payload_hex=payload, time_ms=1_700_000_000_000 + number * 137)
        found.append((device, fcnt, body))
    return found


def batch(made: list[tuple[str, int, bytes]], seq: int, now: int) -> tuple[list[Queued], list[Settled]]:
    """Make uplinks with bodies of their own, and their ends."""
    queued, ends = [], []
    for number in range(seq, seq + BATCH):
        device, fcnt, body = made[number * 7919 % SAMPLES]
        own = body.replace(b'"Lrcid":"00000201"', b'"Lrcid":"%08d"' % number)
        one = Uplink("lrc", DocumentKind.UPLINK, device, now, now, fcnt, own, origin="POST from 10.0.0.7, no Token")
        queued.append(Queued(number, one))
        ends.append(Settled(number, Outcome.DELIVERED, "", f"mqtt/things/{device}/uplink", now, now + 5))
    return queued, ends


async def fill(history: History, total: int, wait: float) -> None:
    """Tell of so many uplinks and ends; say what it cost."""
    made, told = documents(), 0.0
    waiting = history._waiting
    begin, before = time.perf_counter(), memory()
    thread = time.pthread_getcpuclockid(history._writer._thread.ident or 0)
    used = time.clock_gettime(thread)
    most = before
    for seq in range(1, total, BATCH):
        queued, ends = batch(made, seq, time.time_ns() // 1_000_000)
        started = time.thread_time()
        history.stored({("a", "b"): queued})
        history.settled("a", ends)
        told += time.thread_time() - started
        del queued, ends
        while waiting._added_bytes - waiting._done_bytes > 2 * 2**20:  # noqa: ASYNC110 - nobody tells when it is
            await asyncio.sleep(0.001)
        if wait:
            await asyncio.sleep(wait)
        if seq % 50_000 == 1:
            most = max(most, memory())
    await history.ends([1])
    used = time.clock_gettime(thread) - used
    size = sum(one.stat().st_size for one in history._path.parent.iterdir()) / 2**20
    say(f"{total} uplinks and ends in {time.perf_counter() - begin:.1f} s, {history.lost} lost")
    say(f"the loop took {told / total * 1e6:.2f} µs each, the thread {used / total * 1e6:.2f} µs")
    say(f"{memory() - before:.1f} MiB more memory ({most - before:.1f} at most), {size:.0f} MiB on disk")


async def ask(history: History, total: int) -> None:
    """Say how long questions take."""
    now = time.time_ns() // 1_000_000
    device, nobody, few = f"{FIRST + 77:016X}", "FFFFFFFFFFFFFFFF", range(1, total, total // 20)
    questions = {
        "the last 20 of a device": lambda: history.of_device(device, limit=20),
        "a device that never sent": lambda: history.of_device(nobody, limit=20),
        "the ends of 20": lambda: history.ends(few),
        "1000 of an hour": lambda: history.between(now - 3_600_000, now + 1, limit=1000),
        "all of a device in an hour": lambda: history.between(now - 3_600_000, now + 1, limit=1000, device=device),
        "the latest of a connection": lambda: history.latest("a", 5),
        "counters of all devices": lambda: history.frame_counters(100_000),
    }
    for name, question in questions.items():
        begin = time.perf_counter()
        found = await question()
        say(f"{name}: {len(found)} in {(time.perf_counter() - begin) * 1000:.1f} ms")


async def main() -> None:
    """Measure all of it."""
    total = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    wait = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    with tempfile.TemporaryDirectory() as directory:
        history = await History.open(Path(directory), retention=86_400_000, max_size=2**30, clock=SystemClock())
        await fill(history, total, wait)
        before = memory()
        await ask(history, total)
        say(f"{memory() - before:.1f} MiB more memory after the questions")
        await history.close()


if __name__ == "__main__":
    asyncio.run(main())
