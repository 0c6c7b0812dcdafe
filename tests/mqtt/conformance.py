"""What every `Link` must do, whichever client is underneath and whichever broker is at the other end.

A test class inherits from `LinkConformance`, sets `version`, and provides two fixtures: `broker` (with `host`, `port`)
and `open_link`, which makes a link from options and a listener.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from mqttbridge.errors import ConnectFailed, LinkError, LinkLost, ResolveFailed
from mqttbridge.mqtt.link import Publish, Step
from mqttbridge.mqtt.options import LinkOptions
from tests.mqtt.listening import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqttbridge.mqtt.link import Link, LinkListener

    OpenLink = Callable[[LinkOptions, LinkListener], Link]


class Broker(Protocol):
    """What the suite needs of a broker."""

    host: str
    port: int


def options(broker: Broker, **changes: object) -> LinkOptions:
    """Give options for a broker."""
    return LinkOptions(**{"host": broker.host, "port": broker.port, "client_id": "conformance", **changes})


def batch(count: int, topic: str = "t/a", start: int = 0) -> list[Publish]:
    return [Publish(token, topic, b"%d" % token) for token in range(start, start + count)]


def descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


async def until_descriptors(count: int) -> None:
    """Wait until no more descriptors are open; a broker in this process closes its own a little later."""
    deadline = asyncio.get_running_loop().time() + 2.0
    while descriptors() > count:
        assert asyncio.get_running_loop().time() < deadline, f"{descriptors() - count} descriptors are left"
        await asyncio.sleep(0.005)


async def spin(times: int = 20) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


class LinkConformance:
    """The suite."""

    version = "3.1.1"
    persistent = True

    async def enter(
        self, open_link: OpenLink, broker: Broker, listener: Listener | None = None, **changes: object
    ) -> tuple[Link, Listener]:
        listener = listener or Listener()
        link = open_link(options(broker, v5=self.version == "5", **changes), listener)
        await link.connect()
        await link.login()
        return link, listener

    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_every_publish_is_acknowledged_once_with_its_token(
        self, open_link: OpenLink, broker: Broker, qos: int
    ) -> None:
        link, listener = await self.enter(open_link, broker, qos=qos)
        with listener.silent("inside publish"):
            link.publish(batch(250))
            link.publish(batch(250, start=250))
        await listener.until_acked(500)
        assert listener.tokens == list(range(500))
        assert {code for code in listener.codes if code != 0x10} <= {0}
        await link.close()

    @pytest.mark.parametrize("qos", [0, 1, 2])
    async def test_messages_arrive_in_order_and_unchanged(self, open_link: OpenLink, broker: Broker, qos: int) -> None:
        link, listener = await self.enter(open_link, broker, qos=qos)
        listener.on_received = link.acknowledge
        assert await link.subscribe(["t/#", "u/+"], qos) == [qos, qos]
        bodies = [b"", b"\x00\xff", "é".encode(), bytes(range(256)) * 300]
        link.publish([Publish(index, "t/ä", body) for index, body in enumerate(bodies)])
        link.publish(batch(300, "t/x", 4))
        await listener.until_received(304)
        await listener.until_acked(304)
        assert listener.payloads == [*bodies, *(b"%d" % token for token in range(4, 304))]
        assert {message.topic for message in listener.messages} == {"t/ä", "t/x"}
        assert {message.qos for message in listener.messages} == {qos}
        assert all(bool(message.mid) == bool(qos) for message in listener.messages)
        await link.close()

    async def test_a_megabyte_goes_both_ways(self, open_link: OpenLink, broker: Broker) -> None:
        link, listener = await self.enter(open_link, broker)
        listener.on_received = link.acknowledge
        await link.subscribe(["big"], 1)
        bodies = [bytes([index]) * 1_000_000 for index in range(5)]
        link.publish([Publish(index, "big", body) for index, body in enumerate(bodies)])
        await listener.until_received(5)
        await listener.until_acked(5)
        assert listener.payloads == bodies
        await link.close()

    async def test_what_cannot_be_a_topic_is_refused_and_harms_nothing_else(
        self, open_link: OpenLink, broker: Broker
    ) -> None:
        link, listener = await self.enter(open_link, broker)
        with listener.silent("inside publish"):
            link.publish([Publish(1, "t" * 65536, b""), Publish(2, "t/ok", b""), Publish(3, "\ud800", b"")])
        await listener.until_acked(3)
        codes = {ack.token: ack.code for ack in listener.acks}
        assert (codes[1], codes[3]) == (0x90, 0x90)
        assert codes[2] in {0, 0x10}
        await link.close()

    async def test_an_unacknowledged_message_comes_again_and_an_acknowledged_one_does_not(
        self, open_link: OpenLink, broker: Broker
    ) -> None:
        link, listener = await self.enter(open_link, broker, client_id="keeper", clean=False)
        await link.subscribe(["p/#"], 1)
        sender, sent = await self.enter(open_link, broker, client_id="sender")
        sender.publish(batch(10, "p/a"))
        await sent.until_acked(10)
        await listener.until_received(10)
        link.acknowledge(listener.messages[:4])
        # The acknowledgements are surely there when a later publish on the same link was answered.
        link.publish(batch(1, "q", 1000))
        await listener.until_acked(1)
        await link.close()

        again = Listener()
        second = open_link(options(broker, v5=self.version == "5", client_id="keeper", clean=False), again)
        await second.connect()
        grant = await second.login()
        assert grant.session_present
        await again.until_received(6)
        assert sorted(again.payloads, key=int) == [b"%d" % token for token in range(4, 10)]
        second.acknowledge(again.messages)
        await second.close()
        await sender.close()

    async def test_what_comes_again_says_so_and_keeps_its_correlation_data(
        self, open_link: OpenLink, broker: Broker
    ) -> None:
        link, listener = await self.enter(open_link, broker, client_id="keeper", clean=False)
        await link.subscribe(["p/#"], 1)
        sender, sent = await self.enter(open_link, broker, client_id="sender")
        sender.publish([Publish(1, "p/a", b"1", b"\x00corr\xff"), Publish(2, "p/a", b"2")])
        await sent.until_acked(2)
        await listener.until_received(2)
        expected = [b"\x00corr\xff" if self.version == "5" else b"", b""]
        assert [message.correlation for message in listener.messages] == expected
        assert not any(message.dup for message in listener.messages)
        await link.close()

        again = Listener()
        second = open_link(options(broker, v5=self.version == "5", client_id="keeper", clean=False), again)
        await second.connect()
        await second.login()
        await again.until_received(2)
        assert all(message.dup for message in again.messages)
        assert {message.payload: message.correlation for message in again.messages} == dict(
            zip([b"1", b"2"], expected, strict=True)
        )
        second.acknowledge(again.messages)
        await second.close()
        await sender.close()

    async def test_a_clean_link_starts_without_a_session(self, open_link: OpenLink, broker: Broker) -> None:
        first, _ = await self.enter(open_link, broker)
        await first.subscribe(["c/#"], 1)
        await first.close()
        second = open_link(options(broker, v5=self.version == "5"), Listener())
        await second.connect()
        grant = await second.login()
        assert not grant.session_present
        assert second.step is Step.NONE
        await second.close()

    async def test_a_paused_link_tells_nothing_until_it_is_resumed(self, open_link: OpenLink, broker: Broker) -> None:
        link, listener = await self.enter(open_link, broker)
        await link.subscribe(["t/#"], 1)
        other, theirs = await self.enter(open_link, broker, client_id="other")
        link.pause()
        other.publish(batch(50))
        link.publish(batch(50, "x", 100))
        await theirs.until_acked(50)
        with listener.silent("paused"):
            await spin()
        with listener.silent("inside resume"):
            link.resume()
        await listener.until_received(50)
        await listener.until_acked(50)
        await link.close()
        await other.close()

    async def test_pausing_from_a_callback_holds_what_comes_next(self, open_link: OpenLink, broker: Broker) -> None:
        link, listener = await self.enter(open_link, broker)
        await link.subscribe(["t/#"], 1)
        listener.on_acknowledged = lambda _: link.pause()
        link.publish(batch(1))
        await listener.until_acked(1)
        before = len(listener.messages)
        await spin()
        assert len(listener.messages) == before
        link.resume()
        await listener.until_received(1)
        await link.close()

    async def test_after_close_nothing_is_told(self, open_link: OpenLink, broker: Broker) -> None:
        link, listener = await self.enter(open_link, broker)
        await link.subscribe(["t/#"], 1)
        listener.on_acknowledged = lambda _: setattr(listener, "forbidden", "closed")
        link.publish(batch(500))
        await asyncio.sleep(0)
        listener.forbidden = "closed"
        await link.close()
        await link.close()
        link.publish(batch(1))
        link.acknowledge([])
        link.pause()
        link.resume()
        with pytest.raises(LinkLost):
            await link.subscribe(["x"], 1)
        await spin()
        assert not listener.wrong

    async def test_close_is_safe_in_every_state(self, open_link: OpenLink, broker: Broker) -> None:
        before = descriptors()
        fresh = open_link(options(broker), Listener())
        await fresh.close()
        with pytest.raises(LinkLost):
            await fresh.connect()
        connected = open_link(options(broker), Listener())
        await connected.connect()
        await connected.close()
        with pytest.raises(LinkLost):
            await connected.login()
        for steps in range(6):
            link = open_link(options(broker), Listener())
            task = asyncio.create_task(self._connect_and_login(link))
            await spin(steps)
            await link.close()
            with pytest.raises(LinkError):
                await task
        await until_descriptors(before)

    async def _connect_and_login(self, link: Link) -> None:
        await link.connect()
        await link.login()
        raise LinkLost("it was faster than close")

    async def test_cancelling_at_any_moment_leaves_nothing_behind(self, open_link: OpenLink, broker: Broker) -> None:
        link, _ = await self.enter(open_link, broker)
        await link.close()
        before, tasks = descriptors(), asyncio.all_tasks()
        for steps in [*range(12), 20, 40, 80]:
            link = open_link(options(broker, v5=self.version == "5"), Listener())
            task = asyncio.create_task(self._connect_and_login(link))
            await spin(steps)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                assert isinstance(task.exception(), LinkLost)
            await link.close()
        await until_descriptors(before)
        await spin()
        assert asyncio.all_tasks() <= tasks

    async def test_a_link_that_another_client_takes_over_is_lost_once(
        self, open_link: OpenLink, broker: Broker
    ) -> None:
        link, listener = await self.enter(open_link, broker)
        second, _ = await self.enter(open_link, broker)
        error = await listener.until_lost()
        assert error.code in {None, 0x8E if self.version == "5" else None}  # not every broker says why
        link.publish(batch(3))
        link.acknowledge([])
        with pytest.raises(LinkError):
            await link.subscribe(["x"], 1)
        await spin()
        assert len(listener.losses) == 1
        assert not listener.acks
        await link.close()
        await second.close()

    async def test_a_port_where_nobody_listens_fails_to_connect(self, open_link: OpenLink, broker: Broker) -> None:
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            link = open_link(options(broker, port=sock.getsockname()[1]), Listener())
            with pytest.raises(ConnectFailed) as caught:
                await link.connect()
        assert "connection refused" in str(caught.value)
        assert link.step is Step.TCP
        await link.close()

    async def test_a_host_name_that_does_not_exist_fails_to_resolve(self, open_link: OpenLink, broker: Broker) -> None:
        link = open_link(options(broker, host="no-such-host.invalid"), Listener())
        with pytest.raises(ResolveFailed) as caught:
            await link.connect()
        assert "no-such-host.invalid" in str(caught.value)
        assert link.step is Step.DNS
        await link.close()
