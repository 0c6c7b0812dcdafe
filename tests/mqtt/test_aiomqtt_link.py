"""The link at a broker that lies, falls silent or breaks the protocol, on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
import uvloop

from mqttbridge.errors import BrokerRefused, LinkError, LinkLost, LinkTimeout, LoginRefused
from mqttbridge.mqtt import wire
from mqttbridge.mqtt.client import open_link
from mqttbridge.mqtt.link import Grant, Publish
from mqttbridge.settings.secret import Secret
from tests.brokers.fake import Fake, fake_broker, packet
from tests.mqtt.conformance import batch, descriptors, options, spin
from tests.mqtt.listening import Listener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from mqttbridge.mqtt.link import Link
    from tests.brokers.mosquitto import Mosquitto


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[Fake]:
    async with fake_broker() as fake:
        yield fake


async def enter(broker: Fake | Mosquitto, listener: Listener | None = None, **changes: object) -> tuple[Link, Listener]:
    listener = listener or Listener()
    link = open_link(options(broker, **changes), listener)
    await link.connect()
    await link.login()
    return link, listener


async def refused(broker: Fake | Mosquitto, **changes: object) -> LinkError:
    """Log in where it fails, and see that nothing is left."""
    before = descriptors()
    listener = Listener()
    link = open_link(options(broker, **changes), listener)
    await link.connect()
    with pytest.raises(LinkError) as caught:
        await link.login()
    await link.close()
    await spin()
    assert not listener.losses
    assert descriptors() <= before + 1  # the broker's end, in this process, may close a little later
    return caught.value


# --- login ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "v5", "kind"),
    [
        (1, False, BrokerRefused),
        (2, False, BrokerRefused),
        (3, False, BrokerRefused),
        (4, False, LoginRefused),
        (5, False, LoginRefused),
        (77, False, BrokerRefused),
        (0x86, True, LoginRefused),
        (0x87, True, LoginRefused),
        (0x8C, True, LoginRefused),
        (0x88, True, BrokerRefused),
        (0x8A, True, LoginRefused),
    ],
)
async def test_every_refusal_of_a_login_is_named(broker: Fake, code: int, v5: bool, kind: type[LinkError]) -> None:
    broker.script.connack = code
    error = await refused(broker, v5=v5)
    assert type(error) is kind
    assert error.code == code
    assert f"127.0.0.1:{broker.port}" in str(error)


async def test_the_brokers_own_words_are_quoted(broker: Fake) -> None:
    broker.script.connack = 0x88
    broker.script.connack_properties = b"\x1f\x00\x0bcome later!"
    assert 'it says "come later!"' in str(await refused(broker, v5=True))


async def test_a_broker_that_knows_no_mqtt_5_is_understood() -> None:
    async with raw_broker(b"\x20\x02\x00\x01") as raw:
        error = await refused(raw, v5=True)
    assert isinstance(error, BrokerRefused)
    assert "mqttVersion" in str(error)


async def test_the_grant_says_what_the_broker_offers_and_the_link_keeps_to_it(broker: Fake) -> None:
    broker.script.connack_properties = b"\x21\x00\x0a\x27\x00\x01\x00\x00\x24\x01\x25\x00"
    listener = Listener()
    link = open_link(options(broker, v5=True, qos=2, retain=True), listener)
    await link.connect()
    assert await link.login() == Grant(
        receive_maximum=10, maximum_packet_size=65536, maximum_qos=1, retain_available=False
    )
    link.publish(batch(1))
    await listener.until_acked(1)
    assert (broker.published[0].qos, broker.published[0].retain) == (1, False)
    await link.close()


async def test_user_password_and_keep_alive_reach_the_broker(broker: Fake) -> None:
    link, _ = await enter(broker, username="ü", password=Secret("pä"), keep_alive=33)
    client = broker.client
    assert (client.id, client.username, client.password, client.keep_alive) == ("conformance", "ü", "pä".encode(), 33)
    await link.close()


async def test_a_login_that_is_never_answered_can_be_cancelled(broker: Fake) -> None:
    broker.script.connack = None
    before = descriptors()
    link = open_link(options(broker), Listener())
    await link.connect()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await link.login()
    await broker.wait_until(broker.client.ended.is_set)
    await spin()
    assert descriptors() <= before + 1
    await link.close()


async def test_close_ends_a_login_that_waits(broker: Fake) -> None:
    broker.script.connack = None
    link = open_link(options(broker), Listener())
    await link.connect()
    task = asyncio.create_task(link.login())
    await broker.wait_until(lambda: broker.clients and broker.client.packets)
    await link.close()
    with pytest.raises(LinkLost, match="closed"):
        await task


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\x20",
        b"\x20\x00",
        b"\x20\x01\x00",
        b"\x20\x03\x00\x00\x05",
        b"\x30\x03\x00\x01t",
        b"\xd0\x00",
        b"\x20\xff\xff\xff\xff\xff",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"\x00\x00\x00\x00",
        b"\xe0\x00",
    ],
)
@pytest.mark.parametrize("v5", [False, True])
async def test_whatever_answers_a_login_the_link_only_fails(answer: bytes, v5: bool) -> None:
    async with raw_broker(answer) as raw:
        error = await refused(raw, v5=v5)
    assert str(error).startswith("127.0.0.1:")


class Raw:
    """A server that answers the first bytes with others, and hangs up."""

    host = "127.0.0.1"
    port = 0

    def __init__(self, answer: bytes) -> None:
        self.answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        writer.write(self.answer)
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def raw_broker(answer: bytes) -> AsyncIterator[Raw]:
    raw = Raw(answer)
    server = await asyncio.start_server(raw.serve, raw.host, 0)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()


async def test_a_wrong_password_at_mosquitto_is_a_refused_login(
    start_mosquitto: Callable[..., Awaitable[Mosquitto]],
) -> None:
    broker = await start_mosquitto(users={"known": "right"})
    for v5, code in ((False, 5), (True, 0x87)):
        error = await refused(broker, v5=v5, username="known", password=Secret("planted-wrong"))
        assert isinstance(error, LoginRefused)
        assert error.code == code
        assert "planted-wrong" not in str(error)
        assert "check username and password" in str(error)
        assert "no username is configured" in str(await refused(broker, v5=v5))
        link, _ = await enter(broker, v5=v5, username="known", password=Secret("right"))
        await link.close()


# --- acknowledgements ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qos", [1, 2])
@pytest.mark.parametrize("code", [0x10, 0x80, 0x87, 0x90, 0x97])
async def test_the_reason_code_of_an_answer_reaches_the_listener(broker: Fake, qos: int, code: int) -> None:
    broker.script.puback = lambda message: code if message.payload == b"1" else 0
    link, listener = await enter(broker, v5=True, qos=qos)
    link.publish(batch(3))
    await listener.until_acked(3)
    expected = 0 if qos == 2 and code < 0x80 else code  # then PUBCOMP is the answer
    assert {ack.token: ack.code for ack in listener.acks} == {0: 0, 1: expected, 2: 0}
    await link.close()


async def test_mosquitto_refuses_what_its_acl_denies(start_mosquitto: Callable[..., Awaitable[Mosquitto]]) -> None:
    broker = await start_mosquitto(acl="topic readwrite open/#\n")
    for v5, denied in ((False, 0), (True, 0x87)):
        link, listener = await enter(broker, v5=v5)
        link.publish([Publish(1, "open/a", b""), Publish(2, "shut/a", b"")])
        await listener.until_acked(2)
        assert {ack.token: ack.code & 0xEF for ack in listener.acks} == {1: 0, 2: denied}
        await link.close()


async def test_swallowed_acknowledgements_never_come(broker: Fake) -> None:
    broker.script.puback = lambda message: None if message.payload == b"1" else 0
    link, listener = await enter(broker)
    link.publish(batch(3))
    await listener.until_acked(2)
    await spin()
    assert listener.tokens == [0, 2]
    await link.close()


async def test_what_was_published_in_one_go_leaves_in_few_writes_and_is_told_in_few_batches(broker: Fake) -> None:
    broker.script.puback = lambda _: None
    link, listener = await enter(broker)
    for start in range(0, 1000, 100):
        link.publish(batch(100, start=start))
    await broker.wait_published(1000)
    broker.client.send(b"".join(packet(0x40, mid.to_bytes(2, "big")) for mid in range(1, 1001)))
    await listener.until_acked(1000)
    assert listener.ack_batches <= 3
    broker.client.send(b"".join(packet(0x30, b"\x00\x01t%d" % number) for number in range(1000)))
    await listener.until_received(1000)
    assert listener.message_batches <= 3
    await link.close()


async def test_messages_right_behind_connack_wait_for_login_to_return(broker: Fake) -> None:
    link, _listener = await enter(broker, clean=False)
    await link.subscribe(["t"], 1)
    await link.close()
    other, theirs = await enter(broker, client_id="other")
    other.publish(batch(5, "t"))
    await theirs.until_acked(5)
    again = Listener()
    again.forbidden = "login has not returned"
    link = open_link(options(broker, clean=False), again)
    await link.connect()
    await link.login()
    again.forbidden = ""
    await again.until_received(5)
    assert not again.wrong
    await link.close()
    await other.close()


@pytest.mark.parametrize("v5", [False, True])
async def test_suback_codes_come_back_for_each_filter(broker: Fake, v5: bool) -> None:
    broker.script.suback = 0x80
    link, _ = await enter(broker, v5=v5)
    assert await link.subscribe(["a", "b"], 1) == [0x80, 0x80]
    assert await link.subscribe(["a/#/b"], 1) == [0x8F]
    await link.close()


async def test_a_subscribe_that_is_not_answered_ends_with_the_link(broker: Fake) -> None:
    broker.script.answer_subscribe = False
    link, _ = await enter(broker)
    asking = asyncio.create_task(link.subscribe(["a"], 1))
    cancelled = asyncio.create_task(link.subscribe(["b"], 1))
    await broker.wait_until(lambda: broker.client.count(8) == 2)
    cancelled.cancel()
    broker.client.hang_up()
    with pytest.raises(LinkLost):
        await asking
    assert cancelled.cancelled()
    await link.close()


# --- the end -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["hang_up", "reset"])
async def test_a_broken_connection_is_lost_once(broker: Fake, ending: str) -> None:
    link, listener = await enter(broker)
    getattr(broker.client, ending)()
    error = await listener.until_lost()
    assert isinstance(error, LinkLost)
    assert f":{broker.port}: " in str(error)
    link.publish(batch(2))
    await spin()
    assert len(listener.losses) == 1
    await link.close()


@pytest.mark.parametrize("v5", [False, True])
async def test_a_killed_broker_is_lost(start_mosquitto: Callable[..., Awaitable[Mosquitto]], v5: bool) -> None:
    broker = await start_mosquitto()
    link, listener = await enter(broker, v5=v5)
    link.publish(batch(10))
    await listener.until_acked(10)
    await broker.kill()
    await listener.until_lost()
    await link.close()
    await broker.restart()
    link, listener = await enter(broker, v5=v5)
    await link.close()


async def test_a_disconnect_with_a_reason_is_told_with_its_code(broker: Fake) -> None:
    for code, kind in ((0x8E, BrokerRefused), (0x98, BrokerRefused), (0, LinkLost)):
        link, listener = await enter(broker, v5=True)
        broker.client.disconnect(code, "because")
        error = await listener.until_lost()
        assert type(error) is kind
        assert error.code == code
        assert 'it says "because"' in str(error)
        await link.close()


async def test_acknowledgements_that_came_before_the_end_are_told_before_it(broker: Fake) -> None:
    link, listener = await enter(broker)
    broker.script.puback = lambda _: None
    link.publish(batch(2))
    await broker.wait_published(2)
    broker.client.send(packet(0x40, b"\x00\x01") + packet(0x40, b"\x00\x02"))
    broker.client.hang_up()
    await listener.until_lost()
    assert listener.tokens == [0, 1]
    assert not listener.wrong
    await link.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\x36\x05\x00\x01t\x00\x01",
        b"\x30\x02\x00\x00",
        b"\x32\x03\x00\x01t",
        b"\x40\x01\x00",
        b"\x20\x02\x00\x00",
        b"\x20\x03\x00\x00\x00",
        b"\x90\x00",
        b"\x90\x01\x01",
        b"\xd0\x01\x00",
        b"\x00\x00",
        b"\xf0\x00",
        b"\x10\x00",
        b"\x30\xff\xff\xff\xff\xff",
        b"\x30\xff\xff\xff\x7f",
    ],
)
@pytest.mark.parametrize("v5", [False, True])
async def test_a_malformed_packet_ends_the_link_and_nothing_else(broker: Fake, data: bytes, v5: bool) -> None:
    link, listener = await enter(broker, v5=v5)
    broker.client.send(data)
    error = await listener.until_lost()
    assert isinstance(error, LinkLost)
    assert len(listener.losses) == 1
    await link.close()


async def test_a_suback_that_nobody_asked_for_does_no_harm(broker: Fake) -> None:
    link, listener = await enter(broker)
    broker.client.send(b"\x90\x03\x00\x63\x00")
    link.publish(batch(1))
    await listener.until_acked(1)
    await link.close()


async def test_a_topic_that_is_not_utf_8_is_received(broker: Fake) -> None:
    link, listener = await enter(broker)
    broker.client.publish(b"t/\xff", b"body", 1)
    await listener.until_received(1)
    assert (listener.messages[0].topic, listener.messages[0].payload) == ("t/\ufffd", b"body")
    link.acknowledge(listener.messages)
    await broker.wait_until(lambda: broker.client.count(4) == 1)
    await link.close()


async def test_close_says_goodbye(broker: Fake) -> None:
    for v5 in (False, True):
        link, _ = await enter(broker, v5=v5)
        client = broker.client
        link.publish(batch(3))
        await link.close()
        await broker.wait_until(client.ended.is_set)
        assert [item.kind for item in client.packets] == [1, 3, 3, 3, 14]


# --- keep alive ----------------------------------------------------------------------------------------------------


async def test_an_idle_link_pings_and_lives(broker: Fake) -> None:
    link, listener = await enter(broker, keep_alive=1)
    client = broker.client
    await broker.wait_until(lambda: client.count(12) >= 1)
    assert not listener.losses
    link.pause()  # it pings on, and misses no answer
    await broker.wait_until(lambda: client.count(12) >= 3)
    assert not listener.losses
    link.resume()
    link.publish(batch(1))
    await listener.until_acked(1)
    await link.close()


async def test_a_broker_that_answers_no_ping_is_lost(broker: Fake) -> None:
    broker.script.answer_ping = False
    link, listener = await enter(broker, keep_alive=1)
    error = await listener.until_lost()
    assert isinstance(error, LinkTimeout)
    assert "keep alive" in str(error)
    await link.close()


async def test_a_frozen_broker_is_lost(start_mosquitto: Callable[..., Awaitable[Mosquitto]]) -> None:
    broker = await start_mosquitto()
    link, listener = await enter(broker, keep_alive=1)
    broker.freeze()
    assert isinstance(await listener.until_lost(), LinkTimeout)
    await link.close()


# --- a slow reader -------------------------------------------------------------------------------------------------


async def test_what_a_slow_broker_does_not_read_yet_is_sent_later_in_order(broker: Fake) -> None:
    link, listener = await enter(broker)
    broker.reading.clear()
    body = bytes(100_000)
    link.publish([Publish(token, f"t/{token}", body) for token in range(100)])
    await spin()
    assert not listener.losses
    broker.reading.set()
    await listener.until_acked(100)
    assert [message.topic for message in broker.published] == [f"t/{token}" for token in range(100)]
    await link.close()


async def test_a_broker_that_never_reads_is_lost_when_the_buffer_is_full(
    broker: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "LIMIT", 20_000_000)
    link, listener = await enter(broker)
    broker.reading.clear()
    for start in range(0, 1000, 100):
        link.publish([Publish(start + token, "t", bytes(100_000)) for token in range(100)])
        await asyncio.sleep(0)
    assert "does not read" in str(await listener.until_lost())
    await link.close()
    broker.reading.set()


# --- the loop ------------------------------------------------------------------------------------------------------


def test_all_of_it_works_on_uvloop() -> None:
    async def main() -> None:
        async with fake_broker() as broker:
            for v5 in (False, True):
                link, listener = await enter(broker, v5=v5, host="localhost")
                listener.on_received = link.acknowledge
                assert await link.subscribe(["t/#"], 1) == [1]
                link.publish([Publish(token, "t/a", bytes(50_000)) for token in range(200)])
                await listener.until_acked(200)
                await listener.until_received(200)
                link.pause()
                link.resume()
                broker.client.hang_up()
                await listener.until_lost()
                await link.close()
                link, listener = await enter(broker, v5=v5)
                await link.close()
                link = open_link(options(broker), Listener())
                task = asyncio.create_task(link.connect())
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
                await link.close()

    uvloop.run(main())  # uvloop itself keeps some descriptors for good
    before = descriptors()
    uvloop.run(main())
    assert descriptors() <= before


async def test_the_socket_sends_at_once(broker: Fake) -> None:
    link, _ = await enter(broker)
    [sock] = [value for value in vars(link._wire).values() if isinstance(value, socket.socket)]
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert not os.get_inheritable(sock.fileno())
    await link.close()
