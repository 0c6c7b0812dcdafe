"""The newest uplinks of each route, in memory: a session that keeps up never reads from disk.

Pure, bounded in bytes over all routes. Holds only what is committed. Belongs to the event loop.
"""

from __future__ import annotations

import bisect
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mqttbridge.journal.ledger import Route
    from mqttbridge.model import Queued

__all__ = ["READ_BYTES", "Tail"]

READ_BYTES = 4 * 1024 * 1024
"""What one read returns at most, but for one uplink that is larger."""
OVERHEAD = 400
"""Bytes of an uplink in memory beside its body, about."""

by_seq = attrgetter("seq")


class _Segment:
    """The newest uplinks of one route: all of them with `seq > floor`."""

    __slots__ = ("floor", "items")

    def __init__(self, floor: int) -> None:
        self.floor = floor
        self.items: list[Queued] = []


class Tail:
    """A cache of the last `limit` bytes that were committed."""

    def __init__(self, limit: int) -> None:
        """Start empty."""
        self.limit = limit
        self.size = 0
        self._segments: dict[int, _Segment] = {}
        self._order: deque[tuple[_Segment, int, int]] = deque()

    def add(self, route: int, floor: int, items: list[Queued]) -> None:
        """Add new uplinks of a route whose last seq before was `floor`; the oldest of all make room."""
        segment = self._segments.get(route)
        if segment is None:
            segment = self._segments[route] = _Segment(floor)
        segment.items += items
        size = sum([len(item.uplink.body) for item in items]) + OVERHEAD * len(items)
        self._order.append((segment, len(items), size))
        self.size += size
        while self.size > self.limit:
            oldest, number, size = self._order.popleft()
            oldest.floor = oldest.items[number - 1].seq
            del oldest.items[:number]
            self.size -= size

    def read(self, routes: Iterable[Route], after: int, limit: int) -> list[Queued] | None:
        """Give the uplinks of these routes with `seq > after`, oldest first, or None if only the disk knows."""
        found: list[Queued] = []
        parts = 0
        for route in routes:
            if route.last <= after:
                continue
            segment = self._segments.get(route.id)
            if segment is None or segment.floor > after:
                return None
            start = bisect.bisect_right(segment.items, after, key=by_seq)
            found += segment.items[start : start + limit]
            parts += 1
        if parts > 1:
            found.sort(key=by_seq)
            del found[limit:]
        return _bounded(found)

    def clear(self) -> None:
        """Forget everything."""
        self._segments.clear()
        self._order.clear()
        self.size = 0


def _bounded(items: list[Queued]) -> list[Queued]:
    size = 0
    for index, item in enumerate(items):
        if size >= READ_BYTES:
            return items[:index]
        size += len(item.uplink.body)
    return items
