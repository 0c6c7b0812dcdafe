"""What the history gives back: structs alone. Times are in ms since the Unix epoch."""

from __future__ import annotations

import msgspec

from mqttbridge.model import Connections, DocumentKind, Outcome  # noqa: TC001 (msgspec reads the annotations)

__all__ = ["Ended", "KeptEvent", "Passed"]


class Passed(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One uplink that was stored in the journal, or that no connection got (then `seq` is 0, and no `connections`)."""

    id: int
    """The order in which they passed: positive, rising."""
    seq: int
    received: int
    time: int
    source: str
    kind: DocumentKind
    dev_eui: str
    fcnt: int | None
    origin: str
    """As `Uplink.origin`; of a replay, it says of what."""
    connections: Connections
    body: bytes


class Ended(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How one uplink ended for one connection: see `Settled`."""

    seq: int
    connection: str
    outcome: Outcome
    reason: str
    topic: str
    sent: int
    at: int


class KeptEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the log that was kept, without a secret. `fields`: all but its name, level and time."""

    id: int
    at: int
    level: str
    name: str
    fields: dict[str, object]
