"""The fingerprints of what was stored lately, in memory: what tells a copy of an uplink from a new one. Pure.

Used by the writer thread only. `Seen` mirrors the table `seen`, and like the ledger it is changed by what is on disk
alone; a `Sieve` is what one transaction would add to it. The newest `LIMIT` fingerprints are held at most, four fifths
of them at least, and in a small journal a sixteenth of its size. So a window is bounded in number too: a copy whose
original lies further back is taken for new. It is then delivered twice, which "at least once" allows; nothing is ever
taken for a copy of what was not stored.

They lie in parts, each a dictionary that only grows until it is let go of as a whole: to take single ones out of one
large dictionary costs as much as all the rest together.
"""

from __future__ import annotations

import sys
from array import array
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from mqttbridge.journal.schema import PAGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mqttbridge.model import Entry

__all__ = ["LIMIT", "LONGEST", "ROW", "Row", "Seen", "Sieve", "pack", "unpack"]

LIMIT = 50_000
PARTS = 5
"""How many of them make up the limit: 10,000 fit into a dictionary of 2**14 places, which the processor can cache."""
LONGEST = 24 * 60 * 60 * 1000
"""The longest window, in ms: what is older is forgotten."""
PERIOD = LONGEST // 4
"""In ms: how much time one part covers, so that it grows old."""
MOST_PARTS = 12
"""However the clock is set meanwhile."""
ROW = 24
"""Bytes of a row on disk beside its fingerprints of 8 bytes each, about."""
SHARE = 16
"""This part of the journal's size at most."""


def pack(prints: Iterable[int]) -> bytes:
    """Give the bytes that are stored: 8 for each, little-endian. Raises `OverflowError`."""
    packed = array("q", prints)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def unpack(blob: bytes) -> list[int]:
    """Give what was packed."""
    packed = array("q", blob)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tolist()


class Row(msgspec.Struct, frozen=True, eq=False):
    """What one transaction does to the table: one row more, and those up to `forget` deleted. `moment` in ms."""

    seq: int
    moment: int
    prints: list[int]
    forget: int


class _Part:
    """Some transactions in a row: when each fingerprint was stored (ms), the last seq, and the bytes on disk."""

    __slots__ = ("begin", "end", "last", "moments", "size")

    def __init__(self, moment: int) -> None:
        self.begin = self.end = moment
        self.last = 0
        self.size = 0
        self.moments: dict[int, int] = {}


class Seen:
    """What is stored, with the moment of its transaction (ms)."""

    def __init__(self, max_size: int) -> None:
        """Start empty, for a journal of this size."""
        self.resize(max_size)
        self.number = 0
        self.size = 0
        """Bytes on disk, about."""
        self._parts: deque[_Part] = deque()

    def resize(self, max_size: int) -> None:
        """Take this as the size of the journal; what is too much then goes with the next transaction."""
        # In the smallest journal, all of it stays in the page that the table has anyway.
        self._budget = max_size // SHARE - PAGE // 16
        self.most = min(LIMIT, (self._budget - ROW) // 8)
        """Fingerprints that one transaction leaves behind at most."""

    @property
    def last(self) -> int:
        """The seq of the newest transaction; 0: there is none."""
        return self._parts[-1].last if self._parts else 0

    def moment(self, fingerprint: int) -> int | None:
        """Give when it was stored last; None: not that anybody knew."""
        for part in reversed(self._parts):
            if (moment := part.moments.get(fingerprint)) is not None:
                return moment
        return None

    def isdisjoint(self, prints: set[int]) -> bool:
        """Tell whether none of these was stored."""
        return all(part.moments.keys().isdisjoint(prints) for part in self._parts)

    def add(self, seq: int, moment: int, prints: Sequence[int]) -> None:
        """Take over what a committed transaction stored."""
        size = 8 * len(prints) + ROW
        part = self._parts[-1] if self._parts else None
        if (
            part is None
            or len(part.moments) + len(prints) > LIMIT // PARTS
            or part.size + size > self._budget // PARTS
            or not 0 <= moment - part.begin < PERIOD
        ):
            part = _Part(moment)
            self._parts.append(part)
        before = len(part.moments)
        part.moments.update(dict.fromkeys(prints, moment))
        part.last = seq
        part.end = moment
        part.size += size
        self.number += len(part.moments) - before
        self.size += size

    def outdated(self, now: int, number: int = 0) -> int:
        """Give up to which seq to forget, before a transaction with so many fingerprints is added; 0: nothing."""
        most, room = LIMIT - number, self._budget - (8 * number + ROW if number else 0)
        prints, size, parts = self.number, self.size, len(self._parts)
        upto = 0
        for part in self._parts:
            if prints <= most and size <= room and parts < MOST_PARTS and part.end >= now - LONGEST:
                break
            prints -= len(part.moments)
            size -= part.size
            parts -= 1
            upto = part.last
        return upto

    def apply(self, row: Row) -> None:
        """Take over what a committed transaction did."""
        self.forget(row.forget)
        self.add(row.seq, row.moment, row.prints)

    def forget(self, upto: int) -> None:
        """Let go of the parts up to this seq, which were deleted on disk."""
        while self._parts and self._parts[0].last <= upto:
            part = self._parts.popleft()
            self.number -= len(part.moments)
            self.size -= part.size


class Sieve:
    """Finds the copies in what one transaction is asked to store. `sift` an append, then `take` it if it has room."""

    def __init__(self, seen: Seen, now: int) -> None:
        """Start on top of what is committed."""
        self._seen = seen
        self._now = now
        self._sifted: set[int] = set()
        self._planned: set[int] = set()

    def sift(self, entries: Sequence[Entry]) -> list[int]:
        """Give the places of the copies, of earlier entries among these too."""
        prints = [entry.uplink.fingerprint for entry in entries]
        if not any(prints):
            self._sifted = set()
            return []
        self._sifted = fresh = set(prints)
        fresh.discard(0)
        if (
            len(fresh) + prints.count(0) == len(prints)
            and fresh.isdisjoint(self._planned)
            and self._seen.isdisjoint(fresh)
        ):
            return []
        self._sifted, places = set(), []
        for place, entry in enumerate(entries):
            if self._is_copy(entry):
                places.append(place)
            elif prints[place]:
                self._sifted.add(prints[place])
        return places

    def take(self) -> None:
        """Note that what was sifted last will be stored, but for the copies."""
        self._planned |= self._sifted

    def row(self, seq: int) -> Row | None:
        """Give what the transaction does to the table, if anything. `seq` is its last."""
        if not self._planned:
            return None
        prints = list(self._planned)[: self._seen.most]
        return Row(seq, self._now, prints, self._seen.outdated(self._now, len(prints)))

    def _is_copy(self, entry: Entry) -> bool:
        fingerprint = entry.uplink.fingerprint
        if not fingerprint or not entry.window:
            return False
        if fingerprint in self._planned or fingerprint in self._sifted:
            moment: int | None = self._now
        else:
            moment = self._seen.moment(fingerprint)
        if moment is None:
            return False
        # A moment that lies in the future by more than a window is of a clock that was wrong.
        return entry.uplink.received - entry.window <= moment <= self._now + entry.window
