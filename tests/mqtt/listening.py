"""A listener for tests: keeps what it is told, and fails when it is told at the wrong moment."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mqttbridge.errors import LinkError
    from mqttbridge.mqtt.link import Ack, Received

DEADLINE = 10.0


class Listener:
    """Collects acks, messages and the loss of one link. `on_received` may answer at once."""

    def __init__(self) -> None:
        self.acks: list[Ack] = []
        self.messages: list[Received] = []
        self.ack_batches = 0
        self.message_batches = 0
        self.losses: list[LinkError] = []
        self.forbidden = ""
        self.wrong: list[str] = []
        self.on_received: Callable[[Sequence[Received]], None] = lambda _: None
        self.on_acknowledged: Callable[[Sequence[Ack]], None] = lambda _: None
        self._changed = asyncio.Event()

    @property
    def tokens(self) -> list[int]:
        return [ack.token for ack in self.acks]

    @property
    def codes(self) -> list[int]:
        return [ack.code for ack in self.acks]

    @property
    def payloads(self) -> list[bytes]:
        return [message.payload for message in self.messages]

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        self._told("acknowledged")
        self.acks += acks
        self.ack_batches += 1
        self.on_acknowledged(acks)

    def received(self, messages: Sequence[Received]) -> None:
        self._told("received")
        self.messages += messages
        self.message_batches += 1
        self.on_received(messages)

    def lost(self, error: LinkError) -> None:
        self._told("lost")
        self.losses.append(error)

    def _told(self, what: str) -> None:
        if self.forbidden:
            self.wrong.append(f"{what}: {self.forbidden}")
        if self.losses:
            self.wrong.append(f"{what} after lost")
        self._changed.set()

    @contextmanager
    def silent(self, why: str) -> Iterator[None]:
        """While the block runs nothing may be told."""
        self.forbidden = why
        try:
            yield
        finally:
            self.forbidden = ""

    async def until(self, holds: Callable[[], object], timeout: float = DEADLINE) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(timeout):
            while not holds():
                self._changed.clear()
                await self._changed.wait()
        assert not self.wrong

    async def until_acked(self, count: int) -> None:
        await self.until(lambda: len(self.acks) >= count or self.losses)
        assert not self.losses

    async def until_received(self, count: int) -> None:
        await self.until(lambda: len(self.messages) >= count or self.losses)
        assert not self.losses

    async def until_lost(self, timeout: float = DEADLINE) -> LinkError:
        await self.until(lambda: self.losses, timeout)
        return self.losses[0]
