"""What each message of The Things Stack becomes as a ThingPark document. For `formats.tts` alone.

The table in docs/formats-tts.md says the same in words; keep both true. What has no counterpart in ThingPark goes into
the one extra member `TheThingsStack`, under the name it had. Keys (`app_s_key`) are never passed on. Raises nothing
but `DocumentError`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, Struct

from mqttbridge.errors import DocumentError
from mqttbridge.formats import fingerprint
from mqttbridge.formats.tts_downlinks import OUR_CORRELATION
from mqttbridge.formats.tts_errors import reason
from mqttbridge.formats.tts_messages import Message, given, moment, number, present, read
from mqttbridge.formats.tts_radio import Settings, decode_settings, payload_hex, radio
from mqttbridge.formats.tts_shapes import (
    About,
    Downlink,
    Uplink,
    decode_downlink,
    decode_failed,
    decode_invalidated,
    decode_join,
    decode_network,
    decode_places,
    decode_service,
    decode_solved,
    decode_uplink,
    decode_versions,
)
from mqttbridge.model import DocumentKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Draft", "draft"]


UNCONFIRMED_UP, CONFIRMED_UP = 2, 4
"""MType of a data uplink (LoRaWAN 1.0.4, section 4.2.1)."""
NO_CAUSE = "00"
NEWS: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "downlink_queued": {"Type": "queued"},
        "downlink_ack": {"Type": "ack", "Acknowledged": 1},
        "downlink_nack": {"Type": "ack", "Acknowledged": 0},
    }
)
"""Notifications about a downlink. A second DevEUI_downlink_Sent would count it twice."""
FLAGS = frozenset({"", "true"})
"""Values of attributes that only say that the attribute is there."""
MAX_CLOCK_ERROR = 60_000
"""In ms, between a gateway and the Network Server. More: that gateway does not know the time."""


decode_any = msgspec.json.Decoder().decode
encode_canonically = msgspec.json.Encoder(order="deterministic").encode


class Draft(Struct, gc=False):
    """A document in the making. Time and DevEUI are put in front by whoever asked for it."""

    kind: DocumentKind
    content: dict[str, Any]
    extra: dict[str, Any]
    """Members of `TheThingsStack`."""
    time: int | None
    """In ms; None: the message has none."""
    tags: list[str]
    fcnt: int | None = None
    fingerprint: int = 0
    """0: that of the whole message."""


def draft(message: Message, dev_eui: str) -> Draft:
    """Give what this message says, in ThingPark's words."""
    made = DRAFTERS[message.kind](message, dev_eui)
    if message.ids.dev_addr:
        made.content["DevAddr"] = message.ids.dev_addr.upper()
    return made


# --- uplinks


def _uplink(message: Message, dev_eui: str) -> Draft:
    """`uplink_message` and `uplink_normalized`."""
    path, normalized = message.kind, message.kind == "uplink_normalized"
    up = read(message.content, decode_uplink, path)
    settings = read(up.settings, decode_settings, f"{path}.settings")
    payload, fcnt = payload_hex(up.frm_payload, f"{path}.frm_payload"), up.f_cnt or 0
    decoded = up.normalized_payload if normalized else up.decoded_payload
    heard, gateways = radio(up.rx_metadata, settings, path)
    about, extra, tags = _about(message, up)
    content = {
        "FPort": up.f_port or 0,
        "FCntUp": fcnt,
        "MType": CONFIRMED_UP if up.confirmed else UNCONFIRMED_UP,
        "payload_hex": payload,
        **heard,
        **about,
        **given(MeanPER=number(up.packet_error_rate, f"{path}.packet_error_rate")),
        "AckRequested": int(bool(up.confirmed)),
        **given(payload=decoded),
    }
    if up.decoded_payload_warnings and not present(decoded):
        content["payloadDecodedError"] = {"code": "warnings", "message": "; ".join(up.decoded_payload_warnings)}
    extra |= given(
        settings=up.settings,
        rx_metadata=gateways or None,
        consumed_airtime=up.consumed_airtime,
        decoded_payload_warnings=up.decoded_payload_warnings or None,
        normalized_payload=None if normalized else up.normalized_payload,
        normalized_payload_warnings=up.normalized_payload_warnings,
        last_battery_percentage=up.last_battery_percentage,
        last_a_f_cnt_down=up.last_a_f_cnt_down,
        frm_payload_encrypted=True if present(up.app_s_key) else None,
    )
    time = _reception(message, up, settings)
    print_ = 0 if message.envelope.simulated else _fingerprint(dev_eui, fcnt, payload, decoded if normalized else None)
    return Draft(DocumentKind.UPLINK, content, extra, time, tags, fcnt, print_)


