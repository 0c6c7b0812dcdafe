"""The private names of aiomqtt 2.5.1 and paho 2.2.0 that the link uses, and the traps that it avoids.

A new version of either must pass this file before it is taken.
"""

from __future__ import annotations

import asyncio
import inspect
from importlib.metadata import version
from typing import Any

import aiomqtt
import pytest
from paho.mqtt.client import Client as Paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from mqttbridge.mqtt import packets
from mqttbridge.mqtt.aiomqtt_client import AiomqttClient, reason_string
from mqttbridge.mqtt.link import Grant
from mqttbridge.mqtt.options import LinkOptions
from mqttbridge.settings.secret import Secret


class Sink:
    """A client with what it wrote, was granted, and how often it asked for an identifier."""

    def __init__(self, **changes: object) -> None:
        self.written: list[bytes] = []
        self.grants: list[Grant] = []
        self.asked = 0
        options = LinkOptions(**{"host": "h", "port": 1883, "client_id": "me", "keep_alive": 7, **changes})
        self.client = AiomqttClient(options, self.written.append, self.identifier, self.grants.append)

    @property
    def paho(self) -> Any:  # noqa: ANN401 - its private names are looked at
        return self.client._paho

    def identifier(self) -> int:
        self.asked += 1
        return 4711

    def take(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data


def test_the_versions_are_the_pinned_ones() -> None:
    assert (version("aiomqtt"), version("paho-mqtt")) == ("2.5.1", "2.2.0")


def test_the_private_names_are_there() -> None:
    assert list(inspect.signature(aiomqtt.Client._client_connect).parameters) == ["self"]
    assert list(inspect.signature(Paho._create_socket).parameters) == ["self"]
    assert list(inspect.signature(Paho._mid_generate).parameters) == ["self"]
    paho = Sink.__init__.__globals__["Paho"](callback_api_version=aiomqtt.client.CallbackAPIVersion.VERSION2)
    assert paho._ping_t == 0
    assert paho._mid_generate() == 1


async def test_login_writes_connect_at_once_and_needs_neither_thread_nor_task() -> None:
    sink = Sink(username="u", password=Secret("p"))
    tasks = asyncio.all_tasks()
    sink.client.login()
    assert sink.take() == b"\x10\x14\x00\x04MQTT\x04\xc2\x00\x07\x00\x02me\x00\x01u\x00\x01p"
    assert asyncio.all_tasks() == tasks
    assert sink.client.keep_alive_time == 7


async def test_a_persistent_session_is_asked_for_in_both_versions() -> None:
    sink = Sink(clean=False)
    sink.client.login()
    assert sink.take()[9] & 2 == 0
    sink = Sink(clean=False, v5=True, session_expiry=604800, receive_maximum=1000)
    sink.client.login()
    data = sink.take()
    assert data[9] & 2 == 0
    properties = Properties(PacketTypes.CONNECT)
    properties.unpack(data[12:])
    assert properties.SessionExpiryInterval == 604800
    assert properties.ReceiveMaximum == 1000
    assert properties.MaximumPacketSize == packets.LARGEST
    sink = Sink(v5=True)
    sink.client.login()
    assert sink.take()[9] & 2


async def test_connack_becomes_a_grant() -> None:
    sink = Sink()
    sink.client.login()
    sink.client.feed(0x20, b"\x01\x00")
    assert sink.grants == [Grant(session_present=True)]
    sink = Sink(v5=True)
    sink.client.login()
    properties = b"\x21\x00\x0a" + b"\x27\x00\x01\x00\x00" + b"\x24\x01" + b"\x25\x00" + b"\x13\x00\x05"
    properties += b"\x28\x00" + b"\x2a\x00"
    sink.client.feed(0x20, b"\x00\x00" + bytes([len(properties)]) + properties)
    limits = Grant(
        receive_maximum=10,
        maximum_packet_size=65536,
        maximum_qos=1,
        retain_available=False,
        wildcards_available=False,
        shared_available=False,
        keep_alive=5,
    )
    assert sink.grants == [limits]
    assert sink.client.keep_alive_time == 5


async def granted(sink: Sink) -> Sink:
    sink.client.login()
    sink.client.feed(0x20, b"\x00\x00\x00" if sink.paho.protocol == 5 else b"\x00\x00")
    sink.take()
    return sink


@pytest.mark.parametrize("v5", [False, True])
async def test_subscribe_uses_our_identifiers_and_gives_plain_codes(v5: bool) -> None:
    sink = await granted(Sink(v5=v5))
    task = asyncio.create_task(sink.client.subscribe(["a/#", "b"], 1))
    await asyncio.sleep(0)
    body = sink.take()
    assert body[0] == 0x82
    assert body[2:4] == (4711).to_bytes(2, "big")
    assert sink.asked == 1
    sink.client.feed(0x90, (4711).to_bytes(2, "big") + (b"\x00" if v5 else b"") + b"\x01\x80")
    assert await task == [1, 0x80]


async def test_a_filter_that_the_library_refuses_is_answered_like_the_broker_would() -> None:
    sink = await granted(Sink())
    assert await sink.client.subscribe(["a/#/b"], 1) == [0x8F]


async def test_keep_alive_pings_and_notices_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = await granted(Sink())
    now = [1000.0]
    monkeypatch.setattr("paho.mqtt.client.time_func", lambda: now[0])
    sink.paho._last_msg_out = sink.paho._last_bytes_received = 1000.0
    assert sink.client.keep_alive(heard=True)
    assert not sink.written
    now[0] = 1007.5
    assert sink.client.keep_alive(heard=True)
    assert sink.take() == b"\xc0\x00"
    sink.client.feed(0xD0, b"")
    for at in (1015.0, 1023.0, 1031.0):  # nobody reads: the answer is not missed
        now[0] = at
        assert sink.client.keep_alive(heard=False)
        assert sink.take() == b"\xc0\x00"
    now[0] = 1031.5
    assert sink.client.keep_alive(heard=True)
    now[0] = 1039.0
    assert not sink.client.keep_alive(heard=True)


async def test_goodbye_writes_disconnect_at_once() -> None:
    for v5 in (False, True):
        sink = await granted(Sink(v5=v5))
        sink.client.goodbye()
        assert sink.take() == b"\xe0\x00"


@pytest.mark.parametrize(
    ("first", "body"),
    [(0x90, b""), (0x90, b"\x00"), (0xD0, b"x"), (0xB0, b"")],
)
@pytest.mark.parametrize("v5", [False, True])
async def test_a_malformed_packet_is_malformed_or_raises_something_to_catch(first: int, body: bytes, v5: bool) -> None:
    sink = await granted(Sink(v5=v5))
    with pytest.raises(Exception):  # noqa: B017 - paho raises what it likes; the link catches all of it
        sink.client.feed(first, body)


def test_a_reason_string_is_read_where_there_is_one() -> None:
    good = b"\x07\x1f\x00\x04busy"
    assert reason_string(packets.CONNACK, good) == "busy"
    assert reason_string(packets.DISCONNECT, good) == "busy"
    for bad in (b"", b"\x00", b"\x07\x1f\x00\xff", b"\xff\xff\xff\xff\xff", b"\x02\x99\x00"):
        assert reason_string(packets.DISCONNECT, bad) == ""


async def test_the_password_is_in_no_repr() -> None:
    sink = Sink(username="u", password=Secret("planted-secret"))
    assert "planted-secret" not in repr(sink.client.__dict__)


async def test_the_trap_is_still_there_aiomqtt_reports_a_refused_publish_as_success() -> None:
    """Why publishes do not go through aiomqtt: its callback drops the reason code."""
    source = inspect.getsource(aiomqtt.Client._on_publish)
    assert "reason_code: ReasonCode,  # noqa: ARG002" in source
