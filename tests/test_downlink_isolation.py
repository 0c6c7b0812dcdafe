"""A network server that is dead or hangs holds up nothing but its own downlinks: measured before and while it does.

Each test prints the 99th percentiles; `pytest -s` shows them.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.brokers.mosquitto import free_port
from tests.downlinks.publisher import publish
from tests.networks.lrc import FakeLrc
from tests.networks.server import Fault
from tests.support.bridge import bridge, fcnts, to, until, uplink

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.networks.server import Answer, Request
    from tests.support.bridge import Bridge

DEVICES = 8
"""Of each source."""
SAMPLES = 120
WARM = 20
"""Before the samples, so that nothing is measured that happens once."""
PACE = 0.01
FLOOD = 2500
"""More than a connection may have unfinished, and a session holds besides."""
UNDELAYED = 1.0
"""Seconds. A server that hangs is given up after 8, a dead one is tried again after 1 to 60."""
SOURCES = ("good", "hangs", "dead")
PATTERNS = {
    "downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink",
    "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink",
}


def device(source: str, number: int) -> str:
    return f"0018B2{SOURCES.index(source):02X}{number % DEVICES:08X}"


def document(number: int) -> bytes:
    return b'{"DevEUI_downlink": {"FPort": 1, "payload_hex": "%08x"}}' % number


class Lrc(FakeLrc):
    """Knows when it took each payload."""

    def __init__(self, port: int = 0) -> None:
        super().__init__(port=port)
        self.taken: dict[int, float] = {}

    def handle(self, request: Request) -> Answer:
        answer = super().handle(request)
        self.taken.setdefault(int(self.queued[-1]["Payload"], 16), time.monotonic())
        return answer


class Customer:
    """Publishes downlinks, and knows when each uplink came, by FCntUp."""

    def __init__(self, broker: Mosquitto, prefix: str = "mqtt") -> None:
        self.came: dict[int, float] = {}
        self.client = Client(CallbackAPIVersion.VERSION2)
        self.client.max_inflight_messages_set(65_535)
        self.client.on_message = self._on_message
        self.client.connect(broker.host, broker.port)
        self.client.subscribe(f"{prefix}/things/+/uplink", 1)

    def _on_message(self, _client: Client, _data: object, message: MQTTMessage) -> None:
        self.came.setdefault(fcnts([message.payload])[0], time.monotonic())

    def send(self, source: str, number: int, prefix: str = "mqtt") -> None:
        self.client.publish(f"{prefix}/things/{device(source, number)}/downlink", document(number), 1)


@asynccontextmanager
async def customer(broker: Mosquitto) -> AsyncIterator[Customer]:
    one = Customer(broker)
    one.client.loop_start()
    try:
        yield one
    finally:
        one.client.disconnect()
        await asyncio.to_thread(one.client.loop_stop)


def p99(lags: Sequence[float]) -> float:
    return sorted(lags)[len(lags) * 99 // 100]


class Traffic:
    """Downlinks to the good server and uplinks of all sources, at an even pace."""

    def __init__(self, daemon: Bridge, customer: Customer, good: Lrc) -> None:
        self.daemon, self.customer, self.good = daemon, customer, good
        self.number = 0
        self.prefix = "mqtt"

    async def measure(self, beside: Sequence[str] = (), count: int = SAMPLES) -> tuple[float, float]:
        """Give the 99th percentiles of downlinks and uplinks, in seconds; `beside`: sources that get one each, too."""
        first, last = self.number, self.number + count
        down: dict[int, float] = {}
        up: dict[int, float] = {}
        for number in range(first, last):
            down[number] = time.monotonic()
            self.customer.send("good", number, self.prefix)
            for source in beside:
                self.customer.send(source, number)
            up[number] = time.monotonic()
            source = SOURCES[number % len(SOURCES)]
            await self.daemon.accept(source, uplink(number, device(source, number)))
            await asyncio.sleep(PACE)
        self.number = last
        await _until(lambda: down.keys() <= self.good.taken.keys() and up.keys() <= self.customer.came.keys())
        lags = [self.good.taken[number] - at for number, at in down.items()]
        return p99(lags), p99([self.customer.came[number] - at for number, at in up.items()])


async def _until(holds: Any, timeout: float = 20.0) -> None:  # noqa: ANN401 (a condition)
    """Poll: what is waited for comes in paho's thread."""
    async with asyncio.timeout(timeout):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def show(what: str, before: tuple[float, float], during: tuple[float, float]) -> None:
    """Print the figures, in ms."""
    cells = [f"{name} {value * 1000:.1f}" for pair in (before, during) for name, value in zip("du", pair, strict=True)]
    print(f"{what}: p99 in ms of downlinks (d), uplinks (u): before {cells[:2]}, during {cells[2:]}")  # noqa: T201


