"""The eight events of ChirpStack v4 as ThingPark documents. For `chirpstack` alone.

Each function takes a decoded event and gives what is particular to it: kind of document, frame counter, fields. `build`
puts around that what all have in common. What has no counterpart stands in the member "ChirpStack", except what is
secret or of no use without ChirpStack. docs/formats-chirpstack.md has the tables, and is to be kept true. Nothing is
raised but `DocumentError`.
"""

from __future__ import annotations

import binascii
import math
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from mqttbridge.errors import DocumentError
from mqttbridge.formats.chirpstack_items import correlation_of
from mqttbridge.formats.chirpstack_shapes import DeviceInfo, Event, RxInfo, TxInfo, number, whole
from mqttbridge.formats.words import shown
from mqttbridge.model import DocumentKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EVENTS", "MARKS", "Built", "build", "tags_of"]

MAX_32 = 2**32 - 1
MAX_FPORT = 255
MAX_GATEWAYS = 1000
MAX_FREQUENCY = 10**11
SNR_ALONE = 300.0
"""In dB: beyond, the noise adds nothing to the signal."""
FULL_BATTERY = 254
NO_BATTERY = 255
URL_SAFE = str.maketrans("-_", "+/")
LEVELS = ("INFO", "WARNING", "ERROR")
CODES = (
    "UNKNOWN",
    "DOWNLINK_PAYLOAD_SIZE",
    "UPLINK_CODEC",
    "DOWNLINK_CODEC",
    "OTAA",
    "UPLINK_F_CNT_RESET",
    "UPLINK_MIC",
    "UPLINK_F_CNT_RETRANSMISSION",
    "DOWNLINK_GATEWAY",
    "RELAY_NEW_END_DEVICE",
    "F_CNT_DOWN",
    "EXPIRED",
)
CLASSES = ("CLASS_A", "CLASS_B", "CLASS_C")
LOST_DOWNLINKS = frozenset({"DOWNLINK_PAYLOAD_SIZE", "DOWNLINK_CODEC", "DOWNLINK_GATEWAY", "F_CNT_DOWN", "EXPIRED"})
"""Codes of logs that say that a downlink was not sent."""
FLAGS = frozenset({"", "true"})
"""Values of tags that only say that the tag is there."""

Fields = dict[str, Any]


class Built(Struct, frozen=True, gc=False):
    """A ThingPark document: what stands inside its root key, `kind`."""

    kind: DocumentKind
    fcnt: int | None
    content: Fields


class Reception(Struct, gc=False, omit_defaults=True):
    """A member of Lrrs.Lrr."""

    chain: int = field(name="Chain")
    lrrid: str | None = field(name="Lrrid", default=None)
    rssi: float | None = field(name="LrrRSSI", default=None)
    snr: float | None = field(name="LrrSNR", default=None)
    esp: float | None = field(name="LrrESP", default=None)


class Part(Struct, gc=False):
    """What is particular to one event. `more` goes into the member "ChirpStack"."""

    kind: DocumentKind
    fields: Fields
    more: Fields
    fcnt: int | None = None


def build(name: str, event: Event, device: DeviceInfo, *, dev_eui: str, time: str, tags: list[str]) -> Built:
    """Make the document of the event `name`, one of `EVENTS`; `time` is ISO 8601. Raises `DocumentError`."""
    part = EVENTS[name](event)
    customer: Fields = {"tags": tags, "doms": _domains(device)}
    if device.device_name:
        customer["name"] = device.device_name
    chirpstack = {
        "event": name,
        "deduplicationId": event.deduplication_id or None,
        "tenantId": device.tenant_id or None,
        "tenantName": device.tenant_name or None,
        "applicationId": device.application_id or None,
        "applicationName": device.application_name or None,
        "deviceProfileId": device.device_profile_id or None,
        "deviceProfileName": device.device_profile_name or None,
        "tags": device.tags or None,
        "regionConfigId": event.region_config_id or None,
    } | part.more
    content: Fields = {"Time": time, "DevEUI": dev_eui} | part.fields
    content |= {"CustomerID": device.tenant_id or None, "CustomerData": customer, "ChirpStack": _present(chirpstack)}
    return Built(kind=part.kind, fcnt=part.fcnt, content=_present(content))


