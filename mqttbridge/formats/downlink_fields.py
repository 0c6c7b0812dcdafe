"""What stands inside DevEUI_downlink, field by field: any JSON value in, a checked value out. For `downlink` alone.

Each function raises `DocumentError` with the field's path and a sentence that says what to send instead. A field that
is null, or an empty text where no text can be meant, counts as not given.
"""

from __future__ import annotations

import re
from datetime import datetime

import msgspec

from mqttbridge.errors import DocumentError, DownlinkExpired
from mqttbridge.formats.times import milliseconds
from mqttbridge.formats.words import shown

__all__ = [
    "MAX_BYTES",
    "ROOT",
    "correlation_id",
    "dev_eui",
    "flag",
    "fport",
    "path",
    "payload",
    "payload_hex",
    "validity",
]

ROOT = "DevEUI_downlink"
MAX_BYTES = 242
"""The largest payload that LoRaWAN has at any data rate, in any region."""
MAX_OBJECT = 16 * 1024
MAX_FPORT = 224
SECOND = 1000
MAX_SECONDS = 10 * 365 * 24 * 3600
LAST_MOMENT = 253_402_300_799_999
"""The end of the year 9999: later than that cannot be written as ISO 8601."""
LONGEST_TIME = 64
DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
DIGITS = re.compile(r"[0-9]{1,9}").fullmatch
HEX = re.compile(r"[0-9A-Fa-f]*").fullmatch
SECONDS = re.compile(r"-?[0-9]{1,15}(\.[0-9]{1,9})?").fullmatch
UNITS = ((86_400_000, "days"), (3_600_000, "h"), (60_000, "min"), (SECOND, "s"), (1, "ms"))


def path(name: str) -> str:
    """Give the path of a field."""
    return f"{ROOT}.{name}"


def dev_eui(value: object, of_topic: str, advice: str = "") -> str:
    """Give the DevEUI in upper case. That of the topic (empty: it has none) and that of the document must agree.

    `advice` ends the sentence on a missing one.
    """
    where = path("DevEUI")
    wanted = _plain_eui(of_topic)
    if of_topic and not wanted:
        raise DocumentError(f"the topic names the device {shown(of_topic)}; a DevEUI has 16 hex digits", field=where)
    if value is None or value == "":
        if wanted:
            return wanted
        problem = f"{where} is missing, and the topic names no device; give its 16 hex digits{advice}"
        raise DocumentError(problem, field=where)
    if not isinstance(value, str):
        raise DocumentError(f"{where} is {_kind(value)}; it must be a text, 16 hex digits in quotes", field=where)
    found = _plain_eui(value)
    if not found:
        raise DocumentError(f"{where} is {shown(value)}; a DevEUI has 16 hex digits", field=where)
    if wanted and found != wanted:
        raise DocumentError(f"{where} is {found}, but the topic is that of {wanted}; they must agree", field=where)
    return found


def _plain_eui(text: str) -> str:
    """Give a DevEUI without dashes and colons, in upper case; empty if it is none."""
    plain = text.replace("-", "").replace(":", "")
    return plain.upper() if DEV_EUI(plain) else ""


def fport(value: object, default: int | None, advice: str = "") -> int:
    """Give the FPort: a number, or its digits; without, the connection's. `advice` ends the sentence on a missing one.

    A number with a fraction of zero is taken (15.0): some languages know no other numbers.
    """
    where = path("FPort")
    if value is None or value == "":
        if default is None:
            raise DocumentError(
                f"{where} is missing; give it, 1 to {MAX_FPORT}, or set downlinkPort of the connection{advice}",
                field=where,
            )
        return default
    number = int(value) if isinstance(value, str) and DIGITS(value) else value
    if isinstance(number, (int, float)) and not isinstance(number, bool) and 1 <= number <= MAX_FPORT:
        whole = int(number)
        if whole == number:
            return whole
    raise DocumentError(f"{where} is {_value(value)}; it must be a whole number from 1 to {MAX_FPORT}", field=where)


