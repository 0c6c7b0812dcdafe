"""What flows over the link of a session: uplinks, downlinks and receipts, begun and ended together.

Used by `runner`, which owns the link. It decides nothing itself: it hands the link to those who use it, runs their
tasks while it is open, and sorts what comes back. The number of tasks is small and constant.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from mqttbridge.sessions.delivery import Delivery
from mqttbridge.sessions.downlinks import Downlinks, Ended
from mqttbridge.sessions.outgoing import outgoing
from mqttbridge.sessions.receipts import Receipts
from mqttbridge.settings.secret import plain
from mqttbridge.topics import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.errors import LinkError
    from mqttbridge.journal.downlink_protocol import DownlinkJournal
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.mqtt.link import Ack, Grant, Link, Received
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.sessions.downlinks import Tally
    from mqttbridge.sessions.inbox import Inbox
    from mqttbridge.settings.schema import Configuration
    from mqttbridge.topics import Pattern

__all__ = ["Traffic", "cancel"]


class Traffic:
    """The traffic of one connection. Lives as long as its session, over many links."""

    def __init__(
        self,
        connection: str,
        configuration: Configuration,
        *,
        journal: Journal,
        clock: Clock,
        throttle: Throttle,
        inbox: Inbox | None,
        downlinks: DownlinkJournal | None,
        tally: Tally | None,
    ) -> None:
        """Prepare. Without `inbox` no downlinks are taken, without `downlinks` no receipts are published."""
        self.delivery = _delivery(connection, configuration, journal, clock, throttle)
        self.work: list[asyncio.Task[None]] = []
        """The tasks of the open link; they end only by being cancelled, or by a bug."""
        self._sending: list[asyncio.Task[None]] = []
        self._link: Link | None = None
        self._downlinks: Downlinks | None = None
        self._receipts: Receipts | None = None
        pattern = _compiled(configuration.downlink_topic_pattern if configuration.downlink_enabled else None)
        if inbox is not None and pattern is not None:
            limit = configuration.action_timeout
            self._downlinks = Downlinks(
                connection, pattern.subscription, inbox, action_timeout=limit, throttle=throttle, tally=tally
            )
        if downlinks is not None:
            self._receipts = Receipts(
                connection,
                _compiled(configuration.downlink_receipt_topic_pattern),
                journal=downlinks,
                delivery=self.delivery,
                action_timeout=configuration.action_timeout / 1000,
                clock=clock,
                throttle=throttle,
                tally=tally,
            )

    def reconfigure(self, configuration: Configuration) -> None:
        """Have other settings, at any moment; the link goes on, and what is in flight is left as it is."""
        limit = configuration.action_timeout
        self.delivery.reconfigure(
            outgoing(configuration),
            window=configuration.max_inflight,
            action_timeout=limit / 1000,
            debug=configuration.debug,
        )
        if self._downlinks is not None:
            self._downlinks.reconfigure(limit)
        if self._receipts is not None:
            self._receipts.reconfigure(_compiled(configuration.downlink_receipt_topic_pattern), limit / 1000)

    @property
    def takes_downlinks(self) -> bool:
        """Whether it subscribes to downlinks."""
        return self._downlinks is not None

    @property
    def problem(self) -> str:
        """Tell why no downlinks come over an open link; empty while all is well."""
        return "" if self._downlinks is None else self._downlinks.problem

    def open(self, link: Link, grant: Grant, dead: asyncio.Future[LinkError]) -> None:
        """Begin with a new link. `dead` is given the error when the link is to end."""
        self._link = link
        self.delivery.open(link, grant, dead)
        sending = [self.delivery.deliver()]
        keeping = [self.delivery.settle()]
        if self._downlinks is not None:
            self._downlinks.open(link, dead, resumed=grant.session_present)
            sending.append(self._downlinks.subscribe())
        if self._receipts is not None:
            self._receipts.open(link, grant, dead)
            keeping.append(self._receipts.run())
        self._sending = [asyncio.ensure_future(one) for one in sending]
        self.work = [*self._sending, *(asyncio.ensure_future(one) for one in keeping)]

    def blame(self, error: LinkError) -> bool:
        """Judge why the link ended, before `interrupt`. True: something of ours that was in flight may be the cause."""
        if isinstance(error, Ended):
            return False
        by_uplink = self.delivery.blame(error)
        by_receipt = self._receipts is not None and self._receipts.blame(error)
        return by_uplink or by_receipt

    async def answered(self) -> None:
        """Send nothing new; wait until what is in flight is answered. The link is to end, and another may follow."""
        await cancel(self._sending)
        waiting = [self.delivery.drained()]
        if self._receipts is not None:
            waiting.append(self._receipts.drained())
        await asyncio.gather(*waiting)

    async def drained(self) -> None:
        """Send and take nothing new; wait until what is in flight is answered, and what is being taken is taken."""
        waiting = [self.answered()]
        if self._downlinks is not None:
            waiting.append(self._downlinks.stop())
        await asyncio.gather(*waiting)

    async def cease(self) -> None:
        """End the tasks of the link."""
        # Whoever is cancelled in here comes again, and must find what is still to be let go of.
        await cancel(self.work)
        self.work.clear()
        self._sending.clear()

    async def settle(self) -> None:
        """Settle what the link that is closed still brought. Raises `JournalError`: it stays to be settled."""
        try:
            await self.delivery.settle_now()
        finally:
            if self._receipts is not None:
                await self._receipts.record()

    def interrupt(self) -> None:
        """Forget the link that is gone."""
        self._link = None
        self.delivery.interrupt()
        if self._receipts is not None:
            self._receipts.interrupt()
        if self._downlinks is not None:
            self._downlinks.interrupt()

    async def close(self) -> None:
        """Let go of what outlives links."""
        if self._downlinks is not None:
            await self._downlinks.close()

    # -- what the link brings ------------------------------------------------------------------------------------

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Pass the broker's answers on."""
        if self._receipts is not None and self._receipts.in_flight:
            acks = self._receipts.acknowledged(acks)
            self.delivery.heard()
        if acks:
            self.delivery.acknowledged(acks)

    def received(self, messages: Sequence[Received]) -> None:
        """Pass downlinks on; what nobody takes is answered and dropped."""
        if self._downlinks is not None:
            self._downlinks.received(messages)
        elif self._link is not None:
            self._link.acknowledge(messages)


async def cancel(tasks: Sequence[asyncio.Future[Any]]) -> None:
    """Cancel tasks, and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _compiled(pattern: str | None) -> Pattern | None:
    return None if pattern is None else compile_pattern(plain(pattern))


def _delivery(
    connection: str, configuration: Configuration, journal: Journal, clock: Clock, throttle: Throttle
) -> Delivery:
    return Delivery(
        connection,
        outgoing(configuration),
        window=configuration.max_inflight,
        action_timeout=configuration.action_timeout / 1000,
        journal=journal,
        clock=clock,
        throttle=throttle,
        debug=configuration.debug,
    )
