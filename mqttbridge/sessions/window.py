"""What a session has taken from the journal and not yet settled there: plain data, no asyncio, no I/O.

Invariants:
1. `sent - settled on disk <= size`: an uplink that the broker has may be repeated after a crash, so a place becomes
   free only when the journal has committed the settlement. Duplicates are at most `size` a crash.
2. `finished()` is the contiguous beginning: the journal is told of an uplink only after all before it.
3. What was answered behind an unanswered one survives the loss of the link, and is not sent again: at most `size`
   small records, no uplinks.
4. Places that are lent (to receipts, which share the link) count as if they were sent uplinks; at most a quarter of
   them, and who asks and the uplinks take turns: with a single place too, neither waits for ever.
"""

from __future__ import annotations

from collections import deque
from itertools import takewhile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.model import Settled

__all__ = ["Window"]

UNSENT_ROOM = 500
"""Uplinks that end without being sent (expired, parked) need no place in flight, but are bounded too."""


class Window:
    """The uplinks between the journal and the broker, in the order of the journal."""

    def __init__(self, size: int) -> None:
        """Allow `size` uplinks to be sent ahead (1..65535)."""
        self.limit = size
        """What is configured; it counts from the next `open` on."""
        self.size = size
        """How many may be sent ahead on this link."""
        self._order: deque[int] = deque()
        self._ends: dict[int, Settled] = {}
        self._sent: set[int] = set()
        self._kept: dict[int, Settled] = {}
        self.unanswered = 0
        self.their_turn = True
        """Who asked for places is next; set it when uplinks have had their turn."""
        self._lent = 0
        self._asked = 0

    def open(self, receive_maximum: int) -> None:
        """Begin with a new link: the broker's Receive Maximum bounds the window too (MQTT 5, section 3.2.2.3.3).

        Also called when the size changes on an open link: a window that is too full gets narrower as places get free.
        """
        self.size = min(self.limit, receive_maximum)

    @property
    def room(self) -> int:
        """How many more uplinks may be taken now."""
        left = max(0, min(self._asked, self._share - self._lent)) if self.their_turn else 0
        return min(self._free - left, max(self.size, UNSENT_ROOM) - len(self._order))

    @property
    def _free(self) -> int:
        return self.size - len(self._sent) - self._lent

    @property
    def _share(self) -> int:
        """How many places may be lent at once."""
        return max(1, self.size // 4)

    def lend(self, wanted: int, *, waiting: bool) -> int:
        """Lend places, `wanted` at most; what is not given now is kept free when it is next. `waiting`: uplinks do."""
        places = min(wanted, self._share - self._lent, self._free)
        if places <= 0 or (waiting and not self.their_turn):
            self._asked = wanted
            return 0
        self._lent += places
        self._asked = wanted - places
        self.their_turn = False
        return places

    def want_none(self) -> None:
        """Keep no place free for who asked."""
        self._asked = 0

    def give_back(self, places: int) -> None:
        """Take back places that were lent."""
        self._lent -= places

    def recall(self, seq: int) -> bool:
        """Take an uplink that an earlier link had answered already. False: none had."""
        end = self._kept.pop(seq, None)
        if end is None:
            return False
        self.skip(end, sent=True)
        return True

    def send(self, seq: int) -> None:
        """Take an uplink that is being sent."""
        self._order.append(seq)
        self._sent.add(seq)
        self.unanswered += 1

    def skip(self, end: Settled, *, sent: bool = False) -> None:
        """Take an uplink that ends without being sent on this link. `sent`: it was on an earlier one."""
        self._order.append(end.seq)
        self._ends[end.seq] = end
        if sent:
            self._sent.add(end.seq)  # the broker may have it: until it is settled it counts against invariant 1

    def answer(self, end: Settled) -> bool:
        """Note how a sent uplink ended. False: it was not awaited."""
        if end.seq not in self._sent or end.seq in self._ends:
            return False
        self._ends[end.seq] = end
        self.unanswered -= 1
        return True

    def finished(self) -> list[Settled]:
        """Give the ends of the contiguous beginning, to be settled."""
        ends = self._ends
        return [ends[seq] for seq in takewhile(ends.__contains__, self._order)]

    def settled(self, ends: Sequence[Settled]) -> None:
        """Let go of what the journal has committed: the beginning that `finished` gave."""
        for end in ends:
            self._order.popleft()
            del self._ends[end.seq]
            self._sent.discard(end.seq)

    def interrupt(self, settled_to: int) -> None:
        """Forget, the link being gone, what was not answered; it will be read and sent again.

        So will what ended unsent: it ends so again. What lies at or below `settled_to` will never be read again (the
        journal may have dropped it).
        """
        answered = {seq: end for seq, end in self._ends.items() if seq in self._sent}
        self._kept = {seq: end for seq, end in (self._kept | answered).items() if seq > settled_to}
        self._order.clear()
        self._ends = {}
        self._sent.clear()
        self._lent = self._asked = 0
        self.unanswered = 0
