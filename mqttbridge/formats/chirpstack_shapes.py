"""What ChirpStack v4 sends, as structs: the JSON mapping of its integration events. For `chirpstack` alone.

One struct covers all eight events, for each names its members differently enough to tell them apart. In this mapping
a member that is zero, empty or false may be absent; enums are texts or numbers; whole numbers may be texts, and other
numbers too, as "NaN" is. Nothing is raised but `DocumentError`, and whatever is not named here is passed by.
"""

from __future__ import annotations

import math
import re

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.errors import DocumentError
from mqttbridge.formats.outline import deeper_than
from mqttbridge.formats.thingpark import MAX_DEPTH as MAX_BUILT_DEPTH
from mqttbridge.formats.words import not_json, shown

__all__ = [
    "MAX_DEPTH",
    "DeviceInfo",
    "Event",
    "Location",
    "Modulation",
    "RxInfo",
    "TxInfo",
    "decode",
    "number",
    "whole",
]

MAX_DEPTH = MAX_BUILT_DEPTH - 1
"""How deep a document may nest: the one built of it has a root key around it."""

MAX_DIGITS = 32
MAX_NUMBER = 1e12
ABSENT = Raw()
EXPECTED = re.compile(r"Expected `([^`]*)`, got `([^`]*)`")
PLACE = re.compile(r" - at `\$\.?([^`]*)`$")
WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number with a fraction",
    "bool": "true or false",
    "object": "an object",
    "array": "an array",
}

Int = int | str | None
Number = float | int | str | None


class Shape(Struct, gc=False, rename="camel", omit_defaults=True):
    """What all share: camelCase names, and absent when written anew what was absent."""


class DeviceInfo(Shape, gc=False):
    """Which device, and what it is called."""

    tenant_id: str | None = None
    tenant_name: str | None = None
    application_id: str | None = None
    application_name: str | None = None
    device_profile_id: str | None = None
    device_profile_name: str | None = None
    device_name: str | None = None
    dev_eui: str | None = None
    device_class_enabled: str | int | None = None
    tags: dict[str, str] | None = None


class Location(Shape, gc=False):
    """Where something is, in degrees and metres."""

    latitude: Number = None
    longitude: Number = None
    altitude: Number = None
    source: str | int | None = None
    accuracy: Number = None


class RxInfo(Shape, gc=False):
    """How one gateway heard it."""

    gateway_id: str | None = None
    rssi: Number = None
    snr: Number = None
    antenna: Int = None
    location: Location | None = None


class Lora(Shape, gc=False):
    """LoRa."""

    bandwidth: Int = None
    spreading_factor: Int = None
    code_rate: str | int | None = None


class Fsk(Shape, gc=False):
    """FSK."""

    frequency_deviation: Int = None
    datarate: Int = None


class LrFhss(Shape, gc=False):
    """LR-FHSS."""

    operating_channel_width: Int = None
    code_rate: str | int | None = None
    grid_steps: Int = None


class Modulation(Shape, gc=False):
    """One of these."""

    lora: Lora | None = None
    fsk: Fsk | None = None
    lr_fhss: LrFhss | None = None


class TxInfo(Shape, gc=False):
    """How it was sent: `frequency` in Hz, `power` in dBm."""

    frequency: Int = None
    power: Number = None
    modulation: Modulation | None = None


class RelayRxInfo(Shape, gc=False):
    """How a relay heard it."""

    dev_eui: str | None = None
    frequency: Int = None
    dr: Int = None
    snr: Number = None
    rssi: Number = None
    wor_channel: Int = None


class JoinServerContext(Shape, gc=False):
    """Where the keys are. The key itself is passed by: it is a secret."""

    session_key_id: str | None = None