def _fingerprint(dev_eui: str, fcnt: int, payload: str, normalized: Raw | None) -> int:
    """Tell copies: of an uplink, or of one of the measurements that it was normalized to."""
    if normalized is None:
        return fingerprint.of_uplink(dev_eui, fcnt, payload)
    try:
        # The order of the members is not promised to be the same on each way that a copy comes.
        measured = encode_canonically(decode_any(normalized)) if normalized else b""
    except (msgspec.DecodeError, RecursionError):
        measured = bytes(normalized)
    return fingerprint.of_text(f"tts normalized {dev_eui} {fcnt} {payload} ".encode() + measured)


def _reception(message: Message, up: Uplink, settings: Settings) -> int | None:
    """Give when a gateway received the frame, if its clock agrees with the Network Server's; else the latter."""
    received = _time(message, up)
    heard = moment(settings.time, f"{message.kind}.settings.time")
    if heard is None or (received is not None and abs(heard - received) > MAX_CLOCK_ERROR):
        return received
    return heard


# --- the other kinds


def _join(message: Message, _: str) -> Draft:
    """`join_accept`."""
    join = read(message.content, decode_join, message.kind)
    about, extra, tags = _about(message, join)
    extra |= given(pending_session=join.pending_session, invalidated_downlinks=join.invalidated_downlinks)
    content = {"Type": "join", **about}
    return Draft(DocumentKind.NOTIFICATION, content, extra, _time(message, join), tags)


def _report(message: Message, _: str) -> Draft:
    """`downlink_sent`: transmitted. The others of the same shape have no document of their own in ThingPark."""
    down = read(message.content, decode_downlink, message.kind)
    about, extra, tags = _about(message, down)
    sent = message.kind == "downlink_sent"
    over_the_air = message.kind != "downlink_queued"
    fields, more = _downlink(down, message, message.kind, fcnt=0 if over_the_air else None)
    if sent:
        causes = {f"DeliveryFailedCause{slot}": NO_CAUSE for slot in (1, 2, 3)}
        content = {**fields, "DeliveryStatus": 1, **causes, **about}
        kind = DocumentKind.DOWNLINK_SENT
    else:
        content = {**NEWS[message.kind], **fields, **about}
        kind = DocumentKind.NOTIFICATION
    fcnt = content.get("FCntDn") if sent else None
    return Draft(kind, content, extra | more, _time(message, down), tags, fcnt)


def _failed(message: Message, _: str) -> Draft:
    """`downlink_failed`: The Things Stack gave it up."""
    failed = read(message.content, decode_failed, message.kind)
    path = f"{message.kind}.downlink"
    down = read(failed.downlink, decode_downlink, path)
    about, extra, tags = _about(message, failed)
    fields, more = _downlink(down, message, path, fcnt=None)
    why = {"DeliveryStatus": 0, "DownlinkRejectionCause": reason(failed.error)}
    extra |= more | given(error=failed.error)
    content = {**fields, **why, **about}
    return Draft(DocumentKind.DOWNLINK_REJECTED, content, extra, _time(message, failed), tags, fields.get("FCntDn"))


def _invalidated(message: Message, _: str) -> Draft:
    """`downlink_queue_invalidated`: the Application Server encrypts what is queued anew; nothing is lost by it."""
    queue = read(message.content, decode_invalidated, message.kind)
    about, extra, tags = _about(message, queue)
    extra |= given(downlinks=queue.downlinks, last_f_cnt_down=queue.last_f_cnt_down)
    content = {"Type": "invalidated", **about}
    return Draft(DocumentKind.NOTIFICATION, content, extra, _time(message, queue), tags)


def _service(message: Message, _: str) -> Draft:
    """`service_data`: what an application package found out."""
    service = read(message.content, decode_service, message.kind)
    about, extra, tags = _about(message, service)
    content = {"Type": "service", "Service": service.service or "", **about, **given(payload=service.data)}
    return Draft(DocumentKind.NOTIFICATION, content, extra, _time(message, service), tags)


