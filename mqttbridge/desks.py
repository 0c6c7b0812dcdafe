"""All that the commands may ask over the Unix socket beside the status, wired to the running parts.

For the composition root alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.control.events import EventsDesk
from mqttbridge.control.parked import ParkedDesk
from mqttbridge.control.plan import PlanDesk
from mqttbridge.control.replay import ReplayDesk
from mqttbridge.control.tap import TapDesk
from mqttbridge.control.trace import SessionView, TraceDesk
from mqttbridge.sessions.machine import State

if TYPE_CHECKING:
    from mqttbridge.clock import Clock
    from mqttbridge.control.local import Handler, Routes
    from mqttbridge.observe.tap import Taps
    from mqttbridge.parts import Parts
    from mqttbridge.reload import Reloader
    from mqttbridge.vitals import Stores

__all__ = ["Desks"]


class Desks:
    """Who answers what."""

    def __init__(self, parts: Parts, stores: Stores, reloader: Reloader, taps: Taps, *, clock: Clock) -> None:
        """Wire them."""
        self._parts = parts
        self._clock = clock
        self._tap = TapDesk(taps)
        self._events = EventsDesk(stores.history)
        self._others = (
            PlanDesk(reloader),
            TraceDesk(
                stores.history,
                stores.journal,
                stores.downlinks,
                self._session,
                lambda: reloader.loaded.settings,
                clock=clock,
            ),
            ReplayDesk(stores.journal, stores.history, parts.connections, clock),
            ParkedDesk(stores.journal, parts.connections),
        )

    def routes(self) -> Routes:
        """Give all that is answered, by path."""
        found: dict[str, tuple[str, Handler]] = {}
        for desk in (self._tap, self._events, *self._others):
            found |= desk.routes()
        return found

    def stop(self) -> None:
        """End the answers that go on."""
        self._tap.stop()
        self._events.stop()

    def _session(self, name: str) -> SessionView | None:
        """Show a connection as it is; None: it is not configured."""
        session = self._parts.sessions.get(name)
        if session is None:
            return SessionView(str(State.DEACTIVATED), "active is false") if name in self._parts.connections else None
        now = session.status()
        return SessionView(str(now.state), now.why, self._wall(now.retry_at), self._wall(now.down_since))

    def _wall(self, mono: float | None) -> int | None:
        """Give the wall time in ms of a moment on the monotonic clock."""
        return None if mono is None else self._clock.now() + round((mono - self._clock.monotonic()) * 1000)
