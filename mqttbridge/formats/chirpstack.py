"""ChirpStack v4: its integration events as ThingPark documents, and downlinks as its commands. Pure.

Called by the sources for every event, by the ways to network servers for every downlink. The tables of what becomes
what are in docs/formats-chirpstack.md. An event is taken in the JSON encoding of ChirpStack's MQTT and HTTP
integrations. `parse` raises nothing but `DocumentError`, whatever it is given.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import msgspec

from mqttbridge.errors import DocumentError
from mqttbridge.formats.chirpstack_events import EVENTS, MARKS, build, tags_of
from mqttbridge.formats.chirpstack_items import correlation_of, item_id
from mqttbridge.formats.chirpstack_shapes import MAX_DEPTH, decode
from mqttbridge.formats.fingerprint import of_text, of_uplink
from mqttbridge.formats.times import iso, milliseconds
from mqttbridge.formats.words import bare, shown
from mqttbridge.model import DocumentKind, Uplink

if TYPE_CHECKING:
    from mqttbridge.formats.chirpstack_events import Built
    from mqttbridge.formats.chirpstack_shapes import DeviceInfo, Event
    from mqttbridge.model import Downlink

__all__ = ["MAX_DEPTH", "command", "command_topic", "enqueued", "is_ours", "parse", "queue_item", "refusal"]

EARLIEST = milliseconds(datetime.min.replace(tzinfo=UTC))
LATEST = milliseconds(datetime.max.replace(tzinfo=UTC))
NAMES = ", ".join(EVENTS)
DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
WAY = re.compile(r"[^\x00-\x20/+#\x7f-\U0010ffff]{1,128}").fullmatch
EVENT_LEVEL = "event"
"""What ChirpStack's topics, and the parameter of its requests, call the event."""
TAG = re.compile(r"<[^<>]*>")
MAX_REFUSAL = 4096
MAX_REASON = 200
MAX_ID = 64


class Refusal(msgspec.Struct, gc=False):
    """What ChirpStack's REST API answers to what it does not take."""

    message: str = ""
    error: str = ""


class Enqueued(msgspec.Struct, gc=False):
    """What ChirpStack's REST API answers to what it takes."""

    id: str = ""


encode = msgspec.json.Encoder().encode
decode_enqueued = msgspec.json.Decoder(Enqueued).decode
decode_refusal = msgspec.json.Decoder(Refusal).decode


# --- events


def parse(
    body: bytes, *, source: str, received: int, hint: str = "", pass_through: bool = False, origin: str = ""
) -> Uplink:
    """Read one event; `hint` is the query string (`event=up`) or the topic (`application/…/event/up`).

    Without a hint the document must tell by its members which event it is. `body` is UTF-8 JSON. The uplink's body is
    the ThingPark document that the event means, or with `pass_through` the event itself, without whitespace and byte
    order mark around it. `received` (ms) stands in for a missing time. Raises `DocumentError` with the field's path.
    """
    body = bare(body)
    named = _named(hint)
    event = decode(body)
    name = named or _inferred(event)
    device = event.device_info
    if device is None:
        raise DocumentError("deviceInfo is missing; every event of ChirpStack v4 has it", field="deviceInfo")
    dev_eui = _dev_eui(device.dev_eui)
    time = _time(event.time) if event.time else received
    tags = tags_of(device)
    built = build(name, event, device, dev_eui=dev_eui, time=iso(time), tags=tags)
    return Uplink(
        source=source,
        kind=built.kind,
        dev_eui=dev_eui,
        time=time,
        received=received,
        fcnt=built.fcnt,
        body=body if pass_through else encode({built.kind.value: built.content}),
        tags=frozenset(map(str.casefold, tags)),
        fingerprint=_fingerprint(name, event, dev_eui, built, body),
        way=_way(device),
        correlation_id=_downlink_of(event),
        origin=origin,
    )


def is_ours(hint: str) -> bool:
    """Whether a topic is that of a command: ours comes back where a source subscribes to everything."""
    return "/command/" in hint


def _named(hint: str) -> str:
    """Give the event that a query string or a topic names; nothing if it names none."""
    name = ""
    for pair in hint.split("&"):
        key, _, value = pair.partition("=")
        if key == EVENT_LEVEL:
            name = unquote_plus(value)
            break
    else:
        levels = hint.split("/")
        if levels[-1] in EVENTS or levels[-2:-1] == [EVENT_LEVEL]:
            name = levels[-1]
    if name and name not in EVENTS:
        raise DocumentError(f"the event {shown(name)} is not known; it must be one of {NAMES}", field=EVENT_LEVEL)
    return name


