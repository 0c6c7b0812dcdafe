"""What the history is told in its tests."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from mqttbridge.history.history import History
from mqttbridge.model import DocumentKind, Outcome, Queued, Settled, Uplink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from mqttbridge.history.records import Passed

NOW = 1_700_000_000_000
HOUR = 3_600_000
MIB = 2**20
DEVICE = "0018B20000000B20"
OTHER = "0018B20000000B21"


class HandClock:
    """A clock whose wall time is set by hand."""

    def __init__(self, now: int = NOW) -> None:
        self.wall = now

    def now(self) -> int:
        return self.wall

    def monotonic(self) -> float:
        return time.monotonic()


class Told:
    """Collects what is to be logged."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def __call__(self, level: str, name: str, fields: dict[str, object]) -> None:
        self.lines.append((level, name, fields))

    @property
    def names(self) -> list[str]:
        return [name for _, name, _ in self.lines]


async def opened(directory: Path, **options: object) -> History:
    """Open a history that keeps much."""
    usual: dict[str, object] = {"retention": 24 * HOUR, "max_size": 64 * MIB, "clock": HandClock()}
    return await History.open(directory, **(usual | options))


def uplink(number: int, device: str = DEVICE, *, size: int = 0, received: int = NOW, **other: object) -> Uplink:
    """One uplink, told apart by its counter."""
    body = b'{"DevEUI_uplink": {"FCntUp": %d}}' % number + b" " * size
    values: dict[str, object] = {"source": "lrc", "kind": DocumentKind.UPLINK, "time": received - 5, "fcnt": number}
    return Uplink(**(values | {"dev_eui": device, "received": received, "body": body} | other))


def queued(numbers: Iterable[int], device: str = DEVICE, **other: object) -> list[Queued]:
    """Uplinks as the journal stored them: seq and counter are the number."""
    return [Queued(number, uplink(number, device, **other)) for number in numbers]


def ended(seqs: Iterable[int], outcome: Outcome = Outcome.DELIVERED, reason: str = "") -> list[Settled]:
    """Give the ends of uplinks, a little later."""
    return [Settled(seq, outcome, reason, f"up/{seq}", NOW + seq, NOW + seq + 7) for seq in seqs]


def seqs(found: Sequence[Passed]) -> list[int]:
    """Give the seqs of what was found."""
    return [one.seq for one in found]


async def all_of(history: History) -> list[Passed]:
    """Give everything, page by page."""
    found: list[Passed] = []
    while page := await history.between(0, 2**62, after=found[-1].id if found else 0, limit=100):
        found += page
    return found


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
