"""One broker connection, for as long as the daemon runs: performs what `machine.step` decides.

Everything that can block (DNS, TCP, TLS, CONNACK, a dead broker) has a time limit and can be interrupted by `stop`.
A session never harms another: whatever goes wrong here, even a bug, becomes a lost link and a retry.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from mqttbridge.errors import JournalError, LinkError, LoginRefused
from mqttbridge.mqtt.backoff import HEALTHY_AFTER
from mqttbridge.mqtt.client import LinkOptions, link_options, open_link, overdue
from mqttbridge.mqtt.link import Grant
from mqttbridge.mqtt.reasons import TAKEN_OVER
from mqttbridge.mqtt.until import unless
from mqttbridge.observe.log import get_logger
from mqttbridge.sessions import machine
from mqttbridge.sessions.downlinks import RECEIVE_MAXIMUM, Ended, Overflown
from mqttbridge.sessions.traffic import Traffic, cancel

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.journal.downlink_protocol import DownlinkJournal
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.mqtt.link import Ack, Link, Received
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.sessions.downlinks import Tally
    from mqttbridge.sessions.gate import ConnectGate
    from mqttbridge.sessions.inbox import Inbox
    from mqttbridge.sessions.machine import State
    from mqttbridge.settings.schema import Connection

__all__ = ["BrokerSession", "SessionStatus"]

log = get_logger()

DRAIN_FOR = 5.0
"""Seconds that publishes in flight get at the end."""
STARVED_AFTER = 3600.0
STARVED_CHECK = 60.0


class SessionStatus(msgspec.Struct, frozen=True):
    """A session from outside. `since`, `retry_at`, `down_since` and `opened` in monotonic seconds.

    `downlinks`: why the broker sends no downlinks over an open link, as a sentence; empty while all is well.
    `attempts`: how often it failed in a row. `down_since`: since when it is not open, whatever it tried; None: it is.
    `opened`: when it was last opened; None: never.
    """

    state: State
    since: float
    why: str
    retry_at: float | None
    in_flight: int
    downlinks: str = ""
    attempts: int = 0
    down_since: float | None = None
    opened: float | None = None


class BrokerSession:
    """The session of one connection. `run` it as a task, `stop` it once."""

    def __init__(  # noqa: PLR0913 - what the daemon wires
        self,
        connection: str,
        settings: Connection,
        *,
        journal: Journal,
        gate: ConnectGate,
        clock: Clock,
        random: Callable[[], float],
        throttle: Throttle,
        inbox: Inbox | None = None,
        downlinks: DownlinkJournal | None = None,
        metrics: Tally | None = None,
    ) -> None:
        """Prepare; nothing happens before `run`. `inbox` takes downlinks, `downlinks` has their receipts."""
        configuration = settings.configuration
        self.connection = connection
        self._configuration = configuration
        self._journal = journal
        self._gate = gate
        self._clock = clock
        self._random = random
        self._policy = machine.Policy(configuration.reconnect_strategy, configuration.client_id_for(connection))
        self._traffic = Traffic(
            connection,
            configuration,
            journal=journal,
            clock=clock,
            throttle=throttle,
            inbox=inbox,
            downlinks=downlinks,
            tally=metrics,
        )
        self._options = self._link_options(self._policy.client_id)
        self._machine = machine.never_open(clock.monotonic())
        self._opened: float | None = None
        self._stopping = asyncio.Event()
        self._link: Link | None = None
        self._grant = Grant()
        self._dead: asyncio.Future[LinkError] | None = None
        self._connect_by, self._connect_limit = 0.0, 0

    def _link_options(self, client_id: str) -> LinkOptions:
        """With downlinks the broker keeps our session, and what is published while we are away."""
        configuration, keeps = self._configuration, self._traffic.takes_downlinks
        options = link_options(
            configuration,
            client_id=client_id,
            clean=not keeps,
            qos=configuration.qos,
            retain=configuration.retain,
        )
        return msgspec.structs.replace(options, receive_maximum=RECEIVE_MAXIMUM) if keeps else options

    def status(self) -> SessionStatus:
        """Tell how it is."""
        now = self._machine
        in_flight = self._traffic.delivery.in_flight
        return SessionStatus(
            now.state,
            now.since,
            now.why,
            now.retry_at,
            in_flight,
            self._traffic.problem,
            now.attempts,
            now.down_since,
            self._opened,
        )

    def reconfigure(self, settings: Connection) -> None:
        """Have other settings, at any moment: what needs no other link counts from the next uplink or attempt on.

        For a change of what the broker sees (address, login, client id, QoS, what is subscribed to …) a session ends,
        and another one begins. One that waits, or has given up, goes on doing so.
        """
        if settings.configuration == self._configuration:
            return
        strategy = settings.configuration.reconnect_strategy
        if strategy != self._policy.strategy:
            self._policy = msgspec.structs.replace(self._policy, strategy=strategy)
            self._traffic.delivery.delivered_at = self._now()  # under the old one nobody counted the hour
        self._configuration = settings.configuration
        self._traffic.reconfigure(settings.configuration)

    def stop(self) -> None:
        """Ask it to end: what is in flight gets some seconds, then `run` returns."""
        self._stopping.set()

    async def run(self) -> None:
        """Live until stopped."""
        event: machine.Event = machine.Started(self._now())
        try:
            while True:
                self._machine, said, action = machine.step(self._machine, event, self._policy)
                if self._machine.state is machine.State.OPENED:
                    self._opened = self._machine.since
                for line in said:
                    self._announce(line)
                if isinstance(action, machine.End):
                    return
                event = await self._perform(action)
        finally:
            # A cancelled task must still let go of its link; an unresponsive disk must not hold it up for ever.
            with anyio.move_on_after(DRAIN_FOR, shield=True):
                try:
                    await self._close()
                finally:
                    await self._traffic.close()
            self._machine, _, _ = machine.step(self._machine, machine.Drained(self._now()), self._policy)

    def _now(self) -> float:
        return self._clock.monotonic()

    def _announce(self, line: machine.Announcement) -> None:
        fields: dict[str, Any] = {"connection": self.connection, **line.fields}
        getattr(log, line.level)(line.event, **fields)

    # -- performing ----------------------------------------------------------------------------------------------

    async def _perform(self, action: machine.Action) -> machine.Event:
        """Do one action, and tell what came of it. A stop request interrupts all but the ending."""
        match action:
            case machine.Dial():
                return await self._unless_stopped(self._dial())
            case machine.Login():
                return await self._unless_stopped(self._login())
            case machine.Serve():
                return await self._unless_stopped(self._serve())
            case machine.Wait(delay=delay):
                await self._close()
                return await self._unless_stopped(self._wait(delay))
            case machine.Drain():
                await self._drain()
                return machine.Drained(self._now())
            case _:
                await self._close()
                return machine.Drained(self._now())

    async def _unless_stopped(self, doing: Coroutine[Any, Any, machine.Event]) -> machine.Event:
        """Run it, but let a stop request cancel it."""
        try:
            return await unless(self._stopping, doing) or machine.StopRequested(self._now())
        except Exception as error:  # a bug in one session must not end the others
            log.exception("session.crashed", connection=self.connection)
            return self._failed(f"internal error ({type(error).__name__}); please report it")

    def _failed(self, reason: str, *, refused: bool = False) -> machine.Failed:
        return machine.Failed(self._now(), self._random(), reason, refused)

    async def _dial(self) -> machine.Event:
        await self._gate.turn((self._options.host, self._options.port))
        attempt = self._machine.attempts + 1
        log.debug("connection.opening", connection=self.connection, address=self._options.where, attempt=attempt)
        self._dead = asyncio.get_running_loop().create_future()
        self._connect_limit = self._configuration.connection_timeout
        self._connect_by = self._now() + self._connect_limit / 1000
        self._link = open_link(self._options, self)
        return await self._within_timeout(self._link, self._link.connect()) or machine.Dialled(self._now())

    async def _login(self) -> machine.Event:
        async def login(link: Link) -> None:
            self._grant = await link.login()

        if self._link is None or self._dead is None:
            return self._failed("the link is gone")
        failed = await self._within_timeout(self._link, login(self._link))
        if failed is not None:
            return failed
        self._traffic.open(self._link, self._grant, self._dead)
        return machine.Granted(self._now())

    async def _within_timeout(self, link: Link, doing: Coroutine[Any, Any, None]) -> machine.Failed | None:
        """Do a step of connecting in what is left of `connectionTimeout`. Gives how it failed, or None."""
        try:
            async with asyncio.timeout(max(0.0, self._connect_by - self._now())):
                await doing
        except LoginRefused as error:
            return self._failed(_sentence(error), refused=True)
        except LinkError as error:
            return self._failed(_sentence(error))
        except TimeoutError:
            return self._failed(_sentence(overdue(link, self._options, self._connect_limit)))
        return None

    async def _serve(self) -> machine.Event:
        """Wait for what ends or changes an open link."""
        if self._dead is None:
            return self._failed("the link is gone")
        while True:
            steady_in = self._machine.since + HEALTHY_AFTER - self._now()
            limit = steady_in if self._unsteady() and steady_in > 0 else STARVED_CHECK
            waiting: list[asyncio.Future[Any]] = [self._dead, *self._traffic.work]
            await asyncio.wait(waiting, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
            if self._dead.done():
                return await self._ended(self._dead.result())
            for task in self._traffic.work:
                if task.done():
                    task.result()
            if self._unsteady() and self._now() - self._machine.since >= HEALTHY_AFTER:
                return machine.Steady(self._now())
            if self._starved():
                return machine.Starved(self._now())

    async def _ended(self, error: LinkError) -> machine.Lost:
        """Judge the end of the link. One that works, and is ended on purpose, first gets to answer what it was sent."""
        if isinstance(error, Overflown):
            with anyio.move_on_after(self._configuration.action_timeout / 1000):
                await self._traffic.answered()
        return self._lost(error)

    def _lost(self, error: LinkError) -> machine.Lost:
        return machine.Lost(
            self._now(),
            self._random(),
            _sentence(error),
            taken_over=error.code == TAKEN_OVER,
            by_uplink=self._traffic.blame(error),
            by_us=isinstance(error, Ended),
            overflown=isinstance(error, Overflown),
        )

    def _unsteady(self) -> bool:
        """Tell whether there is an episode of failures to forget."""
        return self._machine.attempts > 0

    def _starved(self) -> bool:
        if self._configuration.reconnect_strategy != "AGGRESSIVE":
            return False
        if self._journal.oldest(self.connection) is None:
            self._traffic.delivery.delivered_at = self._now()  # nothing to deliver is no reason to mistrust the link
        return self._now() - self._traffic.delivery.delivered_at > STARVED_AFTER

    async def _wait(self, delay: float | None) -> machine.Event:
        if delay is None:
            await asyncio.get_running_loop().create_future()
        else:
            await asyncio.sleep(delay)
        return machine.Due(self._now())

    # -- ending --------------------------------------------------------------------------------------------------

    async def _drain(self) -> None:
        """Send nothing new; let what is in flight be answered and settled; close."""
        drained = asyncio.ensure_future(self._traffic.drained())
        try:
            waiting: list[asyncio.Future[Any]] = [drained] if self._dead is None else [drained, self._dead]
            await asyncio.wait(waiting, timeout=DRAIN_FOR, return_when=asyncio.FIRST_COMPLETED)
        finally:
            await cancel([drained])
        await self._close()

    async def _close(self) -> None:
        """Let go of the link, and settle what it still brought. Never raises."""
        await self._traffic.cease()
        if self._link is None:
            return
        try:
            await self._link.close()
            self._link = None
            await self._traffic.settle()
        except JournalError:
            log.debug("connection.unsettled", connection=self.connection)
        except Exception:  # a bug in one session must not end the others
            log.exception("session.crashed", connection=self.connection)
        finally:
            self._traffic.interrupt()

    # -- the link's listener -------------------------------------------------------------------------------------

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Pass the broker's answers on."""
        self._traffic.acknowledged(acks)

    def received(self, messages: Sequence[Received]) -> None:
        """Pass downlinks on."""
        self._traffic.received(messages)

    def lost(self, error: LinkError) -> None:
        """Note that the link ended by itself."""
        if self._dead is not None and not self._dead.done():
            self._dead.set_result(error)


def _sentence(error: LinkError) -> str:
    """Give the message as a reason is written: without a final full stop."""
    return str(error).removesuffix(".")
