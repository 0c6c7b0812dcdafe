"""What there is while the daemon runs: built here, wired together, and shown to `control/` as its view.

For the daemon, which opens the stores, runs what is built here, and ends it in good order.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.control.tallies import Tallies
from mqttbridge.observe.metrics import Metrics
from mqttbridge.overview import Overview, Remarks
from mqttbridge.parts import Parts, Tools
from mqttbridge.reload import Reloader
from mqttbridge.settings.loader import load
from mqttbridge.sources.gaps import FrameCounters
from mqttbridge.upkeep import Upkeep
from mqttbridge.vitals import Stores, Vitals

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from typing import Any

    from mqttbridge.clock import Clock
    from mqttbridge.control.status import Status
    from mqttbridge.control.view import Health
    from mqttbridge.files import Learn
    from mqttbridge.observe.notify import Notifier
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.passage import Passage
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Settings

__all__ = ["Given", "Running", "build"]

DEVICES = 16_384
"""Whose frame counters are known from the start, at most."""


class Given(msgspec.Struct, frozen=True):
    """What the daemon brings along."""

    loaded: Loaded
    environ: Mapping[str, str]
    clock: Clock
    throttle: Throttle
    notifier: Notifier
    passage: Passage
    learn_secrets: Learn


class Running(msgspec.Struct, frozen=True):
    """What runs. Implements `control.view.View`."""

    stores: Stores
    parts: Parts
    registry: Metrics
    vitals: Vitals
    reloader: Reloader
    overview: Overview
    upkeep: Upkeep
    tallies: Tallies

    def tasks(self) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
        """Give what goes on beside the traffic until it is cancelled."""
        yield self.overview.run
        yield self.reloader.run
        yield self.tallies.run
        yield from self.upkeep.tasks()

    def announce(self) -> None:
        """Show every source and connection in the metrics from the start."""
        settings = self.reloader.loaded.settings
        for name in settings.sources:
            self.registry.announce(name)
        for name, connection in settings.connections.items():
            if connection.configuration.takes_downlinks:
                self.registry.downlinks.announce(name)

    def remarks(self) -> Remarks:
        """Tell what the status shows besides what it finds itself. Cheap."""
        vitals = self.vitals
        return Remarks(vitals.reasons(), vitals.attention(), self.stores.journal.parked_kept(), self.upkeep.low())

    # -- the view

    def health(self) -> Health:
        """Tell how the daemon is: what keeps uplinks from being accepted makes it fail."""
        return self.vitals.health()

    def status(self) -> Status:
        """Show every part, now."""
        return self.overview.status(self.reloader.loaded, self.parts, self.remarks())

    def metrics(self) -> tuple[bytes, str]:
        """Give the Prometheus text and its content type."""
        return self.registry.render()

    def applied(self, before: Settings) -> None:
        """Follow a configuration that has come into force."""
        after = self.reloader.loaded.settings
        for name in before.sources.keys() - after.sources.keys():
            self.registry.forget(name)
        for name in before.connections.keys() - after.connections.keys():
            self.registry.downlinks.forget(name)
        self.announce()
        self.upkeep.look()


async def build(given: Given, stores: Stores) -> Running:
    """Build all parts, and what looks after them; nothing runs yet. Raises `JournalError`."""
    clock, journal = given.clock, stores.journal
    await journal.declare(given.loaded.settings.connections)
    vitals = Vitals(stores)
    registry = Metrics(vitals.counts, vitals.states, journal.health, vitals.downlinks_waiting)
    registry.history_lost = lambda: stores.history.lost
    registry.parked_kept = journal.parked_kept
    tools = Tools(
        journal,
        stores.downlinks,
        clock,
        registry,
        given.throttle,
        given.passage,
        FrameCounters(await stores.history.frame_counters(DEVICES)),
    )
    parts = vitals.parts = Parts(given.loaded.settings, tools, orphans=await stores.downlinks.sources())
    reloader = vitals.reloader = Reloader(
        given.loaded,
        parts,
        stores,
        read=functools.partial(load, given.loaded.path, environ=given.environ),
        metrics=registry,
        notifier=given.notifier,
        learn_secrets=given.learn_secrets,
        clock=clock,
    )
    upkeep = Upkeep(parts, stores, reloader, metrics=registry, clock=clock)
    tallies = Tallies(journal.counts, clock)
    given.passage.listen(upkeep.journal, tallies)
    overview = Overview(given.loaded.path, journal, stores.downlinks.all_waiting, metrics=registry, clock=clock)
    running = Running(stores, parts, registry, vitals, reloader, overview, upkeep, tallies)
    reloader.on_applied = running.applied
    return running
