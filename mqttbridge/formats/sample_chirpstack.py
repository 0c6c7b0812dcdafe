"""A realistic `up` event of ChirpStack v4, made of its arguments alone: for `send` and tests.

The same arguments always give the same bytes. All names and places are invented.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any
from uuid import NAMESPACE_URL, uuid5

import msgspec

from mqttbridge.formats.times import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["uplink"]

TENANT = "52f14cd4-c6f1-4fbd-8f87-4025e1d49242"
APPLICATION = "17c82e96-be03-4f38-aef3-f83d48582d97"
PROFILE = "14855bf7-d10d-4aee-b618-ebfcb64dc7ad"
GATEWAYS = (
    ("0016c001f1500812", 48.13743, 11.57549),
    ("0016c001f15004a7", 48.13512, 11.58198),
    ("0016c001f1500c33", 48.14021, 11.56011),
)
FREQUENCIES = (868_100_000, 868_300_000, 868_500_000, 867_100_000)


def uplink(
    dev_eui: str,
    *,
    fcnt: int,
    fport: int = 1,
    payload_hex: str = "",
    time_ms: int = 0,
    tags: Sequence[str] = ("TemperatureService",),
    name: str = "",
) -> bytes:
    """Give an `up` event as JSON.

    `dev_eui` is 16 hex digits, `time_ms` milliseconds since the epoch; each of `tags` becomes a tag of ChirpStack
    without a value. Without `payload_hex`, a temperature and a humidity that follow from the device and `fcnt` are
    encoded: two bytes in tenths of a degree, one in percent. The decoded `object` says the same.
    """
    seed = int(dev_eui[-6:], 16)
    temperature = 150 + (seed + fcnt * 3) % 120
    humidity = 30 + (seed // 7 + fcnt) % 50
    payload = bytes.fromhex(payload_hex or f"{temperature:04x}{humidity:02x}")
    event: dict[str, Any] = {
        "deduplicationId": str(uuid5(NAMESPACE_URL, f"{dev_eui.lower()}/{fcnt}/{payload.hex()}/{time_ms}")),
        "time": _rfc3339(time_ms),
        "deviceInfo": _device_info(dev_eui, tags, name),
        "devAddr": f"{0x04000000 + seed % 2**24:08x}",
        "adr": True,
        "dr": 5 - seed % 4,
        "fCnt": fcnt,
        "fPort": fport,
        "confirmed": False,
        "data": base64.b64encode(payload).decode(),
        "object": {"temperature": temperature / 10, "humidity": float(humidity)},
        "rxInfo": _receptions(seed, fcnt, time_ms),
        "txInfo": _tx_info(seed, fcnt),
        "regionConfigId": "eu868",
    }
    return msgspec.json.encode(event)


def _device_info(dev_eui: str, tags: Sequence[str], name: str) -> dict[str, Any]:
    """Give what ChirpStack knows of the device."""
    return {
        "tenantId": TENANT,
        "tenantName": "Example",
        "applicationId": APPLICATION,
        "applicationName": "Building A",
        "deviceProfileId": PROFILE,
        "deviceProfileName": "Example TH1",
        "deviceName": name or f"Sensor {dev_eui[-4:].upper()}",
        "devEui": dev_eui.lower(),
        "deviceClassEnabled": "CLASS_A",
        "tags": dict.fromkeys(tags, ""),
    }


def _receptions(seed: int, fcnt: int, time_ms: int) -> list[dict[str, Any]]:
    """Give what each gateway heard, the best first."""
    receptions = []
    for place in range(1 + seed % 3):
        gateway, latitude, longitude = GATEWAYS[(seed + place) % 3]
        receptions.append(
            {
                "gatewayId": gateway,
                "uplinkId": (seed * 40503 + fcnt * 31 + place) % 2**32,
                "nsTime": _rfc3339(time_ms),
                "rssi": -62 - (seed + fcnt) % 40 - 9 * place,
                "snr": 9.5 - (seed + fcnt) % 8 - 2 * place,
                "channel": (seed + fcnt) % 8,
                "location": {"latitude": latitude, "longitude": longitude, "altitude": 520.0},
                "context": base64.b64encode((seed + fcnt).to_bytes(8, "big")[-4:]).decode(),
                "crcStatus": "CRC_OK",
            }
        )
    return receptions


def _tx_info(seed: int, fcnt: int) -> dict[str, Any]:
    """Give how the device sent."""
    lora = {"bandwidth": 125000, "spreadingFactor": 7 + seed % 4, "codeRate": "CR_4_5"}
    return {"frequency": FREQUENCIES[(seed + fcnt) % len(FREQUENCIES)], "modulation": {"lora": lora}}


def _rfc3339(time_ms: int) -> str:
    """Write a time as ChirpStack does, with nanoseconds."""
    seconds = moment(time_ms).isoformat(timespec="microseconds")
    return seconds.replace("+00:00", "000+00:00")
