"""What stands inside each kind of message of The Things Stack: typed structs and their decoders. For `tts_documents`.

`Raw` is what is passed on as it came, or looked into later; what is not named here is not needed.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.formats.tts_messages import Float, Word  # noqa: TC001 - msgspec reads annotations when it runs

__all__ = [
    "About",
    "Downlink",
    "Uplink",
    "decode_downlink",
    "decode_failed",
    "decode_invalidated",
    "decode_join",
    "decode_network",
    "decode_places",
    "decode_service",
    "decode_solved",
    "decode_uplink",
    "decode_versions",
]


class About(Struct, gc=False):
    """What The Things Stack says about the device in each kind of message but `location_solved`."""

    attributes: dict[str, str] | None = None
    locations: Raw = field(default_factory=Raw)
    version_ids: Raw = field(default_factory=Raw)
    network_ids: Raw = field(default_factory=Raw)
    received_at: str | None = None
    session_key_id: Raw = field(default_factory=Raw)


class Uplink(About, gc=False):
    """The content of `uplink_message` and `uplink_normalized`. The latter's `normalized_payload` is one object."""

    f_port: Word | None = None
    f_cnt: Word | None = None
    frm_payload: str | None = None
    decoded_payload: Raw = field(default_factory=Raw)
    decoded_payload_warnings: list[str] | None = None
    normalized_payload: Raw = field(default_factory=Raw)
    normalized_payload_warnings: Raw = field(default_factory=Raw)
    rx_metadata: Raw = field(default_factory=Raw)
    settings: Raw = field(default_factory=Raw)
    confirmed: bool | None = None
    consumed_airtime: Raw = field(default_factory=Raw)
    packet_error_rate: Float = None
    last_battery_percentage: Raw = field(default_factory=Raw)
    app_s_key: Raw = field(default_factory=Raw)
    last_a_f_cnt_down: Raw = field(default_factory=Raw)


class Join(About, gc=False):
    """The content of `join_accept`, without its key."""

    invalidated_downlinks: Raw = field(default_factory=Raw)
    pending_session: Raw = field(default_factory=Raw)


class Downlink(About, gc=False):
    """The content of `downlink_queued`, `_sent`, `_ack` and `_nack`, and the inner one of `downlink_failed`."""

    f_port: Word | None = None
    f_cnt: Word | None = None
    frm_payload: str | None = None
    decoded_payload: Raw = field(default_factory=Raw)
    confirmed: bool | None = None
    priority: Raw = field(default_factory=Raw)
    class_b_c: Raw = field(default_factory=Raw)
    confirmed_retry: Raw = field(default_factory=Raw)
    correlation_ids: list[str] | None = None


class Failed(About, gc=False):
    """The content of `downlink_failed`."""

    downlink: Raw = field(default_factory=Raw)
    error: Raw = field(default_factory=Raw)


class Invalidated(About, gc=False):
    """The content of `downlink_queue_invalidated`."""

    downlinks: Raw = field(default_factory=Raw)
    last_f_cnt_down: Raw = field(default_factory=Raw)


class Service(About, gc=False):
    """The content of `service_data`."""

    service: str | None = None
    data: Raw = field(default_factory=Raw)


class Place(Struct, gc=False):
    """A location. Without one of latitude and longitude, that one is 0."""

    latitude: Float = None
    longitude: Float = None
    altitude: Float = None
    accuracy: Float = None
    source: Raw = field(default_factory=Raw)


class Solved(Struct, gc=False):
    """The content of `location_solved`. Its attributes are those of the solution, not of the device."""

    service: Raw = field(default_factory=Raw)
    location: Place | None = None
    attributes: Raw = field(default_factory=Raw)


class Versions(Struct, gc=False):
    """The model of the device."""

    brand_id: str | None = None
    model_id: str | None = None
    firmware_version: str | None = None


class NetworkIds(Struct, gc=False):
    """The Network Server. Open Source has no tenants."""

    tenant_id: str | None = None


decode_uplink = msgspec.json.Decoder(Uplink)
decode_join = msgspec.json.Decoder(Join)
decode_downlink = msgspec.json.Decoder(Downlink)
decode_failed = msgspec.json.Decoder(Failed)
decode_invalidated = msgspec.json.Decoder(Invalidated)
decode_service = msgspec.json.Decoder(Service)
decode_solved = msgspec.json.Decoder(Solved)
decode_versions = msgspec.json.Decoder(Versions)
decode_network = msgspec.json.Decoder(NetworkIds)
decode_places = msgspec.json.Decoder(dict[str, Place | None])
