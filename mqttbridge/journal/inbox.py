"""What waits for the writer thread: the loop puts operations in, the writer takes them out in groups."""

from __future__ import annotations

import contextlib
import queue
from typing import TYPE_CHECKING

from mqttbridge.journal.operations import Append, Close

if TYPE_CHECKING:
    from mqttbridge.journal.operations import Operation

__all__ = ["Inbox"]


class Inbox:
    """A queue between two threads."""

    def __init__(self) -> None:
        """Start empty."""
        self._operations: queue.SimpleQueue[Operation] = queue.SimpleQueue()

    def put(self, operation: Operation) -> None:
        """Hand over one operation. Does not block."""
        self._operations.put(operation)

    def empty(self) -> bool:
        """Tell whether nothing waits."""
        return self._operations.empty()

    def take(self, timeout: float | None, bound: int) -> list[Operation]:
        """Wait for operations, some seconds at most, and take all that wait, up to `bound` bytes or a `Close`."""
        operations: list[Operation] = []
        size = 0
        with contextlib.suppress(queue.Empty):
            while size < bound and not (operations and isinstance(operations[-1], Close)):
                one = self._operations.get_nowait() if operations else self._operations.get(timeout=timeout)
                operations.append(one)
                size += one.size if isinstance(one, Append) else 0
        return operations
