"""Shows what goes through right now to whoever watches: a witness of the journal, of the intake and of kept events.

All of it runs in the loop's thread, never waits and never raises; with nobody watching a batch costs one look at an
empty tuple. What is bounded: the taps, the lines and bytes of each that nobody took yet (what does not fit is left out,
counted, and told at its place), and what is remembered of uplinks. No more is spent on a line that is left out than
to count it.

How an uplink ended is told by its `seq` alone. Whose it was is remembered from `stored`, and from `seen` for what was
stored before anybody watched: whoever reads a backlog tells it. What is not remembered (read before the tap was opened,
or too long ago) is shown without DevEUI, FCntUp, source and age; a tap for one device then goes by the DevEUI
in the topic, and a tap for one source leaves it out.
"""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Self

import msgspec

from mqttbridge.model import Outcome, Queued
from mqttbridge.observe.tap_line import TapLine, What

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from mqttbridge.clock import Clock
    from mqttbridge.model import Connections, Settled, Uplink

__all__ = ["Tap", "Taps", "TooManyTaps"]

MAX_TAPS = 16
MAX_LINES = 1000
MAX_BYTES = 4 * 1024 * 1024
"""Of documents that wait in one tap."""
MAX_DOCUMENT = 1024 * 1024
"""Bytes. A larger document is not shown; its size is."""
REMEMBERED = 10_000
"""Uplinks, at least, and three times as many at most; some 300 bytes each, while anybody watches."""
ENDS: dict[Outcome, What] = {
    Outcome.DELIVERED: "delivered",
    Outcome.EXPIRED: "expired",
    Outcome.PARKED: "parked",
    Outcome.DROPPED: "dropped",
}
DOWNLINKS = {f"downlink.{outcome}": outcome for outcome in ("queued", "rejected", "expired", "failed")}
"""Kept events that tell how a downlink ended."""
DROPPED = "uplink.dropped"
TOLD = ("source", "connection", "dev_eui", "topic", "key", "reason")
"""Fields of these events that are shown."""
Whose = tuple[str, str, int | None, int]
"""What is remembered of an uplink: source, DevEUI, FCntUp, when it was received (ms)."""


class TooManyTaps(Exception):
    """As many watch as may."""


class _Memory:
    """Whose uplinks are, by seq: the newest. Two generations: to forget the older one costs nothing per uplink."""

    def __init__(self) -> None:
        self._young: dict[int, Whose] = {}
        self._old: dict[int, Whose] = {}

    def add(self, several: Sequence[Queued]) -> None:
        """Remember those that are not known yet."""
        if not several or (self.get(several[0].seq) and self.get(several[-1].seq)):
            return
        if len(self._young) >= REMEMBERED:
            self._old, self._young = self._young, {}
        self._young |= {
            one.seq: (uplink.source, uplink.dev_eui, uplink.fcnt, uplink.received)
            for one in several[-REMEMBERED:]
            for uplink in (one.uplink,)
        }

    def get(self, seq: int) -> Whose | None:
        """Recall."""
        return self._young.get(seq) or self._old.get(seq)

    def clear(self) -> None:
        """Forget all."""
        self._young, self._old = {}, {}


