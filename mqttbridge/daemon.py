"""The composition root: builds every part, owns the only long-lived task group, and ends in good order.

Order of starting: the address, the journal, the ways to the network servers, the sessions, and the sources last:
nothing is accepted that could not be stored. Order of ending: the sources first, then the sessions with what is in
flight, then the downlinks on their way, the journal last.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio

from mqttbridge import __version__
from mqttbridge.clock import SystemClock
from mqttbridge.control.app import App
from mqttbridge.control.journal_watch import JournalWatch
from mqttbridge.control.local import LocalApp
from mqttbridge.control.protocol import PrivateProtocol
from mqttbridge.control.server import HttpServer, bind
from mqttbridge.control.unix import listen, socket_path
from mqttbridge.control.view import Health, NotOpen
from mqttbridge.journal.downlinks import SqliteDownlinks
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.observe.log import get_logger
from mqttbridge.observe.metrics import Metrics
from mqttbridge.observe.notify import Notifier, watchdog_interval
from mqttbridge.observe.throttle import Throttle
from mqttbridge.overview import Overview
from mqttbridge.parts import Parts, Tools, build
from mqttbridge.sessions.expiry import Expiry
from mqttbridge.sessions.machine import State
from mqttbridge.settings.advice import advice

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping

    from anyio.abc import TaskStatus

    from mqttbridge.clock import Clock
    from mqttbridge.control.status import Status
    from mqttbridge.model import Counts
    from mqttbridge.settings.loader import Loaded

__all__ = ["Daemon", "run_daemon"]

log = get_logger()

MAX_NAMED = 100
"""Connections that health names."""
SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes gives way to one that waits; Python's own is 0.005."""
STATUS_EVERY = 5.0
"""Seconds."""
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
"""Names of malloc.h (mallopt(3))."""


