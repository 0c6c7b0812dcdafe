"""Floor 0: the words that every room speaks, as frozen structs.

Nothing here does anything. Times are integers, in milliseconds since the Unix epoch.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = ["Connections", "Counts", "DocumentKind", "Entry", "Outcome", "Queued", "Settled", "Uplink"]

Connections = tuple[str, ...]
"""Ids of connections, sorted, without repeats: where one uplink goes."""


class DocumentKind(enum.StrEnum):
    """The root key of a ThingPark document: what kind of news it is."""

    UPLINK = "DevEUI_uplink"
    DOWNLINK_SENT = "DevEUI_downlink_Sent"
    DOWNLINK_REJECTED = "DevEUI_downlink_Rejected"
    LOCATION = "DevEUI_location"
    NOTIFICATION = "DevEUI_notification"
    ALARM = "DevEUI_alarm"


class Uplink(msgspec.Struct, frozen=True, gc=False):
    """One document that a network server handed over, of whatever kind: what is stored, routed and published.

    `body` is the document as it came, UTF-8 JSON with its root key; it is never rebuilt.
    """

    source: str
    """The id of the source that received it."""
    kind: DocumentKind
    dev_eui: str
    """16 hex digits, upper case."""
    time: int
    """The document's own `Time`, else the moment it was received. Its age decides on expiry."""
    received: int
    fcnt: int | None
    """FCntUp of an uplink, FCntDn of a downlink report, if the document has one."""
    body: bytes
    tags: frozenset[str] = frozenset()
    """Device tags, case-folded. For routing alone: not stored, empty when read back."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What the journal is asked to store: one uplink and the connections that it is routed to (at least one)."""

    uplink: Uplink
    connections: Connections


class Queued(msgspec.Struct, frozen=True, gc=False):
    """One uplink in a connection's backlog. `seq` is the order of acceptance over all connections: positive, rising."""

    seq: int
    uplink: Uplink


class Outcome(enum.IntEnum):
    """How an uplink ended for one connection."""

    DELIVERED = 0
    EXPIRED = 1
    PARKED = 2
    DROPPED = 3


class Settled(msgspec.Struct, frozen=True, gc=False):
    """The end of one queued uplink for one connection. `reason` is a sentence, for whatever was not delivered."""

    seq: int
    outcome: Outcome
    reason: str = ""


class Counts(msgspec.Struct, frozen=True, gc=False):
    """The account of one connection: `routed == delivered + expired + parked + dropped + queued`, always."""

    routed: int = 0
    delivered: int = 0
    expired: int = 0
    parked: int = 0
    dropped: int = 0

    @property
    def queued(self) -> int:
        """Uplinks still to be delivered."""
        return self.routed - self.delivered - self.expired - self.parked - self.dropped