class Tap:
    """One who watches: a context manager, in which lines are kept until they are taken."""

    def __init__(self, taps: Taps, *, connection: str, source: str, device: str, payload: bool) -> None:
        """Begin at once; empty filters let everything through."""
        self._taps = taps
        self._connection = connection
        self._source = source
        self._device = device
        self._payload = payload
        self._lines: deque[tuple[TapLine, int]] = deque()
        self._bytes = 0
        self._left_out = 0
        self._news = asyncio.Event()

    def __enter__(self) -> Self:
        """Watch."""
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _: TracebackType | None
    ) -> None:
        """Watch no more."""
        self._taps.close(self)

    async def wait(self, timeout: float) -> bool:
        """Wait until there is something to take, so many seconds at most; tell whether there is."""
        try:
            async with asyncio.timeout(timeout):
                await self._news.wait()
        except TimeoutError:
            return False
        return True

    def take(self, limit: int) -> list[TapLine]:
        """Give the oldest lines, and forget them."""
        taken: list[TapLine] = []
        while self._lines and len(taken) < limit:
            line, size = self._lines.popleft()
            self._bytes -= size
            taken.append(line)
        if self._left_out and len(taken) < limit:
            taken.append(self._told())
        if not self._lines and not self._left_out:
            self._news.clear()
        return taken

    # -- what happens

    def of_interest(self, several: Sequence[Queued], connections: Connections) -> Sequence[Queued]:
        """Give the uplinks that pass the filters."""
        if self._connection and self._connection not in connections:
            return ()
        source, device = self._source, self._device
        if device:
            several = [one for one in several if one.uplink.dev_eui == device]
        if source:
            several = [one for one in several if one.uplink.source == source]
        return several

    def came(self, what: What, several: Sequence[Queued], connections: Connections = ()) -> None:
        """Show uplinks, which are of interest; a `seq` of 0 is none."""
        for number, one in enumerate(several):
            if not self._arrival(what, one, connections):
                self._leave_out(len(several) - number)
                return

    def _arrival(self, what: What, one: Queued, connections: Connections) -> bool:
        """Show one, or leave it out for its document; False: there is no place for any."""
        if not self._has_room():
            return False
        uplink = one.uplink
        size = len(uplink.body)
        shown = self._payload and size <= MAX_DOCUMENT
        if shown and self._bytes + size > MAX_BYTES:
            self._leave_out(1)
            return True
        line = TapLine(
            what=what,
            at=_moment(uplink.received),
            source=uplink.source,
            connections=connections,
            dev_eui=uplink.dev_eui,
            fcnt=uplink.fcnt,
            kind=uplink.kind.value,
            size=size,
            origin=uplink.origin,
            seq=one.seq,
            document=_document(uplink.body) if shown else msgspec.UNSET,
        )
        self._put(line, size if shown else 0)
        return True

    def ended(self, connection: str, settled: Sequence[Settled]) -> None:
        """Show how uplinks ended for a connection, those that are of interest here."""
        if self._connection and self._connection != connection:
            return
        recall = self._taps.recall
        if self._source or self._device:
            settled = [end for end in settled if self._wants(end, recall(end.seq))]
        for number, end in enumerate(settled):
            if not self._has_room():
                self._leave_out(len(settled) - number)
                return
            self._put(self._end(connection, end, recall(end.seq)))

    def _wants(self, end: Settled, whose: Whose | None) -> bool:
        if whose is None:
            return not self._source and self._device in end.topic.upper()
        source, dev_eui, _, _ = whose
        return (not self._device or dev_eui == self._device) and (not self._source or source == self._source)

    def _end(self, connection: str, end: Settled, whose: Whose | None) -> TapLine:
        at = end.at or self._taps.now()
        known: dict[str, Any] = {}
        if whose is not None:
            source, dev_eui, fcnt, received = whose
            known = {"source": source, "dev_eui": dev_eui, "fcnt": fcnt, "age_ms": max(at - received, 0)}
        return TapLine(
            what=ENDS[end.outcome],
            at=_moment(at),
            connection=connection,
            seq=end.seq,
            topic=end.topic,
            took_ms=max(at - end.sent, 0) if end.sent and end.outcome is Outcome.DELIVERED else None,
            reason=end.reason,
            **known,
        )

    def tell(self, line: TapLine) -> None:
        """Show a line about a connection, a source, a device, if it is of interest here."""
        if (
            (not self._connection or line.connection == self._connection)
            and (not self._source or line.source == self._source)
            and (not self._device or line.dev_eui == self._device)
        ):
            if self._has_room():
                self._put(line)
            else:
                self._leave_out(1)

    # -- the buffer

    def _has_room(self) -> bool:
        # What was left out is told with a line of its own, before the next one.
        return len(self._lines) + (self._left_out > 0) < MAX_LINES

    def _put(self, line: TapLine, size: int = 0) -> None:
        if self._left_out:
            self._lines.append((self._told(), 0))
        self._lines.append((line, size))
        self._bytes += size
        self._news.set()

    def _leave_out(self, count: int) -> None:
        self._left_out += count
        self._news.set()

    def _told(self) -> TapLine:
        count, self._left_out = self._left_out, 0
        return TapLine(what="left_out", at=_moment(self._taps.now()), count=count)