def tags_of(device: DeviceInfo) -> list[str]:
    """Give ChirpStack's tags as ThingPark has them, without repeats, in the order of their keys.

    A tag that is just there is its key; any other is `key:value` and `value`, so that a flow may name either.
    """
    found: list[str] = []
    for key, value in sorted((device.tags or {}).items()):
        found += [key] if value.casefold() in FLAGS else [f"{key}:{value}", value]
    return list(dict.fromkeys(filter(None, found)))


# --- events


def _up(event: Event) -> Part:
    """Make an uplink."""
    fcnt = whole(event.f_cnt, "fCnt", 0, MAX_32)
    fields: Fields = {
        "FPort": None if event.f_port is None else whole(event.f_port, "fPort", 0, MAX_FPORT),
        "FCntUp": fcnt,
        "ADRbit": int(event.adr or False),
        "MType": 4 if event.confirmed else 2,
        "payload_hex": _payload(event.data),
    }
    fields |= _receptions(event.rx_info or [])
    fields |= _radio(event.tx_info)
    fields |= {
        "DevAddr": _upper(event.dev_addr),
        "AckRequested": int(event.confirmed or False),
        "DynamicClass": _class(event.device_info),
        "payload": _object(event),
    }
    more = {"dr": event.dr, "modulation": event.tx_info.modulation if event.tx_info else None} | _session(event)
    return Part(kind=DocumentKind.UPLINK, fields=fields, more=more, fcnt=fcnt)


def _join(event: Event) -> Part:
    """Make the notification of a join."""
    fields = {"DevAddr": _upper(event.dev_addr), "Type": "join", "DynamicClass": _class(event.device_info)}
    return Part(kind=DocumentKind.NOTIFICATION, fields=fields, more=_session(event))


def _status(event: Event) -> Part:
    """Make the notification of a device status: battery as LoRaWAN counts it (0: external power, 255: unknown)."""
    margin = whole(event.margin, "margin", -(2**31), 2**31 - 1)
    level = number(event.battery_level, "batteryLevel")
    if event.external_power_source:
        battery = 0
    elif event.battery_level_unavailable or math.isnan(level) or level < 0:
        battery = NO_BATTERY
    else:
        battery = min(max(round(level * FULL_BATTERY / 100), 1), FULL_BATTERY)
    known = not (event.external_power_source or battery == NO_BATTERY)
    return Part(
        kind=DocumentKind.NOTIFICATION,
        fields={"Type": "devstatusans", "Var1": battery, "Var2": margin},
        more={"batteryLevel": level if known else None},
    )


def _txack(event: Event) -> Part:
    """Make the report of a downlink that a gateway took."""
    fcnt = whole(event.f_cnt_down, "fCntDown", 0, MAX_32)
    fields: Fields = {"FCntDn": fcnt, "Lrrid": _upper(event.gateway_id), "DeliveryStatus": 1}
    fields |= _correlation(event.queue_item_id) | _radio(event.tx_info)
    if event.tx_info and event.tx_info.power is not None:
        fields["TxPower"] = _finite(number(event.tx_info.power, "txInfo.power"))
    more = {
        "queueItemId": event.queue_item_id or None,
        "downlinkId": event.downlink_id,
        "modulation": event.tx_info.modulation if event.tx_info else None,
    }
    return Part(kind=DocumentKind.DOWNLINK_SENT, fields=fields, more=more, fcnt=fcnt)


def _ack(event: Event) -> Part:
    """Make the notification of a confirmed downlink's end: a second DevEUI_downlink_Sent would count it twice."""
    fields: Fields = {
        "Type": "ack",
        "Acknowledged": int(event.acknowledged or False),
        "FCntDn": whole(event.f_cnt_down, "fCntDown", 0, MAX_32),
    }
    fields |= _correlation(event.queue_item_id)
    return Part(kind=DocumentKind.NOTIFICATION, fields=fields, more={"queueItemId": event.queue_item_id or None})


