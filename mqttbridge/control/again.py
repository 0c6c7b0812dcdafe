"""What /parked and /replay on the Unix socket take and answer: structs alone; docs/replay.md has the tables.

Times in answers are UTC; the times of a wish are in ms since the Unix epoch.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (msgspec reads the annotations at run time)
from typing import Annotated

from msgspec import Meta, Raw, Struct

from mqttbridge.model import DocumentKind  # noqa: TC001 (likewise)

__all__ = [
    "ParkedDocument",
    "ParkedEntry",
    "ParkedList",
    "ReplayDone",
    "ReplayWish",
    "UnparkDone",
    "UnparkWish",
]

LATEST = 253_402_300_799_999
"""The last moment of the year 9999, in ms."""
Number = Annotated[int, Meta(ge=1)]
Moment = Annotated[int, Meta(ge=0, le=LATEST)]


class ParkedEntry(Struct, frozen=True, kw_only=True):
    """One parked uplink. `parked`: when; `size`: of its document, in bytes; `seq`: as the journal accepted it."""

    number: int
    connection: str
    parked: datetime
    reason: str
    received: datetime
    source: str
    dev_eui: str
    fcnt: int | None
    kind: DocumentKind
    size: int
    seq: int


class ParkedList(Struct, frozen=True, kw_only=True):
    """Some of them, newest first; `kept`: how many there are, by connection."""

    kept: dict[str, int]
    parked: tuple[ParkedEntry, ...]


class ParkedDocument(ParkedEntry, frozen=True, kw_only=True):
    """One of them with its document (a string, should it not be JSON)."""

    document: Raw


class UnparkWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which to retry or to drop: these numbers, or all (of the connection, if one is given)."""

    numbers: tuple[Number, ...] = ()
    connection: str | None = None
    everything: bool = False


class UnparkDone(Struct, frozen=True, kw_only=True):
    """How many were retried or dropped, in all and by connection; `skipped` (sentences): what was not, and why."""

    count: int
    connections: dict[str, int]
    skipped: tuple[str, ...] = ()


class ReplayWish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Which uplinks to queue again: received in [start, end), `end` null: until now.

    `everything`: those too that were not routed to the connection. `dryRun`: count them, and queue nothing.
    """

    connection: str
    start: Moment
    end: Moment | None = None
    device: str | None = None
    everything: bool = False
    dry_run: bool = False


class ReplayDone(Struct, frozen=True, kw_only=True):
    """What came of it. `found`: uplinks to be replayed; `first`, `last`: when these were received.

    `queued`: how many were; `skipped` (sentences): what else there is of that time, and why it was not.
    """

    connection: str
    found: int
    queued: int
    skipped: tuple[str, ...]
    first: datetime | None
    last: datetime | None
