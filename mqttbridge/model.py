"""Floor 0: the words that every room speaks, as frozen structs.

Nothing here does anything. Times are integers, in milliseconds since the Unix epoch.
"""

from __future__ import annotations

import enum

import msgspec

__all__ = [
    "Connections",
    "Counts",
    "Device",
    "DocumentKind",
    "Downlink",
    "DownlinkOutcome",
    "Entry",
    "Outcome",
    "Queued",
    "Settled",
    "Uplink",
]

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
    fingerprint: int = 0
    """63 bits; two documents with the same one are copies of one uplink. 0: cannot be told. Not stored with it."""
    way: str = ""
    """How the network server addresses the device beside its DevEUI: ChirpStack's `<applicationId>`, The Things
    Stack's `<application>/<device_id>`, nothing for ThingPark. Not stored with the uplink."""
    correlation_id: str = ""
    """Of a report about a downlink: the CorrelationID of that downlink, if it tells. Not stored with the uplink."""
    origin: str = ""
    """Where it came from and how it was checked, for the history: `POST from 10.0.0.7, Token verified`, or `topic
    network/7/uplink`. Not stored with the uplink."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What the journal is asked to store: one uplink and the connections that it is routed to (at least one)."""

    uplink: Uplink
    connections: Connections
    window: int = 0
    """In ms: a copy (same `fingerprint`) stored no longer ago makes this one a duplicate, which is not stored."""


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
    """The end of one queued uplink for one connection. `reason` is a sentence, for whatever was not delivered.

    For the history, in ms: `sent`, when it was (last) handed to the link, 0: never; `at`, when it ended. `topic`: what
    it was published on, or would have been; empty if it has none.
    """

    seq: int
    outcome: Outcome
    reason: str = ""
    topic: str = ""
    sent: int = 0
    at: int = 0


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


class Device(msgspec.Struct, frozen=True, gc=False):
    """What is known of a device from its uplinks: where its downlinks go. `way` and `tags` as in `Uplink`."""

    dev_eui: str
    source: str
    way: str = ""
    tags: frozenset[str] = frozenset()


class Downlink(msgspec.Struct, frozen=True, gc=False):
    """One downlink that may go to a network server: checked, whatever the spelling it came in."""

    dev_eui: str
    """16 hex digits, upper case."""
    fport: int
    """1..224."""
    payload_hex: str | None = None
    """Lower case, an even number of digits, at most 242 bytes. None: `payload` is given instead."""
    payload: bytes = b""
    """A JSON object that the network server encodes; empty: `payload_hex` is given instead."""
    confirmed: bool = False
    flush: bool = False
    """Whether it takes the place of what is queued for the device."""
    expires: int | None = None
    """In ms: not to be sent after this moment. None: it has no ValidityTime."""
    correlation_id: str = ""
    """16 hex digits, as the sender gave them; empty: none given."""


class DownlinkOutcome(enum.StrEnum):
    """How a downlink ended: each one that came ends in exactly one of these."""

    QUEUED = "queued"
    """The network server took it."""
    REJECTED = "rejected"
    """It is not valid, not allowed, or refused by the network server."""
    EXPIRED = "expired"
    """Its ValidityTime passed first."""
    FAILED = "failed"
    """It could not be handed over, however often it was tried."""
