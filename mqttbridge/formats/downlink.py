"""Downlinks as customers publish them: `{"DevEUI_downlink": {...}}` (reference, "ThingPark documents").

Called by the room that takes downlinks, for bytes from a broker that is not ours: they may hold anything. `parse`
raises nothing but `DocumentError`, `glimpse` nothing at all, and both are fast on whatever comes. No sentence shows a
value of AS_KEY or Token: of fields that are not known or not passed on, only the names are told.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from mqttbridge.errors import DocumentError
from mqttbridge.formats import downlink_fields as read
from mqttbridge.formats.downlink_fields import ROOT
from mqttbridge.formats.outline import deeper_than
from mqttbridge.formats.words import bare, not_json, shown
from mqttbridge.model import Downlink

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["MAX_BODY", "Glimpse", "Parsed", "glimpse", "parse"]

MAX_BODY = 65536
"""In bytes. More is refused unread."""
MAX_DEPTH = 64
MAX_WARNINGS = 10
LONGEST_NAME = 40

TAKEN = (
    "DevEUI",
    "FPort",
    "payload_hex",
    "payload",
    "Confirmed",
    "FlushDownlinkQueue",
    "ValidityTime",
    "CorrelationID",
)
COUNTED = "the network server counts frames itself"
SIGNED = "downlinkAsId and downlinkAsKey of the connection, or of the source, are used"
NOT_PASSED_ON = {
    "AS_ID": SIGNED,
    "AS_KEY": SIGNED,
    "Token": SIGNED,
    "FCntDn": COUNTED,
    "AFCntDn": COUNTED,
    "RetryIneligibleGateways": "not every network server knows it",
    "DriverCfg": "the network server chooses the driver of the device",
}
KNOWN = (*TAKEN, *NOT_PASSED_ON, "Time")


def _folded(name: str) -> str:
    """Give a name without what people get wrong: case, dashes, underscores, blanks."""
    return re.sub(r"[-_ ]", "", name).casefold()


FOLDED = {_folded(name): name for name in KNOWN}

EUI_VALUE = rb"[\\\"']{0,3}\s{0,16}[:=]\s{0,16}[\\\"']{0,3}([0-9A-Fa-f:-]{16,23})(?![0-9A-Fa-f])"
DEV_EUI = re.compile(rb"(?<![A-Za-z0-9_])(?i:DevEUI)" + EUI_VALUE)
CORRELATION_ID = re.compile(rb"(?<![A-Za-z0-9_])(?i:CorrelationID)" + EUI_VALUE)

decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
decode_any = msgspec.json.Decoder().decode


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """A valid downlink, and a sentence for each thing in its document that is not heeded: at most ten."""

    downlink: Downlink
    warnings: tuple[str, ...] = ()


class Glimpse(msgspec.Struct, frozen=True, gc=False):
    """What could be made out of a document: a DevEUI in upper case, a CorrelationID as written; empty if not found."""

    dev_eui: str = ""
    correlation_id: str = ""


def parse(body: bytes, *, dev_eui: str, default_fport: int | None, now: int) -> Parsed:
    """Read one downlink. `dev_eui` is that of the topic, or empty; `now` in ms, for ValidityTime.

    Raises `DocumentError` with the field's path and, where all else is valid, `DownlinkExpired`.
    """
    roots = _members(body)
    fields, warnings = _content(roots)
    warnings += _warnings(fields)
    values = {name: _decoded(fields, name) for name in TAKEN if name != "payload"}
    device = read.dev_eui(values["DevEUI"], dev_eui, _meant(fields, "DevEUI"))
    port = read.fport(values["FPort"], default_fport, _meant(fields, "FPort"))
    hexadecimal, payload = _payload(values["payload_hex"], fields)
    if hexadecimal == "":
        warnings.append(f"{read.path('payload_hex')} is empty; the device gets a frame without payload")
    downlink = Downlink(
        dev_eui=device,
        fport=port,
        payload_hex=hexadecimal,
        payload=payload,
        confirmed=read.flag(values["Confirmed"], "Confirmed"),
        flush=read.flag(values["FlushDownlinkQueue"], "FlushDownlinkQueue"),
        correlation_id=read.correlation_id(values["CorrelationID"]),
        # The last: what is not valid is refused for that, also when it comes too late.
        expires=read.validity(values["ValidityTime"], now),
    )
    return Parsed(downlink, _bounded(warnings))


def glimpse(body: bytes) -> Glimpse:
    """Make out whose downlink this was meant to be, though it cannot be parsed: for its receipt. Never raises."""
    if len(body) <= MAX_BODY:
        try:
            return _glimpse(_members(body))
        except DocumentError:
            pass
    start = body[:MAX_BODY]
    device, correlation = DEV_EUI.search(start), CORRELATION_ID.search(start)
    return Glimpse(
        _device(device[1].decode() if device else None), _correlation(correlation[1].decode() if correlation else None)
    )


# --- the document


def _members(body: bytes) -> dict[str, Raw]:
    """Decode the bytes as far as the root keys: of valid JSON, of bounded size and depth."""
    if len(body) > MAX_BODY:
        raise DocumentError(f"the document has {len(body)} bytes; a downlink may have {MAX_BODY}")
    body = bare(body)
    if not body:
        raise DocumentError(f"the message is empty; it must be {_example()}")
    try:
        body.decode()
        roots = decode_members(body)
    except UnicodeDecodeError as error:
        raise DocumentError(f"the document is not UTF-8 (byte {error.start}); send it in UTF-8") from error
    except RecursionError as error:
        raise DocumentError(f"the document nests deeper than {MAX_DEPTH} levels") from error
    except msgspec.ValidationError as error:
        problem = "an array" if body.startswith(b"[") else "no JSON object"
        raise DocumentError(
            f"the document is {problem}; each downlink is published by itself, as {_example()}"
        ) from error
    except msgspec.DecodeError as error:
        refusal = not_json(body, error)
        if not body.startswith(b"{"):
            refusal = DocumentError(f"{refusal}; it must be {_example()}")
        raise refusal from error
    if deeper_than(body, MAX_DEPTH):
        raise DocumentError(f"the document nests deeper than {MAX_DEPTH} levels")
    return roots


def _content(roots: Mapping[str, Raw]) -> tuple[dict[str, Raw], list[str]]:
    """Give what stands inside the root, and a warning for each thing beside it."""
    if ROOT not in roots:
        raise DocumentError(_without_root(roots), field=ROOT)
    try:
        fields = decode_members(roots[ROOT])
    except msgspec.DecodeError as error:
        raise DocumentError(f"{ROOT} is no object; it must be {_example()}", field=ROOT) from error
    beside = [name for name in roots if name != ROOT][:MAX_WARNINGS]
    return fields, [f"{shown(name)} stands beside {ROOT} and is not heeded; put it inside" for name in beside]


def _without_root(roots: Mapping[str, Raw]) -> str:
    """Say what is wrong with a document that has no DevEUI_downlink."""
    if not roots:
        return f"the document is an empty object; it must be {_example()}"
    if not roots.keys().isdisjoint(KNOWN) or _folded(next(iter(roots))[:LONGEST_NAME]) in FOLDED:
        return f"the document has no root key; put its fields inside {ROOT}, like {_example()}"
    name = next(iter(roots))
    return f"the root key is {shown(name)}; a downlink stands inside {ROOT}, like {_example()}"


def _example() -> str:
    """Give a small document."""
    return f'{{"{ROOT}": {{"DevEUI": ..., "FPort": ..., "payload_hex": ...}}}}'


def _decoded(fields: Mapping[str, Raw], name: str) -> object:
    """Give the value of a field; None if it is missing."""
    if name not in fields:
        return None
    try:
        return decode_any(fields[name])
    except msgspec.DecodeError as error:
        raise DocumentError(f"{read.path(name)} is a number out of range", field=read.path(name)) from error


def _payload(hexadecimal: object, fields: Mapping[str, Raw]) -> tuple[str | None, bytes]:
    """Give payload_hex or payload: exactly one must be there."""
    raw = bytes(fields.get("payload", b"null"))
    if hexadecimal is not None and raw != b"null":
        raise DocumentError(f"{ROOT} has both payload_hex and payload; give one of them", field=read.path("payload"))
    if hexadecimal is not None:
        return read.payload_hex(hexadecimal), b""
    if raw != b"null":
        return None, read.payload(raw)
    advice = _meant(fields, "payload_hex") or _meant(fields, "payload")
    raise DocumentError(
        f"{ROOT} has neither payload_hex nor payload; give one of them{advice}", field=read.path("payload_hex")
    )


# --- what is not heeded


def _warnings(fields: Iterable[str]) -> list[str]:
    """Give a sentence for each field that is not passed on, or not known; one more than are told at most."""
    found: list[str] = []
    for name in fields:
        if len(found) > MAX_WARNINGS:
            break
        if name in NOT_PASSED_ON:
            found.append(f"{read.path(name)} is not passed on: {NOT_PASSED_ON[name]}")
        elif name not in KNOWN:
            near = _nearest(name)
            hint = f"; did you mean {near}?" if near else ""
            found.append(f"the field {shown(name)} of {ROOT} is not known, and not heeded{hint}")
    return found


def _bounded(warnings: list[str]) -> tuple[str, ...]:
    """Give as many warnings as may be told; the last says that there are more."""
    if len(warnings) <= MAX_WARNINGS:
        return tuple(warnings)
    return (*warnings[: MAX_WARNINGS - 1], "and more fields are not heeded")


def _nearest(name: str) -> str:
    """Give the known field that was meant, if one is near."""
    if len(name) > LONGEST_NAME:
        return ""
    near = get_close_matches(_folded(name), FOLDED, n=1, cutoff=0.75)
    return FOLDED[near[0]] if near else ""


def _meant(fields: Iterable[str], wanted: str) -> str:
    """End a sentence about a missing field with the one that was perhaps meant to be it."""
    for name in list(fields)[: 2 * MAX_WARNINGS]:
        if name not in KNOWN and _nearest(name) == wanted:
            return f"; {shown(name)} is not known, did you mean {wanted}?"
    return ""


# --- a glimpse


def _glimpse(roots: Mapping[str, Raw]) -> Glimpse:
    """Look inside the right root, else the first other one that has a DevEUI, and beside it."""
    device = correlation = ""
    places = [roots.get(ROOT), *list(roots.values())[:MAX_WARNINGS]]
    for fields in [*map(_object, places), roots]:
        device = device or _device(_text(fields, "DevEUI"))
        correlation = correlation or _correlation(_text(fields, "CorrelationID"))
    return Glimpse(device, correlation)


def _object(raw: Raw | None) -> Mapping[str, Raw]:
    """Give the members of an object; none of what is no object."""
    try:
        return decode_members(raw) if raw is not None else {}
    except msgspec.DecodeError:
        return {}


def _text(fields: Mapping[str, Raw], name: str) -> object:
    """Give a field's value; None if it cannot be read."""
    try:
        return _decoded(fields, name)
    except DocumentError:
        return None


def _device(value: object) -> str:
    """Give a DevEUI in upper case; empty if it is none."""
    try:
        return read.dev_eui(value, "")
    except DocumentError:
        return ""


def _correlation(value: object) -> str:
    """Give a CorrelationID; empty if it is none."""
    try:
        return read.correlation_id(value)
    except DocumentError:
        return ""