class Event(Shape, gc=False):
    """Any of the eight events."""

    # Of all of them
    deduplication_id: str | None = None
    time: str | None = None
    device_info: DeviceInfo | None = None
    # up, join
    dev_addr: str | None = None
    region_config_id: str | None = None
    relay_rx_info: RelayRxInfo | None = None
    join_server_context: JoinServerContext | None = None
    # up
    adr: bool | None = None
    dr: Int = None
    f_cnt: Int = None
    f_port: Int = None
    confirmed: bool | None = None
    data: str | None = None
    rx_info: list[RxInfo] | None = None
    # up, txack
    tx_info: TxInfo | None = None
    # up, integration
    object: Raw = field(default=ABSENT)
    # ack, txack
    queue_item_id: str | None = None
    f_cnt_down: Int = None
    # ack
    acknowledged: bool | None = None
    # txack
    downlink_id: Int = None
    gateway_id: str | None = None
    # status
    margin: Int = None
    external_power_source: bool | None = None
    battery_level_unavailable: bool | None = None
    battery_level: Number = None
    # log
    level: str | int | None = None
    code: str | int | None = None
    description: str | None = None
    context: dict[str, str] | None = None
    # location
    location: Location | None = None
    # integration
    integration_name: str | None = None
    event_type: str | None = None


decode_event = msgspec.json.Decoder(Event).decode
VERSION_3 = (
    "the document has no deviceInfo and looks like one of ChirpStack v3; mqttbridge reads the events of ChirpStack v4"
)


def decode(body: bytes) -> Event:
    """Decode a document. Raises `DocumentError` with the field's path."""
    try:
        if not body.isascii():
            body.decode()
        event = decode_event(body)
    except UnicodeDecodeError as error:
        raise DocumentError(
            f"the document is not UTF-8 (byte {error.start}); have ChirpStack's integration send JSON"
        ) from error
    except RecursionError as error:
        raise DocumentError(f"the document nests deeper than {MAX_DEPTH} levels") from error
    except msgspec.DecodeError as error:
        raise _refusal(body, error) from error
    if deeper_than(body, MAX_DEPTH):
        raise DocumentError(f"the document nests deeper than {MAX_DEPTH} levels")
    if event.device_info is None and _of_version_3(body):
        raise DocumentError(VERSION_3, field="deviceInfo")
    return event


def whole(value: Int, path: str, low: int, high: int) -> int:
    """Give a whole number; absent means 0."""
    if value is None:
        return 0
    if isinstance(value, str):
        digits = value.removeprefix("-")
        fits = digits.isascii() and digits.isdigit() and len(digits) <= MAX_DIGITS
        result = int(value) if fits else None
    else:
        result = value
    if result is not None and low <= result <= high:
        return result
    raise DocumentError(f"{path} is {shown(str(value))}; it must be a whole number from {low} to {high}", field=path)


def number(value: Number, path: str) -> float:
    """Give a number; absent means 0. "NaN" and "Infinity", which this mapping of JSON knows, are NaN."""
    if value is None:
        return 0.0
    try:
        result = float(value) if not isinstance(value, str) or len(value) <= MAX_DIGITS else math.inf
    except OverflowError:
        result = math.inf
    except ValueError as error:
        raise DocumentError(f"{path} is {shown(str(value))}; it must be a number", field=path) from error
    if math.isfinite(result) and abs(result) <= MAX_NUMBER:
        return result
    if value in {"NaN", "Infinity", "-Infinity"}:
        return math.nan
    raise DocumentError(f"{path} is {shown(str(value))}, which is out of range", field=path)


def _refusal(body: bytes, error: msgspec.DecodeError) -> DocumentError:
    """Put into a sentence why these bytes could not be decoded."""
    if not isinstance(error, msgspec.ValidationError):
        refusal = not_json(body, error)
        advice = "; ChirpStack's integration must send JSON" if body else ""
        return DocumentError(f"{refusal}{advice}")
    if _of_version_3(body):
        return DocumentError(VERSION_3, field="deviceInfo")
    place = PLACE.search(str(error))
    path = place[1] if place else ""
    name = path or "the document"
    types = EXPECTED.match(str(error))
    if types is None:
        return DocumentError(f"{name} is out of range", field=path)
    want = " or ".join(WORDS.get(word, word) for word in types[1].split(" | ") if word != "null")
    return DocumentError(f"{name} is {WORDS.get(types[2], types[2])}; it must be {want}", field=path)


def _of_version_3(body: bytes) -> bool:
    """Whether this looks like an event of ChirpStack v3, which names the device elsewhere."""
    return b'"devEUI"' in body and b'"deviceInfo"' not in body
