"""What a journal is: the durable queue between the sources and the sessions.

Any implementation passes `tests/journal/conformance.py`. All methods are called from the event loop's thread and
never block it; `counts` and `health`, which change nothing, may be called from others too. The invariants, at every
moment and after every crash:

1. `append` returns only after all its entries are on disk, or raises and stored none of them.
2. For each connection, `read` gives its unsettled uplinks in the order in which they were accepted.
3. For each connection, `routed == delivered + expired + parked + dropped + queued`, exactly, in `counts`.
4. A body is stored once, however many connections get it, and is gone when the last of them settled it. A parked
   uplink keeps its body until `unpark`: it is parked, or queued anew, or gone, and never two of these.
5. Memory does not grow with what is queued.
6. A duplicate is not stored: an entry whose uplink has the `fingerprint` of one that was stored no longer than
   `entry.window` ms before this one was received, by an earlier entry of the same append or of any other, even if that
   uplink is settled or dropped since. This holds for a bounded number of the newest fingerprints; beyond these, a
   duplicate is stored like any other uplink. Nothing else is ever taken for a duplicate.
7. The accounts only grow: a retried uplink is routed anew, and stays counted as parked, as a dropped one does.
8. Each parked uplink has a positive number for its connection, which rises and never comes twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mqttbridge.journal.parked import Parked, ParkedUplink, Unparked
    from mqttbridge.model import Connections, Counts, Entry, Queued, Settled

__all__ = ["Journal", "JournalHealth", "Witness"]


class JournalHealth(msgspec.Struct, frozen=True):
    """How the journal is. `problem` is a sentence, empty while all is well.

    `size`: bytes that are in use, without free pages and logs; `max_size`: bytes that it may reach.
    """

    problem: str
    size: int
    max_size: int


class Witness(Protocol):
    """Who hears what was committed: the history, and those who watch. Called in the loop; quick, and never raises."""

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        """Hear of new uplinks, by where they go."""
        ...

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Hear how uplinks ended. What the journal drops itself is not told."""
        ...

    def seen(self, connection: str, queued: Sequence[Queued]) -> None:
        """Hear what a connection takes from its backlog: its ends may follow."""
        ...


class Journal(Protocol):
    """The durable queue."""

    async def append(self, entries: Sequence[Entry]) -> list[int]:
        """Store all the entries but for the duplicates, in this order, durably, or none of them.

        Gives the places of the duplicates in `entries`, rising: what each is a copy of is on disk by then. Duplicates
        alone are taken even when there is no room.

        Raises `JournalFull` or `JournalFailed`; then nothing of it was stored. A caller that is cancelled may find
        them stored. One uplink of a quarter of `max_size`, or a batch with bodies of a sixteenth in all, is never
        too large; what is, is always refused, even with drop-oldest, and nothing is dropped for it.
        """
        ...

    async def read(self, connection: str, after: int, limit: int) -> list[Queued]:
        """Give at most `limit` unsettled uplinks of a connection with `seq > after`, oldest first.

        What is returned is also bounded in bytes (some 4 MiB, one uplink at least). The uplinks are without tags, and
        nobody may count on their `fingerprint` and `way`. Raises `JournalFailed`.
        """
        ...

    async def settle(self, connection: str, settled: Sequence[Settled]) -> None:
        """Record how uplinks ended; returns when it is on disk. Raises `JournalFailed`: then nothing was recorded.

        `settled` rises by `seq`, and continues where the connection's last settlement ended: it holds every uplink
        of the connection up to its last `seq`. What the journal itself dropped meanwhile is skipped, not counted
        twice.
        """
        ...

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        """Have `callback` called, in the loop, whenever uplinks for this connection were stored. One a connection."""
        ...

    def counts(self) -> Mapping[str, Counts]:
        """Give the account of each connection that the journal knows, as committed. Cheap."""
        ...

    def oldest(self, connection: str) -> int | None:
        """When the oldest queued uplink of a connection was received (ms), as far as known, else None. Cheap."""
        ...

    async def parked(self, connection: str | None, limit: int, before: int = 0) -> list[Parked]:
        """Give at most `limit` parked uplinks, of one connection or (None) of all, newest first.

        `before`: only those with a lower number; 0: any. Raises `JournalFailed`.
        """
        ...

    async def parked_named(self, numbers: Sequence[int]) -> list[Parked]:
        """Give the parked uplinks with these numbers, as far as there are such. Raises `JournalFailed`."""
        ...

    async def parked_one(self, number: int) -> ParkedUplink | None:
        """Give one parked uplink with its body, or None. Raises `JournalFailed`."""
        ...

    def parked_kept(self) -> Mapping[str, int]:
        """Give how many parked uplinks each connection has that were neither retried nor dropped since. Cheap."""
        ...

    @property
    def last_parked(self) -> int:
        """The highest number that a parked uplink has ever got; 0: none was parked."""
        ...

    async def unpark(self, which: str | Sequence[int], *, retry: bool, upto: int = 0) -> Unparked:
        """Take up the oldest parked uplinks of a connection, or those with these numbers: some hundreds a call.

        `retry`: each is queued again for its connection alone, with a new seq, in the order of the numbers; else they
        are gone. `upto`: only those up to this number; 0: any. Whoever asks for all of a connection gives the
        `last_parked` of the beginning, and goes on while there is more: what was retried may be parked anew. Raises
        `JournalFull` (a retry of uplinks that others wait for needs room; no other does) and `JournalFailed`: then
        nothing happened, or (a failed disk) perhaps all of it.
        """
        ...

    def is_queued(self, connection: str, seq: int) -> bool:
        """Tell whether this uplink, which was routed to the connection, still waits there. Cheap."""
        ...

    async def configure(self, *, max_size: int, when_full: str) -> None:
        """Go on with this size (bytes) and `block` or `drop-oldest`. A journal that is larger then is simply full."""
        ...

    def health(self) -> JournalHealth:
        """How it is, now. Cheap."""
        ...

    async def close(self) -> None:
        """Finish what was asked for, and let go of the files."""
        ...
