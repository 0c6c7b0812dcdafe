"""What GET /trace answers: where the last uplinks and downlinks of a device went. Structs alone; docs/trace.md has the
table of their fields. Times are UTC.
"""  # noqa: D205 (two sentences, one thought)

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (msgspec reads the annotations at run time)
from typing import Literal

import msgspec

from mqttbridge.routing.explain import Reason  # noqa: TC001 (likewise)

__all__ = ["Delivery", "DownlinkPassage", "Passport", "UplinkPassage"]


class Delivery(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How one uplink goes for one connection.

    `queued`: `state`, `why`, `down_since` and `retry_at` are those of the connection now; else they are empty.
    `unknown`: it is not queued, and nothing was recorded of its end. `milliseconds`: from `sent` to the broker's
    acknowledgement. `qos`: that of the connection now; with 0 a broker acknowledges nothing.
    """

    connection: str
    outcome: Literal["queued", "delivered", "expired", "parked", "dropped", "unknown"]
    topic: str = ""
    sent: datetime | None = None
    ended: datetime | None = None
    milliseconds: int | None = None
    reason: str = ""
    qos: int | None = None
    state: str = ""
    why: str = ""
    down_since: datetime | None = None
    retry_at: datetime | None = None


class UplinkPassage(msgspec.Struct, frozen=True, kw_only=True):
    """One uplink. `transport` and `format` are those of its source as it is now; null: it is not configured any more.

    `routed`: where it went then. `flows`: what the flows say to it as they are now; `flows_not_shown`: how many more
    there are, which do not match. `now`: where it would go now; null: its document cannot be read again (`unread` says
    why), or it was sent to a connection on purpose (a replay, a retry).
    """

    id: int
    received: datetime
    source: str
    transport: str | None
    format: str | None
    origin: str
    replayed: bool
    kind: str
    time: datetime
    fcnt: int | None
    fport: int | None
    size: int | None
    payload_hex: str
    payload_cut: bool
    stored: bool
    routed: tuple[str, ...]
    connections: tuple[Delivery, ...]
    flows: tuple[Reason, ...]
    flows_not_shown: int
    now: tuple[str, ...] | None
    now_differs: bool
    unread: str


class DownlinkPassage(msgspec.Struct, frozen=True, kw_only=True):
    """One downlink: pending (`received`, `fport`, `payload_hex`, …, and as `reason` why its last try failed), or ended.

    `outcome` as in the receipt: `queued` says that the network server took it.
    """

    outcome: Literal["pending", "queued", "rejected", "expired", "failed"]
    connection: str
    source: str
    key: str
    correlation_id: str
    reason: str = ""
    received: datetime | None = None
    expires: datetime | None = None
    fport: int | None = None
    confirmed: bool = False
    payload_hex: str = ""
    payload_cut: bool = False
    ended: datetime | None = None
    attempts: int | None = None


class Passport(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    `left_out`: how many uplinks that were asked for are not told of, because the others went to thousands of
    connections. `remembered_seconds`: for how long uplinks are kept for this; 0: not at all.
    `last_source`: whose uplinks told last where the device is; null: nobody knows the device. `problem`: what is wrong
    with the history or the queue of downlinks, so that something may be missing here; a sentence, or empty.
    """

    device: str
    now: datetime
    uplinks: tuple[UplinkPassage, ...]
    left_out: int
    downlinks: tuple[DownlinkPassage, ...]
    remembered_seconds: float
    last_source: str | None
    problem: str
