"""All parts of a daemon, made from its settings: nothing runs yet. For the composition root alone."""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.downlinks.dispatch import Dispatcher
from mqttbridge.downlinks.intake import DownlinkIntake
from mqttbridge.downlinks.networks import make_network, way_back
from mqttbridge.routing import Router
from mqttbridge.sessions.gate import ConnectGate
from mqttbridge.sessions.runner import BrokerSession
from mqttbridge.settings.schema import HttpSource, MqttSource
from mqttbridge.sources.http import HttpIntake
from mqttbridge.sources.intake import Intake
from mqttbridge.sources.mqtt import MqttIntake

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.downlinks.network import Network
    from mqttbridge.journal.downlink_protocol import DownlinkJournal
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.settings.schema import Settings

__all__ = ["Parts", "Tools", "build"]

KEY_BYTES = 8


class Tools(msgspec.Struct, frozen=True):
    """What nearly every part is given."""

    journal: Journal
    downlinks: DownlinkJournal
    clock: Clock
    metrics: Metrics
    throttle: Throttle

    @property
    def shared(self) -> dict[str, Any]:
        """What the parts of downlinks take by name."""
        return {"clock": self.clock, "metrics": self.metrics.downlinks, "throttle": self.throttle}


class Parts(msgspec.Struct, frozen=True):
    """What lives as long as the daemon, by id."""

    sessions: Mapping[str, BrokerSession] = {}
    sources: Mapping[str, MqttIntake] = {}
    dispatchers: Mapping[str, Dispatcher] = {}
    networks: Mapping[str, Network] = {}


def build(settings: Settings, tools: Tools, *, orphans: Iterable[str]) -> tuple[Parts, HttpIntake]:
    """Make all parts, and what takes the uplinks of all HTTP sources.

    `orphans`: ids of sources that are gone, and that downlinks still wait for.
    """
    router = Router(settings.flows, settings.connections)
    networks = {
        name: network
        for name, source in settings.sources.items()
        if (network := make_network(name, source, settings.connections, clock=tools.clock)) is not None
    }
    dispatchers = {
        name: Dispatcher(
            name,
            networks.get(name),
            tools.downlinks,
            settings.connections,
            random=random.random,
            why=_why_not(name, settings),
            **tools.shared,
        )
        for name in {*settings.sources, *orphans}
    }
    inbox = DownlinkIntake(
        tools.downlinks,
        settings.connections,
        networks,
        settings.sources,
        router,
        lambda source: dispatchers[source].kick(),
        random_key=lambda: secrets.token_hex(KEY_BYTES),
        **tools.shared,
    )
    intake = Intake(
        tools.journal, tools.downlinks, router, clock=tools.clock, metrics=tools.metrics, throttle=tools.throttle
    )
    http: dict[str, HttpSource] = {}
    mqtt: dict[str, MqttIntake] = {}
    for name, source in settings.sources.items():
        if isinstance(source, MqttSource):
            mqtt[name] = MqttIntake(name, source, intake, clock=tools.clock, random=random.random)
        else:
            http[name] = source
    parts = Parts(_sessions(settings, tools, inbox), mqtt, dispatchers, networks)
    return parts, HttpIntake(http, intake)


def _why_not(source: str, settings: Settings) -> str:
    """Say why the downlinks of a source without a network go nowhere."""
    known = settings.sources.get(source)
    return f"source {source} is not configured any more" if known is None else f"source {source}: {way_back(known)}"


def _sessions(settings: Settings, tools: Tools, inbox: DownlinkIntake) -> dict[str, BrokerSession]:
    """Make the session of each active connection."""
    gate = ConnectGate(tools.clock)
    return {
        name: BrokerSession(
            name,
            connection,
            journal=tools.journal,
            gate=gate,
            random=random.random,
            inbox=inbox,
            downlinks=tools.downlinks,
            **tools.shared,
        )
        for name, connection in settings.connections.items()
        if connection.active
    }
