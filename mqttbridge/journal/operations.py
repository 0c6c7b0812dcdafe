"""What the event loop asks of the writer thread, and what it hears back. Data only.

For `sqlite` (the loop's half) and `writer`. Each crosses once and is not touched any more by who sent it; the futures
in it belong to the loop, and the writer never sets them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.journal.parked import Unparked

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.journal.ledger import Change, Ledger
    from mqttbridge.journal.schema import Connect
    from mqttbridge.model import Entry, Queued, Settled

__all__ = ["Answer", "Append", "Close", "Configure", "Declare", "Operation", "Options", "Report", "Settle", "Unpark"]


class Append(msgspec.Struct, frozen=True, eq=False):
    """Store these. `size`: bytes of the bodies; `need`: bytes of pages that they take, about."""

    entries: Sequence[Entry]
    size: int
    need: int
    future: asyncio.Future[list[int]]


class Settle(msgspec.Struct, frozen=True, eq=False):
    """Record how these ended."""

    connection: str
    settled: Sequence[Settled]
    future: asyncio.Future[None]


class Declare(msgspec.Struct, frozen=True, eq=False):
    """Open accounts for these."""

    connections: tuple[str, ...]
    future: asyncio.Future[None]


class Unpark(msgspec.Struct, frozen=True, eq=False):
    """Take up parked uplinks, some of them at least: of a connection, or with these numbers, up to `upto`.

    `retry`: they are queued again; else they are gone. Has a transaction of its own.
    """

    which: str | Sequence[int]
    upto: int
    retry: bool
    future: asyncio.Future[Unparked]


class Configure(msgspec.Struct, frozen=True, eq=False):
    """Go on with this size, and this way of being full."""

    max_size: int
    drop_oldest: bool
    future: asyncio.Future[None]


class Close(msgspec.Struct, frozen=True, eq=False):
    """Do nothing more after this."""

    future: asyncio.Future[None]


Operation = Append | Settle | Declare | Unpark | Configure | Close

Answer = list[int] | Unparked | Exception | None
"""How an operation ended: an append with the places of the copies, which were not stored."""


class Report(msgspec.Struct):
    """What the loop learns after a transaction, or after one failed."""

    done: list[tuple[Operation, Answer]]
    used: int
    problem: str
    change: Change | None = None
    queued: dict[tuple[str, ...], list[Queued]] = {}
    """The new uplinks by route, with their seq."""
    ledger: Ledger | None = None
    """Replaces the loop's ledger: the file was opened again."""


class Options(msgspec.Struct, frozen=True):
    """What the journal works with; `Configure` replaces it."""

    path: Path
    max_size: int
    drop_oldest: bool
    clock: Clock
    connect: Connect
