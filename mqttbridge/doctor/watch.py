"""Listens to one link for the doctor: what is found on the way in and when, and what the broker answers then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mqttbridge.doctor.judge import Entry
from mqttbridge.mqtt.facts import Addresses, Attempt, Secured
from mqttbridge.mqtt.link import Step

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.errors import LinkError
    from mqttbridge.mqtt.facts import Fact
    from mqttbridge.mqtt.link import Ack, Grant, Received

__all__ = ["Ears", "Watch"]


class Watch:
    """Notes the facts of one way in, and the time of each step."""

    def __init__(self, clock: Clock) -> None:
        """Take the clock to look at."""
        self._clock = clock
        self._begun: list[tuple[Step, float]] = []
        self._addresses: tuple[str, ...] = ()
        self._attempts: list[Attempt] = []
        self._secured: Secured | None = None

    def learn(self, fact: Fact) -> None:
        """Take a fact, as the link tells it."""
        if isinstance(fact, Step):
            self._begun.append((fact, self._clock.monotonic()))
        elif isinstance(fact, Addresses):
            self._addresses = fact.addresses
        elif isinstance(fact, Attempt):
            self._attempts.append(fact)
        else:
            self._secured = fact

    def entry(self, grant: Grant | None, failed: Step | None, error: LinkError | None) -> Entry:
        """Give what was found; the last step ends now."""
        moments = [moment for _, moment in self._begun[1:]] + [self._clock.monotonic()]
        return Entry(
            times={
                step: (end - begin) * 1000
                for (step, begin), end in zip(self._begun, moments, strict=True)
                if step is not Step.NONE
            },
            addresses=self._addresses,
            attempts=tuple(self._attempts),
            secured=self._secured,
            grant=grant,
            failed=failed,
            error=error,
        )


class Ears:
    """The listener of one open link: waits for one acknowledgement; what is received stays unread and unanswered."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self.error: LinkError | None = None
        self._code: int | None = None
        self._news = asyncio.Event()

    async def acknowledgement(self) -> int:
        """Wait for the answer to a publish; gives its code. Raises `LinkError` if the link ends instead."""
        while self._code is None and self.error is None:
            self._news.clear()
            await self._news.wait()
        if self._code is None and self.error is not None:
            raise self.error
        return self._code or 0

    def acknowledged(self, acks: Sequence[Ack]) -> None:
        """Keep the code."""
        self._code = acks[0].code
        self._news.set()

    def received(self, messages: Sequence[Received]) -> None:
        """Leave it: the broker forgets what is not answered with the session."""

    def lost(self, error: LinkError) -> None:
        """Note the end."""
        self.error = error
        self._news.set()