def _inferred(event: Event) -> str:
    """Tell an event by what only it has. An ack that failed, and a join, are told by what they have not."""
    found = [name for name, members in MARKS.items() if any(getattr(event, member) is not None for member in members)]
    if not found and (event.queue_item_id is not None or event.f_cnt_down is not None):
        return "ack"
    if not found and event.dev_addr is not None:
        return "join"
    if len(found) == 1:
        return found[0]
    raise DocumentError(
        f"nothing says which event this is: add ?event=up to the URL, or use a topic that ends in /event/up "
        f"(with the event's name: {NAMES})",
        field=EVENT_LEVEL,
    )


def _dev_eui(text: str | None) -> str:
    """Give the DevEUI in upper case, without dashes and colons."""
    path = "deviceInfo.devEui"
    if not text:
        raise DocumentError(f"{path} is missing; every event names its device by 16 hex digits", field=path)
    plain = text.replace("-", "").replace(":", "")
    if DEV_EUI(plain):
        return plain.upper()
    raise DocumentError(f"{path} is {shown(text)}; a DevEUI has 16 hex digits", field=path)


def _time(text: str) -> int:
    """Give an RFC 3339 time in milliseconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    time = None if moment is None or moment.tzinfo is None else milliseconds(moment)
    if time is None or not EARLIEST <= time <= LATEST:
        example = "write it like 2026-01-02T03:04:05.678Z"
        raise DocumentError(f"time is {shown(text)}, which is not an RFC 3339 time; {example}", field="time")
    return time


def _fingerprint(name: str, event: Event, dev_eui: str, built: Built, body: bytes) -> int:
    """Tell copies of one event. All that comes of one uplink has its deduplicationId, so that only `up` goes by it."""
    if built.kind is not DocumentKind.UPLINK:
        return of_text(f"chirpstack {name} ".encode() + body) if event.time else 0
    if event.deduplication_id:
        return of_text(f"chirpstack {dev_eui} {event.deduplication_id.lower()}".encode())
    return of_uplink(dev_eui, built.fcnt or 0, built.content["payload_hex"])


def _way(device: DeviceInfo) -> str:
    """Give how ChirpStack's topics address the device, beside its DevEUI."""
    way = device.application_id or ""
    if not way or WAY(way):
        return way
    path = "deviceInfo.applicationId"
    raise DocumentError(f"{path} is {shown(way)}, which can be no level of a topic", field=path)


def _downlink_of(event: Event) -> str:
    """Give by what name we know the downlink that an event tells of: its CorrelationID, else its queue item's id."""
    queue_item = event.queue_item_id or (event.context or {}).get("queue_item_id") or ""
    return correlation_of(queue_item) or queue_item


# --- downlinks


def command(downlink: Downlink, *, correlation_id: str, key: str) -> bytes:
    """Give the body of a command by MQTT. It cannot flush the queue: whoever sends it refuses that before.

    `correlation_id` and `key` are 16 hex digits each.
    """
    return encode(_item(downlink, correlation_id, key))


def queue_item(downlink: Downlink, *, correlation_id: str, key: str) -> bytes:
    """Give the body of a request to `/api/devices/<devEui>/queue`. `correlation_id` and `key`: 16 hex digits each."""
    return encode({"queueItem": _item(downlink, correlation_id, key), "flushQueue": downlink.flush})


def command_topic(application: str, dev_eui: str) -> str:
    """Give the topic of commands to a device, which must name it as the command does: in lower case."""
    return f"application/{application}/device/{dev_eui.lower()}/command/down"


def refusal(body: bytes) -> str:
    """Give what ChirpStack's REST API says against a request: one short line, safe in a log; never empty."""
    text = body[:MAX_REFUSAL].decode(errors="replace")
    try:
        said = decode_refusal(body[:MAX_REFUSAL])
        text = said.message or said.error
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # Most likely the page of a proxy in between.
        text = TAG.sub(" ", text)
    text = " ".join(text.split())
    if not text:
        return "it gives no reason"
    return repr(text if len(text) <= MAX_REASON else text[:MAX_REASON] + "...")[1:-1]


def enqueued(body: bytes) -> str:
    """Give the id that ChirpStack's REST API gave a queue item of ours: some versions make their own. Else nothing."""
    try:
        return decode_enqueued(body).id[:MAX_ID]
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return ""


def _item(downlink: Downlink, correlation_id: str, key: str) -> dict[str, Any]:
    """Give a downlink as ChirpStack's queue has it."""
    item: dict[str, Any] = {
        "id": item_id(correlation_id, key),
        "devEui": downlink.dev_eui.lower(),
        "confirmed": downlink.confirmed,
        "fPort": downlink.fport,
    }
    if downlink.payload_hex is None:
        item["object"] = msgspec.Raw(downlink.payload)
    else:
        item["data"] = base64.b64encode(bytes.fromhex(downlink.payload_hex)).decode()
    if downlink.expires is not None:
        item["expiresAt"] = iso(min(downlink.expires, LATEST)).replace("+00:00", "Z")
    return item
