"""How a frame was sent and heard, as The Things Stack tells it, in ThingPark's words. For the tts modules."""

from __future__ import annotations

import base64
import math
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.errors import DocumentError
from mqttbridge.formats.tts_messages import Float, Word, given, number, present, read
from mqttbridge.formats.words import shown

__all__ = ["Settings", "decode_settings", "payload_hex", "radio"]

HERTZ = 1_000_000
MAX_RECEPTIONS = 1000
"""Far more than gateways hear one frame; each costs time and space in the document."""
MAX_SNR = 100.0
"""In dB. More is no radio, and beyond what can be computed with."""


class LoRa(Struct, gc=False):
    """LoRa modulation."""

    spreading_factor: Word | None = None


class DataRate(Struct, gc=False):
    """Data rate; of FSK and LR-FHSS nothing has a counterpart."""

    lora: LoRa | None = None


class Settings(Struct, gc=False):
    """TxSettings: how the device sent it."""

    data_rate: DataRate | None = None
    frequency: Float = None
    time: str | None = None


class GatewayIds(Struct, gc=False):
    """The names of a gateway."""

    gateway_id: str | None = None
    eui: str | None = None


class Forwarder(Struct, gc=False):
    """The gateway of another network, known through Packet Broker."""

    forwarder_gateway_eui: str | None = None
    forwarder_gateway_id: str | None = None


class Spot(Struct, gc=False):
    """Where an antenna is."""

    latitude: Float = None
    longitude: Float = None


class Reception(Struct, gc=False):
    """RxMetadata: what one antenna of one gateway heard."""

    gateway_ids: GatewayIds | None = None
    packet_broker: Raw = field(default_factory=Raw)
    antenna_index: Word | None = None
    rssi: Float = None
    snr: Float = None
    location: Raw = field(default_factory=Raw)
    time: Raw = field(default_factory=Raw)
    gps_time: Raw = field(default_factory=Raw)
    received_at: Raw = field(default_factory=Raw)
    timestamp: Raw = field(default_factory=Raw)
    fine_timestamp: Raw = field(default_factory=Raw)
    signal_rssi: Raw = field(default_factory=Raw)
    channel_rssi: Raw = field(default_factory=Raw)
    channel_index: Raw = field(default_factory=Raw)
    frequency_offset: Raw = field(default_factory=Raw)
    relay: Raw = field(default_factory=Raw)


PASSED_ON = (
    "antenna_index",
    "time",
    "gps_time",
    "received_at",
    "timestamp",
    "fine_timestamp",
    "signal_rssi",
    "channel_rssi",
    "channel_index",
    "frequency_offset",
    "location",
    "packet_broker",
    "relay",
)
decode_settings = msgspec.json.Decoder(Settings)
decode_receptions = msgspec.json.Decoder(list[Reception])
decode_forwarder = msgspec.json.Decoder(Forwarder)
decode_spot = msgspec.json.Decoder(Spot)


class Heard(Struct, gc=False):
    """One reception: how good it was, its entry in Lrrs.Lrr, where its antenna is, and what else is known."""

    quality: float
    lrr: dict[str, Any]
    place: dict[str, float]
    more: dict[str, Any]


def radio(rx_metadata: Raw, settings: Settings, path: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Give the radio members of an uplink, and what else is known of each reception; the best one first.

    The best is the one with the highest estimated signal power, as ThingPark's LrrESP.
    """
    where = f"{path}.rx_metadata"
    receptions = read(rx_metadata, decode_receptions, where) if present(rx_metadata) else []
    if len(receptions) > MAX_RECEPTIONS:
        raise DocumentError(f"{where} has {len(receptions)} entries; at most {MAX_RECEPTIONS} are taken", field=where)
    heard = [_heard(reception, f"{where}[{place}]") for place, reception in enumerate(receptions)]
    heard.sort(key=lambda one: -one.quality)
    best = heard[0] if heard else None
    lora = settings.data_rate.lora if settings.data_rate else None
    frequency = number(settings.frequency, f"{path}.settings.frequency")
    members = given(
        LrrRSSI=best.lrr.get("LrrRSSI") if best else None,
        LrrSNR=best.lrr.get("LrrSNR") if best else None,
        LrrESP=best.lrr.get("LrrESP") if best else None,
        SpFact=lora.spreading_factor if lora else None,
        Frequency=None if frequency is None else round(frequency / HERTZ, 6),
        DevLrrCnt=len({one.lrr.get("Lrrid") for one in heard}) or None,
        Lrrid=best.lrr.get("Lrrid") if best else None,
        **(best.place if best else {}),
        Lrrs={"Lrr": [one.lrr for one in heard]} if heard else None,
    )
    return members, [one.more for one in heard]


def _heard(reception: Reception, path: str) -> Heard:
    """Read one reception. Without `snr` beside an `rssi`, it is 0: The Things Stack leaves zeros out."""
    ids = reception.gateway_ids or GatewayIds()
    other = read(reception.packet_broker, decode_forwarder, f"{path}.packet_broker")
    lrrid = (ids.eui or other.forwarder_gateway_eui or "").upper() or other.forwarder_gateway_id or ids.gateway_id
    rssi = number(reception.rssi, f"{path}.rssi")
    snr = number(reception.snr, f"{path}.snr")
    if snr is None and reception.snr is None and rssi is not None:
        snr = 0.0
    esp = _esp(rssi, snr)
    spot = read(reception.location, decode_spot, f"{path}.location")
    latitude = number(spot.latitude, f"{path}.location.latitude")
    longitude = number(spot.longitude, f"{path}.location.longitude")
    known = latitude is not None or longitude is not None
    return Heard(
        quality=next((value for value in (esp, rssi) if value is not None), -math.inf),
        lrr=given(Lrrid=lrrid, Chain=reception.antenna_index or 0, LrrRSSI=rssi, LrrSNR=snr, LrrESP=esp),
        place={"LrrLAT": latitude or 0.0, "LrrLON": longitude or 0.0} if known else {},
        more=given(gateway_id=ids.gateway_id, eui=ids.eui, **{name: getattr(reception, name) for name in PASSED_ON}),
    )


def _esp(rssi: float | None, snr: float | None) -> float | None:
    """Estimated signal power: RSSI without the noise that it holds."""
    if rssi is None or snr is None or abs(snr) > MAX_SNR:
        return None
    return round(rssi + snr - 10 * math.log10(1 + 10 ** (snr / 10)), 2)


def payload_hex(text: str | None, path: str) -> str:
    """Give the hex digits of a payload in base64; nothing for none."""
    try:
        return base64.b64decode(text or "", validate=True).hex()
    except ValueError:
        raise DocumentError(f"{path} is {shown(text or '')}, which is not base64", field=path) from None
