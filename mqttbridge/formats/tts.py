"""The Things Stack v3: its messages become ThingPark documents, and downlinks become what it takes.

`parse` serves webhooks and MQTT alike: the bodies are the same, and say of which kind they are. What becomes of each
kind is in `tts_documents`, and in docs/formats-tts.md. Any input gives an `Uplink` or a `DocumentError`.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from mqttbridge.errors import DocumentError
from mqttbridge.formats import fingerprint
from mqttbridge.formats.times import iso
from mqttbridge.formats.tts_documents import draft
from mqttbridge.formats.tts_downlinks import OUR_DEVICE, is_id, path, push, topic
from mqttbridge.formats.tts_errors import refusal
from mqttbridge.formats.tts_messages import ApplicationIds, Message, read_message
from mqttbridge.formats.words import bare, shown
from mqttbridge.model import Uplink

__all__ = ["is_ours", "parse", "path", "push", "refusal", "topic"]

DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
NAMED_BY_EUI = re.compile(r"eui-([0-9a-f]{16})").fullmatch
TOPIC = re.compile(r"v3/([a-z0-9-]{1,36})(?:@[a-z0-9-]{1,36})?/devices/([a-z0-9-]{1,36})/.*", re.DOTALL).fullmatch


class Known(Struct, gc=False):
    """Where the downlink inside of a report names what we called it."""

    correlation_ids: list[str] | None = None
    downlink: Known | None = None


decode_known = msgspec.json.Decoder(Known).decode


def parse(
    body: bytes, *, source: str, received: int, hint: str = "", pass_through: bool = False, origin: str = ""
) -> Uplink:
    """Read one message of any kind. `received` (ms) stands in where it has no time of its own.

    `hint`: of an MQTT topic, the application and the device are taken where the message names none. `pass_through`:
    the uplink's body is the message as it came; all else is as it would be. Raises `DocumentError` with the field's
    path in the message.
    """
    body = bare(body)
    message = read_message(body)
    _complete(message, hint)
    dev_eui = _dev_eui(message)
    made = draft(message, dev_eui)
    time = received if made.time is None else made.time
    content = {"Time": iso(time), "DevEUI": dev_eui, **made.content, "TheThingsStack": made.extra}
    return Uplink(
        source=source,
        kind=made.kind,
        dev_eui=dev_eui,
        time=time,
        received=received,
        fcnt=made.fcnt,
        body=body if pass_through else msgspec.json.encode({made.kind.value: content}),
        tags=frozenset(map(str.casefold, made.tags)),
        fingerprint=made.fingerprint or (fingerprint.of_text(b"tts " + body) if made.time is not None else 0),
        way=_way(message),
        correlation_id=made.content.get("CorrelationID", ""),
        origin=origin,
    )


def is_ours(hint: str) -> bool:
    """Whether a topic is that of a push or replace: ours comes back where a source subscribes to everything."""
    return hint.endswith(("/down/push", "/down/replace"))


def _complete(message: Message, hint: str) -> None:
    """Take from the topic what the message does not say of its device."""
    found = TOPIC(hint.removeprefix("/"))
    if found is None:
        return
    ids = message.ids
    if ids.device_id is None:
        ids.device_id = found[2]
    if ids.application_ids is None or ids.application_ids.application_id is None:
        ids.application_ids = ApplicationIds(found[1])


def _dev_eui(message: Message) -> str:
    """Give the DevEUI in upper case.

    The Things Stack leaves it out of reports on downlinks that it got by MQTT or HTTP: those we sent name it in a
    correlation id, and the devices that its console has named, in their device id.
    """
    field, ids = "end_device_ids.dev_eui", message.ids
    if ids.dev_eui:
        if DEV_EUI(ids.dev_eui):
            return ids.dev_eui.upper()
        raise DocumentError(f"{field} is {shown(ids.dev_eui)}; a DevEUI has 16 hex digits", field=field)
    known_as = [*(message.envelope.correlation_ids or ()), *_inner_correlation_ids(message)]
    if found := next(filter(None, map(OUR_DEVICE, known_as)), None) or NAMED_BY_EUI(ids.device_id or ""):
        return found[1].upper()
    device = shown(ids.device_id) if ids.device_id else "without a device_id"
    raise DocumentError(
        f"{field} is missing, of the device {device}; give the device a DevEUI in The Things Stack (one that is "
        "activated by personalization may have none), or call it eui-<DevEUI>",
        field=field,
    )


def _inner_correlation_ids(message: Message) -> list[str]:
    """Give the correlation ids of the downlink that a report is about; of another shape, none."""
    if not message.kind.startswith("downlink_"):
        return []
    try:
        known = decode_known(message.content)
    except msgspec.DecodeError:
        return []
    return [*(known.correlation_ids or ()), *((known.downlink and known.downlink.correlation_ids) or ())]


def _way(message: Message) -> str:
    """Give `<application_id>/<device_id>`; nothing if either could not be one, and so must not reach a topic or URL."""
    ids = message.ids
    application = ids.application_ids.application_id if ids.application_ids else None
    if application and ids.device_id and is_id(application) and is_id(ids.device_id):
        return f"{application}/{ids.device_id}"
    return ""
