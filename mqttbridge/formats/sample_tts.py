"""A realistic uplink of The Things Stack, made of its arguments alone: for `send`, tests and the benchmark.

The same arguments always give the same bytes. All names and places are invented.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.formats.times import iso

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["uplink"]

GATEWAYS = (
    ("roof-north", "AA555A0000000101", 48.13743, 11.57549),
    ("roof-south", "AA555A0000000102", 48.13512, 11.58198),
    ("tower", "AA555A0000000103", 48.14021, 11.56011),
)
FREQUENCIES = (868_100_000, 868_300_000, 868_500_000, 867_100_000)
TO_NETWORK_SERVER, TO_APPLICATION_SERVER = 135, 340
"""In ms: how long after the frame was heard."""


def uplink(
    dev_eui: str,
    *,
    fcnt: int,
    fport: int = 1,
    payload_hex: str = "",
    time_ms: int = 0,
    tags: Sequence[str] = (),
    name: str = "",
) -> bytes:
    """Give an `uplink_message`, as a webhook or MQTT brings it.

    `dev_eui` is 16 hex digits, `time_ms` milliseconds since the epoch. Without `payload_hex`, a temperature and a
    humidity that follow from the device and `fcnt` are encoded: two bytes in tenths of a degree, one in percent. The
    decoded payload says the same. `tags` become attributes of the device, which are tags again when it is read.
    """
    seed = int(dev_eui[-6:], 16)
    temperature, humidity = 150 + (seed + fcnt * 3) % 120, 30 + (seed // 7 + fcnt) % 50
    payload = bytes.fromhex(payload_hex or f"{temperature:04x}{humidity:02x}")
    attributes = ({"name": name} if name else {}) | {f"tag-{place}": tag for place, tag in enumerate(tags, start=1)}
    content: dict[str, Any] = {
        "session_key_id": base64.b64encode(f"{seed:016x}".encode()).decode(),
        "f_port": fport,
        "f_cnt": fcnt,
        "frm_payload": base64.b64encode(payload).decode(),
        "decoded_payload": {"temperature": temperature / 10, "humidity": humidity},
        "rx_metadata": _receptions(seed, fcnt, time_ms),
        "settings": {
            "data_rate": {"lora": {"bandwidth": 125_000, "spreading_factor": 7 + seed % 4, "coding_rate": "4/5"}},
            "frequency": str(FREQUENCIES[(seed + fcnt) % len(FREQUENCIES)]),
            "timestamp": (seed + time_ms * 1000) % 2**32,
            "time": _rfc3339(time_ms),
        },
        "received_at": _rfc3339(time_ms + TO_NETWORK_SERVER),
        "consumed_airtime": "0.061696s",
        "packet_error_rate": 0.003,
        "locations": {"user": {"latitude": 48.1371, "longitude": 11.5761, "source": "SOURCE_REGISTRY"}},
        "version_ids": {
            "brand_id": "example",
            "model_id": "th1",
            "hardware_version": "1.0",
            "firmware_version": "1.1",
            "band_id": "EU_863_870",
        },
        "network_ids": {
            "net_id": "000013",
            "ns_id": "EC656E0000000181",
            "tenant_id": "example",
            "cluster_id": "eu1",
            "cluster_address": "eu1.cloud.thethings.example",
        },
        "attributes": attributes,
    }
    return msgspec.json.encode(
        {
            "end_device_ids": {
                "device_id": f"eui-{dev_eui.lower()}",
                "application_ids": {"application_id": "climate"},
                "dev_eui": dev_eui.upper(),
                "join_eui": "70B3D57ED0000001",
                "dev_addr": f"{0x26000000 + seed % 2**24:08X}",
            },
            "correlation_ids": [f"gs:uplink:{seed:06X}{fcnt:020d}"],
            "received_at": _rfc3339(time_ms + TO_APPLICATION_SERVER),
            # What is zero or empty is left out.
            "uplink_message": {key: value for key, value in content.items() if value not in (0, "", {}, [])},
        }
    )


def _receptions(seed: int, fcnt: int, time_ms: int) -> list[dict[str, Any]]:
    """Give what each gateway heard, the best first."""
    receptions = []
    for place in range(1 + seed % 3):
        gateway, eui, latitude, longitude = GATEWAYS[(seed + place) % 3]
        rssi = -62 - (seed + fcnt) % 40 - 9 * place
        receptions.append(
            {
                "gateway_ids": {"gateway_id": gateway, "eui": eui},
                "time": _rfc3339(time_ms),
                "timestamp": (seed + time_ms * 1000 + place) % 2**32,
                "rssi": rssi,
                "channel_rssi": rssi,
                "snr": 9.5 - (seed + fcnt) % 8 - 2 * place,
                "location": {
                    "latitude": latitude,
                    "longitude": longitude,
                    "altitude": 520,
                    "source": "SOURCE_REGISTRY",
                },
                "uplink_token": base64.b64encode(f"{gateway}{fcnt:010d}".encode()).decode(),
                "received_at": _rfc3339(time_ms + 60),
            }
        )
    return receptions


def _rfc3339(time_ms: int) -> str:
    """Write a time as The Things Stack does, with nanoseconds."""
    return iso(time_ms).replace("+00:00", "000000Z")
