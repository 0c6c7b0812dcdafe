"""`mqttbridge demo`: the whole product on one machine, with nothing else installed. Called by the command line alone.

An embedded broker (amqtt), the real daemon in a temporary state directory, simulated devices that POST uplinks as a
network server does, and a live view of what arrives at the broker. Leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import anyio
import httpx
import msgspec
from amqtt.broker import Broker  # type: ignore[import-untyped]

from mqttbridge.clock import SystemClock
from mqttbridge.daemon import Daemon
from mqttbridge.demo_view import LinesView, TableView
from mqttbridge.errors import StartError
from mqttbridge.formats import sample
from mqttbridge.mqtt.client import LinkOptions, open_link
from mqttbridge.settings.loader import load

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.demo_view import View
    from mqttbridge.errors import LinkError
    from mqttbridge.mqtt.link import Ack, Link, Received
    from mqttbridge.settings.loader import Loaded

__all__ = ["run_demo"]

TOPIC = "mqtt/things/{DevEUI}/uplink"
UPLINKS_PER_SECOND = 4.0
CONFIGURATION = """\
stateDirectory: state
http:
  listen: 127.0.0.1:0
sources:
  demo:
    transport: http
    format: thingpark
connections:
  demo:
    name: the embedded broker
    configuration:
      hostName: 127.0.0.1:{port}
      protocol: TCP
      uplinkTopicPattern: {topic}
"""


async def run_demo(seconds: float | None, devices: int) -> None:
    """Show it for so many seconds, or until a signal, or until nobody reads on."""
    view: View = TableView() if sys.stdout.isatty() else LinesView()
    ended = anyio.Event()
    try:
        with (
            anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals,
            tempfile.TemporaryDirectory(prefix="mqttbridge-demo-") as directory,
        ):
            async with anyio.create_task_group() as group:
                group.start_soon(_heed, signals, ended)
                port = _free_port()
                broker = await _start_broker(port)
                try:
                    daemon = Daemon(_configuration(directory, port), environ={})
                    await _show(daemon, port, view, _Length(seconds, ended), devices)
                finally:
                    with anyio.CancelScope(shield=True):
                        await broker.shutdown()
                group.cancel_scope.cancel()
    finally:
        view.end()


class _Length(NamedTuple):
    """How long it goes on: so many seconds (None: no limit), or until `ended`."""

    seconds: float | None
    ended: anyio.Event


async def _heed(signals: Any, ended: anyio.Event) -> None:  # noqa: ANN401 (an async iterator of anyio's)
    async for _ in signals:
        ended.set()


def _configuration(directory: str, port: int) -> Loaded:
    path = Path(directory, "mqttbridge.yaml")
    path.write_text(CONFIGURATION.format(port=port, topic=TOPIC))
    return load(path, environ={})


async def _show(daemon: Daemon, port: int, view: View, length: _Length, devices: int) -> None:
    async with anyio.create_task_group() as group:
        await group.start(daemon.serve)
        subscriber = _Subscriber(view, length.ended)
        link = open_link(LinkOptions(host="127.0.0.1", port=port, client_id="mqttbridge-demo-view"), subscriber)
        subscriber.link = link
        try:
            await link.connect()
            await link.login()
            await link.subscribe(["#"], 1)
            url = f"http://127.0.0.1:{daemon.address[1]}/uplink/demo"
            view.begin(url, port)
            async with anyio.create_task_group() as devices_at_work:
                devices_at_work.start_soon(_simulate, url, devices, view)
                with anyio.move_on_after(length.seconds):
                    await length.ended.wait()
                devices_at_work.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                daemon.stop()
                await link.close()


async def _simulate(url: str, count: int, view: View) -> None:
    """Be devices behind a network server: one uplink after the other, by HTTP."""
    clock = SystemClock()
    dev_euis = [f"0018B2{secrets.randbits(16):04X}{number:06X}" for number in range(count)]
    fcnt = 0
    async with httpx.AsyncClient(trust_env=False) as network_server:
        while True:
            for dev_eui in dev_euis:
                body = sample.uplink(dev_eui, fcnt=fcnt, time_ms=clock.now())
                try:
                    answer = await network_server.post(url, content=body, headers={"content-type": "application/json"})
                    view.accepted(answer.is_success)
                except httpx.HTTPError:
                    view.accepted(False)  # noqa: FBT003 (the name of the method says it)
                await anyio.sleep(1 / UPLINKS_PER_SECOND)
            fcnt += 1


class _Subscriber:
    """A client of the broker: shows what is published."""

    def __init__(self, view: View, ended: anyio.Event) -> None:
        self._view = view
        self._ended = ended
        self.link: Link | None = None

    def received(self, messages: Sequence[Received]) -> None:
        """Acknowledge, and show what is an uplink: whoever watches the broker may publish there too."""
        if self.link is not None:
            self.link.acknowledge(messages)
        try:
            for message in messages:
                with contextlib.suppress(msgspec.DecodeError, UnicodeError, RecursionError):
                    document = msgspec.json.decode(message.payload, type=dict[str, Any])
                    if isinstance(uplink := document.get("DevEUI_uplink"), dict):
                        self._view.published(message.topic, uplink)
        except OSError:
            # Nobody reads what is shown any more: `demo | head`. What is still buffered must not fail at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            self._ended.set()

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Nothing is published here."""

    def lost(self, error: LinkError) -> None:
        """Show nothing more: the demo is ending."""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _start_broker(port: int) -> Broker:
    anonymous = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
    broker = Broker({"listeners": listeners, "plugins": anonymous})
    try:
        await broker.start()
    except Exception as error:
        raise StartError(f"the demo's broker cannot start on 127.0.0.1:{port}: {error}; try again") from error
    return broker
