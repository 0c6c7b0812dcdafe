"""What is sent next to one network server: pure. Used by its dispatcher alone.

Invariants, whatever is answered, and when:

1. Downlinks of a device are sent strictly in the order of `seq`, one at a time; the next begins when the one before
   has ended. At most 16 are under way to one network server.
2. Each ends exactly once: by the network server's answer, or by its time limit (its ValidityTime, else 24 hours).
   While one is under way its time limit waits for the answer.
3. A device whose downlink gets `Later` waits with a growing pause; the other devices go on. When the network server
   itself cannot be reached, all wait, and then one is tried alone: the one that was tried least.

Wall time (`wall`) is in ms, monotonic time (`mono`) in seconds.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, Literal

import msgspec

from mqttbridge.downlinks.network import Later, Refused, Taken
from mqttbridge.model import DownlinkOutcome
from mqttbridge.mqtt.backoff import jitter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mqttbridge.downlinks.network import Answer
    from mqttbridge.journal.downlink_protocol import PendingDownlink

__all__ = ["UNDER_WAY", "End", "Lanes", "Retry", "Verdict", "final_end"]

UNDER_WAY = 16
PATIENCE = 24 * 3_600_000
"""In ms: how long one without ValidityTime is tried."""
SPARE = 64
"""How many that have ended are still kept here and there, at least, before it is tidied up."""
VALIDITY = "DevEUI_downlink.ValidityTime"

News = Literal["", "failing", "recovered"]


class End(msgspec.Struct, frozen=True, gc=False):
    """How a downlink ended. `attempts`: how often it was sent."""

    pending: PendingDownlink
    outcome: DownlinkOutcome
    reason: str = ""
    field: str = ""
    attempts: int = 0
    reference: str = ""
    """The network server's name for it, if it has one of its own."""


class Retry(msgspec.Struct, frozen=True, gc=False):
    """One that has to be sent again, in `delay` seconds at the earliest."""

    pending: PendingDownlink
    reason: str
    delay: float
    attempts: int
    everyone: bool


class Verdict(msgspec.Struct, frozen=True, gc=False):
    """What follows from an answer: an end or a retry, and whether the network server failed or came back with it."""

    end: End | None = None
    retry: Retry | None = None
    network: News = ""


class _Lane:
    """The downlinks of one device that have not ended; some at the front may have ended meanwhile.

    A lane stands in `_ready`, or stands in `_waiting`, or its first is under way: never two of these.
    """

    __slots__ = ("gone", "pause", "queue")

    def __init__(self) -> None:
        self.queue: deque[PendingDownlink] = deque()
        self.gone = 0
        """How many of the queue have ended, at most."""
        self.pause = 0.0
        """The last pause, in seconds."""


