"""What the daemon looks after beside its traffic, each a task: the journal's fill, expiry, alarms, certificates.

For the composition root alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttbridge.control.alarms import Alarms
from mqttbridge.control.certificate_watch import CertificateWatch
from mqttbridge.control.journal_watch import JournalWatch
from mqttbridge.sessions.expiry import Expiry
from mqttbridge.sessions.machine import State

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.parts import Parts
    from mqttbridge.reload import Reloader
    from mqttbridge.vitals import Stores

__all__ = ["Upkeep"]


class Upkeep:
    """The watches of one daemon."""

    def __init__(self, parts: Parts, stores: Stores, reloader: Reloader, *, metrics: Metrics, clock: Clock) -> None:
        """Look at what is in force whenever they look."""
        self._parts = parts
        self._certificates = CertificateWatch(lambda: reloader.loaded.settings, clock)
        self._alarms = Alarms(parts.connections, stores.journal.counts, clock)
        self.journal = JournalWatch(stores.journal, clock)
        self._expiry = Expiry(stores.journal, parts.connections, self._is_open, clock=clock)
        self.on_look: Callable[[], None] = lambda: None
        """Called at each `look`, too."""
        metrics.certificates = self._certificates.expiries

    def tasks(self) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
        """Give what runs until it is cancelled."""
        yield self.journal.run
        yield self._expiry.run
        yield self._alarms.run
        yield self._certificates.run

    def look(self) -> None:
        """Look at once at what another configuration brought."""
        self._certificates.look()
        self.on_look()

    def low(self) -> Mapping[str, str]:
        """Tell which connections get too few uplinks, each with a sentence."""
        return self._alarms.low()

    def _is_open(self, name: str) -> bool:
        session = self._parts.sessions.get(name)
        return session is not None and session.status().state is State.OPENED
