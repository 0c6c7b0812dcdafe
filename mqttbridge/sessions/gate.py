"""At most so many connects a second, over all sessions: a restarted broker is not stormed, nor is our own loop.

One gate for the daemon; every session asks it before each connect. It must never wait for a connect to end: a
blackholed broker would hold up all others.
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
        """Space the starts by `1 / per_second` seconds."""
        self._clock = clock
        self._sleep = sleep
        self._spacing = 1 / per_second
        self._next = 0.0

    async def turn(self) -> None:
        """Wait for one's moment."""
        now = self._clock.monotonic()
        mine = max(now, self._next)
        self._next = mine + self._spacing
        if mine > now:
            await self._sleep(mine - now)