def payload_hex(value: object) -> str:
    """Give the payload's hex digits in lower case. No digits at all are a payload too, of no bytes."""
    where = path("payload_hex")
    if not isinstance(value, str):
        raise DocumentError(f"{where} is {_kind(value)}; it must be a text, hex digits in quotes", field=where)
    if not HEX(value):
        hint = "write hex digits only, two a byte, without blanks, dashes or 0x"
        raise DocumentError(f"{where} is {shown(value)}; {hint}", field=where)
    if len(value) % 2:
        raise DocumentError(f"{where} has {len(value)} digits; it must have two a byte", field=where)
    if len(value) > 2 * MAX_BYTES:
        raise DocumentError(f"{where} has {len(value) // 2} bytes; a downlink has at most {MAX_BYTES}", field=where)
    return value.lower()


def payload(raw: bytes) -> bytes:
    """Give a payload object as compact JSON, with its numbers and texts as they were written. `raw` is valid JSON."""
    where = path("payload")
    if not raw.startswith(b"{"):
        raise DocumentError(f"{where} must be a JSON object, which the network server encodes", field=where)
    try:
        msgspec.json.decode(raw)
        compact = msgspec.json.format(raw, indent=-1)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise DocumentError(f"{where} cannot be read: a number in it is out of range", field=where) from error
    if len(compact) > MAX_OBJECT:
        raise DocumentError(f"{where} has {len(compact)} bytes of JSON; it may have {MAX_OBJECT}", field=where)
    return compact


def flag(value: object, name: str) -> bool:
    """Give Confirmed or FlushDownlinkQueue: 0 or 1 as a number, a text or a truth value; without, no."""
    if value is None or value in ("", 0, "0"):
        return False
    if value in (1, "1"):
        return True
    where = path(name)
    raise DocumentError(f"{where} is {_value(value)}; it must be 0 or 1", field=where)


def correlation_id(value: object) -> str:
    """Give the CorrelationID as it was written; empty if there is none."""
    if value is None or value == "":
        return ""
    if isinstance(value, str) and DEV_EUI(value):
        return value
    where = path("CorrelationID")
    raise DocumentError(f"{where} is {_value(value)}; it must be a text of 16 hex digits", field=where)


def validity(value: object, now: int) -> int | None:
    """Give the moment (ms) that a ValidityTime names: an ISO 8601 time, or seconds from `now` (ms).

    Raises `DownlinkExpired` for one that has passed.
    """
    if value is None or value == "":
        return None
    where = path("ValidityTime")
    moment = _from_now(value, now) if _is_seconds(value) else _moment(value)
    if moment > LAST_MOMENT:
        raise DocumentError(f"{where} is {_value(value)}, which is too far away", field=where)
    if moment <= now:
        raise DownlinkExpired(f"{where} is {_value(value)}, which was {_span(now - moment)} ago", field=where)
    return moment


def _is_seconds(value: object) -> bool:
    """Whether it is a number, or its digits."""
    if isinstance(value, str):
        return SECONDS(value) is not None
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _from_now(value: object, now: int) -> int:
    """Give the moment that is so many seconds away."""
    seconds = float(value) if isinstance(value, (str, float)) else value
    if not isinstance(seconds, (int, float)) or abs(seconds) > MAX_SECONDS:
        where = path("ValidityTime")
        problem = "which are more than ten years as seconds from now; write a moment like 2026-01-02T03:04:05Z"
        raise DocumentError(f"{where} is {_value(value)}, {problem}", field=where)
    return now + int(seconds * SECOND)


def _moment(value: object) -> int:
    """Give the moment that an ISO 8601 time names."""
    where = path("ValidityTime")
    text = value if isinstance(value, str) else ""
    problem = "which is neither an ISO 8601 time nor seconds"
    moment = None
    if len(text) <= LONGEST_TIME:
        try:
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            pass
        else:
            problem = "which has no offset"
    if moment is None or moment.tzinfo is None:
        example = "write it like 2026-01-02T03:04:05Z, or as seconds from now"
        raise DocumentError(f"{where} is {_value(value)}, {problem}; {example}", field=where)
    return milliseconds(moment)


# --- sentences


def _kind(value: object) -> str:
    """Say what kind of JSON this is."""
    match value:
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "a text"
        case list():
            return "an array"
        case _:
            return "an object"


def _value(value: object) -> str:
    """Show a value, short; of an object or array say that it is one."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value) if abs(value) <= LAST_MOMENT else "a huge number"
    return shown(value) if isinstance(value, str) else _kind(value)


def _span(milliseconds: int) -> str:
    """Say how long a time is, in its largest unit."""
    for size, unit in UNITS:
        if milliseconds >= 2 * size:
            return f"{milliseconds // size} {unit}"
    return f"{milliseconds} ms"
