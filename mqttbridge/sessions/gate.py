"""At most so many connects a second to one broker, over all sessions: a restarted broker is not stormed.

Other brokers are not waited for, however many of them are dead. Used by the sessions, right before they dial.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqttbridge.clock import Clock

__all__ = ["ConnectGate"]

CONNECTS_PER_SECOND = 50


class ConnectGate:
    """Gives each caller its moment, in the order of asking. A slow connect holds up nobody: only starts are spaced."""

    def __init__(
        self,
        clock: Clock,
        per_second: float = CONNECTS_PER_SECOND,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        """Space the starts to one broker by `1 / per_second` seconds."""
        self._clock = clock
        self._sleep = sleep
        self._spacing = 1 / per_second
        self._next: dict[tuple[str, int], float] = {}
        """The next free moment of each broker; as many as the configuration names."""

    async def turn(self, broker: tuple[str, int]) -> None:
        """Wait for one's moment at this broker (host and port)."""
        now = self._clock.monotonic()
        mine = max(now, self._next.get(broker, now))
        self._next[broker] = mine + self._spacing
        if mine > now:
            await self._sleep(mine - now)