async def test_servers_that_hang_or_are_dead_delay_neither_other_downlinks_nor_any_uplink(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with Lrc() as good, Lrc() as hangs, Lrc() as dead, customer(plain_mosquitto) as own:
        servers = dict(zip(SOURCES, (good, hangs, dead), strict=True))
        sources = {name: {"transport": "http", "apiUrl": server.url} for name, server in servers.items()}
        async with bridge(tmp_path, sources=sources, connections={"acme": to(plain_mosquitto, **PATTERNS)}) as daemon:
            await ready(daemon)
            traffic = Traffic(daemon, own, good)
            await traffic.measure(("hangs", "dead"), WARM)
            before = await traffic.measure(("hangs", "dead"))
            await _until(lambda: len(hangs.taken) == len(dead.taken) == WARM + SAMPLES)
            hangs.always = Fault(hang=True)
            await dead.__aexit__()
            during = await traffic.measure(("hangs", "dead"))
            show("one hangs, one is dead", before, during)
            assert len(hangs.taken) == len(dead.taken) == WARM + SAMPLES, "they took none"
            await waiting(daemon, 2 * SAMPLES)
            await daemon.until_said("network.failing", source="dead")
            assert max(before) < UNDELAYED
            assert max(during) < UNDELAYED


async def test_a_backlog_that_fills_a_connections_queue_delays_no_uplink_and_no_other_connection_and_is_not_lost(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    others = {name: pattern.replace("mqtt/", "other/") for name, pattern in PATTERNS.items()}
    async with Lrc() as good, Lrc() as hangs, customer(plain_mosquitto) as own:
        hangs.always = Fault(hang=True)
        port = free_port()
        servers = {"good": good.url, "hangs": hangs.url, "dead": f"http://127.0.0.1:{port}"}
        sources = {name: {"transport": "http", "apiUrl": url} for name, url in servers.items()}
        connections = {
            "acme": to(plain_mosquitto, downlinkRate=10_000, **PATTERNS),
            "other": to(plain_mosquitto, **others),
        }
        async with bridge(tmp_path, sources=sources, connections=connections) as daemon:
            await ready(daemon, 2)
            traffic = Traffic(daemon, own, good)
            traffic.prefix = "other"
            await traffic.measure(count=WARM)
            before = await traffic.measure()
            flood = [(number, device(("hangs", "dead")[number % 2], number)) for number in range(FLOOD)]
            messages = [(f"mqtt/things/{dev_eui}/downlink", document(number)) for number, dev_eui in flood]
            await asyncio.to_thread(publish, plain_mosquitto, messages)  # else it is in the way of what is measured
            await daemon.until_said("downlink.delayed", connection="acme")
            during = await traffic.measure()
            show("a full queue", before, during)
            await waiting(daemon, 1000)
            assert max(before) < UNDELAYED
            assert max(during) < UNDELAYED
            await daemon.kill()
            hangs.always = None
            async with Lrc(port) as dead:
                await daemon.restart()
                await _until(lambda: len(hangs.taken) + len(dead.taken) == FLOOD)
                await waiting(daemon, 0)


async def ready(daemon: Bridge, connections: int = 1) -> None:
    """Wait until downlinks are taken, and have the devices learnt."""
    await daemon.until_said("connection.subscribed", connections)
    for source in SOURCES:
        await daemon.accept(source, *(uplink(10_000 + number, device(source, number)) for number in range(DEVICES)))


async def waiting(daemon: Bridge, count: int) -> None:
    """Wait until so many downlinks of the connection wait."""

    async def holds() -> bool:
        return (await daemon.metrics())["mqttbridge_connection_downlinks_waiting", "acme"] == count

    await until(holds, f"{count} waiting")