class Lanes:
    """The downlinks of one source that are in memory."""

    def __init__(self, random: Callable[[], float]) -> None:
        """Take random numbers in [0, 1), for the pauses."""
        self._random = random
        self._pending: dict[int, PendingDownlink] = {}
        self._weight = 0
        self._lanes: dict[str, _Lane] = {}
        self._ready: list[tuple[int, int, str]] = []
        """Heap of (attempts, seq, DevEUI)."""
        self._waiting: list[tuple[float, str]] = []
        """Heap of (monotonic time, DevEUI)."""
        self._limits: list[tuple[int, int]] = []
        """Heap of (time limit, seq)."""
        self._flying: dict[int, PendingDownlink] = {}
        self._overdue: set[int] = set()
        """Those under way whose time limit has passed."""
        self._tries: dict[int, tuple[int, str]] = {}
        """By seq: how often it was sent in vain, and the last reason."""
        self._outage = ""
        """Why the network server cannot be reached; empty while it can."""
        self._outage_pause = 0.0
        self._outage_until = 0.0
        self._probe: int | None = None

    def __len__(self) -> int:
        """How many have not ended."""
        return len(self._pending)

    @property
    def weight(self) -> int:
        """Roughly, how many KiB they take."""
        return self._weight

    @property
    def outage(self) -> str:
        """Why the network server cannot be reached; empty while it can."""
        return self._outage

    @property
    def hungry(self) -> bool:
        """Whether more could be sent than there is: all that are here wait for something."""
        return not self._outage and not self._ready and len(self._flying) < UNDER_WAY

    def add(self, downlinks: Iterable[PendingDownlink]) -> None:
        """Take more, in the order of `seq`, behind all that were taken before."""
        for one in downlinks:
            self._pending[one.seq] = one
            self._weight += _weight(one)
            heapq.heappush(self._limits, (_limit(one), one.seq))
            lane = self._lanes.get(one.downlink.dev_eui)
            if lane is None:
                lane = self._lanes[one.downlink.dev_eui] = _Lane()
                lane.queue.append(one)
                self._make_ready(one.downlink.dev_eui)
            else:
                lane.queue.append(one)

    def ended(self, wall: int) -> list[End]:
        """Give those whose time limit has passed; they are gone with that."""
        ends: list[End] = []
        while self._limits and self._limits[0][0] <= wall:
            _, seq = heapq.heappop(self._limits)
            if seq in self._flying:
                self._overdue.add(seq)
            elif (pending := self._pending.get(seq)) is not None:
                ends.append(self._too_late(pending))
        return ends

    def due(self, mono: float) -> list[PendingDownlink]:
        """Give those to be sent now; they are under way with that, until `answered`. Call `ended` before."""
        while self._waiting and self._waiting[0][0] <= mono:
            self._make_ready(heapq.heappop(self._waiting)[1])
        sends: list[PendingDownlink] = []
        while len(self._flying) < UNDER_WAY:
            if self._outage and (self._probe is not None or mono < self._outage_until):
                break
            first = self._pop_ready()
            if first is None:
                break
            self._flying[first.seq] = first
            sends.append(first)
            if self._outage:
                self._probe = first.seq
        return sends

    def answered(self, seq: int, answer: Answer, wall: int, mono: float) -> Verdict:
        """Take the answer to one that is under way."""
        pending = self._flying.pop(seq)
        was_probe = self._probe == seq
        if was_probe:
            self._probe = None
        attempts, last = self._tries.get(seq, (0, ""))
        attempts += 1
        if isinstance(answer, Later) and answer.everyone:
            network = self._failed(answer.reason, mono, was_probe=was_probe)
        else:
            network = self._recovered()
        if isinstance(answer, Later):
            self._tries[seq] = (attempts, answer.reason or last)
            if seq in self._overdue or _limit(pending) <= wall:
                end = self._too_late(pending)
                self._make_ready(pending.downlink.dev_eui)
                return Verdict(end=end, network=network)
            return Verdict(retry=self._again(pending, answer, attempts, mono), network=network)
        self._forget(pending)
        self._lanes[pending.downlink.dev_eui].pause = 0.0
        self._make_ready(pending.downlink.dev_eui)
        return Verdict(end=final_end(pending, answer, attempts), network=network)

    def delay(self, wall: int, mono: float) -> float | None:
        """How long nothing happens by itself, in seconds; None: until an answer comes, or more. Call `due` before."""
        moments: list[float] = []
        if self._waiting:
            moments.append(self._waiting[0][0] - mono)
        if self._outage and self._ready and self._probe is None and len(self._flying) < UNDER_WAY:
            moments.append(self._outage_until - mono)
        while self._limits and self._limits[0][1] not in self._pending:
            heapq.heappop(self._limits)
        if self._limits:
            moments.append((self._limits[0][0] - wall) / 1000)
        return max(0.0, min(moments)) if moments else None

    def _again(self, pending: PendingDownlink, answer: Later, attempts: int, mono: float) -> Retry:
        """Have it sent again: when its device has waited, or when the network server can be reached."""
        dev_eui = pending.downlink.dev_eui
        if answer.everyone:
            self._make_ready(dev_eui)
            return Retry(pending, answer.reason, max(0.0, self._outage_until - mono), attempts, everyone=True)
        lane = self._lanes[dev_eui]
        lane.pause = jitter(lane.pause, self._random())
        heapq.heappush(self._waiting, (mono + lane.pause, dev_eui))
        return Retry(pending, answer.reason, lane.pause, attempts, everyone=False)

    def _failed(self, reason: str, mono: float, *, was_probe: bool) -> News:
        """Note that the network server cannot be reached.

        What was under way when that began fails with it, and must not make the pause longer: only the one that was
        tried alone does.
        """
        began = not self._outage
        self._outage = reason or "the network server cannot be reached"
        if began or was_probe:
            self._outage_pause = jitter(0.0 if began else self._outage_pause, self._random())
            self._outage_until = mono + self._outage_pause
        return "failing" if began else ""

    def _recovered(self) -> News:
        if not self._outage:
            return ""
        self._outage = ""
        self._probe = None
        return "recovered"

    def _make_ready(self, dev_eui: str) -> None:
        """Put a lane that stands nowhere into `_ready`; an empty one goes."""
        first = self._first(dev_eui)
        if first is not None:
            attempts = self._tries.get(first.seq, (0, ""))[0]
            heapq.heappush(self._ready, (attempts, first.seq, dev_eui))

    def _pop_ready(self) -> PendingDownlink | None:
        """Take a lane out of `_ready`, and give its first; None: no lane is ready."""
        while self._ready:
            first = self._first(heapq.heappop(self._ready)[2])
            if first is not None:
                return first
        return None

    def _first(self, dev_eui: str) -> PendingDownlink | None:
        """Give the first of a device that has not ended; without any the lane goes."""
        queue = self._lanes[dev_eui].queue
        while queue and queue[0].seq not in self._pending:
            queue.popleft()
            self._lanes[dev_eui].gone -= 1
        if queue:
            return queue[0]
        del self._lanes[dev_eui]
        return None

    def _too_late(self, pending: PendingDownlink) -> End:
        attempts, last = self._tries.get(pending.seq, (0, ""))
        last = last or self._outage
        because = f": {last}" if last else ""
        self._forget(pending)
        if pending.downlink.expires is not None:
            reason = f"its ValidityTime passed before the network server took it{because}"
            return End(pending, DownlinkOutcome.EXPIRED, reason, VALIDITY, attempts)
        reason = f"the network server did not take it within 24 hours{because}"
        return End(pending, DownlinkOutcome.FAILED, reason, "", attempts)

    def _forget(self, pending: PendingDownlink) -> None:
        del self._pending[pending.seq]
        self._weight -= _weight(pending)
        self._tries.pop(pending.seq, None)
        self._overdue.discard(pending.seq)
        self._tidy(self._lanes[pending.downlink.dev_eui])

    def _tidy(self, lane: _Lane) -> None:
        """Let go of what has ended, when it is more than what has not."""
        lane.gone += 1
        if lane.gone > SPARE and 2 * lane.gone > len(lane.queue):
            lane.queue = deque(one for one in lane.queue if one.seq in self._pending)
            lane.gone = 0
        if len(self._limits) > SPARE + 2 * len(self._pending):
            self._limits = [limit for limit in self._limits if limit[1] in self._pending]
            heapq.heapify(self._limits)


def _limit(pending: PendingDownlink) -> int:
    """Until when it is tried, in ms."""
    expires = pending.downlink.expires
    return pending.received + PATIENCE if expires is None else expires


def _weight(pending: PendingDownlink) -> int:
    """Give its size in KiB, roughly."""
    return 1 + (len(pending.downlink.payload) + len(pending.correlation)) // 1024


def final_end(pending: PendingDownlink, answer: Taken | Refused, attempts: int) -> End:
    """Give the end that a final answer is."""
    if isinstance(answer, Refused):
        return End(pending, DownlinkOutcome.REJECTED, answer.reason, answer.field, attempts)
    return End(pending, DownlinkOutcome.QUEUED, attempts=attempts, reference=answer.reference)