def _log(event: Event) -> Part:
    """Make a rejection of what says that a downlink was lost, a notification of the rest."""
    code, level = _enum(event.code, CODES), _enum(event.level, LEVELS)
    context = event.context or {}
    description = event.description or None
    more = {"level": level, "code": code, "description": description, "context": context or None}
    if code not in LOST_DOWNLINKS:
        fields: Fields = {"Type": "log", "Level": level, "Code": code, "Description": description}
        return Part(kind=DocumentKind.NOTIFICATION, fields=fields, more={"context": context or None})
    counter = context.get("queue_item_f_cnt_down")
    fcnt = None if counter is None else whole(counter, "context.queue_item_f_cnt_down", 0, MAX_32)
    cause = f"{code}: {description}" if description else code
    fields = {"FCntDn": fcnt, "DeliveryStatus": 0, "DownlinkRejectionCause": cause} | _correlation(
        context.get("queue_item_id")
    )
    return Part(kind=DocumentKind.DOWNLINK_REJECTED, fields=fields, more=more, fcnt=fcnt)


def _location(event: Event) -> Part:
    """Make a location."""
    place = event.location
    if place is None:
        raise DocumentError("location is missing; a location event says where the device is", field="location")
    accuracy = number(place.accuracy, "location.accuracy")
    fields = {
        "DevLAT": _finite(number(place.latitude, "location.latitude")),
        "DevLON": _finite(number(place.longitude, "location.longitude")),
        "DevAlt": _finite(number(place.altitude, "location.altitude")),
        "DevLocRadius": _finite(accuracy) or None,
    }
    return Part(kind=DocumentKind.LOCATION, fields=fields, more={"source": place.source or None})


def _integration(event: Event) -> Part:
    """Make a notification of what another integration says."""
    fields = {"Type": "integration", "payload": _object(event)}
    more = {"integrationName": event.integration_name or None, "eventType": event.event_type or None}
    return Part(kind=DocumentKind.NOTIFICATION, fields=fields, more=more)


EVENTS: Mapping[str, Callable[[Event], Part]] = {
    "up": _up,
    "join": _join,
    "ack": _ack,
    "txack": _txack,
    "log": _log,
    "status": _status,
    "location": _location,
    "integration": _integration,
}

MARKS: Mapping[str, tuple[str, ...]] = {
    "up": ("adr", "dr", "f_cnt", "f_port", "confirmed", "data", "rx_info"),
    "ack": ("acknowledged",),
    "txack": ("downlink_id", "gateway_id"),
    "log": ("level", "code", "description", "context"),
    "status": ("margin", "external_power_source", "battery_level_unavailable", "battery_level"),
    "location": ("location",),
    "integration": ("integration_name", "event_type"),
}
"""Members that no other event has."""


# --- fields


def _payload(data: str | None) -> str:
    """Give base64, with or without padding, of either alphabet, as hex."""
    if not data:
        return ""
    padded = data.translate(URL_SAFE)
    padded += "=" * (-len(padded) % 4)
    try:
        return binascii.a2b_base64(padded.encode("ascii"), strict_mode=True).hex()
    except (binascii.Error, UnicodeEncodeError) as error:
        raise DocumentError(f"data is {shown(data)}, which is not base64", field="data") from error


def _object(event: Event) -> object:
    """Give the decoded payload, in the very bytes of the document; None if there is none."""
    first = bytes(event.object).lstrip()[:1]
    if first in {b"", b"n"}:
        return None
    if first != b"{":
        raise DocumentError("object is no JSON object; it must be what a codec has decoded", field="object")
    return event.object


def _receptions(heard: list[RxInfo]) -> Fields:
    """Give what the gateways heard, the best first: that with the greatest estimated signal power."""
    if not heard:
        return {}
    if len(heard) > MAX_GATEWAYS:
        raise DocumentError(f"rxInfo has {len(heard)} members; at most {MAX_GATEWAYS} are read", field="rxInfo")
    receptions = [_reception(info, f"rxInfo[{place}]") for place, info in enumerate(heard)]
    places = sorted(range(len(heard)), key=lambda place: -_power(receptions[place]))
    first = places[0]
    best = receptions[first]
    fields: Fields = {"LrrRSSI": best.rssi, "LrrSNR": best.snr, "LrrESP": best.esp}
    fields |= {"DevLrrCnt": len({reception.lrrid for reception in receptions}), "Lrrid": best.lrrid}
    fields |= _gateway_place(heard[first], f"rxInfo[{first}].location")
    fields["Lrrs"] = {"Lrr": [receptions[place] for place in places]}
    return fields


