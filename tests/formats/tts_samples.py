"""One message of The Things Stack of each kind, as JSON objects. All names, keys and places are invented."""

from __future__ import annotations

import copy
from typing import Any

DEV_EUI = "70B3D57ED0001234"
CID = "0123456789abcdef"
OURS = [f"mqttbridge:cid:{CID}", "mqttbridge:key:fedcba9876543210", f"mqttbridge:dev:{DEV_EUI}"]
IDS = {
    "device_id": "cellar-1",
    "application_ids": {"application_id": "climate-app"},
    "dev_eui": DEV_EUI,
    "join_eui": "70B3D57ED0000001",
    "dev_addr": "260b1234",
}
ABOUT = {
    "attributes": {"service": "Temperature", "floor": "-1", "indoor": "true"},
    "locations": {"user": {"latitude": 52.5, "longitude": 13.25, "source": "SOURCE_REGISTRY"}},
    "version_ids": {"brand_id": "acme", "model_id": "th-2", "firmware_version": "1.4", "band_id": "EU_863_870"},
    "network_ids": {"net_id": "000013", "tenant_id": "example", "cluster_id": "eu1"},
}
GATEWAYS = [
    {
        "gateway_ids": {"gateway_id": "far", "eui": "aa555a0000000002"},
        "time": "2026-01-02T02:04:05.600123456Z",
        "timestamp": 4_000_000_000,
        "rssi": -110,
        "channel_rssi": -110,
        "snr": -7.5,
        "uplink_token": "Zm9yIHRoZSBuZXR3b3JrIGFsb25l",
        "channel_index": 3,
    },
    {
        "gateway_ids": {"gateway_id": "near", "eui": "AA555A0000000001"},
        "antenna_index": 1,
        "fine_timestamp": "123456789",
        "rssi": -70,
        "snr": 9.25,
        "location": {"latitude": 52.51, "altitude": 40},
    },
    {
        "gateway_ids": {"gateway_id": "packetbroker"},
        "packet_broker": {"message_id": "01ABC", "forwarder_gateway_id": "neighbour", "forwarder_net_id": "000013"},
        "rssi": -120,
    },
]
RADIO = {
    "rx_metadata": GATEWAYS,
    "settings": {
        "data_rate": {"lora": {"bandwidth": 125000, "spreading_factor": 9, "coding_rate": "4/5"}},
        "frequency": "867700000",
        "timestamp": 4_000_000_000,
        "time": "2026-01-02T02:04:05.678123456Z",
    },
    "received_at": "2026-01-02T02:04:05.789012345Z",
    "consumed_airtime": "0.164864s",
}
DOWNLINK = {
    "session_key_id": "AXBSH1Pk6Z0G166RlH16CQ==",
    "f_port": 15,
    "f_cnt": 47,
    "frm_payload": "AQP/",
    "confirmed": True,
    "priority": "NORMAL",
    "correlation_ids": ["as:downlink:01ABC", *OURS],
}

CONTENTS: dict[str, Any] = {
    "uplink_message": {
        "session_key_id": "AXBSH1Pk6Z0G166RlH16CQ==",
        "f_port": 2,
        "f_cnt": 1174,
        "frm_payload": "AO8l",
        "decoded_payload": {"temperature": 23.9, "humidity": 37},
        "decoded_payload_warnings": ["sensor is old"],
        "normalized_payload": [{"air": {"temperature": 23.9}}],
        "confirmed": True,
        "packet_error_rate": 0.0625,
        "last_battery_percentage": {"f_cnt": 1100, "value": 90.5},
        **RADIO,
        **ABOUT,
    },
    "uplink_normalized": {
        "f_port": 2,
        "f_cnt": 1174,
        "frm_payload": "AO8l",
        "normalized_payload": {"air": {"temperature": 23.9}, "time": "2026-01-02T02:04:00Z"},
        **RADIO,
        **ABOUT,
    },
    "join_accept": {
        "session_key_id": "AXBSH1Pk6Z0G166RlH16CQ==",
        "app_s_key": {"key": "00112233445566778899AABBCCDDEEFF"},
        "received_at": "2026-01-02T02:04:05.7Z",
        "invalidated_downlinks": [{"f_port": 1, "frm_payload": "AQ=="}],
        **ABOUT,
    },
    "downlink_queued": {**DOWNLINK, **ABOUT},
    "downlink_sent": {**DOWNLINK, **ABOUT},
    "downlink_ack": {**DOWNLINK, **ABOUT},
    "downlink_nack": {**DOWNLINK, **ABOUT},
    "downlink_failed": {
        "downlink": {key: value for key, value in DOWNLINK.items() if key != "f_cnt"},
        "error": {
            "namespace": "pkg/networkserver",
            "name": "application_downlink_too_long",
            "message_format": "application downlink payload length `{length}` exceeds maximum '{max}'",
            "attributes": {"length": 200, "max": 51},
            "correlation_id": "2e7f786912e946e597894e381d0ad7b0",
            "code": 3,
            "cause": {"name": "data_rate", "message_format": "data rate is 0"},
        },
        **ABOUT,
    },
    "downlink_queue_invalidated": {
        "downlinks": [DOWNLINK],
        "last_f_cnt_down": 46,
        "session_key_id": "AXBSH1Pk6Z0G166RlH16CQ==",
        **ABOUT,
    },
    "location_solved": {
        "service": "lora-cloud-geolocation-v3",
        "location": {
            "latitude": 51.455,
            "longitude": 5.458,
            "altitude": 12,
            "accuracy": 15,
            "source": "SOURCE_WIFI_RSSI_GEOLOCATION",
        },
        "attributes": {"algorithm": "wifi"},
    },
    "service_data": {"service": "lora-cloud-device-management-v1", "data": {"request": {"type": "modem"}}, **ABOUT},
}


def message(kind: str, **content: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value
    """Give a message of a kind; members of its content may be replaced, or left out by None."""
    inner = {key: value for key, value in {**CONTENTS[kind], **content}.items() if value is not None}
    return copy.deepcopy(
        {
            "end_device_ids": IDS,
            "correlation_ids": ["as:up:01ABC", "gs:uplink:01DEF"],
            "received_at": "2026-01-02T02:04:06.014773143Z",
            kind: inner,
        }
    )
