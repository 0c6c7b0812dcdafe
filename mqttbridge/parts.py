"""All parts of a daemon, made from its settings: nothing runs yet. For the composition root alone."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

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


class Tools(msgspec.Struct, frozen=True):
    """What nearly every part is given."""

    journal: Journal
    downlinks: DownlinkJournal
    clock: Clock
    metrics: Metrics
    throttle: Throttle


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
        name: _dispatcher(name, networks.get(name), settings, tools) for name in {*settings.sources, *orphans}
    }
    inbox = DownlinkIntake(
        tools.downlinks,
        settings.connections,
        networks,
        settings.sources,
        router,
        lambda source: dispatchers[source].kick(),
        clock=tools.clock,
        metrics=tools.metrics.downlinks,
        throttle=tools.throttle,
    )
    intake = Intake(
        tools.journal, tools.downlinks, router, clock=tools.clock, metrics=tools.metrics, throttle=tools.throttle
    )
    mqtt = {
        name: MqttIntake(name, source, intake, clock=tools.clock, random=random.random)
        for name, source in settings.sources.items()
        if isinstance(source, MqttSource)
    }
    http = {name: source for name, source in settings.sources.items() if isinstance(source, HttpSource)}
    return Parts(_sessions(settings, tools, inbox), mqtt, dispatchers, networks), HttpIntake(http, intake)


def _dispatcher(source: str, network: Network | None, settings: Settings, tools: Tools) -> Dispatcher:
    """Make what hands downlinks to one source's network server; without a network, what says why they go nowhere."""
    known = settings.sources.get(source)
    return Dispatcher(
        source,
        network,
        tools.downlinks,
        settings.connections,
        clock=tools.clock,
        random=random.random,
        metrics=tools.metrics.downlinks,
        throttle=tools.throttle,
        why=f"source {source} is not configured any more" if known is None else f"source {source}: {way_back(known)}",
    )


def _sessions(settings: Settings, tools: Tools, inbox: DownlinkIntake) -> dict[str, BrokerSession]:
    """Make the session of each active connection."""
    gate = ConnectGate(tools.clock)
    return {
        name: BrokerSession(
            name,
            connection,
            journal=tools.journal,
            gate=gate,
            clock=tools.clock,
            random=random.random,
            throttle=tools.throttle,
            inbox=inbox,
            downlinks=tools.downlinks,
            metrics=tools.metrics.downlinks,
        )
        for name, connection in settings.connections.items()
        if connection.active
    }
