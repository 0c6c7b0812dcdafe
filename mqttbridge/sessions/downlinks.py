"""Downlinks on their way in: subscribe, hold what comes for a moment, have it taken, acknowledge it.

One for each session that takes downlinks. `subscribe` runs as a task of the open link; taking goes on over the ends of
links, so that a commit under way is not thrown away. Settings refuse QoS 2 together with downlinks, so that nothing
but QoS 0 and 1 comes, and no packet identifier of ours is remembered by the broker beyond its link.

Invariants:

1. A message with QoS 1 is acknowledged only after the inbox has stored it, in the order in which it came, and on the
   link that it came on. Otherwise the broker sends it again.
2. The buffer is bounded, and reading is never paused: acknowledgements of uplinks come on the same wire. With QoS 1,
   what finds no room is not acknowledged, nor is anything behind it; when what came before is taken, the link is
   ended on purpose, and the broker sends the rest again. With QoS 0 it is discarded, told and counted.
3. What was taken when its link was gone already is not taken again when the broker repeats it in the same session.
4. After `stop` nothing is taken that was not being taken already: the broker keeps it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol

from mqttbridge.errors import JournalError, LinkError, LinkLost, LinkTimeout
from mqttbridge.model import DownlinkOutcome
from mqttbridge.mqtt.link import REFUSED
from mqttbridge.mqtt.reasons import reason
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.mqtt.link import Link, Received
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.sessions.inbox import Inbox

    Content = tuple[str, bytes, bytes]
    """Topic, payload and correlation data of a message."""

__all__ = ["Downlinks", "Ended", "Overflown", "Tally"]

log = get_logger()

MAX_MESSAGES = 1000
MAX_BYTES = 4 * 1024 * 1024
"""What the buffer holds; a single larger message is taken where it is empty. QoS 0 may fill half of it."""
BATCH = 100
RECEIVE_MAXIMUM = 100
"""MQTT 5: so many messages may wait for our acknowledgement; far less than the buffer holds."""
RESUBSCRIBE = 600.0
"""Seconds until a refused subscription is tried again on an open link."""
JOURNAL_RETRY = 1.0
TAKE_FOR = 1.0
"""Seconds that a batch that is being taken gets at the end."""
MAX_SHOWN = 100


class Ended(LinkLost):
    """The session ends the link itself: what was not acknowledged comes again."""


class Overflown(Ended):
    """It does so because more came than the buffer holds: nothing is broken, and it may begin again soon."""


class Tally(Protocol):
    """Where downlinks and receipts are counted."""

    def downlink_received(self, connection: str, /) -> None:
        """Count a message that came."""
        ...

    def downlink_ended(self, connection: str, outcome: DownlinkOutcome, /) -> None:
        """Count one that ended."""
        ...

    def receipt_lost(self, connection: str, /) -> None:
        """Count a receipt that was given up."""
        ...


class Downlinks:
    """The downlinks of one connection. Lives as long as its session, over many links."""

    def __init__(
        self,
        connection: str,
        topic_filter: str,
        inbox: Inbox,
        *,
        action_timeout: int,
        throttle: Throttle,
        tally: Tally | None,
    ) -> None:
        """Prepare; `action_timeout` in ms."""
        self._connection = connection
        self._filter = topic_filter
        self._inbox = inbox
        self._action_timeout = action_timeout
        self._throttle = throttle
        self._tally = tally
        self._link: Link | None = None
        self._dead: asyncio.Future[LinkError] | None = None
        self._buffer: deque[Received] = deque()
        self._size = 0
        self._overflown = False
        self._stopped = False
        self._taken: dict[int, Content] = {}
        """By packet identifier: what was taken and could not be acknowledged, the last batch at most."""
        self._session = 0
        """Which of the broker's sessions this is."""
        self._came = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._taking: asyncio.Task[None] | None = None
        self._told: str | None = None

    @property
    def problem(self) -> str:
        """Tell why no downlinks come, as far as the subscription is to blame; empty while all is well."""
        return self._told or ""

    def reconfigure(self, action_timeout: int) -> None:
        """Have another actionTimeout, in ms, for the next subscription."""
        self._action_timeout = action_timeout

    # -- the link's life -----------------------------------------------------------------------------------------

    def open(self, link: Link, dead: asyncio.Future[LinkError], *, resumed: bool = False) -> None:
        """Begin with a new link. `dead` is given the error when the link is to end.

        `resumed`: the broker still has our session, with the packet identifiers in it.
        """
        self._link, self._dead = link, dead
        self._overflown = False
        if not resumed:
            self._session += 1
            self._taken.clear()
        if self._taking is None:
            self._taking = asyncio.ensure_future(self._take())

    def interrupt(self) -> None:
        """Forget the link that is gone. What was not acknowledged comes again; QoS 0 does not, and is still taken."""
        self._link = self._dead = None
        self._buffer = deque(message for message in self._buffer if message.qos == 0)
        self._size = sum(map(_size, self._buffer))

    async def stop(self) -> None:
        """Take nothing more; wait a moment for what is being taken, so that it is acknowledged."""
        self._stopped = True
        self._buffer.clear()
        try:
            async with asyncio.timeout(TAKE_FOR):
                await self._idle.wait()
        except TimeoutError:
            log.debug("downlink.unfinished", connection=self._connection)

    async def close(self) -> None:
        """Let go of everything. Never raises."""
        self._stopped = True
        if self._taking is not None:
            self._taking.cancel()
            await asyncio.gather(self._taking, return_exceptions=True)
            self._taking = None

    # -- subscribing ---------------------------------------------------------------------------------------------

    async def subscribe(self) -> None:
        """Subscribe, and try again from time to time if the broker refuses; until cancelled."""
        link, dead = self._link, self._dead
        while link is not None and dead is not None:
            try:
                async with asyncio.timeout(self._action_timeout / 1000):
                    codes = await link.subscribe([self._filter], 1)
            except TimeoutError:
                _end(dead, LinkTimeout(f"no SUBACK within {self._action_timeout} ms (actionTimeout)"))
                break
            except LinkError as error:
                _end(dead, error)
                break
            code = codes[0] if codes else REFUSED
            self._subscribed(code)
            if code < REFUSED:
                break
            await asyncio.sleep(RESUBSCRIBE)
        await asyncio.get_running_loop().create_future()

    def _subscribed(self, code: int) -> None:
        """Note the broker's answer, and tell it if it is another one than last time."""
        problem = f"the broker refuses the subscription to {self._filter}: {reason(code)}" if code >= REFUSED else ""
        if problem == self._told:
            return
        self._told = problem
        if problem:
            why = reason(code)
            log.warning("connection.subscription_refused", connection=self._connection, topic=self._filter, reason=why)
        else:
            log.info("connection.subscribed", connection=self._connection, topic=self._filter)

    # -- taking --------------------------------------------------------------------------------------------------

    def received(self, messages: Sequence[Received]) -> None:
        """Take messages from the link into the buffer."""
        if self._stopped:
            return
        for message in messages:
            if message.qos and self._overflown:
                continue
            if self._has_room(message):
                self._buffer.append(message)
                self._size += _size(message)
            elif message.qos:
                self._overflown = True
            else:
                self._discard(message)
        self._came.set()

    def _has_room(self, message: Received) -> bool:
        if not self._buffer:
            return True
        parts = 1 if message.qos else 2
        return len(self._buffer) < MAX_MESSAGES // parts and self._size + _size(message) <= MAX_BYTES // parts

    def _discard(self, message: Received) -> None:
        """Tell and count a message that the broker does not send again."""
        why = "it came with QoS 0 while too many others waited; publish downlinks with QoS 1, or more slowly"
        fields: dict[str, Any] = {
            "connection": self._connection,
            "topic": repr(message.topic[:MAX_SHOWN])[1:-1],
            "reason": why,
        }
        self._throttle.tell("warning", "downlink.rejected", (self._connection, "overflow"), **fields)
        if self._tally is not None:
            self._tally.downlink_received(self._connection)
            self._tally.downlink_ended(self._connection, DownlinkOutcome.REJECTED)

    async def _take(self) -> None:
        """Have the inbox take what comes, batch by batch, and acknowledge it; as long as the session lives."""
        while True:
            batch = self._next_batch()
            if batch:
                self._idle.clear()
                await self._give(batch)
                self._idle.set()
                self._end_overflown()
            else:
                self._came.clear()
                await self._came.wait()

    def _next_batch(self) -> list[Received]:
        batch = [self._buffer.popleft() for _ in range(min(BATCH, len(self._buffer)))]
        self._size -= sum(map(_size, batch))
        return batch

    async def _give(self, batch: list[Received]) -> None:
        """Give one batch to the inbox, however often it takes, and acknowledge what it has stored."""
        link, dead, session = self._link, self._dead, self._session
        known = {message.mid for message in batch if self._was_taken(message)}
        late: dict[int, Content] = {}

        def stored(number: int) -> None:
            """Acknowledge up to the last one that was stored: the rest of a flood may have to wait for long."""
            at = 0
            while number:
                number -= batch[at].mid not in known
                at += 1
            self._answer(link, session, batch[:at], late)
            del batch[:at]

        while new := [message for message in batch if message.mid not in known]:
            try:
                await self._inbox.take(self._connection, new, stored)
                break
            except JournalError:
                # The journal says so itself, in the log and in health. The broker keeps what is not acknowledged.
                await asyncio.sleep(JOURNAL_RETRY)
            except Exception as error:  # a bug there must not end the session
                log.exception("downlink.crashed", connection=self._connection)
                if dead is not None:
                    _end(dead, Ended(f"internal error ({type(error).__name__}); please report it"))
                return
            if link is None or link is not self._link:
                batch[:] = [message for message in batch if message.qos == 0]
        self._answer(link, session, batch, late)

    def _answer(self, link: Link | None, session: int, messages: Sequence[Received], late: dict[int, Content]) -> None:
        """Acknowledge what was taken; if its link is gone, add it to `late`, to be known when it comes again."""
        if link is not None and link is self._link:
            link.acknowledge(messages)
        elif session == self._session:
            late.update((message.mid, _content(message)) for message in messages if message.qos)
            self._taken = late

    def _was_taken(self, message: Received) -> bool:
        """Whether it came and was taken before, on a link that was gone when it was to be acknowledged."""
        before = self._taken.pop(message.mid, None) if message.qos else None
        return message.dup and before == _content(message)

    def _end_overflown(self) -> None:
        """End the link once all that is to be taken before what found no room is taken."""
        if self._overflown and self._dead is not None and not any(message.qos for message in self._buffer):
            _end(
                self._dead, Overflown("more downlinks came at once than can be held: the broker is to send them again")
            )


def _content(message: Received) -> Content:
    """Give what is the same whenever the broker sends it."""
    return message.topic, message.payload, message.correlation


def _size(message: Received) -> int:
    """Give its bytes: a sender may fill any part of it. What a topic takes in memory is about its length."""
    return len(message.topic) + len(message.payload) + len(message.correlation)


def _end(dead: asyncio.Future[LinkError], error: LinkError) -> None:
    if not dead.done():
        dead.set_result(error)
