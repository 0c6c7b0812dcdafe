"""What a session does while its link is open: read the backlog, publish ahead, take answers, settle.

Two loops, `deliver` and `settle`, run as tasks of the session for as long as the link lives; answers come by
`acknowledged` in between. Per batch, never per uplink: a task, a timer, a commit.

Must never count as delivered what the broker did not acknowledge, nor send more ahead than the window allows.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from mqttbridge.errors import JournalError, LinkError
from mqttbridge.model import Outcome, Queued, Settled
from mqttbridge.mqtt.reasons import Verdict, reason, verdict
from mqttbridge.sessions import suspicion
from mqttbridge.sessions.deadline import Deadline
from mqttbridge.sessions.outgoing import Outgoing, prepare
from mqttbridge.sessions.telling import Teller
from mqttbridge.sessions.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.mqtt.link import Ack, Grant, Link, Publish
    from mqttbridge.observe.throttle import Throttle

    Flight = tuple[Queued, Publish, int]
    """What is on its way, and when it was (last) handed to the link, in ms."""

__all__ = ["Delivery"]

MAX_REPEATS = 3
"""So often a publish is repeated that the broker answered with a passing error, before it is parked."""
HOLD_FIRST = 1.0
HOLD_LONGEST = 60.0
JOURNAL_RETRY = 1.0
"""Seconds."""
MAX_PACKET = 268_435_460
"""Bytes of any packet (MQTT 5, section 2.1.4)."""
READ_LEAST = 100
"""A narrow window is no reason to ask the journal for each uplink,"""
READ_MOST = 1000
"""and a wide one none to keep the loop from everybody else."""


class Delivery:
    """The uplinks of one connection on their way. Lives as long as its session, over many links."""

    def __init__(
        self,
        connection: str,
        out: Outgoing,
        *,
        window: int,
        action_timeout: float,
        journal: Journal,
        clock: Clock,
        throttle: Throttle,
        debug: bool,
    ) -> None:
        """Prepare; `action_timeout` in seconds."""
        self._connection = connection
        self._out = out
        self._journal = journal
        self._clock = clock
        self._throttle = throttle
        self._teller = Teller(connection, throttle, debug=debug)
        self._window = Window(window)
        self._settled_to = self._position = 0
        self._ahead: deque[Queued] = deque()
        self._flying: dict[int, Flight] = {}
        self._sent_at = 0
        """When anything was handed to a link last, in ms."""
        self._held: list[int] = []
        self._hold = HOLD_FIRST
        self._repeats: dict[int, int] = {}
        self._suspicion = suspicion.NOBODY
        self._answered = False
        self._link: Link | None = None
        self._grant: Grant | None = None
        self._deadline = Deadline(action_timeout, clock, self._awaited)
        self._news = asyncio.Event()
        self._answers = asyncio.Event()
        self._room = asyncio.Event()
        self.on_spare: Callable[[], None] = _nobody
        """Called when who got less by `lend` than was wanted may ask again."""
        self._wanted = False
        self.delivered_at = clock.monotonic()
        journal.watch(connection, self._news.set)

    def reconfigure(self, out: Outgoing, *, window: int, action_timeout: float, debug: bool) -> None:
        """Have other settings, at any moment. What is in flight keeps its topic; all else is rendered with them."""
        self._out = out
        self._suspicion = suspicion.NOBODY  # what is sent may be another message now
        self._teller.debug = debug
        self._deadline.change(action_timeout)
        self._window.limit = window
        self._size_window()

    @property
    def in_flight(self) -> int:
        """Uplinks that the broker has not answered yet, or wants later."""
        return self._window.unanswered

    def _awaited(self) -> int:
        """Answers that are due."""
        return self._window.unanswered - len(self._held)

    def open(self, link: Link, grant: Grant, dead: asyncio.Future[LinkError]) -> None:
        """Begin with a new link. `dead` is given the error when no answer comes in time."""
        self._link, self._grant = link, grant
        self._deadline.open(dead)
        self._answered = False
        self._position = self._settled_to
        self.delivered_at = self._clock.monotonic()
        self._size_window()

    def _size_window(self) -> None:
        if self._grant is not None:
            self._window.open(1 if self._suspicion.narrow else self._grant.receive_maximum)
            self._freed()

    def lend(self, wanted: int) -> int:
        """Lend places in the window, so that the broker's Receive Maximum holds for all that is in flight.

        Gives how many of the wanted ones; then `on_spare` tells when there may be more. None while an uplink is
        under suspicion: it must be alone in flight.
        """
        able = self._link is not None and not self._suspicion.narrow
        places = self._window.lend(wanted, waiting=bool(self._ahead)) if able else 0
        self._wanted = places < wanted
        return places

    def want_none(self) -> None:
        """Keep no place free for who asked by `lend`."""
        if self._wanted:
            self._wanted = False
            self._window.want_none()
            self._room.set()

    def give_back(self, places: int) -> None:
        """Take back what was lent. What a link had in flight when it ended is taken back by `interrupt`."""
        self._window.give_back(places)
        self._freed()

    def heard(self) -> None:
        """Note that the broker answered something else: it lives."""
        self._deadline.heard()

    def _freed(self) -> None:
        """Tell whoever waits for a place in the window."""
        self._room.set()
        if self._wanted:
            self.on_spare()

    def blame(self, error: LinkError) -> bool:
        """Judge why the link ended, before `interrupt`. True: an uplink may be the cause."""
        in_flight = self._flying.keys() - set(self._held)
        if suspicion.accuses(error):
            self._suspicion = suspicion.after_loss(self._suspicion, in_flight, answered=self._answered)
        else:
            self._suspicion = suspicion.NOBODY
        return self._suspicion != suspicion.NOBODY

    def interrupt(self) -> None:
        """Forget the link that is gone. What was not answered is read and sent again on the next one."""
        self._link = None
        self._deadline.stop()
        self._window.interrupt(self._settled_to)
        self._ahead.clear()
        self._flying.clear()
        self._held.clear()
        self._repeats = {seq: times for seq, times in self._repeats.items() if seq > self._settled_to}

    # -- the two loops -------------------------------------------------------------------------------------------

    async def deliver(self) -> None:
        """Publish what is queued, as far ahead as the window allows, until cancelled."""
        if self._suspicion.narrow:
            await asyncio.sleep(suspicion.QUIET)
        while True:
            if self._held:
                await self._repeat_held()
            elif not self._ahead and not await self._read():
                self._acquit()
                await self._news.wait()
            elif self._window.room <= 0:
                self._room.clear()
                await self._room.wait()
            else:
                self._send()
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Tell the journal what ended, in batches, until cancelled."""
        while True:
            self._answers.clear()
            finished = self._window.finished()
            if not finished:
                await self._answers.wait()
                continue
            try:
                await self.settle_now(finished)
            except JournalError:
                # The journal says so itself, in the log and in health; nothing is lost by waiting.
                await asyncio.sleep(JOURNAL_RETRY)

    async def settle_now(self, finished: list[Settled] | None = None) -> None:
        """Settle what is finished. Raises `JournalError`: it stays to be settled."""
        ends = self._window.finished() if finished is None else finished
        if not ends:
            return
        await self._journal.settle(self._connection, ends)
        self._settled_to = ends[-1].seq
        self._window.settled(ends)
        self._freed()

    async def drained(self) -> None:
        """Wait until no answer is due. `deliver` must have been cancelled."""
        while self._awaited():
            self._room.clear()
            await self._room.wait()

    # -- sending -------------------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """Take more from the journal. False: there is no more."""
        self._news.clear()
        limit = min(max(self._window.size, READ_LEAST), READ_MOST)
        try:
            batch = await self._journal.read(self._connection, self._position, limit)
        except JournalError:
            # The journal says so itself, in the log and in health.
            await asyncio.sleep(JOURNAL_RETRY)
            return True
        if batch:
            self._position = batch[-1].seq
            self._ahead.extend(batch)
        return bool(batch)

    def _send(self) -> None:
        """Move uplinks from the backlog into the window, and to the broker."""
        link, grant = self._link, self._grant
        if link is None or grant is None:
            return
        now = self._clock.now()
        batch: list[Publish] = []
        room = self._window.room
        while self._ahead and room > 0:
            queued = self._ahead.popleft()
            room -= 1
            if self._window.recall(queued.seq):
                self._answers.set()
                continue
            if queued.seq == self._suspicion.guilty:
                self._convict(queued, now)
                continue
            ready = prepare(queued, self._out, now=now, maximum_packet=grant.maximum_packet_size)
            if isinstance(ready, Settled):
                self._skip(queued, ready)
                continue
            self._window.send(queued.seq)
            self._flying[queued.seq] = (queued, ready, now)
            batch.append(ready)
        self._publish(link, batch, now)
        self._window.their_turn = True
        if self._wanted:
            self.on_spare()

    def _skip(self, queued: Queued, end: Settled, *, sent: bool = False) -> None:
        self._window.skip(end, sent=sent)
        self._teller.ended(queued.uplink, end)
        self._answers.set()

    def _convict(self, queued: Queued, now: int) -> None:
        """Park the uplink that makes the broker hang up. It was sent alone: nothing has been sent since."""
        times = f"{suspicion.TRIES} times"
        why = f"the broker ended the connection {times} when it was sent this uplink alone"
        topic = prepare(queued, self._out, now=now, maximum_packet=MAX_PACKET).topic
        self._skip(queued, Settled(queued.seq, Outcome.PARKED, why, topic, self._sent_at, now), sent=True)
        self._clear(queued.seq)

    def _clear(self, seq: int) -> None:
        """Take an uplink out of suspicion."""
        if self._suspicion is not suspicion.NOBODY:
            self._suspicion = suspicion.after_answer(self._suspicion, seq)
            self._size_window()

    def _acquit(self) -> None:
        """Suspect nobody when there is no uplink left: suspects may have expired, or been dropped by the journal."""
        if self._suspicion.narrow and not self._flying:
            self._suspicion = suspicion.NOBODY
            self._size_window()

    def _publish(self, link: Link, batch: list[Publish], now: int) -> None:
        if not batch:
            return
        self._sent_at = now
        self._deadline.sent(len(batch))
        link.publish(batch)
        if self._teller.wanted:
            told = ((self._flying[publish.token][0].uplink, publish.topic) for publish in batch)
            self._teller.passed("uplink.published", told)

    async def _repeat_held(self) -> None:
        """Send again, after a pause, what the broker put off."""
        await asyncio.sleep(self._hold)
        self._hold = min(self._hold * 2, HOLD_LONGEST)
        held, self._held = sorted(self._held), []
        if self._link is None:
            return
        now = self._clock.now()
        batch: list[Publish] = []
        for seq in held:
            queued, publish, _ = self._flying[seq]
            self._flying[seq] = (queued, publish, now)
            batch.append(publish)
        self._publish(self._link, batch, now)

    # -- answers -------------------------------------------------------------------------------------------------

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Take the broker's answers."""
        self._deadline.heard()
        self._answered = True
        now = self._clock.now()
        delivered: list[Flight] = []
        for ack in acks:
            flight = self._flying.get(ack.token)
            if flight is None:
                continue
            self._clear(ack.token)
            meaning = verdict(ack.code)
            if meaning is Verdict.DELIVERED:
                self._end(Settled(ack.token, Outcome.DELIVERED, "", flight[1].topic, flight[2], now))
                delivered.append(flight)
            elif meaning is Verdict.PARK:
                self._refused(flight, ack.code, now)
            else:
                self._put_off(flight, ack.code, now, counted=meaning is Verdict.RETRY)
        if delivered:
            self._delivered(delivered)
        self._answers.set()
        self._freed()

    def _end(self, end: Settled) -> None:
        del self._flying[end.seq]
        self._repeats.pop(end.seq, None)
        self._window.answer(end)

    def _delivered(self, flights: Sequence[Flight]) -> None:
        self._hold = HOLD_FIRST
        self.delivered_at = self._clock.monotonic()
        if self._teller.wanted:
            self._teller.passed("uplink.delivered", ((queued.uplink, publish.topic) for queued, publish, _ in flights))

    def _refused(self, flight: Flight, code: int, now: int) -> None:
        queued, publish, sent = flight
        why = f"the broker refuses topic {publish.topic}: {reason(code)}"
        end = Settled(queued.seq, Outcome.PARKED, why, publish.topic, sent, now)
        self._end(end)
        self._teller.ended(queued.uplink, end)

    def _put_off(self, flight: Flight, code: int, now: int, *, counted: bool) -> None:
        """Hold for a while what the broker did not want now. An error that it repeats parks the uplink."""
        queued = flight[0]
        repeats = self._repeats.get(queued.seq, 0) + counted
        if repeats > MAX_REPEATS:
            self._refused(flight, code, now)
            return
        if counted:
            self._repeats[queued.seq] = repeats
        self._held.append(queued.seq)
        self._news.set()
        fields = {"connection": self._connection, "reason": reason(code), "retry_in": self._hold}
        self._throttle.tell("warning", "connection.throttled", (self._connection, code), burst=1, **fields)


def _nobody() -> None:
    """Nobody borrows places."""
