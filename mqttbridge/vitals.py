"""How the running parts are, for health and metrics. For the composition root alone.

Built before the parts, because these are given the metrics; `parts` and `reloader` follow at once.
"""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING, Protocol

import msgspec

from mqttbridge.control.view import Health, NotOpen
from mqttbridge.sessions.machine import State

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.history.history import History
    from mqttbridge.journal.downlinks import SqliteDownlinks
    from mqttbridge.journal.sqlite import SqliteJournal
    from mqttbridge.model import Counts
    from mqttbridge.parts import Parts
    from mqttbridge.renewal import Renewal

__all__ = ["Stores", "Vitals"]

MAX_NAMED = 100
"""Connections that health names."""


class Stores(msgspec.Struct, frozen=True):
    """What keeps things on disk."""

    journal: SqliteJournal
    downlinks: SqliteDownlinks
    history: History


class Reloading(Protocol):
    """Who knows why a changed file is not in force."""

    problem: str
    renewal: Renewal


class Vitals:
    """The pulse of one daemon. Everything here is cheap."""

    parts: Parts
    reloader: Reloading

    def __init__(self, stores: Stores) -> None:
        """Look at these."""
        self._stores = stores

    def health(self) -> Health:
        """Tell how the daemon is: what keeps uplinks from being accepted makes it fail."""
        states = Counter(self.states().values())
        return Health(self._failing(), states, self._not_open(), self._held_up(), self.reloader.problem)

    def _failing(self) -> tuple[str, ...]:
        """Say what keeps uplinks from being accepted."""
        sources = ((name, source.status()) for name, source in self.parts.sources.items())
        closed = (f"source {name}: {status.why}" for name, status in sources if not status.open)
        return (*self.reasons(), *closed)

    def reasons(self) -> tuple[str, ...]:
        """Say what is wrong with the disk, so that no uplink is accepted."""
        problems = (self._stores.journal.health().problem, self._stores.downlinks.problem())
        return tuple(f"journal: {problem}" for problem in problems if problem)

    def attention(self) -> tuple[str, ...]:
        """Say what else is wrong with the daemon as a whole, while uplinks are accepted."""
        reloader = self.reloader
        return tuple(filter(None, (reloader.problem, reloader.renewal.problem, self._stores.history.problem())))

    def _held_up(self) -> tuple[str, ...]:
        """Say what keeps downlinks from coming in, or from going on to their network server."""
        refused = ((f"connection {name}", each.status().downlinks) for name, each in self.parts.sessions.items())
        failing = ((f"source {name}", each.status().why) for name, each in self.parts.dispatchers.items())
        return tuple(f"{name}: {why}" for name, why in itertools.chain(refused, failing) if why)[:MAX_NAMED]

    def _not_open(self) -> tuple[NotOpen, ...]:
        """Name the connections that are not open, those first that should be."""
        statuses = ((name, session.status()) for name, session in self.parts.sessions.items())
        found = (NotOpen(name, str(now.state), now.why) for name, now in statuses if now.state is not State.OPENED)
        idle = (name for name in self.parts.connections if name not in self.parts.sessions)
        inactive = (NotOpen(name, str(State.DEACTIVATED), "active is false") for name in idle)
        return tuple(itertools.islice(itertools.chain(found, inactive), MAX_NAMED))

    def states(self) -> dict[str, str]:
        """Give the state of each connection that is configured."""
        sessions = dict(self.parts.sessions.items())
        # A scrape asks in a thread, while the loop may reload: the list is made in one step.
        return {
            name: str(sessions[name].status().state if name in sessions else State.DEACTIVATED)
            for name in list(self.parts.connections)
        }

    def counts(self) -> Mapping[str, Counts]:
        """Give the account of each connection."""
        return self._stores.journal.counts()

    def downlinks_waiting(self) -> Mapping[str, int]:
        """Give how many downlinks wait for their network server, by connection."""
        connections = list(self.parts.connections.items())
        takers = (name for name, each in connections if each.configuration.takes_downlinks)
        # Those too whose connection is gone, or takes none any more: they still end, and that is counted.
        return dict.fromkeys(takers, 0) | self._stores.downlinks.all_waiting()
