"""Uplinks for the journal's tests."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mqttbridge.model import DocumentKind, Entry, Outcome, Queued, Settled, Uplink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mqttbridge.journal.protocol import Journal


class FixedClock:
    """A clock that stands still."""

    def now(self) -> int:
        return 1_700_000_000_000

    def monotonic(self) -> float:
        return 0.0


def uplink(number: int = 1, *, body: bytes | None = None, received: int | None = None) -> Uplink:
    """One uplink, told apart by its counter."""
    return Uplink(
        source="lrc",
        kind=DocumentKind.UPLINK,
        dev_eui="0018B20000000B20",
        time=1_700_000_000_000 + number,
        received=1_700_000_001_000 + number if received is None else received,
        fcnt=number,
        body=b'{"DevEUI_uplink": {"FCntUp": %d}}' % number if body is None else body,
    )


def entries(numbers: Iterable[int], *connections: str, size: int = 0) -> list[Entry]:
    """One entry a number, all for these connections; bodies of `size` bytes, if given."""
    body = b'{"DevEUI_uplink": "' + b"x" * max(0, size - 21) + b'"}' if size else None
    return [Entry(uplink(number, body=body), tuple(sorted(connections))) for number in numbers]


def marked(numbers: Iterable[int], *connections: str, window: int = 60_000, size: int = 0) -> list[Entry]:
    """Give the same as `entries`, each with a fingerprint of its own: the same for the same number."""
    return [
        replace(entry, uplink=replace(entry.uplink, fingerprint=2**62 + entry.uplink.fcnt), window=window)
        for entry in entries(numbers, *connections, size=size)
    ]


def fcnts(queued: Iterable[Queued]) -> list[int | None]:
    """Give the counters of what was read."""
    return [one.uplink.fcnt for one in queued]


def delivered(queued: Iterable[Queued]) -> list[Settled]:
    """All of these, delivered."""
    return [Settled(one.seq, Outcome.DELIVERED) for one in queued]


async def drain(journal: Journal, connection: str, limit: int = 1000) -> list[int | None]:
    """Deliver the whole backlog; give the counters in order."""
    seen: list[int | None] = []
    while found := await journal.read(connection, 0, limit):
        await journal.settle(connection, delivered(found))
        seen += fcnts(found)
    return seen


async def until(condition: Callable[[], bool]) -> None:
    """Wait until it holds, ten seconds at most."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)