def _location(message: Message, _: str) -> Draft:
    """`location_solved`: where the device is."""
    solved = read(message.content, decode_solved, message.kind)
    path = f"{message.kind}.location"
    if solved.location is None:
        raise DocumentError(f"{path} is missing; a solved location says where the device is", field=path)
    place = solved.location
    about, extra, tags = _about(message, About())
    extra |= given(service=solved.service, source=place.source, attributes=solved.attributes)
    content = {
        "DevLAT": number(place.latitude, f"{path}.latitude") or 0.0,
        "DevLON": number(place.longitude, f"{path}.longitude") or 0.0,
        **given(
            DevAlt=number(place.altitude, f"{path}.altitude"), DevLocRadius=number(place.accuracy, f"{path}.accuracy")
        ),
        **about,
    }
    return Draft(DocumentKind.LOCATION, content, extra, _time(message, None), tags)


DRAFTERS: Mapping[str, Callable[[Message, str], Draft]] = MappingProxyType(
    {
        "uplink_message": _uplink,
        "uplink_normalized": _uplink,
        "join_accept": _join,
        "downlink_queued": _report,
        "downlink_sent": _report,
        "downlink_ack": _report,
        "downlink_nack": _report,
        "downlink_failed": _failed,
        "downlink_queue_invalidated": _invalidated,
        "location_solved": _location,
        "service_data": _service,
    }
)


# --- what several kinds share


def _time(message: Message, about: About | None) -> int | None:
    """Give when the Network Server received it, else the Application Server."""
    inner = None if about is None else moment(about.received_at, f"{message.kind}.received_at")
    return inner if inner is not None else moment(message.envelope.received_at, "received_at")


def _about(message: Message, about: About) -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Give the members that say whose device it is, those for `TheThingsStack`, and the tags."""
    ids, attributes = message.ids, about.attributes or {}
    application = ids.application_ids.application_id if ids.application_ids else None
    names = {"application_id": application, "device_id": ids.device_id}
    tags = _tags({name: value for name, value in names.items() if value} | attributes)
    network = read(about.network_ids, decode_network, f"{message.kind}.network_ids")
    versions = read(about.version_ids, decode_versions, f"{message.kind}.version_ids")
    model = given(pId=versions.brand_id, mId=versions.model_id, ver=versions.firmware_version)
    data = given(
        loc=_home(about.locations, f"{message.kind}.locations"),
        tags=tags or None,
        name=attributes.get("name") or ids.device_id,
    )
    content = given(CustomerID=network.tenant_id, CustomerData=data, DriverCfg={"mod": model} if model else None)
    extra = given(
        message=message.kind,
        **names,
        join_eui=ids.join_eui,
        simulated=True if message.envelope.simulated else None,
        received_at=message.envelope.received_at,
        correlation_ids=message.envelope.correlation_ids or None,
        session_key_id=about.session_key_id,
        attributes=attributes or None,
        version_ids=about.version_ids,
        network_ids=about.network_ids,
        locations=about.locations,
    )
    return content, extra, tags


def _tags(attributes: Mapping[str, str]) -> list[str]:
    """Give `key:value` and `value` of each, without repeats: a flow may name either. A flag gives its key alone."""
    found: list[str] = []
    for key, value in attributes.items():
        found += [key] if value.casefold() in FLAGS else [f"{key}:{value}", value]
    return list(dict.fromkeys(filter(None, found)))


def _home(locations: Raw, path: str) -> dict[str, str] | None:
    """Give the place that the device is registered at, else another that is known of it, as ThingPark writes it."""
    places = read(locations, decode_places, path)
    place = places.get("user") or next(filter(None, places.values()), None)
    if place is None:
        return None
    latitude, longitude = number(place.latitude, path), number(place.longitude, path)
    if latitude is None and longitude is None:
        return None
    return {"lat": str(latitude or 0.0), "lon": str(longitude or 0.0)}


def _downlink(
    down: Downlink, message: Message, path: str, *, fcnt: int | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the members that say which downlink it was, and those for `TheThingsStack`. `fcnt`: if it names none."""
    known_as = [*(down.correlation_ids or ()), *(message.envelope.correlation_ids or ())]
    ours = next((found[1] for text in known_as if (found := OUR_CORRELATION(text))), None)
    content = given(
        FPort=down.f_port or 0,
        FCntDn=fcnt if down.f_cnt is None else down.f_cnt,
        payload_hex=payload_hex(down.frm_payload, f"{path}.frm_payload"),
        payload=down.decoded_payload,
        Confirmed=int(bool(down.confirmed)),
        CorrelationID=ours,
    )
    return content, given(
        priority=down.priority,
        class_b_c=down.class_b_c,
        confirmed_retry=down.confirmed_retry,
        downlink_correlation_ids=down.correlation_ids or None,
    )
