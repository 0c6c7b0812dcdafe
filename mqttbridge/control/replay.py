"""POST /replay on the Unix socket: uplinks of the past are queued again for one connection, each with a mark.

They come from the history, page by page, and are appended to the journal in batches: memory stays bounded, and the
loop does its other work in between. No uplink is queued that still waits for the connection, or that is itself a
replay or the retry of a parked one: so none comes twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from mqttbridge.control.again import ReplayDone, ReplayWish
from mqttbridge.control.passages import device_in
from mqttbridge.control.presence import Presence
from mqttbridge.control.refusal import Refused, answering, reason_not
from mqttbridge.control.replayed import ORIGIN, is_replay, mark
from mqttbridge.control.request import body_of
from mqttbridge.errors import JournalError
from mqttbridge.formats.times import iso, moment
from mqttbridge.model import Entry, Uplink
from mqttbridge.observe.log import get_logger
from mqttbridge.sources.asgi import answer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.control.local import Routes
    from mqttbridge.history.records import Passed
    from mqttbridge.journal.protocol import Journal
    from mqttbridge.settings.schema import Connection
    from mqttbridge.sources.asgi import Receive, Scope, Send

__all__ = ["PastUplinks", "ReplayDesk"]

BATCH = 100
"""Uplinks that are read, and appended, at once."""
BATCH_BYTES = 1024 * 1024
"""Bodies that are appended at once, at most; and a sixteenth of the journal, which it never finds too large."""

log = get_logger()


class PastUplinks(Protocol):
    """What is asked of the history."""

    async def between(
        self,
        start: int,
        end: int,
        *,
        after: int = 0,
        limit: int,
        device: str | None = None,
        connection: str | None = None,
    ) -> list[Passed]:
        """Give uplinks received in [start, end), with `id > after`, the oldest first; none: there are no more."""
        ...

    def problem(self) -> str:
        """Say why the history cannot be used, if it cannot."""
        ...


class ReplayDesk:
    """Answers /replay. `connections`: as configured, looked up at each request."""

    def __init__(
        self, journal: Journal, history: PastUplinks, connections: Mapping[str, Connection], clock: Clock
    ) -> None:
        """Take whom to ask."""
        self._journal = journal
        self._history = history
        self._connections = connections
        self._clock = clock

    def routes(self) -> Routes:
        """Give what answers, by path."""
        return {"/replay": ("POST", self._answer)}

    async def _answer(self, _scope: Scope, receive: Receive, send: Send) -> None:
        async with answering(send):
            wish = await body_of(receive, ReplayWish)
            device, end = self._checked(wish)
            async with Presence(receive) as client:
                run = _Run(self._journal, self._history, wish, client, self._clock)
                try:
                    await run.work(device, end)
                finally:
                    run.tell(device)
            await answer(send, 200, msgspec.json.encode(run.done()))

    def _checked(self, wish: ReplayWish) -> tuple[str | None, int]:
        """Give the DevEUI as uplinks have it, and the end of the time. Raises `Refused`."""
        if why := reason_not(self._connections, wish.connection):
            raise Refused(422 if wish.connection in self._connections else 404, f"nothing can be replayed: {why}")
        try:
            device = device_in(wish.device) if wish.device is not None else None
        except ValueError as error:
            raise Refused(422, str(error)) from error
        now = self._clock.now()
        end = now if wish.end is None else min(wish.end, now)
        if wish.start >= end:
            late = "lies in the future" if wish.start >= now else "is not before its end"
            raise Refused(422, f"the time to replay begins at {iso(wish.start)}, which {late} ({iso(end)})")
        return device, end


class _Run:
    """One replay."""

    def __init__(
        self, journal: Journal, history: PastUplinks, wish: ReplayWish, client: Presence, clock: Clock
    ) -> None:
        self._journal = journal
        self._history = history
        self._wish = wish
        self._client = client
        self._clock = clock
        self._found = self._queued = self._waiting = self._again = self._foreign = 0
        self._first: int | None = None
        self._last = self._last_queued = 0

    async def work(self, device: str | None, end: int) -> None:
        """Read, mark and queue, until there is no more, or nobody waits for the answer. Raises `Refused`."""
        wish = self._wish
        routed = None if wish.everything else wish.connection
        after = 0
        while not self._client.gone:
            page = await self._history.between(
                wish.start, end, after=after, limit=BATCH, device=device, connection=routed
            )
            if not page:
                return
            after = page[-1].id
            for batch in self._batches(page):
                await self._append(batch)

    def _batches(self, page: list[Passed]) -> Iterator[list[tuple[int, Entry]]]:
        """Give what is to be queued, with when it was received, in batches that the journal takes."""
        most = min(BATCH_BYTES, self._journal.health().max_size // 16)
        batch: list[tuple[int, Entry]] = []
        size = 0
        for passed in page:
            entry = self._entry(passed)
            if entry is None:
                continue
            if batch and size + len(entry.uplink.body) > most:
                yield batch
                batch, size = [], 0
            batch.append((passed.received, entry))
            size += len(entry.uplink.body)
        if batch:
            yield batch

    def _entry(self, passed: Passed) -> Entry | None:
        """Make what is to be queued of an uplink, or count why it is not."""
        name = self._wish.connection
        if is_replay(passed.origin):
            self._again += 1
            return None
        if name in passed.connections and self._journal.is_queued(name, passed.seq):
            self._waiting += 1
            return None
        try:
            body = mark(passed.body, passed.kind)
        except ValueError:
            self._foreign += 1
            return None
        now = self._clock.now()
        uplink = Uplink(
            source=passed.source,
            kind=passed.kind,
            dev_eui=passed.dev_eui,
            time=now,
            received=now,
            fcnt=passed.fcnt,
            body=body,
            origin=f"{ORIGIN} received {iso(passed.received)}",
        )
        return Entry(uplink, (name,))

    async def _append(self, batch: list[tuple[int, Entry]]) -> None:
        if self._client.gone:
            return
        if not self._wish.dry_run:
            try:
                await self._journal.append([entry for _, entry in batch])
            except JournalError as error:
                raise Refused(503, f"{error} {self._so_far()}") from error
            self._queued += len(batch)
            self._last_queued = batch[-1][0]
        self._found += len(batch)
        self._first = batch[0][0] if self._first is None else self._first
        self._last = batch[-1][0]

    def _so_far(self) -> str:
        if not self._queued:
            return "Nothing was queued."
        return f"{self._queued} uplinks were queued before: replay the others from {iso(self._last_queued + 1)} on."

    def tell(self, device: str | None) -> None:
        """Log what was queued, however it ended."""
        if not self._queued or self._first is None:
            return
        reason = f"received from {iso(self._first)} to {iso(self._last)}"
        if self._client.gone:
            reason += "; then the operator's command ended, and what came later was not queued"
        known = {"dev_eui": device} if device is not None else {}
        log.info("uplink.replayed", connection=self._wish.connection, count=self._queued, reason=reason, **known)

    def done(self) -> ReplayDone:
        """Give the answer."""
        skipped = []
        if self._waiting:
            skipped.append(f"{self._waiting} are still queued for {self._wish.connection}: not delivered yet")
        if self._again:
            skipped.append(f"{self._again} are themselves replays, or retries of parked ones, of other uplinks")
        if self._foreign:
            skipped.append(f"{self._foreign} are no JSON objects, so that they cannot be marked")
        if problem := self._history.problem():
            skipped.append(f"perhaps more, which the history does not know: {problem}")
        first = moment(self._first) if self._first is not None else None
        last = moment(self._last) if self._first is not None else None
        return ReplayDone(
            connection=self._wish.connection,
            found=self._found,
            queued=self._queued,
            skipped=tuple(skipped),
            first=first,
            last=last,
        )
