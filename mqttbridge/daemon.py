"""The composition root: builds every part, owns the only long-lived task group, and ends in good order.

Order of starting: the address, the journal, the ways to the network servers, the sessions, and the sources last:
nothing is accepted that could not be stored. Order of ending: the sources first, then the sessions with what is in
flight, then the downlinks on their way, the journal and the history last.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio

from mqttbridge import __version__
from mqttbridge.clock import SystemClock
from mqttbridge.control.protocol import PrivateProtocol
from mqttbridge.control.server import HttpServer, bind
from mqttbridge.control.tls import ServerTls
from mqttbridge.control.unix import listen, socket_path
from mqttbridge.doors import Doors
from mqttbridge.garbage import spare
from mqttbridge.history.history import History
from mqttbridge.journal.downlinks import SqliteDownlinks
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.observe.log import get_logger, keep
from mqttbridge.observe.notify import Notifier, watchdog_interval
from mqttbridge.observe.tap import Taps
from mqttbridge.observe.throttle import Throttle
from mqttbridge.passage import Passage
from mqttbridge.reload import HISTORY_SHARE
from mqttbridge.running import Given, build
from mqttbridge.sessions.machine import State
from mqttbridge.settings.advice import advice
from mqttbridge.vitals import Stores

if TYPE_CHECKING:
    import socket
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping

    from anyio.abc import TaskStatus

    from mqttbridge.clock import Clock
    from mqttbridge.files import Learn
    from mqttbridge.running import Running
    from mqttbridge.settings.loader import Loaded

__all__ = ["Daemon", "run_daemon"]

log = get_logger()

SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread that computes gives way to one that waits; Python's own is 0.005."""
STATUS_EVERY = 5.0
"""Seconds."""
M_TRIM_THRESHOLD = -1
M_MMAP_THRESHOLD = -3
"""Names of malloc.h (mallopt(3))."""


