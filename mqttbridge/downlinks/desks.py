"""What the settings say of the downlinks of each connection, compiled, and how fast they may come. For the intake.

A desk follows the settings in force: it is looked at anew at each use, and its rate goes on from where it was.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from mqttbridge.downlinks.rate import Bucket
from mqttbridge.settings.secret import plain
from mqttbridge.topics import compile_pattern

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.settings.schema import Connection

__all__ = ["Desk", "Desks"]


class Desk:
    """One connection, as far as its downlinks go."""

    def __init__(self, id_: str, connection: Connection, now: float) -> None:
        """Open it, at the monotonic time `now`."""
        self.id = id_
        self.given = 0
        """How many that were given by hand are being stored."""
        self.bucket = Bucket(connection.configuration.downlink_rate, now)
        self.change(connection, now)

    def change(self, connection: Connection, now: float) -> None:
        """Take over the settings of the connection. Raises `PatternError`, which checked settings never do."""
        settings = connection.configuration
        self.connection = connection
        self.rate = settings.downlink_rate
        self.bucket.change(settings.downlink_rate, now)
        self.fport = settings.downlink_port
        self.wants_receipts = settings.downlink_receipt_topic_pattern is not None
        pattern = settings.downlink_topic_pattern if settings.takes_downlinks else None
        self.pattern = None if pattern is None else compile_pattern(plain(pattern))

    def full(self, room: int) -> str:
        """Say that there is no room for more than so many."""
        return f"{room} downlinks or receipts of this connection are not finished; more are taken when some are"

    @property
    def too_fast(self) -> str:
        """Say that they come too fast."""
        return f"downlinks come faster than downlinkRate, {self.rate} a second"


class Desks:
    """All of them, by connection."""

    def __init__(self, connections: Mapping[str, Connection], clock: Clock) -> None:
        """Take the connections in force; they are looked up at each use."""
        self._connections = connections
        self._clock = clock
        self._desks: dict[str, Desk] = {}

    def find(self, connection: str) -> Desk | None:
        """Give the desk of a connection, by its settings of this moment; None: it is gone."""
        now, desk = self._clock.monotonic(), self._desks.get(connection)
        settings = self._connections.get(connection)
        if settings is None:
            self._desks.pop(connection, None)
            return None
        if desk is None:
            desk = self._desks[connection] = Desk(connection, settings, now)
        elif desk.connection is not settings:
            desk.change(settings, now)
        return desk

    async def at(self, connection: str) -> Desk:
        """Give the desk of a connection. If it is gone, wait until cancelled."""
        if (desk := self.find(connection)) is not None:
            return desk
        # Its session is ending, and its broker keeps what is not taken.
        never: asyncio.Future[Desk] = asyncio.get_running_loop().create_future()
        return await never
