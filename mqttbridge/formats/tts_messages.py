"""Messages of The Things Stack v3 as typed structs: what `formats.tts` maps, and how it is read. For the tts modules.

Shapes are those of ApplicationUp in its protobuf API, written as JSON: what is zero or empty is left out, 64-bit
integers are texts, times are RFC 3339 with nanoseconds, and a float that is none is a text such as "NaN". `Raw` is
what is passed on as it came. Only what is mapped is looked into; all else may be of any shape. Raises nothing but
`DocumentError`, whose `field` is the path in the message.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct, field

from mqttbridge.errors import DocumentError
from mqttbridge.formats.outline import deeper_than
from mqttbridge.formats.times import milliseconds
from mqttbridge.formats.words import not_json, shown

__all__ = [
    "KINDS",
    "MAX_DEPTH",
    "ApplicationIds",
    "DeviceIds",
    "Float",
    "Message",
    "Word",
    "given",
    "moment",
    "number",
    "present",
    "read",
    "read_message",
]

MAX_DEPTH = 63
"""How deep a message may nest: a level less than a ThingPark document, for what moves into `TheThingsStack`."""

EARLIEST = milliseconds(datetime(1, 1, 2, tzinfo=UTC))
LATEST = milliseconds(datetime(9999, 12, 30, tzinfo=UTC))
RANGE = re.compile(r"Expected `int` ([<>]=) ([0-9]+)").match
EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`").match
PLACE = re.compile(r" - at `\$([^`]*)`$").search
BOUNDS = {">=": "at least", "<=": "at most"}
WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}

Word = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Float = float | str | None
AnyStruct = TypeVar("AnyStruct")


class ApplicationIds(Struct, gc=False):
    """Which application the device is in."""

    application_id: str | None = None


class DeviceIds(Struct, gc=False):
    """What the device is called."""

    device_id: str | None = None
    application_ids: ApplicationIds | None = None
    dev_eui: str | None = None
    join_eui: str | None = None
    dev_addr: str | None = None


class Envelope(Struct, gc=False):
    """What stands around each kind of message; one of the last eleven is there."""

    end_device_ids: DeviceIds | None = None
    correlation_ids: list[str] | None = None
    received_at: str | None = None
    simulated: bool | None = None
    uplink_message: Raw = field(default_factory=Raw)
    uplink_normalized: Raw = field(default_factory=Raw)
    join_accept: Raw = field(default_factory=Raw)
    downlink_queued: Raw = field(default_factory=Raw)
    downlink_sent: Raw = field(default_factory=Raw)
    downlink_ack: Raw = field(default_factory=Raw)
    downlink_nack: Raw = field(default_factory=Raw)
    downlink_failed: Raw = field(default_factory=Raw)
    downlink_queue_invalidated: Raw = field(default_factory=Raw)
    location_solved: Raw = field(default_factory=Raw)
    service_data: Raw = field(default_factory=Raw)


KINDS = (
    "uplink_message",
    "uplink_normalized",
    "join_accept",
    "downlink_queued",
    "downlink_sent",
    "downlink_ack",
    "downlink_nack",
    "downlink_failed",
    "downlink_queue_invalidated",
    "location_solved",
    "service_data",
)


class Message(Struct, gc=False):
    """One message: its kind (of `KINDS`), what stands around it, the names of its device, and its content."""

    kind: str
    envelope: Envelope
    ids: DeviceIds
    content: Raw


decode_envelope = msgspec.json.Decoder(Envelope).decode


def read_message(body: bytes) -> Message:
    """Read the envelope. `body` is UTF-8 JSON, without whitespace and byte order mark around it."""
    try:
        if not body.isascii():
            body.decode()
        envelope = decode_envelope(body)
    except UnicodeDecodeError as error:
        raise DocumentError(f"the message is not UTF-8 (byte {error.start}); send it in UTF-8") from error
    except RecursionError as error:
        raise DocumentError(f"the message nests deeper than {MAX_DEPTH} levels") from error
    except msgspec.ValidationError as error:
        raise _mistyped(error, "") from error
    except msgspec.DecodeError as error:
        raise not_json(body, error) from error
    if deeper_than(body, MAX_DEPTH):
        raise DocumentError(f"the message nests deeper than {MAX_DEPTH} levels")
    kinds = [kind for kind in KINDS if present(getattr(envelope, kind))]
    if not kinds:
        raise DocumentError(
            f"the message is of no kind that The Things Stack sends; it needs one of {', '.join(KINDS)}"
        )
    if len(kinds) > 1:
        raise DocumentError(f"the message is of {len(kinds)} kinds, {', '.join(kinds)}; send a message for each")
    return Message(kinds[0], envelope, envelope.end_device_ids or DeviceIds(), getattr(envelope, kinds[0]))


def read(raw: Raw, decoder: msgspec.json.Decoder[AnyStruct], path: str) -> AnyStruct:
    """Read a part of a message that stands at `path`; one that is absent or null is read as an empty object."""
    try:
        return decoder.decode(raw if present(raw) else b"{}")
    except msgspec.ValidationError as error:
        raise _mistyped(error, path) from error


def present(raw: Raw) -> bool:
    """Whether a part is there, and not null."""
    return bool(raw) and bytes(raw) != b"null"


def given(**members: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON value
    """Give the members that are there: not None, and no absent part."""
    return {
        name: value
        for name, value in members.items()
        if value is not None and (not isinstance(value, Raw) or present(value))
    }


def moment(text: str | None, path: str) -> int | None:
    """Give an RFC 3339 time in milliseconds; None if there is none, or the zero time of year 1."""
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        example = "write it like 2026-01-02T03:04:05.678901234Z"
        raise DocumentError(f"{path} is {shown(text)}, which is not an RFC 3339 time; {example}", field=path)
    found = milliseconds(time)
    if found > LATEST:
        raise DocumentError(f"{path} is {shown(text)}, which is out of range", field=path)
    return found if found >= EARLIEST else None


def number(value: Float, path: str) -> float | None:
    """Give a number that may be written as a text; None if there is none, or it is not finite."""
    if value is None:
        return None
    try:
        found = float(value)
    except ValueError:
        raise DocumentError(f"{path} is {shown(str(value))}; it must be a number", field=path) from None
    return found if math.isfinite(found) else None


def _mistyped(error: msgspec.ValidationError, path: str) -> DocumentError:
    """Put into a sentence where a message is not of the right shape. The error holds no text of the message."""
    text = str(error)
    place = PLACE(text)
    where = (path + (place[1] if place else "")).removeprefix(".")
    name = where or "the message"
    if found := RANGE(text):
        return DocumentError(f"{name} is out of range; it must be {BOUNDS[found[1]]} {found[2]}", field=where)
    if found := EXPECTED(text):
        want = " or ".join(WORDS.get(word, word) for word in found[1].split(" | ") if word != "null")
        return DocumentError(f"{name} is {WORDS.get(found[2], found[2])}; it must be {want}", field=where)
    return DocumentError(f"{name} is out of range", field=where)
