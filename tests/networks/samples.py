"""Downlinks and sources for the tests of the ways to the network servers."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from mqttbridge.journal.downlink_protocol import PendingDownlink
from mqttbridge.model import Downlink
from mqttbridge.settings.schema import Configuration, Connection, HttpSource, MqttSource
from mqttbridge.settings.secret import Secret

DEV_EUI = "0018B20000000B20"
KEY = "0123456789abcdef"
AS_ID = "TWA_1.2.AS"
AS_KEY = "00112233445566778899aabbccddeeff"
API_KEY = "NNSXS.VERYSECRET"
APPLICATION = "52f14cd4-c6f1-4fbd-8f87-4025e1d49242"


class Clock:
    """The machine's time, moved by `ahead` ms."""

    def __init__(self, ahead: int = 0) -> None:
        self.ahead = ahead

    def now(self) -> int:
        return time.time_ns() // 1_000_000 + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


def downlink(**changes: Any) -> Downlink:  # noqa: ANN401 - any field
    return msgspec.structs.replace(Downlink(DEV_EUI, 2, "0103"), **changes)


def pending(
    number: int = 1,
    *,
    way: str = "",
    connection: str = "acme",
    key: str = "",
    **changes: Any,  # noqa: ANN401
) -> PendingDownlink:
    """Give a downlink on its way; `changes` are fields of the downlink itself."""
    key = key or f"{number:016x}"
    return PendingDownlink(number, connection, key, 0, "ns", way, downlink(**changes), b"")


def connection(**changes: Any) -> Connection:  # noqa: ANN401
    return Connection(configuration=Configuration(host_name="broker.example.com", **changes))


def http_source(kind: str, **changes: Any) -> HttpSource:  # noqa: ANN401
    return HttpSource(format=kind, **_secret(changes))


def mqtt_source(kind: str, port: int = 1883, **changes: Any) -> MqttSource:  # noqa: ANN401
    defaults = {"host_name": f"127.0.0.1:{port}", "protocol": "TCP", "topics": ("#",)}
    return MqttSource(format=kind, **{**defaults, **_secret(changes)})


def _secret(changes: dict[str, Any]) -> dict[str, Any]:
    hidden = {"api_key", "as_key", "downlink_as_key", "password"}
    return {name: Secret(value) if name in hidden and value else value for name, value in changes.items()}
