"""Whether the client of a request that takes long still waits for the answer."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from mqttbridge.sources.asgi import Receive

__all__ = ["Presence"]


class Presence:
    """Watches the client of a request whose body was read; to be entered."""

    def __init__(self, receive: Receive) -> None:
        """Take what tells of it."""
        self._receive = receive
        self._watching: asyncio.Task[None]

    @property
    def gone(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return self._watching.done()

    async def __aenter__(self) -> Self:
        """Begin to watch."""
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End watching."""
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
