"""Finds out that a broker acknowledges nothing for `actionTimeout`: one timer, however much is awaited.

Used by what publishes on a link (uplinks, receipts), one each. It must never fire while no answer is due.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mqttbridge.errors import LinkTimeout

if TYPE_CHECKING:
    from collections.abc import Callable

    from mqttbridge.clock import Clock
    from mqttbridge.errors import LinkError

__all__ = ["Deadline"]


class Deadline:
    """`awaited` tells how many answers are due. `open` it with a link, `stop` it when that is gone."""

    def __init__(self, timeout: float, clock: Clock, awaited: Callable[[], int]) -> None:
        """Prepare; `timeout` in seconds."""
        self._timeout = timeout
        self._clock = clock
        self._awaited = awaited
        self._at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._dead: asyncio.Future[LinkError] | None = None

    def open(self, dead: asyncio.Future[LinkError]) -> None:
        """Begin with a new link; `dead` is given the error when no answer comes in time."""
        self._dead = dead

    def sent(self, number: int) -> None:
        """Expect the answers to publishes that were just sent."""
        if self._awaited() == number:
            # Nothing was due before: the broker's time begins now, whatever it answered earlier.
            self.heard()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self.check)

    def heard(self) -> None:
        """Note that the broker answered something."""
        self._at = self._clock.monotonic() + self._timeout

    def change(self, timeout: float) -> None:
        """Have another timeout, in seconds; what is due already gets that time from now on."""
        if timeout == self._timeout:
            return
        self._timeout = timeout
        self.heard()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(timeout, self.check)

    def stop(self) -> None:
        """Expect nothing more on this link."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def check(self) -> None:
        """Find out whether an answer is overdue."""
        self._timer = None
        if not self._awaited():
            return
        left = self._at - self._clock.monotonic()
        if left > 0:
            self._timer = asyncio.get_running_loop().call_later(left, self.check)
        elif self._dead is not None and not self._dead.done():
            waited = round(self._timeout * 1000)
            self._dead.set_result(LinkTimeout(f"the broker acknowledged nothing for {waited} ms (actionTimeout)"))
