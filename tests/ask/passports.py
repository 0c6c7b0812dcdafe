"""Passports of a device, made by hand: an uplink that went well unless it is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from mqttbridge.control.passport import Delivery, DownlinkPassage, Passport, UplinkPassage
from mqttbridge.routing import Reason

DEVICE = "0018B20000000B20"
NOW = datetime(2026, 11, 22, 10, 5, tzinfo=UTC)
RECEIVED = datetime(2026, 11, 22, 10, 2, 3, 120_000, tzinfo=UTC)
TOPIC = f"mqtt/things/{DEVICE}/uplink"


def after(milliseconds: int) -> datetime:
    return RECEIVED + timedelta(milliseconds=milliseconds)


def delivery(connection: str = "acme", **changes: Any) -> Delivery:  # noqa: ANN401 (fields of any kind)
    whole = Delivery(
        connection=connection,
        outcome="delivered",
        topic=TOPIC,
        sent=after(5),
        ended=after(41),
        milliseconds=36,
        qos=1,
    )
    return msgspec.structs.replace(whole, **changes)


def queued(connection: str = "beta", **changes: Any) -> Delivery:  # noqa: ANN401 (fields of any kind)
    whole = Delivery(
        connection=connection,
        outcome="queued",
        state="UNREACHABLE",
        why="connection refused",
        down_since=after(-243_000),
        retry_at=NOW + timedelta(seconds=40),
    )
    return msgspec.structs.replace(whole, **changes)


def uplink(*connections: Delivery, **changes: Any) -> UplinkPassage:  # noqa: ANN401 (fields of any kind)
    routed = tuple(one.connection for one in connections)
    whole = UplinkPassage(
        id=7,
        received=RECEIVED,
        source="lrc",
        transport="http",
        format="thingpark",
        origin="POST from 10.0.0.7, Token verified",
        replayed=False,
        kind="DevEUI_uplink",
        time=after(-2000),
        fcnt=1174,
        fport=1,
        size=14,
        payload_hex="00112233445566778899aabbccdd",
        payload_cut=False,
        stored=True,
        routed=routed,
        connections=connections,
        flows=(
            Reason("temperature", matched=True, why="the device has the tag Temperature", connections=routed),
            Reason("roof", matched=False, why="its tags are temperature; the flow wants Roof"),
        ),
        flows_not_shown=0,
        now=routed,
        now_differs=False,
        unread="",
    )
    return msgspec.structs.replace(whole, **changes)


def downlink(**changes: Any) -> DownlinkPassage:  # noqa: ANN401 (fields of any kind)
    whole = DownlinkPassage(
        outcome="pending",
        connection="acme",
        source="lrc",
        key="0011223344556677",
        correlation_id="8899aabbccddeeff",
        received=after(1000),
        fport=5,
        payload_hex="0102",
    )
    return msgspec.structs.replace(whole, **changes)


def passport(*uplinks: UplinkPassage, **changes: Any) -> Passport:  # noqa: ANN401 (fields of any kind)
    whole = Passport(
        device=DEVICE,
        now=NOW,
        uplinks=uplinks,
        left_out=0,
        downlinks=(),
        remembered_seconds=86400.0,
        last_source="lrc",
        problem="",
    )
    return msgspec.structs.replace(whole, **changes)