class Taps:
    """All who watch. A `journal.Witness`."""

    def __init__(self, clock: Clock) -> None:
        """Nobody watches yet."""
        self._clock = clock
        self._taps: tuple[Tap, ...] = ()
        self._memory = _Memory()

    def open(self, *, connection: str = "", source: str = "", device: str = "", payload: bool = False) -> Tap:
        """Begin to watch what passes all the filters that are not empty; `device`: a DevEUI in upper case.

        `payload`: with the documents. To be left as a context manager. Raises `TooManyTaps`.
        """
        if len(self._taps) >= MAX_TAPS:
            raise TooManyTaps
        tap = Tap(self, connection=connection, source=source, device=device, payload=payload)
        self._taps = (*self._taps, tap)
        return tap

    def close(self, tap: Tap) -> None:
        """End a tap."""
        self._taps = tuple(one for one in self._taps if one is not tap)
        if not self._taps:
            self._memory.clear()

    def now(self) -> int:
        """Give the time, in ms."""
        return self._clock.now()

    def recall(self, seq: int) -> Whose | None:
        """Give whose uplink it is, if that is still known."""
        return self._memory.get(seq)

    # -- what happens

    def stored(self, queued: Mapping[Connections, Sequence[Queued]]) -> None:
        """Hear of new uplinks, by where they go."""
        if not self._taps:
            return
        for connections, several in queued.items():
            for tap in self._taps:
                wanted = tap.of_interest(several, connections)
                self._memory.add(wanted)
                tap.came("uplink", wanted, connections)

    def seen(self, connection: str, queued: Sequence[Queued]) -> None:
        """Hear what is read from a connection's backlog: its ends follow, and it shall be known whose they are."""
        for tap in self._taps:
            self._memory.add(tap.of_interest(queued, (connection,)))

    def settled(self, connection: str, settled: Sequence[Settled]) -> None:
        """Hear how uplinks ended."""
        for tap in self._taps:
            tap.ended(connection, settled)

    def unrouted(self, uplinks: Sequence[Uplink]) -> None:
        """Hear of uplinks that no connection gets."""
        if self._taps:
            self._pass_on("unrouted", uplinks)

    def duplicates(self, uplinks: Sequence[Uplink]) -> None:
        """Hear of uplinks that were copies, and not stored."""
        if self._taps:
            self._pass_on("duplicate", uplinks)

    def _pass_on(self, what: What, uplinks: Sequence[Uplink]) -> None:
        several = [Queued(0, uplink) for uplink in uplinks]
        for tap in self._taps:
            tap.came(what, tap.of_interest(several, ()))

    def event(self, at: int, level: str, name: str, fields: Mapping[str, Any]) -> None:
        """Hear of a kept event: some tell what goes through. Those come in the loop's thread; others are ignored."""
        if not self._taps or level == "debug":
            return
        outcome = DOWNLINKS.get(name, "")
        if not outcome and name != DROPPED:
            return
        text = {field: str(fields.get(field, "")) for field in TOLD}
        line = TapLine(
            what="downlink" if outcome else "dropped",
            at=_moment(at),
            outcome=outcome,
            source=text["source"],
            connection=text["connection"],
            dev_eui=text["dev_eui"],
            topic=text["topic"],
            key=text["key"],
            reason=text["reason"],
            count=_number(fields.get("left_out")) or _number(fields.get("count")) or 1,
        )
        for tap in self._taps:
            tap.tell(line)


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def _document(body: bytes) -> msgspec.Raw:
    """Give a document as a JSON value in one line; what is none, as a text."""
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.Raw(msgspec.json.encode(body.decode("utf-8", "backslashreplace")))
    # In JSON a raw line break is whitespace between two tokens, and nothing else.
    return msgspec.Raw(body.replace(b"\n", b" ").replace(b"\r", b" "))


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