def _reception(info: RxInfo, path: str) -> Reception:
    """Give what one gateway heard."""
    rssi = number(info.rssi, f"{path}.rssi")
    snr = number(info.snr, f"{path}.snr")
    return Reception(
        lrrid=_upper(info.gateway_id),
        chain=whole(info.antenna, f"{path}.antenna", 0, MAX_32),
        rssi=_finite(rssi),
        snr=_finite(snr),
        esp=_finite(_esp(rssi, snr)),
    )


def _power(reception: Reception) -> float:
    """Give by what gateways are compared."""
    return -math.inf if reception.esp is None else reception.esp


def _esp(rssi: float, snr: float) -> float:
    """Give the estimated signal power in dBm: the RSSI without its share of noise."""
    if math.isnan(snr) or snr > SNR_ALONE:
        return rssi
    return round(rssi + snr - 10 * math.log10(1 + 10 ** (snr / 10)), 6)


def _gateway_place(info: RxInfo, path: str) -> Fields:
    """Tell where a gateway is; one at 0, 0 has never been told."""
    if info.location is None:
        return {}
    latitude = number(info.location.latitude, f"{path}.latitude")
    longitude = number(info.location.longitude, f"{path}.longitude")
    if not (latitude or longitude):
        return {}
    return {"LrrLAT": _finite(latitude), "LrrLON": _finite(longitude)}


def _radio(info: TxInfo | None) -> Fields:
    """Give frequency (MHz) and spreading factor."""
    if info is None:
        return {}
    frequency = whole(info.frequency, "txInfo.frequency", 0, MAX_FREQUENCY)
    lora = info.modulation.lora if info.modulation else None
    factor = whole(lora.spreading_factor, "txInfo.modulation.lora.spreadingFactor", 0, 15) if lora else 0
    return {"SpFact": factor or None, "Frequency": round(frequency / 1e6, 6) if frequency else None}


def _session(event: Event) -> Fields:
    """Give what up and join say of relays and keys."""
    context = event.join_server_context
    return {
        "relayRxInfo": event.relay_rx_info,
        "sessionKeyId": context.session_key_id or None if context else None,
    }


def _correlation(queue_item: str | None) -> Fields:
    """Give the correlation id that we put into the id of this queue item, if it is ours."""
    ours = correlation_of(queue_item or "")
    return {"CorrelationID": ours} if ours else {}


def _domains(device: DeviceInfo) -> list[Fields]:
    """Give application and device profile as domains."""
    named = (("application", device.application_name), ("deviceProfile", device.device_profile_name))
    return [{"n": name, "g": group} for group, name in named if name]


def _class(device: DeviceInfo | None) -> str | None:
    """Give A, B or C; None if it is not said: older servers never say it, so that absent cannot mean A."""
    if device is None or device.device_class_enabled is None:
        return None
    name = _enum(device.device_class_enabled, CLASSES)
    return name.removeprefix("CLASS_") if name in CLASSES else None


def _enum(value: str | int | None, names: tuple[str, ...]) -> str:
    """Give the name of an enum's value, which may be its number; absent is the first."""
    if isinstance(value, str):
        return value
    place = value or 0
    return names[place] if 0 <= place < len(names) else str(place)


def _upper(text: str | None) -> str | None:
    """Give hex digits as ThingPark writes them."""
    return text.upper() if text else None


def _finite(value: float) -> float | None:
    """Give a number; None for NaN, which JSON cannot say."""
    return None if math.isnan(value) else value


def _present(fields: Fields) -> Fields:
    """Leave out what is not there."""
    return {name: value for name, value in fields.items() if value is not None}
