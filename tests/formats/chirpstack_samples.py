"""One example of each of ChirpStack's eight events, and ways to spoil them. All names and places are invented."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random

DEV_EUI = "0018B20000000B20"
APPLICATION = "6a1cdd3e-7a51-4c5c-9fd1-0d3a4b2f7e10"
TENANT = "0f4ca6d1-2a0b-4d39-8f05-64a57d0e1c22"
CID = "0123456789abcdef"
KEY = "fedcba9876543210"
QUEUE_ITEM = "01234567-89ab-8cde-8ffe-dcba98765432"
"""The id of a queue item that is made of CID and KEY."""
TIME = "2026-01-02T03:04:05.678901234Z"
TIME_MS = 1_767_323_045_678

Json = Any

DEVICE: dict[str, Json] = {
    "tenantId": TENANT,
    "tenantName": "Waterworks",
    "applicationId": APPLICATION,
    "applicationName": "Meters",
    "deviceProfileId": "5f0e9b1c-3e0c-4a43-92b3-6a0c9b1f2d77",
    "deviceProfileName": "Meter M1",
    "deviceName": "Pump 4",
    "devEui": "0018b20000000b20",
    "deviceClassEnabled": "CLASS_C",
    "tags": {"Site": "Lyon", "critical": "true", "TemperatureService": ""},
}
COMMON: dict[str, Json] = {
    "deduplicationId": "3ac7e3c4-4401-4b8d-9386-a5c902f9202d",
    "time": TIME,
    "deviceInfo": DEVICE,
}
LORA = {"lora": {"bandwidth": 125000, "spreadingFactor": 9, "codeRate": "CR_4_5"}}

EVENTS: dict[str, dict[str, Json]] = {
    "up": COMMON
    | {
        "devAddr": "01e5f4a2",
        "adr": True,
        "dr": 3,
        "fCnt": 1174,
        "fPort": 10,
        "confirmed": True,
        "data": "nhxIUlEgACIAIOODEHE=",
        "object": {"level": 1.50, "note": "°C", "deep": {"a": [1, None]}},
        "rxInfo": [
            {"gatewayId": "0016c001f1500812", "uplinkId": 4217106255, "rssi": -110, "snr": -7.5, "context": "E3OWOQ=="},
            {
                "gatewayId": "0016c001f15004a7",
                "gwTime": TIME,
                "rssi": -83,
                "snr": 9.5,
                "antenna": 1,
                "channel": 2,
                "location": {"latitude": 45.75, "longitude": 4.85, "altitude": 200},
                "metadata": {"region_common_name": "EU868"},
                "crcStatus": "CRC_OK",
            },
        ],
        "txInfo": {"frequency": 868100000, "modulation": LORA},
        "relayRxInfo": {"devEui": "0018b20000000b21", "frequency": 867100000, "dr": 5, "rssi": -40},
        "joinServerContext": {
            "sessionKeyId": "0102",
            "appSKey": {"kekLabel": "", "aesKey": "c2VjcmV0LWtleS0xMjM0NQ=="},
        },
        "regionConfigId": "eu868",
    },
    "join": COMMON | {"devAddr": "01e5f4a2", "regionConfigId": "eu868"},
    "ack": COMMON | {"queueItemId": QUEUE_ITEM, "acknowledged": True, "fCntDown": 13},
    "txack": {
        "downlinkId": 2955684263,
        "time": TIME,
        "deviceInfo": DEVICE,
        "queueItemId": QUEUE_ITEM,
        "fCntDown": 13,
        "gatewayId": "0016c001f15004a7",
        "txInfo": {
            "frequency": 869525000,
            "power": 27,
            "modulation": LORA,
            "timing": {"delay": {"delay": "1s"}},
            "context": "E3OWOQ==",
        },
    },
    "log": {
        "time": TIME,
        "deviceInfo": DEVICE,
        "level": "ERROR",
        "code": "DOWNLINK_PAYLOAD_SIZE",
        "description": "Item discarded: larger than the max. payload size",
        "context": {"max_payload_size": "51", "item_size": "60", "queue_item_id": QUEUE_ITEM},
    },
    "status": COMMON | {"margin": -5, "batteryLevel": 50.0},
    "location": COMMON
    | {
        "location": {
            "latitude": 45.75,
            "longitude": 4.85,
            "altitude": 180.5,
            "source": "GEO_RESOLVER_TDOA",
            "accuracy": 12,
        }
    },
    "integration": COMMON
    | {"integrationName": "loracloud", "eventType": "ModemUpResponse", "object": {"fix": [45.75, 4.85]}},
}

HOSTILE: tuple[Json, ...] = (
    None,
    True,
    -1,
    2**32,
    2**63,
    2**64,
    10**400,
    1e308,
    -1e308,
    0.5,
    "",
    "NaN",
    "-Infinity",
    "1" * 5000,
    "\u202e\x00\n\x1b[31m",
    "'\"\\",
    "é" * 3000,
    "2026-13-45T99:99:99Z",
    "0001-01-01T00:00:00+23:59",
    "9999-12-31T23:59:59-23:59",
    "\ud800",
    [],
    {},
    [[]],
    {"": ""},
    {"a": 1},
    [None] * 500,
    [{}] * 500,
)


def event(name: str, **members: Json) -> dict[str, Json]:
    """Give an example with other members; None takes one away."""
    changed = copy.deepcopy(EVENTS[name]) | members
    return {key: value for key, value in changed.items() if value is not None}


def device(name: str, **members: Json) -> dict[str, Json]:
    """Give an example with other members in its deviceInfo."""
    return event(name, deviceInfo=DEVICE | members)


def body(document: Json) -> bytes:
    """Write a document."""
    return json.dumps(document).encode()


def spoiled(chance: random.Random) -> tuple[str, bytes]:
    """Give a hint and a body that a hostile sender might send: an example with a few things put wrong."""
    name = chance.choice(list(EVENTS))
    document = copy.deepcopy(EVENTS[name])
    for _ in range(chance.randrange(4)):
        _spoil(document, chance)
    raw = json.dumps(document, ensure_ascii=chance.random() < 0.5).encode("utf-8", "surrogatepass")
    for _ in range(chance.choice((0, 0, 0, 1, 3))):
        raw = _damaged(raw, chance)
    hint = chance.choice(
        (f"event={name}", f"application/1/device/2/event/{name}", "", "event=", "a/b", "event=%00x", name)
    )
    return hint, raw


def _spoil(document: Json, chance: random.Random) -> None:
    """Put something wrong at some place of a document."""
    place = document
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            return
        key = chance.choice(keys)
        if isinstance(place[key], dict | list) and chance.random() < 0.7:
            place = place[key]
            continue
        if chance.random() < 0.2:
            del place[key]
        else:
            place[key] = copy.deepcopy(chance.choice(HOSTILE))
        return


def _damaged(raw: bytes, chance: random.Random) -> bytes:
    """Cut, flip or blow up some bytes."""
    at = chance.randrange(len(raw) + 1)
    match chance.randrange(6):
        case 0:
            return raw[:at]
        case 1:
            return raw[:at] + chance.randbytes(chance.randrange(1, 9)) + raw[at:]
        case 2:
            return raw[:at] + b"[" * chance.randrange(1, 60_000) + raw[at:]
        case 3:
            return raw[:at] + b'{"a":' * chance.randrange(1, 12_000) + raw[at:]
        case 4:
            return raw[:at] + b"9" * chance.randrange(1, 60_000) + raw[at:]
        case _:
            return raw[:at] + b'"' + raw[at:]
