"""All parts of a running daemon, built from the settings and wired together; and built anew, one by one, by a reload.

For the composition root, the reload and the overview. `connections` and `configured` are the settings in force: the
very objects that the parts look things up in, changed in place by `take_over` within one step of the loop.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.lowlevel
import msgspec

from mqttbridge.crew import SLICE, Crew
from mqttbridge.downlinks.dispatch import Dispatcher
from mqttbridge.downlinks.intake import DownlinkIntake
from mqttbridge.downlinks.networks import make_network, way_back
from mqttbridge.routing import Router
from mqttbridge.sessions.gate import ConnectGate
from mqttbridge.sessions.runner import BrokerSession
from mqttbridge.settings.schema import MqttSource
from mqttbridge.sources.http import HttpIntake
from mqttbridge.sources.intake import Intake
from mqttbridge.sources.mqtt import MqttIntake

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from mqttbridge.clock import Clock
    from mqttbridge.downlinks.intake import Busy
    from mqttbridge.downlinks.network import Network
    from mqttbridge.downlinks.receipts import Ended
    from mqttbridge.journal.downlink_protocol import AcceptedDownlink, DownlinkJournal
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.settings.schema import Connection, Settings, Source
    from mqttbridge.sources.gaps import FrameCounters
    from mqttbridge.sources.intake import Passage

__all__ = ["Parts", "Tools"]

V = TypeVar("V")


class Tools(msgspec.Struct, frozen=True):
    """What nearly every part is given."""

    journal: Journal
    downlinks: DownlinkJournal
    clock: Clock
    metrics: Metrics
    throttle: Throttle
    passage: Passage | None = None
    counters: FrameCounters | None = None


class Parts:
    """What lives in the daemon, by id."""

    def __init__(self, settings: Settings, tools: Tools, *, orphans: Iterable[str] = ()) -> None:
        """Make all parts. `orphans`: ids of sources that are gone, and that downlinks still wait for."""
        self._tools = tools
        self._gate = ConnectGate(tools.clock)
        self.connections: dict[str, Connection] = dict(settings.connections)
        self.configured: dict[str, Source] = dict(settings.sources)
        """The settings of every source, by id."""
        router = Router(settings.flows, settings.connections)
        self.networks: dict[str, Network] = {}
        self.dispatchers: Crew[Dispatcher] = Crew()
        self.sessions: Crew[BrokerSession] = Crew()
        self.sources: Crew[MqttIntake] = Crew()
        self._inbox = DownlinkIntake(
            tools.downlinks,
            self.connections,
            self.networks,
            self.configured,
            router,
            self._kick,
            clock=tools.clock,
            metrics=tools.metrics.downlinks,
            throttle=tools.throttle,
        )
        self._intake = Intake(
            tools.journal,
            tools.downlinks,
            router,
            clock=tools.clock,
            metrics=tools.metrics,
            throttle=tools.throttle,
            passage=tools.passage,
            counters=tools.counters,
        )
        self.http = HttpIntake(self.configured, self._intake)
        """Takes the uplinks of all HTTP sources."""
        for name in (*self.configured, *(name for name in orphans if name not in self.configured)):
            self.add_way_back(name)
        for name in self.configured:
            self.add_source(name)
        for name in self.connections:
            self.add_session(name)

    # -- one by one ------------------------------------------------------------------------------------------------

    def add_session(self, name: str) -> None:
        """Make the session of a connection, if it is active."""
        connection, tools = self.connections[name], self._tools
        if not connection.active:
            return
        session = BrokerSession(
            name,
            connection,
            journal=tools.journal,
            gate=self._gate,
            clock=tools.clock,
            random=random.random,
            throttle=tools.throttle,
            inbox=self._inbox,
            downlinks=tools.downlinks,
            metrics=tools.metrics.downlinks,
        )
        self.sessions.add(name, session)

    def add_source(self, name: str) -> None:
        """Make what takes the uplinks of an MQTT source. HTTP sources share one, which knows them already."""
        source = self.configured[name]
        if isinstance(source, MqttSource):
            self.sources.add(
                name, MqttIntake(name, source, self._intake, clock=self._tools.clock, random=random.random)
            )

    def change_source(self, name: str) -> None:
        """Have a source that runs look at its settings again. HTTP sources do so with every request."""
        source, running = self.configured[name], self.sources.get(name)
        if running is not None and isinstance(source, MqttSource):
            running.reconfigure(source)

    def add_way_back(self, name: str, before: Dispatcher | None = None) -> None:
        """Make what hands downlinks to a source's network server; without a way, what says why they go nowhere.

        `before`: the one in whose place it comes, which may have ends that are not on disk yet.
        """
        tools, source = self._tools, self.configured.get(name)
        network = None if source is None else make_network(name, source, self.connections, clock=tools.clock)
        if network is not None:
            self.networks[name] = network
        dispatcher = Dispatcher(
            name,
            network,
            tools.downlinks,
            self.connections,
            clock=tools.clock,
            random=random.random,
            metrics=tools.metrics.downlinks,
            throttle=tools.throttle,
            before=before,
            why=f"source {name} is not configured any more" if source is None else f"source {name}: {way_back(source)}",
        )
        self.dispatchers.add(name, dispatcher)

    async def remove_ways_back(self, names: Iterable[str]) -> None:
        """End what hands downlinks to these sources' network servers: what is on its way gets some seconds."""
        leaving = list(names)
        await self.dispatchers.remove(leaving)
        for name in leaving:
            if (network := self.networks.pop(name, None)) is not None:
                await network.close()

    async def close(self) -> None:
        """Let go of the ways to the network servers, when all else has ended."""
        for network in self.networks.values():
            await network.close()

    def take_over(self, settings: Settings, router: Router) -> None:
        """Put other settings in force, for whatever looks them up, in one step. No part begins or ends by it.

        `router`: made of the same settings, which takes too long for the loop.
        """
        _replace(self.connections, settings.connections)
        _replace(self.configured, settings.sources)
        self._intake.use(router)
        self._inbox.use(router)

    async def reconfigure(self, leaving: Collection[str]) -> None:
        """Give each session its settings in force, some at a time: a thousand would hold up the loop.

        `leaving`: the connections whose sessions are about to end, and go on as they are until then.
        """
        spared = set(leaving)
        for number, (name, session) in enumerate(self.sessions.items(), 1):
            if name not in spared and (connection := self.connections.get(name)) is not None:
                session.reconfigure(connection)
            if number % SLICE == 0:
                await anyio.lowlevel.checkpoint()

    async def restart_session(self, name: str) -> bool:
        """End the session of a connection, and begin another; False: it has none. Not while a reload goes on."""
        if name not in self.sessions:
            return False
        with anyio.CancelScope(shield=True):
            await self.sessions.remove([name])
            self.add_session(name)
        return True

    async def submit(self, connection: str, body: bytes) -> AcceptedDownlink | Ended | Busy | None:
        """Take a downlink that is given by hand (`DownlinkIntake.submit`)."""
        return await self._inbox.submit(connection, body)

    def _kick(self, source: str) -> None:
        # A source that is gone, or being replaced: what is stored for it is read by the dispatcher that follows.
        if (dispatcher := self.dispatchers.get(source)) is not None:
            dispatcher.kick()


def _replace(mapping: dict[str, V], other: dict[str, V]) -> None:
    mapping.clear()
    mapping.update(other)
