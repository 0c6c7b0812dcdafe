"""A session of one connection between a real journal and a broker, for tests."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from mqttbridge.clock import SystemClock
from mqttbridge.errors import JournalFailed
from mqttbridge.journal.sqlite import SqliteJournal
from mqttbridge.model import Counts, DocumentKind, Entry, Uplink
from mqttbridge.observe.throttle import Throttle
from mqttbridge.sessions.gate import ConnectGate
from mqttbridge.sessions.runner import BrokerSession
from mqttbridge.settings.schema import Configuration, Connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.journal.protocol import Journal, JournalHealth
    from mqttbridge.model import Queued, Settled
    from mqttbridge.sessions.machine import State
    from mqttbridge.sessions.runner import SessionStatus

DEADLINE = 15.0
DEV_EUI = "0018B20000000B20"


def body(number: int, size: int = 0) -> bytes:
    """Give the document of an uplink; `size`: bytes of padding."""
    return b'{"DevEUI_uplink":{"DevEUI":"%s","FCntUp":%d,"x":"%s"}}' % (DEV_EUI.encode(), number, b"x" * size)


def entries(first: int, number: int, *connections: str, size: int = 0, age: int = 0) -> list[Entry]:
    """Make uplinks numbered from `first`; `age` in ms."""
    now = time.time_ns() // 1_000_000
    return [
        Entry(Uplink("lrc", DocumentKind.UPLINK, DEV_EUI, now - age, now, one, body(one, size)), connections)
        for one in range(first, first + number)
    ]


async def until(holds: Callable[[], object], what: str = "", timeout: float = DEADLINE) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, f"after {timeout} s still not: {what}"
        await asyncio.sleep(0.005)


class FailingJournal:
    """A journal in front of another one, whose disk fails when the test says so."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.reading_fails = False
        self.settling_fails = False

    async def append(self, entries: Sequence[Entry]) -> None:
        await self._journal.append(entries)

    async def read(self, connection: str, after: int, limit: int) -> list[Queued]:
        if self.reading_fails:
            raise JournalFailed("cannot read: I/O error")
        return await self._journal.read(connection, after, limit)

    async def settle(self, connection: str, settled: Sequence[Settled]) -> None:
        if self.settling_fails:
            raise JournalFailed("cannot write: the disk is full")
        await self._journal.settle(connection, settled)

    def watch(self, connection: str, callback: Callable[[], None]) -> None:
        self._journal.watch(connection, callback)

    def counts(self) -> Mapping[str, Counts]:
        return self._journal.counts()

    def oldest(self, connection: str) -> int | None:
        return self._journal.oldest(connection)

    def health(self) -> JournalHealth:
        return self._journal.health()

    async def close(self) -> None:
        await self._journal.close()


class Running:
    """A session that runs as a task."""

    def __init__(self, session: BrokerSession, journal: Journal) -> None:
        self.session = session
        self.journal = journal
        self.task = asyncio.create_task(session.run())

    def status(self) -> SessionStatus:
        return self.session.status()

    def counts(self) -> Counts:
        return self.journal.counts().get(self.session.connection, Counts())

    async def put(self, first: int, number: int, *, size: int = 0, age: int = 0) -> list[bytes]:
        """Have uplinks accepted; gives their documents."""
        new = entries(first, number, self.session.connection, size=size, age=age)
        await self.journal.append(new)
        return [entry.uplink.body for entry in new]

    async def until_state(self, state: State, timeout: float = DEADLINE) -> SessionStatus:
        await until(lambda: self.status().state is state, f"{state}, but {self.status()}", timeout)
        return self.status()

    async def until_delivered(self, number: int, timeout: float = DEADLINE) -> None:
        await until(lambda: self.counts().delivered >= number, f"{number} delivered of {self.counts()}", timeout)

    async def until_settled(self, timeout: float = DEADLINE) -> Counts:
        await until(lambda: self.counts().queued == 0, f"all settled of {self.counts()}", timeout)
        return self.counts()

    async def stop(self, timeout: float = DEADLINE) -> float:
        """Stop it in good order; gives the seconds that it took."""
        began = time.monotonic()
        self.session.stop()
        await asyncio.wait_for(self.task, timeout)
        return time.monotonic() - began


class Bench:
    """Makes sessions on one journal."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self.journal = journal
        self.clock = clock
        self.gate = ConnectGate(clock, per_second=100_000)
        self.throttle = Throttle(clock)
        self.running: list[Running] = []

    def start(
        self,
        port: int,
        connection: str = "acme",
        *,
        wiring: Mapping[str, object] | None = None,
        **configuration: object,
    ) -> Running:
        """Run a session; `configuration` in the names of the struct. Chance always gives the shortest delay.

        `wiring`: inbox, downlinks, metrics.
        """
        given = {"host_name": f"127.0.0.1:{port}", "protocol": "TCP", **configuration}
        session = BrokerSession(
            connection,
            Connection(configuration=Configuration(**given)),
            journal=self.journal,
            gate=self.gate,
            clock=self.clock,
            random=lambda: 0.0,
            throttle=self.throttle,
            **(wiring or {}),
        )
        self.running.append(Running(session, self.journal))
        return self.running[-1]


@asynccontextmanager
async def bench(
    directory: Path,
    *,
    failing: bool = False,
    max_size: int = 1024**3,
    when_full: str = "block",
    clock: Clock | None = None,
) -> AsyncIterator[Bench]:
    """Open a journal; at the end, all sessions that still run are stopped. `failing`: see `FailingJournal`."""
    clock = clock or SystemClock()
    opened = await SqliteJournal.open(directory, max_size=max_size, when_full=when_full, clock=clock)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(opened.close)
        made = Bench(FailingJournal(opened) if failing else opened, clock)
        try:
            yield made
        finally:
            for one in made.running:
                one.session.stop()
            results = await asyncio.wait_for(
                asyncio.gather(*(one.task for one in made.running), return_exceptions=True), DEADLINE
            )
        for result in results:
            if isinstance(result, Exception):
                raise result
