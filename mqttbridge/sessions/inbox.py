"""The seam by which a session hands on what came as a downlink; the daemon gives it the room that takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mqttbridge.mqtt.link import Received

__all__ = ["Inbox"]


class Inbox(Protocol):
    """Who takes downlinks."""

    async def take(self, connection: str, messages: Sequence[Received], stored: Callable[[int], None]) -> None:
        """Return when every message is on disk, as a pending downlink or with its outcome.

        Waits while the connection has too many unfinished downlinks, or sends them too fast. Meanwhile `stored` is
        called with each number of messages, from the first on, that are on disk: these may be acknowledged. Raises
        `JournalError`: then none was taken, and all may be given again.
        """
        ...
