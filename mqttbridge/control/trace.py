"""GET /trace on the Unix socket: the passport of a device, from the history, the journal and the sessions as they are.

It changes nothing. Documents are read again one by one, with the loop's other work in between.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import msgspec

from mqttbridge.control.passages import (
    Guide,
    delivered,
    device_in,
    ended_downlink,
    passage,
    pending_downlink,
    reread,
)
from mqttbridge.control.passport import Delivery, Passport
from mqttbridge.control.request import BadRequest, query_of, whole_number
from mqttbridge.errors import DocumentError, MqttBridgeError
from mqttbridge.formats.times import moment
from mqttbridge.sources.asgi import answer, problem

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from mqttbridge.clock import Clock
    from mqttbridge.control.local import Routes
    from mqttbridge.control.passport import DownlinkPassage, UplinkPassage
    from mqttbridge.history.records import Ended, KeptEvent, Passed
    from mqttbridge.journal.downlink_protocol import PendingDownlink, Sender
    from mqttbridge.model import Device, Uplink
    from mqttbridge.settings.schema import Settings
    from mqttbridge.sources.asgi import Receive, Scope, Send

__all__ = ["DownlinksSeen", "Remembered", "SessionView", "TraceDesk", "Waiting"]

DEFAULT_LIMIT = 3
MOST = 100
EVENTS_OF_A_DOWNLINK = 4
"""How many events of downlinks are looked through, for each that is asked for: some are not of an end."""
MOST_DELIVERIES = 2000
"""Uplinks times connections in one answer: each costs the loop some 4 microseconds."""
MOST_DROPS = 1000
"""Events that tell of drops."""
LOST = "its end was not recorded: the history may have lost it in a crash, under pressure, or to its bounds"
DROPPED = (
    "its end was not recorded; the daemon dropped queued uplinks of this connection since it came, this one may be "
    "among them: mqttbridge events --connection {}"
)
DROPS = ("uplink.dropped", "connection.queue_dropped")


class SessionView(msgspec.Struct, frozen=True):
    """A session from outside. `why`: why it is not open; `retry_at` and `down_since`: wall time in ms."""

    state: str
    why: str = ""
    retry_at: int | None = None
    down_since: int | None = None


class Remembered(Protocol):
    """What is asked of the history."""

    async def of_device(self, dev_eui: str, *, limit: int) -> list[Passed]:
        """Give the last uplinks of a device, newest first."""
        ...

    async def ends(self, seqs: Collection[int]) -> list[Ended]:
        """Give how uplinks ended, for each connection."""
        ...

    async def events(
        self, *, limit: int, since: int = 0, name: str = "", connection: str = "", device: str = ""
    ) -> list[KeptEvent]:
        """Give the newest events, the oldest of them first."""
        ...

    def problem(self) -> str:
        """Tell what is wrong with it; empty while all is well."""
        ...


class Waiting(Protocol):
    """What is asked of the journal."""

    def is_queued(self, connection: str, seq: int) -> bool:
        """Tell whether an uplink that was routed to this connection still waits for its end. Cheap."""
        ...


class DownlinksSeen(Protocol):
    """What is asked of the queue of downlinks."""

    async def pending_of(self, dev_eui: str) -> list[PendingDownlink]:
        """Give the pending downlinks of a device, oldest first."""
        ...

    async def device(self, dev_eui: str) -> Device | None:
        """Give what was learnt of a device."""
        ...

    async def sender(self, dev_eui: str, name: str) -> Sender | None:
        """Give whose the newest downlink to this device was that goes by this name."""
        ...

    def problem(self) -> str:
        """Tell what is wrong with the disk; empty while all is well."""
        ...


class TraceDesk:
    """Answers where the uplinks and downlinks of a device went."""

    def __init__(
        self,
        history: Remembered,
        journal: Waiting,
        downlinks: DownlinksSeen,
        sessions: Callable[[str], SessionView | None],
        settings: Callable[[], Settings],
        clock: Clock,
    ) -> None:
        """Take whom to ask. `sessions` shows that of a connection, None if it has none; `settings` as they are now."""
        self._history = history
        self._journal = journal
        self._downlinks = downlinks
        self._sessions = sessions
        self._settings = settings
        self._clock = clock

    def routes(self) -> Routes:
        """Give what is answered here."""
        return {"/trace": ("GET", self._trace)}

    async def _trace(self, scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            query = query_of(scope, ("device", "limit"))
            dev_eui = device_in(query.get("device", ""))
            limit = whole_number(query, "limit", DEFAULT_LIMIT, most=MOST)
        except (BadRequest, ValueError) as error:
            await problem(send, 400, str(error))
            return
        try:
            passport = await self.passport(dev_eui, limit)
        except MqttBridgeError as error:
            await problem(send, 503, str(error))
            return
        await answer(send, 200, msgspec.json.encode(passport))

    async def passport(self, dev_eui: str, limit: int) -> Passport:
        """Put together what is known of a device: its last `limit` uplinks, and downlinks.

        Raises `JournalFailed` and `HistoryFailed`.
        """
        remembered = await self._history.of_device(dev_eui, limit=limit)
        passed = remembered[: _affordable(remembered)]
        uplinks = await self._uplinks(passed)
        downlinks = await self._downlinks_of(dev_eui, limit)
        device = await self._downlinks.device(dev_eui)
        return Passport(
            device=dev_eui,
            now=moment(self._clock.now()),
            uplinks=tuple(uplinks),
            left_out=len(remembered) - len(passed),
            downlinks=tuple(downlinks),
            remembered_seconds=self._settings().journal.retention / 1000,
            last_source=None if device is None else device.source,
            problem=self._history.problem() or self._downlinks.problem(),
        )

    # -- uplinks

    async def _uplinks(self, passed: Sequence[Passed]) -> list[UplinkPassage]:
        # First what is queued, then what ended: what is not queued has been told to the history by now.
        queued = {(one.seq, name): self._journal.is_queued(name, one.seq) for one in passed for name in one.connections}
        ends = {(end.seq, end.connection): end for end in await self._history.ends(sorted({seq for seq, _ in queued}))}
        lost = {pair for pair, waits in queued.items() if not waits and pair not in ends}
        drops = await self._drops(passed, lost) if lost else {}
        guide = Guide(self._settings())
        found: list[UplinkPassage] = []
        for one in passed:
            again, unread = self._again(one, guide)
            sender = await self._sender(again)
            deliveries = tuple(
                delivered(end, self._qos(name))
                if (end := ends.get((one.seq, name)))
                else self._open_end(one, name, queued, drops)
                for name in one.connections
            )
            found.append(passage(one, guide, deliveries, again, unread=unread, sender=sender))
            # Reading a document takes up to some ms.
            await asyncio.sleep(0)
        return found

    @staticmethod
    def _again(passed: Passed, guide: Guide) -> tuple[Uplink | None, str]:
        try:
            return reread(passed, guide.source(passed.source)[1]), ""
        except DocumentError as error:
            return None, str(error)

    async def _sender(self, report: Uplink | None) -> str:
        """Give the connection that sent the downlink which a report is about; empty if there is none."""
        if report is None or not report.correlation_id:
            return ""
        sender = await self._downlinks.sender(report.dev_eui, report.correlation_id)
        return "" if sender is None else sender.connection

    def _open_end(
        self, passed: Passed, name: str, queued: dict[tuple[int, str], bool], drops: dict[str, int]
    ) -> Delivery:
        """Tell of an uplink whose end for this connection is not recorded."""
        if not queued[passed.seq, name]:
            reason = DROPPED.format(name) if drops.get(name, 0) >= passed.received else LOST
            return Delivery(connection=name, outcome="unknown", reason=reason)
        session = self._session(name)
        return Delivery(
            connection=name,
            outcome="queued",
            state=session.state,
            why=session.why,
            down_since=None if session.down_since is None else moment(session.down_since),
            retry_at=None if session.retry_at is None else moment(session.retry_at),
        )

    def _qos(self, name: str) -> int | None:
        connection = self._settings().connections.get(name)
        return None if connection is None else connection.configuration.qos

    def _session(self, name: str) -> SessionView:
        """Show the session of a connection, or why there is none."""
        connection = self._settings().connections.get(name)
        if connection is None:
            return SessionView("REMOVED", "it is not configured any more")
        if not connection.active:
            return SessionView("DEACTIVATED", "active is false")
        return self._sessions(name) or SessionView("CLOSED", "it has not been started yet")

    async def _drops(self, passed: Sequence[Passed], lost: Collection[tuple[int, str]]) -> dict[str, int]:
        """Give when queued uplinks of a connection were dropped last, of those whose ends are not known."""
        since = min(one.received for one in passed)
        names = {name for _, name in lost}
        last: dict[str, int] = {}
        for event_name in DROPS:
            for event in await self._history.events(limit=MOST_DROPS, since=since, name=event_name):
                name = str(event.fields.get("connection", ""))
                if name in names:
                    last[name] = max(last.get(name, 0), event.at)
        return last

    # -- downlinks

    async def _downlinks_of(self, dev_eui: str, limit: int) -> list[DownlinkPassage]:
        """Give those that wait, then those that ended, the newest first."""
        pending = await self._downlinks.pending_of(dev_eui)
        events = await self._history.events(limit=limit * EVENTS_OF_A_DOWNLINK, name="downlink.*", device=dev_eui)
        found = [pending_downlink(one, _last_try(one, events)) for one in reversed(pending)]
        ended = [one for event in reversed(events) if (one := ended_downlink(event)) is not None]
        return found[:limit] + ended[:limit]


def _affordable(passed: Sequence[Passed]) -> int:
    """Give how many of these uplinks are told of: one at least, and only so many connections in all."""
    places = 0
    for count, one in enumerate(passed):
        places += len(one.connections)
        if count and places > MOST_DELIVERIES:
            return count
    return len(passed)


def _last_try(pending: PendingDownlink, events: Sequence[KeptEvent]) -> str:
    """Give why the last try failed, if it was told: the newest news of this device, connection and source."""
    for event in reversed(events):
        fields = event.fields
        about = (fields.get("connection"), fields.get("source")) == (pending.connection, pending.source)
        if event.name == "downlink.retrying" and about and event.at >= pending.received:
            return str(fields.get("reason", ""))
    return ""
