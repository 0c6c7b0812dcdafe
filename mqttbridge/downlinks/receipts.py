"""What the sender of a downlink is told of its outcome: pure.

Made by the intake (what ends at once) and by the dispatchers (what the network server had to answer for). A receipt
never holds a secret; foreign text in it is short and escaped.

The body is a flat JSON object. Its members, in this order, empty ones left out: `outcome` (queued, rejected, expired,
failed), `DevEUI`, `reason` (a sentence), `field`, `CorrelationID` (the sender's, else the key), `key`,
`correlationData` (MQTT 5, base64), `warnings`, `Time` (of the outcome, ISO 8601).
"""

from __future__ import annotations

import re
from base64 import b64encode
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.formats.times import iso
from mqttbridge.journal.downlink_protocol import ReceiptBody
from mqttbridge.model import DownlinkOutcome  # noqa: TC001 (msgspec decodes by it)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Ended", "ReceiptBody", "few", "is_receipt", "listed", "receipt", "short"]

MAX_SENTENCE = 400
MAX_NAME = 100
"""Characters."""
MAX_WARNINGS = 10
MAX_RECEIPT = 128 * 1024
"""Bytes: no receipt is longer, whatever correlation data it carries (65,535 bytes at most)."""
KEY = re.compile(r"[0-9a-f]{16}").fullmatch


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How one downlink ended, and all that a receipt or a log line tells of it. What is not known is empty."""

    connection: str
    key: str
    outcome: DownlinkOutcome
    time: int
    """Of the outcome, in ms."""
    dev_eui: str = ""
    source: str = ""
    correlation_id: str = ""
    """The sender's; empty: the key stands for it."""
    topic: str = ""
    field: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()
    correlation: bytes = b""
    attempts: int = 0
    """How often it was sent."""


class _Body(msgspec.Struct, frozen=True, omit_defaults=True):
    """The members of a receipt, in their order."""

    outcome: str
    dev_eui: str = msgspec.field(name="DevEUI", default="")
    reason: str = ""
    field: str = ""
    correlation_id: str = msgspec.field(name="CorrelationID", default="")
    key: str = ""
    correlation_data: str = msgspec.field(name="correlationData", default="")
    warnings: tuple[str, ...] = ()
    time: str = msgspec.field(name="Time", default="")


class _Mark(msgspec.Struct, frozen=True):
    """What tells a receipt from everything else."""

    outcome: DownlinkOutcome
    key: str
    time: str = msgspec.field(name="Time")
    downlink: msgspec.Raw | None = msgspec.field(name="DevEUI_downlink", default=None)


_encode = msgspec.json.Encoder().encode
_decode_mark = msgspec.json.Decoder(_Mark).decode


def receipt(ended: Ended) -> ReceiptBody:
    """Make the receipt of a downlink that has ended."""
    body = _Body(
        outcome=ended.outcome.value,
        dev_eui=short(ended.dev_eui, MAX_NAME),
        reason=short(ended.reason),
        field=short(ended.field, MAX_NAME),
        correlation_id=short(ended.correlation_id, MAX_NAME) or ended.key,
        key=ended.key,
        correlation_data=b64encode(ended.correlation).decode(),
        warnings=few(ended.warnings),
        time=iso(ended.time),
    )
    return ReceiptBody(ended.dev_eui, _encode(body), ended.correlation)


def is_receipt(body: bytes) -> bool:
    """Whether this is a receipt: one that comes back as a downlink must never have a receipt of its own."""
    if len(body) > MAX_RECEIPT:
        return False
    try:
        mark = _decode_mark(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return KEY(mark.key) is not None and mark.downlink is None


def short(text: str, limit: int = MAX_SENTENCE) -> str:
    """Give a text that may hold something foreign: at most about `limit` characters, all of them printable."""
    if len(text) > limit:
        text = text[:limit] + "..."
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def few(warnings: Sequence[str]) -> tuple[str, ...]:
    """Give the first warnings, and the number of the others."""
    told = tuple(short(warning) for warning in warnings[:MAX_WARNINGS])
    more = len(warnings) - MAX_WARNINGS
    return told if more <= 0 else (*told, f"there are {more} more warnings")


def listed(names: Sequence[str], limit: int = 5) -> str:
    """Give names for a sentence: `a, b`; of many, the first and the number of the others."""
    told = ", ".join(short(name, MAX_NAME) for name in names[:limit])
    more = len(names) - limit
    return told if more <= 0 else f"{told} and {more} more"
