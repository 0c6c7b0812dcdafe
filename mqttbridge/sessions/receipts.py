"""Receipts on their way out: what became of a connection's downlinks, published to its broker.

One for each session, one task while the link is open. Receipts share the link with the uplinks: their tokens are
negative, and they borrow their places in the window (`Delivery.lend`), so that the broker's Receive Maximum holds for
both together. While an uplink is under suspicion none is sent: it is not to be blamed for a receipt.

A receipt waits in the journal until the broker has it, or is given up: refused for good, not to be rendered, too
large, or in flight at three links that the broker ended (some hang up on topics that they do not allow). After such a
loss receipts go one by one. (The journal itself lets go of those that nobody published for 7 days.) Must never let a
receipt hold up an uplink, nor give one up without saying so.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import JournalError, TopicError
from mqttbridge.mqtt.link import Publish
from mqttbridge.mqtt.reasons import Verdict, reason, verdict
from mqttbridge.sessions import suspicion
from mqttbridge.sessions.deadline import Deadline
from mqttbridge.sessions.outgoing import too_large
from mqttbridge.topics import UNKNOWN, Pattern

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.errors import LinkError
    from mqttbridge.journal.downlink_protocol import DownlinkJournal, Receipt
    from mqttbridge.mqtt.link import Ack, Grant, Link
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.sessions.delivery import Delivery
    from mqttbridge.sessions.downlinks import Tally

__all__ = ["Receipts", "prepare"]

READ = 100
"""Receipts that are read, and waiting to be sent, at once."""
MAX_REPEATS = 3
"""So often a receipt is repeated that the broker answered with a passing error, before it is given up."""
HOLD_FIRST = 1.0
HOLD_LONGEST = 60.0
JOURNAL_RETRY = 1.0
"""Seconds."""


class Receipts:
    """The receipts of one connection. Lives as long as its session, over many links."""

    def __init__(
        self,
        connection: str,
        pattern: Pattern | None,
        *,
        journal: DownlinkJournal,
        delivery: Delivery,
        action_timeout: float,
        clock: Clock,
        throttle: Throttle,
        tally: Tally | None,
    ) -> None:
        """Prepare; `action_timeout` in seconds. `pattern`: None if the connection wants no receipts any more."""
        self._connection = connection
        self._pattern = pattern
        self._journal = journal
        self._delivery = delivery
        self._throttle = throttle
        self._tally = tally
        self._deadline = Deadline(action_timeout, clock, self._awaited)
        self._link: Link | None = None
        self._maximum_packet = 0
        self._ahead: deque[tuple[Receipt, Publish]] = deque()
        self._flying: dict[int, Receipt] = {}
        self._done: list[int] = []
        self._repeats: dict[int, int] = {}
        self._losses: dict[int, int] = {}
        self._hold = HOLD_FIRST
        self._resume_at = 0.0
        self._draining = False
        self._wake = asyncio.Event()
        self._recorded = asyncio.Event()
        journal.watch(connection, self._wake.set)
        delivery.on_spare = self._wake.set

    @property
    def in_flight(self) -> int:
        """Receipts that the broker has not answered yet."""
        return len(self._flying)

    def _awaited(self) -> int:
        return len(self._flying)

    def reconfigure(self, pattern: Pattern | None, action_timeout: float) -> None:
        """Have other settings, at any moment. What waits to be sent is read and rendered again."""
        self._pattern = pattern
        self._deadline.change(action_timeout)
        self._ahead.clear()
        self._wake.set()

    # -- the link's life -----------------------------------------------------------------------------------------

    def open(self, link: Link, grant: Grant, dead: asyncio.Future[LinkError]) -> None:
        """Begin with a new link. `dead` is given the error when no answer comes in time."""
        self._link = link
        self._maximum_packet = grant.maximum_packet_size
        self._deadline.open(dead)
        self._draining = False
        # A suspect is not sent to a broker that is dying anyway.
        self._resume_at = _now() + suspicion.QUIET if self._losses else 0.0

    def blame(self, error: LinkError) -> bool:
        """Judge why the link ended, before `interrupt`. True: a receipt may be the cause."""
        if not self._flying or not suspicion.accuses(error):
            return False
        for seq, receipt in self._flying.items():
            self._losses[seq] = self._losses.get(seq, 0) + 1
            if self._losses[seq] >= suspicion.TRIES:
                why = f"the broker ended the connection {suspicion.TRIES} times when it was sent this receipt"
                self._give_up(receipt, why)
        return True

    def interrupt(self) -> None:
        """Forget the link that is gone, after `Delivery.interrupt`. What was not answered is sent again."""
        self._link = None
        self._deadline.stop()
        self._flying.clear()
        self._ahead.clear()

    async def drained(self) -> None:
        """Send nothing more; wait until no answer is due, and all that came are recorded."""
        self._draining = True
        self._wake.set()
        while self._flying or self._done:
            self._recorded.clear()
            await self._recorded.wait()

    async def run(self) -> None:
        """Publish receipts as they come, until cancelled."""
        while True:
            self._wake.clear()
            try:
                await self.record()
                read = await self._read()
            except JournalError:
                # The journal says so itself, in the log and in health; nothing is lost by waiting.
                self._delivery.want_none()
                await asyncio.sleep(JOURNAL_RETRY)
                continue
            if not self._send() and not read:
                await self._pause()

    async def record(self) -> None:
        """Tell the journal which receipts need not be published any more. Raises `JournalError`: they stay so here."""
        if self._done:
            done = list(self._done)
            await self._journal.receipted(done)
            del self._done[: len(done)]
        self._recorded.set()

    # -- sending -------------------------------------------------------------------------------------------------

    def _is_held(self) -> bool:
        return self._draining or _now() < self._resume_at

    async def _read(self) -> bool:
        """Take more from the journal, if there are more and none waits to be sent. False: nothing new."""
        known = len(self._flying) + len(self._done)
        waiting = self._journal.unfinished(self._connection) - self._journal.waiting(self._connection)
        if self._ahead or self._is_held() or waiting <= known:
            return False
        # From the beginning, since one may come in behind: what is done with is not there any more.
        batch = await self._journal.receipts(self._connection, 0, READ + known)
        busy = {*self._flying, *self._done}
        new = [receipt for receipt in batch if receipt.seq not in busy]
        for receipt in new:
            ready = prepare(receipt, self._pattern, maximum_packet=self._maximum_packet)
            if isinstance(ready, str):
                self._give_up(receipt, ready)
            else:
                self._ahead.append((receipt, ready))
        return bool(new)

    def _send(self) -> bool:
        """Publish what waits, as far as there are places; after a loss one by one. False: nothing."""
        link = self._link
        wanted = len(self._ahead)
        if self._losses:
            wanted = min(wanted, 1 - len(self._flying))
        if link is None or wanted <= 0 or self._is_held():
            self._delivery.want_none()
            return False
        places = self._delivery.lend(wanted)
        batch: list[Publish] = []
        for _ in range(places):
            receipt, publish = self._ahead.popleft()
            self._flying[receipt.seq] = receipt
            batch.append(publish)
        if batch:
            self._deadline.sent(len(batch))
            link.publish(batch)
        return bool(batch)

    async def _pause(self) -> None:
        """Wait for news: a receipt, an answer, a free place, or the end of a hold."""
        left = self._resume_at - _now()
        with suppress(TimeoutError):
            async with asyncio.timeout(left if left > 0 else None):
                await self._wake.wait()

    # -- answers -------------------------------------------------------------------------------------------------

    def acknowledged(self, acks: Sequence[Ack]) -> list[Ack]:
        """Take the broker's answers to receipts; gives those to uplinks. Any answer is a sign of life."""
        self._deadline.heard()
        others: list[Ack] = []
        places = 0
        for ack in acks:
            if ack.token >= 0:
                others.append(ack)
            elif (receipt := self._flying.pop(-ack.token, None)) is not None:
                places += 1
                self._answered(receipt, ack.code)
        if places:
            self._delivery.give_back(places)
            self._recorded.set()
            self._wake.set()
        return others

    def _answered(self, receipt: Receipt, code: int) -> None:
        self._losses.pop(receipt.seq, None)
        meaning = verdict(code)
        repeats = self._repeats.get(receipt.seq, 0) + (meaning is Verdict.RETRY)
        if meaning is Verdict.DELIVERED:
            self._hold = HOLD_FIRST
            self._end(receipt.seq)
        elif meaning is Verdict.PARK or repeats > MAX_REPEATS:
            self._give_up(receipt, f"the broker refuses it: {reason(code)}")
        else:
            # It is still in the journal, and read again.
            self._repeats[receipt.seq] = repeats
            self._resume_at = _now() + self._hold
            self._hold = min(self._hold * 2, HOLD_LONGEST)

    def _end(self, seq: int) -> None:
        self._losses.pop(seq, None)
        self._repeats.pop(seq, None)
        self._done.append(seq)

    def _give_up(self, receipt: Receipt, why: str) -> None:
        """Publish it never, and say so."""
        self._end(receipt.seq)
        fields: dict[str, Any] = {"connection": self._connection, "reason": why}
        if receipt.content.dev_eui:
            fields["dev_eui"] = receipt.content.dev_eui
        self._throttle.tell("warning", "downlink.receipt_lost", self._connection, **fields)
        if self._tally is not None:
            self._tally.receipt_lost(self._connection)


def prepare(receipt: Receipt, pattern: Pattern | None, *, maximum_packet: int) -> Publish | str:
    """Give the message to publish (its token is the negative seq), or a sentence why there is none: pure."""
    content = receipt.content
    if pattern is None:
        return "no downlinkReceiptTopicPattern is configured any more"

    def document() -> dict[str, Any]:
        return msgspec.json.decode(content.body, type=dict[str, Any])

    try:
        topic = pattern.render(content.dev_eui or UNKNOWN, document)
    except TopicError as error:
        return str(error)
    publish = Publish(-receipt.seq, topic, content.body, content.correlation, retain=False)
    return too_large(publish, maximum_packet) or publish


def _now() -> float:
    return asyncio.get_running_loop().time()
