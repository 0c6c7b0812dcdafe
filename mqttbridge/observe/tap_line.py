"""What a tap shows: one struct, which is also the JSON of GET /tap. docs/tap.md has the table of its fields."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (msgspec reads the annotations at run time)
from typing import Literal

import msgspec

__all__ = ["TapLine", "What"]

What = Literal["uplink", "unrouted", "duplicate", "delivered", "expired", "parked", "dropped", "downlink", "left_out"]


class TapLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened. What does not apply, or is not known, has its default and is left out of the JSON."""

    what: What
    """An uplink was stored (`uplink`), goes nowhere (`unrouted`) or was a copy (`duplicate`); it ended for a connection
    (`delivered`, `expired`, `parked`, `dropped`); a `downlink` ended; or lines were `left_out` here."""
    at: datetime
    """When, UTC: it was received, or it ended."""
    source: str = ""
    connection: str = ""
    connections: tuple[str, ...] = ()
    """Where a stored uplink goes."""
    dev_eui: str = ""
    fcnt: int | None = None
    kind: str = ""
    """The root key of a ThingPark document, such as DevEUI_uplink."""
    size: int = 0
    """Bytes of the document."""
    origin: str = ""
    seq: int = 0
    """Of an uplink that was stored, and of its ends: what belongs together."""
    topic: str = ""
    took_ms: int | None = None
    """From when it was handed to the link to the acknowledgement."""
    age_ms: int | None = None
    """From when it was received to its end."""
    outcome: str = ""
    """Of a downlink: queued, rejected, expired or failed."""
    key: str = ""
    """Of a downlink: its key in the receipts."""
    reason: str = ""
    count: int = 1
    """How many uplinks this line stands for, or how many lines were left out."""
    document: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    """If it was asked for: the uplink as it came, a JSON value; as text, should it not be JSON."""
