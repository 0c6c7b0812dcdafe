"""What waits for the history's thread: given by the loop (events by any thread), taken by that thread. No lock.

Invariants:

1. Giving costs next to nothing and never blocks, raises or logs: a reference is kept, and two numbers are added to.
2. What waits is bounded in bytes and in records. Beyond, things are left out and counted in `lost`.
3. Each number has one writer: the loop those of what was given, the thread those of what is done with. Events may come
   from any thread; their bound is the length of their queue. (`lost += n` is one step under CPython's GIL, or so rare
   that a number may be missed: it is a figure for people.)
4. What was taken counts as waiting until it is done with: a disk that fails does not let memory grow.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mqttbridge.history.store import Event
    from mqttbridge.model import Connections, Queued, Settled, Uplink

__all__ = ["Batch", "Waiting"]

WAITING_BYTES = 8 * 1024 * 1024
"""Of bodies and what else is long."""
WAITING_RECORDS = 50_000
WAITING_EVENTS = 5_000
BATCH_BYTES = 1024 * 1024
BATCH_RECORDS = 8192


class Given(NamedTuple):
    """Some uplinks: those that were stored, by where they go, or (in `unrouted`) those that nobody gets."""

    queued: Mapping[Connections, Sequence[Queued]]
    unrouted: Sequence[Uplink]
    number: int
    size: int


class Ends(NamedTuple):
    """How some uplinks of one connection ended."""

    connection: str
    settled: Sequence[Settled]


class Batch(NamedTuple):
    """What goes into one transaction."""

    given: list[Given]
    ends: list[Ends]
    events: list[Event]
    number: int
    size: int

    @property
    def records(self) -> int:
        """Everything that is in it."""
        return self.number + len(self.events)


class Waiting:
    """The three queues."""

    def __init__(self) -> None:
        """Start empty."""
        self.lost = 0
        self._given: deque[Given] = deque()
        self._ends: deque[Ends] = deque()
        self._events: deque[Event] = deque()
        self._added_bytes = self._added = self._done_bytes = self._done = 0

    @property
    def much(self) -> bool:
        """Whether a transaction is worth while at once."""
        return (
            self._added_bytes - self._done_bytes >= BATCH_BYTES
            or self._added - self._done >= BATCH_RECORDS
            or len(self._events) >= WAITING_EVENTS // 4
        )

    @property
    def empty(self) -> bool:
        """Whether nothing is there to be taken."""
        return not (self._given or self._ends or self._events)

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        """Take uplinks that the journal stored. The sequences are kept, not copied: nobody changes them."""
        number = size = 0
        for group in queued.values():
            number += len(group)
            size += sum([len(one.uplink.body) for one in group])
        if self._room(number, size):
            self._given.append(Given(queued, (), number, size))

    def unrouted(self, uplinks: Sequence[Uplink]) -> None:
        """Take uplinks that no connection gets."""
        size = sum([len(one.body) for one in uplinks])
        if self._room(len(uplinks), size):
            self._given.append(Given({}, uplinks, len(uplinks), size))

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Take how uplinks ended."""
        if self._room(len(settled), 0):
            self._ends.append(Ends(connection, settled))

    def event(self, event: Event) -> None:
        """Take an event, from any thread."""
        if len(self._events) >= WAITING_EVENTS:
            self.lost += 1
        else:
            self._events.append(event)

    def _room(self, number: int, size: int) -> bool:
        if self._added - self._done >= WAITING_RECORDS or self._added_bytes - self._done_bytes >= WAITING_BYTES:
            self.lost += number
            return False
        self._added += number
        self._added_bytes += size
        return True

    # What follows is called in the thread.

    def take(self) -> Batch | None:
        """Take what one transaction holds; None if nothing waits."""
        batch = Batch([], [], [], 0, 0)
        number = size = 0
        while self._given and number < BATCH_RECORDS and size < BATCH_BYTES:
            given = self._given.popleft()
            batch.given.append(given)
            number += given.number
            size += given.size
        while self._ends and number < 2 * BATCH_RECORDS:
            ends = self._ends.popleft()
            batch.ends.append(ends)
            number += len(ends.settled)
        while self._events and len(batch.events) < WAITING_EVENTS // 4:
            batch.events.append(self._events.popleft())
        batch = batch._replace(number=number, size=size)
        return batch if batch.given or batch.ends or batch.events else None

    def done(self, batch: Batch, lost: int = 0) -> None:
        """Forget what was taken: it is stored, but for `lost` of it."""
        self._done += batch.number
        self._done_bytes += batch.size
        self.lost += lost
