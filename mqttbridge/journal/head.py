"""How old a connection's backlog is, from what was read and stored anyway. Pure.

Belongs to the event loop's half of the journal, which asks it for `oldest`. Bounded: it remembers a few stretches, so
what it says may be a little too old, and never asks the disk.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.model import Queued

__all__ = ["Head"]

CHUNKS = 16


class Head:
    """The stretches of a backlog that were seen, each as (last seq, when its first uplink was received)."""

    __slots__ = ("_chunks", "_known")

    def __init__(self, seq: int = 0, received: int | None = None) -> None:
        """Start with the oldest uplink, if it is known."""
        self._known = received
        self._chunks: deque[tuple[int, int]] = deque()
        if received is not None:
            self._chunks.append((seq, received))

    def note(self, queued: Sequence[Queued], *, fresh: bool) -> None:
        """Take note of a stretch. `fresh`: it begins with the oldest uplink of all."""
        chunks = self._chunks
        last = queued[-1].seq
        if fresh:
            chunks.clear()
        elif chunks and last <= chunks[-1][0]:
            return
        if len(chunks) >= CHUNKS:
            chunks[-1] = (last, chunks[-1][1])
        else:
            chunks.append((last, queued[0].uplink.received))

    def received(self, cursor: int) -> int | None:
        """When the oldest uplink with `seq > cursor` was received, or a little earlier; None if nobody knows."""
        chunks = self._chunks
        while chunks and chunks[0][0] <= cursor:
            self._known = chunks.popleft()[1]
        return chunks[0][1] if chunks else self._known
