"""A realistic ThingPark uplink, made of its arguments alone: for `demo`, `send`, tests and the benchmark.

The same arguments always give the same bytes. All names and places are invented.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.formats.times import iso
from mqttbridge.model import DocumentKind

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["uplink"]

GATEWAYS = (("100019D4", 48.13743, 11.57549), ("10002A7F", 48.13512, 11.58198), ("10003C02", 48.14021, 11.56011))
CHANNELS = (("LC1", "G1", 868.1), ("LC2", "G1", 868.3), ("LC3", "G1", 868.5), ("LC4", "G0", 867.1))


def uplink(
    dev_eui: str,
    *,
    fcnt: int,
    fport: int = 1,
    payload_hex: str = "",
    time_ms: int = 0,
    tags: Sequence[str] = ("TemperatureService",),
    customer_id: str = "100000001",
    name: str = "",
) -> bytes:
    """Give an enriched DevEUI_uplink document.

    `dev_eui` is 16 hex digits, `time_ms` milliseconds since the epoch. Without `payload_hex`, a temperature and a
    humidity that follow from the device and `fcnt` are encoded: two bytes in tenths of a degree, one in percent. The
    decoded `payload` says the same.
    """
    seed = int(dev_eui[-6:], 16)
    temperature = 150 + (seed + fcnt * 3) % 120
    humidity = 30 + (seed // 7 + fcnt) % 50
    if not payload_hex:
        payload_hex = f"{temperature:04x}{humidity:02x}"
    channel, sub_band, frequency = CHANNELS[(seed + fcnt) % len(CHANNELS)]
    receptions = _receptions(seed, fcnt)
    best = receptions[0]
    content: dict[str, Any] = {
        "Time": iso(time_ms),
        "DevEUI": dev_eui.upper(),
        "FPort": fport,
        "FCntUp": fcnt,
        "ADRbit": 1,
        "MType": 2,
        "FCntDn": fcnt // 16,
        "payload_hex": payload_hex,
        "mic_hex": f"{(seed * 2654435761 + fcnt * 40503) % 2**32:08x}",
        "Lrcid": "00000201",
        "LrrRSSI": best["LrrRSSI"],
        "LrrSNR": best["LrrSNR"],
        "LrrESP": best["LrrESP"],
        "SpFact": 7 + seed % 4,
        "SubBand": sub_band,
        "Channel": channel,
        "DevLrrCnt": len(receptions),
        "Lrrid": best["Lrrid"],
        "Late": 0,
        "LrrLAT": GATEWAYS[seed % 3][1],
        "LrrLON": GATEWAYS[seed % 3][2],
        "Lrrs": {"Lrr": receptions},
        "CustomerID": customer_id,
        "CustomerData": {
            "loc": {"lat": "48.1371", "lon": "11.5761"},
            "alr": {"pro": "EXMP/TH1", "ver": "1"},
            "tags": list(tags),
            "doms": [{"n": "Building A", "g": "Site"}],
            "name": name or f"Sensor {dev_eui[-4:].upper()}",
        },
        "ModelCfg": "0",
        "DriverCfg": {
            "mod": {"pId": "example", "mId": "th1", "ver": "1"},
            "app": {"pId": "example", "mId": "climate", "ver": "1"},
        },
        "InstantPER": 0.0,
        "MeanPER": 0.003,
        "DevAddr": f"{0x04000000 + seed % 2**24:08X}",
        "AckRequested": 0,
        "rawMacCommands": "",
        "TxPower": 14.0,
        "NbTrans": 1,
        "Frequency": frequency,
        "DynamicClass": "A",
        "payload": {"temperature": temperature / 10, "humidity": humidity},
    }
    return msgspec.json.encode({DocumentKind.UPLINK.value: content})


def _receptions(seed: int, fcnt: int) -> list[dict[str, Any]]:
    """Give what each gateway heard, the best first."""
    receptions = []
    for place in range(1 + seed % 3):
        gateway = GATEWAYS[(seed + place) % 3][0]
        rssi = -62.0 - (seed + fcnt) % 40 - 9 * place
        snr = 9.5 - (seed + fcnt) % 8 - 2 * place
        receptions.append({"Lrrid": gateway, "Chain": 0, "LrrRSSI": rssi, "LrrSNR": snr, "LrrESP": rssi - 0.5})
    return receptions
