"""What GET /status answers: the daemon at one moment, for people and programs. Structs alone; docs/status.md has the
table of their fields.

Times are UTC. Rates are uplinks a second over the last minute; null until something can be told.
"""  # noqa: D205 (two sentences, one thought)

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (msgspec reads the annotations at run time)

import msgspec

from mqttbridge.model import Counts  # noqa: TC001 (likewise)

__all__ = ["ConnectionStatus", "DownlinksStatus", "JournalStatus", "Rates", "SourceStatus", "Status"]


class Rates(msgspec.Struct, frozen=True, gc=False):
    """What came to a connection, and how it went, in uplinks a second."""

    routed: float
    delivered: float
    expired: float
    parked: float
    dropped: float


class DownlinksStatus(msgspec.Struct, frozen=True, gc=False):
    """Downlinks: how many wait for their network server, and what holds them up (a sentence, or empty)."""

    waiting: int
    why: str


class ConnectionStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One connection, configured or not any more (then its state is REMOVED).

    `ok`: nothing to see to. `since`: when its state began. `down_since`: since when it is not open, whatever it tried,
    `attempts`: how often it failed since it was last
    well. `why`: why it is not open. `retry_at`: when it tries again. `oldest`: when the oldest
    queued uplink was received, or a little earlier. `expires`: when it is no longer valid. `drain_seconds`: until the
    queue is empty; null: it does not become shorter, or nothing can be told yet. `expiring`: how many of the queued
    will expire before they are delivered, an estimate; null: nothing can be told yet. `parked`: how many parked uplinks
    are kept, until somebody retries or drops them. `low_rate`: that it gets too few uplinks for its `alarms`, as a
    sentence without its subject, or empty.
    """

    id: str
    ok: bool
    state: str
    since: datetime | None
    down_since: datetime | None
    attempts: int
    why: str
    retry_at: datetime | None
    queued: int
    in_flight: int
    oldest: datetime | None
    expires: datetime | None
    rates: Rates | None
    drain_seconds: float | None
    expiring: int | None
    totals: Counts
    downlinks: DownlinksStatus | None
    parked: int = 0
    low_rate: str = ""


class SourceStatus(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One source. `open`, `since`, `why` and `retry_at` are its link's; by HTTP it is always open, since the start.

    `last_uplink` is null if none came since the start, and so is what `accepted` and `rejected` count.
    """

    id: str
    ok: bool
    transport: str
    format: str
    open: bool
    since: datetime
    why: str
    retry_at: datetime | None
    rate: float | None
    rejected_rate: float | None
    last_uplink: datetime | None
    accepted: int
    rejected: int
    downlinks: DownlinksStatus


class JournalStatus(msgspec.Struct, frozen=True, gc=False):
    """The journal: what is wrong with it (a sentence, or empty), bytes in use and allowed, uplinks it still holds."""

    problem: str
    size: int
    max_size: int
    queued: int


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """The whole. `ok`: nothing to see to. `reasons` (sentences): what is wrong with the disk: nothing is taken.

    `attention` (sentences): what else is wrong with the daemon as a whole, while uplinks are taken.
    """

    ok: bool
    version: str
    pid: int
    config: str
    state_directory: str
    started: datetime
    now: datetime
    reasons: tuple[str, ...]
    journal: JournalStatus
    connections: tuple[ConnectionStatus, ...]
    sources: tuple[SourceStatus, ...]
    attention: tuple[str, ...] = ()