class Daemon:
    """One mqttbridge."""

    def __init__(
        self,
        loaded: Loaded,
        *,
        environ: Mapping[str, str],
        clock: Clock | None = None,
        learn_secrets: Learn = lambda *_: lambda: None,
    ) -> None:
        """Take a checked configuration; nothing happens before `serve`. `learn_secrets` hears of those of a reload."""
        self._loaded = loaded
        self._environ = environ
        self._clock = clock or SystemClock()
        self._learn_secrets = learn_secrets
        self._notifier = Notifier(environ)
        self._throttle = Throttle(self._clock)
        self._taps = Taps(self._clock)
        self._stopping = anyio.Event()
        self._reload_asked = False
        self._running: Running | None = None
        self._tls: ServerTls | None = None
        self.address: tuple[str, int] = ("", 0)
        """Where HTTP listens, once it does."""

    def stop(self) -> None:
        """Ask it to end in good order."""
        self._stopping.set()

    def ask_reload(self) -> None:
        """Ask it to take up the file as it stands, soon."""
        self._reload_asked = True
        if self._running is not None:
            self._running.reloader.ask()

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Run until `stop`. Raises `StartError` when the machine does not give what the configuration asks for."""
        listener = bind(*self._loaded.settings.http.address)
        try:
            async with contextlib.AsyncExitStack() as stack:
                running = self._running = await self._built(stack)
                if self._reload_asked:
                    running.reloader.ask()
                doors = await anyio.to_thread.run_sync(self._doors, running)
                server = HttpServer(doors.listener, listener, tls=self._tls)
                async with self._answering_commands(doors):
                    await self._live(running, server, listener, task_status)
        finally:
            keep(None)
            listener.close()
        log.info("daemon.stopped")

    # -- what it is made of ----------------------------------------------------------------------------------------

    async def _built(self, stack: contextlib.AsyncExitStack) -> Running:
        """Open the stores and build all parts; the stack closes them."""
        stores, passage = await self._open(stack)
        given = Given(
            self._loaded, self._environ, self._clock, self._throttle, self._notifier, passage, self._learn_secrets
        )
        running = await build(given, stores)
        stack.push_async_callback(_shielded, running.parts.close)
        return running

    def _doors(self, running: Running) -> Doors:
        """Make the ways in. Blocks."""
        http = self._loaded.settings.http
        if http.certificate is not None:
            self._tls = tls = ServerTls(http)
            running.upkeep.on_look = lambda: tls.take_up(running.reloader.loaded.settings.http)
        return Doors(running, self._taps, environ=self._environ, throttle=self._throttle, clock=self._clock)

    async def _open(self, stack: contextlib.AsyncExitStack) -> tuple[Stores, Passage]:
        """Open what keeps things on disk. The stack closes it, the history last: it hears of the others' ends."""
        where, settings, clock = self._loaded.state_directory, self._loaded.settings.journal, self._clock
        # First of all: its lock says that no other daemon uses these files.
        journal = await SqliteJournal.open(where, max_size=settings.max_size, when_full=settings.when_full, clock=clock)
        stack.push_async_callback(_shielded, journal.close)
        room = settings.max_size // HISTORY_SHARE
        history = await History.open(where, retention=settings.retention, max_size=room, clock=clock, tell=_tell)
        stack.push_async_callback(_shielded, history.close)
        stack.push_async_callback(_shielded, journal.close)
        passage = journal.witness = Passage(history, self._taps)
        keep(self._keep(history))
        downlinks = await SqliteDownlinks.open(where, clock=clock)
        stack.push_async_callback(_shielded, downlinks.close)
        return Stores(journal, downlinks, history), passage

    def _keep(self, history: History) -> Callable[[int, str, str, dict[str, object]], None]:
        """Give what takes the lines of the log that are kept, from any thread."""

        def keeper(at: int, level: str, name: str, fields: dict[str, object]) -> None:
            history.event(at, level, name, fields)
            self._taps.event(at, level, name, fields)

        return keeper

    @contextlib.asynccontextmanager
    async def _answering_commands(self, doors: Doors) -> AsyncIterator[None]:
        """Answer on the Unix socket, until all else has ended. The journal's lock says that no other has it."""
        path = socket_path(self._loaded.state_directory, self._environ)
        listening = await anyio.to_thread.run_sync(listen, path)
        try:
            async with HttpServer(doors.socket, listening.socket, PrivateProtocol).serving():
                try:
                    yield
                finally:
                    doors.stop()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(listening.close)

    async def _live(
        self, running: Running, server: HttpServer, listener: socket.socket, status: TaskStatus[None]
    ) -> None:
        """Run everything until `stop`, and end it in good order."""
        parts = running.parts
        async with anyio.create_task_group() as heartbeat:
            for beat in self._heartbeats(running):
                heartbeat.start_soon(beat)
            async with parts.dispatchers.working(), parts.sessions.working(), parts.sources.working(), server.serving():
                self._started(running, listener)
                status.started()
                await self._stopping.wait()
                self._notifier.stopping()
                await running.reloader.close()
                server.stop()
                parts.sources.stop()
            heartbeat.cancel_scope.cancel()

    def _heartbeats(self, running: Running) -> Iterator[Callable[[], Coroutine[Any, Any, None]]]:
        """Give what goes on beside all else, until the end."""
        yield self._throttle.run
        yield from running.tasks()
        if self._tls is not None:
            yield self._tls.run
        if self._notifier.active:
            yield functools.partial(self._show_status, running)
        if (interval := watchdog_interval(self._environ)) is not None:
            yield functools.partial(self._feed_watchdog, interval)

    async def _feed_watchdog(self, interval: float) -> None:
        while True:
            self._notifier.watchdog()
            await anyio.sleep(interval)

    async def _show_status(self, running: Running) -> None:
        """Keep the line in `systemctl status` true."""
        while True:
            states = Counter(running.vitals.states().values())
            queued = sum(counts.queued for counts in running.vitals.counts().values())
            wanted = len(running.parts.sessions)
            self._notifier.status(f"{states[State.OPENED]} of {wanted} connections open, {queued} queued")
            await anyio.sleep(STATUS_EVERY)

    def _started(self, running: Running, listener: socket.socket) -> None:
        """Tell that everything runs."""
        loaded, settings = self._loaded, self._loaded.settings
        running.announce()
        for name, counts in running.vitals.counts().items():
            if name not in settings.connections and counts.queued:
                log.warning("connection.orphaned", connection=name, queued=counts.queued)
        host, port = listener.getsockname()[:2]
        self.address = (host, port)
        for warning in (*loaded.warnings, *advice(settings)):
            log.warning("config.warning", reason=warning)
        log.info("http.listening", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        numbers = {"connections": len(running.parts.sessions), "sources": len(settings.sources)}
        log.info("daemon.started", version=__version__, state_directory=str(loaded.state_directory), **numbers)
        self._notifier.ready(", ".join(f"{number} {name}" for name, number in numbers.items()))


def _tell(level: str, event: str, fields: dict[str, Any]) -> None:
    """Log for the history, whose room may not."""
    getattr(log, level)(event, **fields)


async def _shielded(close: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Close something, even if the task was cancelled."""
    with anyio.CancelScope(shield=True):
        await close()


async def run_daemon(loaded: Loaded, *, environ: Mapping[str, str], learn_secrets: Learn) -> None:
    """Run until SIGTERM or SIGINT; a second signal ends at once. SIGHUP reloads. Raises `StartError`.

    `learn_secrets(*values)` is told the secrets of each configuration that is loaded meanwhile; it gives what is called
    when these need not be known any more.
    """
    _tune_process()
    daemon = Daemon(loaded, environ=environ, learn_secrets=learn_secrets)
    async with anyio.create_task_group() as group:
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
            group.start_soon(_heed, signals, daemon)
            group.start_soon(spare)
            await daemon.serve()
            group.cancel_scope.cancel()


async def _heed(signals: Any, daemon: Daemon) -> None:  # noqa: ANN401 (an async iterator of anyio's)
    asked = False
    async for number in signals:
        if number == signal.SIGHUP:
            daemon.ask_reload()
            continue
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