class Daemon:
    """One running mqttbridge. Implements the view that `control/` has of it."""

    def __init__(self, loaded: Loaded, *, environ: Mapping[str, str], clock: Clock | None = None) -> None:
        """Take a checked configuration; nothing happens before `serve`."""
        self._loaded = loaded
        self._settings = loaded.settings
        self._clock = clock or SystemClock()
        self._notifier = Notifier(environ)
        self._watchdog = watchdog_interval(environ)
        self._socket = socket_path(loaded.state_directory, environ)
        self._throttle = Throttle(self._clock)
        self._journal: SqliteJournal | None = None
        self._downlinks: SqliteDownlinks | None = None
        self._parts = Parts()
        self._overview: Overview | None = None
        self._metrics = Metrics(self._counts, self._states, self._journal_health, self._downlinks_waiting)
        self._stopping = anyio.Event()
        self.address: tuple[str, int] = ("", 0)
        """Where HTTP listens, once it does."""

    def stop(self) -> None:
        """Ask it to end in good order."""
        self._stopping.set()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop`. Raises `StartError` when the machine does not give what the configuration asks for."""
        listener = bind(*self._settings.http.address)
        try:
            self._journal = await SqliteJournal.open(
                self._loaded.state_directory,
                max_size=self._settings.journal.max_size,
                when_full=self._settings.journal.when_full,
                clock=self._clock,
            )
            try:
                await self._with_downlinks(self._journal, listener, task_status)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._journal.close()
        finally:
            listener.close()
        log.info("daemon.stopped")

    async def _with_downlinks(
        self, journal: SqliteJournal, listener: socket.socket, task_status: TaskStatus[None]
    ) -> None:
        """Open what keeps the downlinks, build all parts, and let go of them at the end."""
        downlinks = self._downlinks = await SqliteDownlinks.open(self._loaded.state_directory, clock=self._clock)
        try:
            await self._account(journal)
            tools = Tools(journal, downlinks, self._clock, self._metrics, self._throttle)
            self._parts, intake = build(self._settings, tools, orphans=await downlinks.sources())
            server = HttpServer(App(intake, self), listener)
            overview = Overview(
                self._loaded.path, journal, downlinks.all_waiting, metrics=self._metrics, clock=self._clock
            )
            async with self._answering_commands(overview):
                await self._live(self._parts, server, listener, task_status)
        finally:
            with anyio.CancelScope(shield=True):
                for network in self._parts.networks.values():
                    await network.close()
                await downlinks.close()

    @contextlib.asynccontextmanager
    async def _answering_commands(self, overview: Overview) -> AsyncIterator[None]:
        """Answer on the Unix socket, until all else has ended. The journal's lock says that no other has it."""
        self._overview = overview
        app = await anyio.to_thread.run_sync(LocalApp, self, self._loaded.path)
        listening = await anyio.to_thread.run_sync(listen, self._socket)
        try:
            async with HttpServer(app, listening.socket, PrivateProtocol).serving():
                yield
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(listening.close)

    async def _live(
        self, parts: Parts, server: HttpServer, listener: socket.socket, task_status: TaskStatus[None]
    ) -> None:
        """Run everything until `stop`, and end it in good order."""
        async with anyio.create_task_group() as heartbeat:
            for beat in self._heartbeats():
                heartbeat.start_soon(beat)
            async with anyio.create_task_group() as dispatchers:
                for dispatcher in parts.dispatchers.values():
                    dispatchers.start_soon(dispatcher.run)
                async with anyio.create_task_group() as sessions:
                    for session in parts.sessions.values():
                        sessions.start_soon(session.run)
                    async with anyio.create_task_group() as sources:
                        for source in parts.sources.values():
                            sources.start_soon(source.run)
                        sources.start_soon(server.run_until_stopped)
                        self._started(listener)
                        task_status.started()
                        await self._stopping.wait()
                        self._notifier.stopping()
                        server.stop()
                        for source in parts.sources.values():
                            source.stop()
                    for session in parts.sessions.values():
                        session.stop()
                for dispatcher in parts.dispatchers.values():
                    dispatcher.stop()
            heartbeat.cancel_scope.cancel()

    def _heartbeats(self) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
        """Give what goes on beside all else, until the end."""
        if self._journal is None:
            return
        yield JournalWatch(self._journal, self._clock).run
        yield self._throttle.run
        if self._overview is not None:
            yield self._overview.run
        yield self._expiry(self._journal).run
        if self._notifier.active:
            yield self._show_status
        if self._watchdog is not None:
            yield functools.partial(self._feed_watchdog, self._watchdog)

    def _expiry(self, journal: SqliteJournal) -> Expiry:
        connections = self._settings.connections
        validity = {name: each.configuration.uplink_time_validity for name, each in connections.items()}

        def is_open(name: str) -> bool:
            session = self._parts.sessions.get(name)
            return session is not None and session.status().state is State.OPENED

        return Expiry(journal, validity, is_open, clock=self._clock)

    async def _feed_watchdog(self, interval: float) -> None:
        while True:
            self._notifier.watchdog()
            await anyio.sleep(interval)

    async def _show_status(self) -> None:
        """Keep the line in `systemctl status` true."""
        while True:
            states = Counter(self._states().values())
            queued = sum(counts.queued for counts in self._counts().values())
            wanted = len(self._parts.sessions)
            self._notifier.status(f"{states[State.OPENED]} of {wanted} connections open, {queued} queued")
            await anyio.sleep(STATUS_EVERY)

    # -- starting ------------------------------------------------------------------------------------------------

    async def _account(self, journal: SqliteJournal) -> None:
        """Open the accounts, and name those that no connection owns any more."""
        await journal.declare(self._settings.connections)
        for name, counts in journal.counts().items():
            if name not in self._settings.connections and counts.queued:
                log.warning("connection.orphaned", connection=name, queued=counts.queued)

    def _started(self, listener: socket.socket) -> None:
        self._announce()
        host, port = listener.getsockname()[:2]
        self.address = (host, port)
        for warning in (*self._loaded.warnings, *advice(self._settings)):
            log.warning("config.warning", reason=warning)
        log.info("http.listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        log.info(
            "daemon.started",
            version=__version__,
            state_directory=str(self._loaded.state_directory),
            connections=len(self._parts.sessions),
            sources=len(self._settings.sources),
        )
        self._notifier.ready(f"{len(self._parts.sessions)} connections, {len(self._settings.sources)} sources")

    def _announce(self) -> None:
        """Show every source and connection in the metrics from the start."""
        for name in self._settings.sources:
            self._metrics.announce(name)
        for name, connection in self._settings.connections.items():
            if connection.configuration.takes_downlinks:
                self._metrics.downlinks.announce(name)

    # -- the view ------------------------------------------------------------------------------------------------

    def health(self) -> Health:
        """Tell how the daemon is: what keeps uplinks from being accepted makes it fail."""
        return Health(self._failing(), Counter(self._states().values()), self._not_open(), self._held_up())

    def _failing(self) -> tuple[str, ...]:
        """Say what keeps uplinks from being accepted."""
        sources = ((name, source.status()) for name, source in self._parts.sources.items())
        closed = (f"source {name}: {status.why}" for name, status in sources if not status.open)
        return (*self._journal_problems(), *closed)

    def _journal_problems(self) -> tuple[str, ...]:
        """Say what is wrong with the disk."""
        problems = (
            self._journal.health().problem if self._journal is not None else "",
            self._downlinks.problem() if self._downlinks is not None else "",
        )
        return tuple(f"journal: {problem}" for problem in problems if problem)

    def _held_up(self) -> tuple[str, ...]:
        """Say what keeps downlinks from coming in, or from going on to their network server."""
        refused = ((f"connection {name}", each.status().downlinks) for name, each in self._parts.sessions.items())
        failing = ((f"source {name}", each.status().why) for name, each in self._parts.dispatchers.items())
        return tuple(f"{name}: {why}" for name, why in itertools.chain(refused, failing) if why)[:MAX_NAMED]

    def _not_open(self) -> tuple[NotOpen, ...]:
        """Name the connections that are not open, those first that should be."""
        statuses = ((name, session.status()) for name, session in self._parts.sessions.items())
        found = (NotOpen(name, str(now.state), now.why) for name, now in statuses if now.state is not State.OPENED)
        idle = (name for name in self._settings.connections if name not in self._parts.sessions)
        inactive = (NotOpen(name, str(State.DEACTIVATED), "active is false") for name in idle)
        return tuple(itertools.islice(itertools.chain(found, inactive), MAX_NAMED))

    def status(self) -> Status:
        """Show every part, now."""
        if self._overview is None:
            raise RuntimeError("the daemon is not running")
        return self._overview.status(self._loaded, self._parts, self._journal_problems())

    def metrics(self) -> tuple[bytes, str]:
        """Give the Prometheus text and its content type."""
        return self._metrics.render()

    def _states(self) -> dict[str, str]:
        sessions = self._parts.sessions
        return {
            name: str(sessions[name].status().state if name in sessions else State.DEACTIVATED)
            for name in self._settings.connections
        }

    def _counts(self) -> Mapping[str, Counts]:
        return self._journal.counts() if self._journal is not None else {}

    def _downlinks_waiting(self) -> Mapping[str, int]:
        if self._downlinks is None:
            return {}
        takers = (name for name, each in self._settings.connections.items() if each.configuration.takes_downlinks)
        # Those too whose connection is gone, or takes none any more: they still end, and that is counted.
        return dict.fromkeys(takers, 0) | self._downlinks.all_waiting()

    def _journal_health(self) -> Any:  # noqa: ANN401 (metrics has a protocol of its own for it)
        if self._journal is None:
            raise RuntimeError("the journal is not open")
        return self._journal.health()


async def run_daemon(loaded: Loaded, *, environ: Mapping[str, str]) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends at once. Raises `StartError`."""
    _tune_process()
    daemon = Daemon(loaded, environ=environ)
    # A hangup asks other daemons to read their configuration again. This one does not, and must not die of it.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    async with anyio.create_task_group() as group:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            group.start_soon(_heed, signals, daemon)
            await daemon.serve()
            group.cancel_scope.cancel()


async def _heed(signals: Any, daemon: Daemon) -> None:  # noqa: ANN401 (an async iterator of anyio's)
    asked = False
    async for number in signals:
        if asked:
            # The journal is safe at every moment: what was accepted is on disk.
            os._exit(128 + number)
        asked = True
        log.info("daemon.stopping", signal=signal.Signals(number).name)
        daemon.stop()


def _tune_process() -> None:
    """Make the interpreter and the C library fit a program of one busy loop and a few threads."""
    # The journal's threads ask for the interpreter once a batch, and would wait 5 ms each time that the loop is busy.
    sys.setswitchinterval(SWITCH_INTERVAL)
    # glibc learns to keep large buffers for ever. Fixed thresholds give them back: a backlog of 50,000 uplinks costs
    # 20 MiB instead of 34. Elsewhere there is no mallopt, and nothing to do.
    with contextlib.suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, 128 * 1024)
        mallopt(M_TRIM_THRESHOLD, 256 * 1024)
