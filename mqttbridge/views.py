"""The running daemon, to look at, as the API asks for it. For the composition root.

It keeps next to nothing itself: each answer is put together from the parts, the stores and the configuration in force,
as they are at that moment. Nothing that leaves here shows a secret, and no answer holds up the loop: what reads the
disk or many documents does so in a thread.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

import msgspec

from mqttbridge.api.seam import ConnectionView, Counters, FlowView, RecentUplink, Refused, Span, Submitted
from mqttbridge.downlinks.intake import Busy
from mqttbridge.downlinks.receipts import Ended, few, short
from mqttbridge.errors import HistoryFailed, JournalError
from mqttbridge.formats.times import moment
from mqttbridge.model import Outcome
from mqttbridge.settings.documents import document_of
from mqttbridge.settings.reader import etag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path
    from typing import Any, Literal

    from mqttbridge.api.seam import Owner
    from mqttbridge.clock import Clock
    from mqttbridge.control.status import ConnectionStatus, Status
    from mqttbridge.control.tallies import Tallies, Tally
    from mqttbridge.history.records import Ended as EndedUplink
    from mqttbridge.history.records import KeptEvent, Passed
    from mqttbridge.overview import Overview, Remarks
    from mqttbridge.parts import Parts
    from mqttbridge.reload import Reloader
    from mqttbridge.settings.documents import Outline
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Connection, Flow
    from mqttbridge.vitals import Stores

    Part = Connection | Flow

__all__ = ["DaemonViews"]

MOST_UPLINKS: Final = 500
"""In one answer; the history bounds their bytes too, to some 8 MiB."""
MOST_EVENTS: Final = 1000
LOST: Final = "its end was not recorded"
WORDS: Final[dict[Outcome, Literal["delivered", "expired", "parked", "dropped"]]] = {
    Outcome.DELIVERED: "delivered",
    Outcome.EXPIRED: "expired",
    Outcome.PARKED: "parked",
    Outcome.DROPPED: "dropped",
}


class DaemonViews:
    """Implements `api.seam.Views`."""

    def __init__(
        self,
        parts: Parts,
        stores: Stores,
        reloader: Reloader,
        *,
        overview: Overview,
        remarks: Callable[[], Remarks],
        tallies: Tallies,
        clock: Clock,
        seal: Callable[[str], str] = str,
    ) -> None:
        """Look at these. `remarks`: what others say at this moment; it is cheap. `seal`: as the editor has it."""
        self._parts = parts
        self._stores = stores
        self._reloader = reloader
        self._overview = overview
        self._remarks = remarks
        self._tallies = tallies
        self._clock = clock
        self._documents = _Documents(seal)

    # -- what is configured, and how it is ---------------------------------------------------------------------------

    def status(self) -> Status:
        """Show every part, now."""
        return self._overview.status(self._loaded, self._parts, self._remarks())

    def connections(self) -> list[ConnectionView]:
        """Give all that are configured, in the order of the file."""
        known = self._loaded.settings.connections
        return [self._connection(one, known[one.id]) for one in self.status().connections if one.id in known]

    def connection(self, id_: str) -> ConnectionView:
        """Give one. Raises `Refused`: 404."""
        settings = self._known(id_)
        now = self._overview.connection(id_, self._loaded, self._parts, self._remarks())
        return self._connection(now, settings)

    def flows(self) -> list[FlowView]:
        """Give all of them, in the order of the file."""
        return [self._flow(id_, one) for id_, one in self._loaded.settings.flows.items()]

    def flow(self, id_: str) -> FlowView:
        """Give one. Raises `Refused`: 404."""
        found = self._loaded.settings.flows.get(id_)
        if found is None:
            raise Refused(404, f"there is no flow {short(id_, 100)!r}")
        return self._flow(id_, found)

    def counters(self, id_: str) -> Counters:
        """Give what was counted for a connection. Raises `Refused`: 404."""
        self._known(id_)
        tallied = self._tallies.of(id_)
        return Counters(
            hour=tuple(map(_span, tallied.minutes)),
            day=tuple(map(_span, tallied.hours)),
            active_devices=tallied.devices,
        )

    # -- what passed -------------------------------------------------------------------------------------------------

    async def uplinks(self, id_: str, *, limit: int, after: int = 0, documents: bool = False) -> list[RecentUplink]:
        """Give its last uplinks, newest first; with `after` those with a higher id alone.

        A document stands as it was stored, ready to be encoded (`msgspec.Raw`). Raises `Refused`: 404, 503.
        """
        self._known(id_)
        history, journal = self._stores.history, self._stores.journal
        with _asking():
            latest = await history.latest(id_, min(max(limit, 1), MOST_UPLINKS))
            passed = [one for one in latest if one.id > after]
            # First what is queued, then what ended: what is not queued has been told to the history by now.
            queued = {one.seq for one in passed if journal.is_queued(id_, one.seq)}
            found = await history.ends([one.seq for one in passed]) if passed else []
        ends = {end.seq: end for end in found if end.connection == id_}
        bodies: Sequence[msgspec.Raw | None] = [None] * len(passed)
        if documents and passed:
            bodies = await asyncio.to_thread(_documents, passed)
        return [
            _recent(one, one.seq in queued, ends.get(one.seq), body) for one, body in zip(passed, bodies, strict=True)
        ]

    async def events(
        self, *, limit: int, level: str = "info", name: str = "", connection: str = "", since: int = 0, after: int = 0
    ) -> list[KeptEvent]:
        """Give events as the history keeps them, oldest first. Raises `Refused`: 503."""
        with _asking():
            return await self._stores.history.events(
                limit=min(max(limit, 1), MOST_EVENTS),
                level=level,
                name=name,
                connection=connection,
                since=since,
                after=after,
            )

    # -- what may be done --------------------------------------------------------------------------------------------

    async def submit_downlink(self, id_: str, body: bytes) -> Submitted:
        """Take a DevEUI_downlink document as if the connection's broker had sent it.

        Raises `Refused`: 404; 409: it takes no downlinks; 503: too many wait or come at once, or the disk fails.
        """
        connection = self._known(id_)
        if not connection.active:
            raise Refused(409, f"connection {id_} takes no downlinks: it is not active")
        if not connection.configuration.takes_downlinks:
            reason = "downlinkTopicPattern is missing, or downlinkEnabled is false"
            raise Refused(409, f"connection {id_} takes no downlinks: {reason}")
        try:
            given = await self._parts.submit(id_, body)
        except JournalError as error:
            raise Refused(503, f"the downlink is not stored: {error}") from error
        if given is None:
            raise _no_connection(id_)
        if isinstance(given, Busy):
            raise Refused(503, f"{given.reason}; try again in {max(1, round(given.delay))} s")
        if isinstance(given, Ended):
            return _ended(given)
        downlink = given.downlink
        return Submitted(
            outcome="accepted",
            key=given.key,
            dev_eui="" if downlink is None else downlink.dev_eui,
            correlation_id=(downlink.correlation_id if downlink is not None else "") or given.key,
            warnings=given.warnings,
        )

    async def restart(self, id_: str) -> None:
        """End its session and begin another, without any change. Raises `Refused`: 404; 409: it is not active."""
        if not self._known(id_).active:
            raise Refused(409, f"connection {id_} is not active: start it instead")
        if not await self._reloader.restart(id_):
            # A reload that was under way took it, or the daemon ends.
            self._known(id_)
            raise Refused(409, f"connection {id_} has no session that could be restarted")

    # -- how it is put together --------------------------------------------------------------------------------------

    @property
    def _loaded(self) -> Loaded:
        return self._reloader.loaded

    def _known(self, id_: str) -> Connection:
        """Give the settings of a connection. Raises `Refused`: 404."""
        found = self._loaded.settings.connections.get(id_)
        if found is None:
            raise _no_connection(id_)
        return found

    def _connection(self, now: ConnectionStatus, settings: Connection) -> ConnectionView:
        document, owner = self._documents.of("connection", now.id, settings, self._loaded)
        return ConnectionView(
            id=now.id,
            name=settings.name,
            connector_id=settings.connector_id,
            active=settings.active,
            configuration=document["configuration"],
            alarms=document.get("alarms", []),
            state=now.state,
            startup_time=self._opened(now.id),
            since=now.since,
            why=now.why,
            retry_at=now.retry_at,
            queued=now.queued,
            oldest=now.oldest,
            parked=now.parked,
            totals=now.totals,
            delivered_rate=None if now.rates is None else now.rates.delivered,
            owner=owner.who,
            file=owner.file.name,
            etag=owner.etag,
        )

    def _opened(self, id_: str) -> datetime | None:
        """Tell when a connection was last opened."""
        session = self._parts.sessions.get(id_)
        opened = None if session is None else session.status().opened
        if opened is None:
            return None
        return moment(self._clock.now() + round((opened - self._clock.monotonic()) * 1000))

    def _flow(self, id_: str, settings: Flow) -> FlowView:
        document, owner = self._documents.of("flow", id_, settings, self._loaded)
        return FlowView(
            id=id_,
            name=settings.name,
            description=settings.description,
            matchers=document.get("matchers", []),
            connections=document["connections"],
            owner=owner.who,
            file=owner.file.name,
            etag=owner.etag,
        )


class _Owned(msgspec.Struct, frozen=True):
    """Whose a part is, in which file, and the tag of it."""

    who: Owner
    file: Path
    etag: str


class _Documents:
    """The documents of parts, each made once for as long as its settings are in force."""

    def __init__(self, seal: Callable[[str], str]) -> None:
        self._seal = seal
        self._made: dict[tuple[str, str], tuple[Part, Outline | None, dict[str, Any], str]] = {}
        self._of: Loaded | None = None

    def of(
        self, kind: Literal["connection", "flow"], id_: str, part: Part, loaded: Loaded
    ) -> tuple[dict[str, Any], _Owned]:
        """Give the document of a part, which nobody may change, and whose it is."""
        if loaded is not self._of:
            self._forget(loaded)
        made = self._made.get((kind, id_))
        written = loaded.outlines.get((kind, id_))
        if made is None or made[0] is not part or made[1] != written:
            document = document_of(part, written)
            made = self._made[kind, id_] = part, written, document, etag(msgspec.json.encode(document))
        file = loaded.owners.get((kind, id_), loaded.path)
        who: Owner = "main" if file == loaded.path else "api"
        return made[2], _Owned(who, file, self._seal(loaded.etags.get((kind, id_), made[3])))

    def _forget(self, loaded: Loaded) -> None:
        """Forget the parts that are gone."""
        known = {("connection", id_) for id_ in loaded.settings.connections}
        known |= {("flow", id_) for id_ in loaded.settings.flows}
        self._made = {key: made for key, made in self._made.items() if key in known}
        self._of = loaded


@contextlib.contextmanager
def _asking() -> Iterator[None]:
    """Have a history that cannot be read be 503."""
    try:
        yield
    except HistoryFailed as error:
        raise Refused(503, str(error)) from error


def _no_connection(id_: str) -> Refused:
    return Refused(404, f"there is no connection {short(id_, 100)!r}")


def _span(tally: Tally) -> Span:
    return Span(
        start=moment(tally.start),
        routed=tally.routed,
        delivered=tally.delivered,
        expired=tally.expired,
        parked=tally.parked,
        dropped=tally.dropped,
    )


def _recent(one: Passed, queued: bool, end: EndedUplink | None, body: msgspec.Raw | None) -> RecentUplink:
    outcome = "queued" if queued else "unknown" if end is None else WORDS[end.outcome]
    return RecentUplink(
        id=one.id,
        received=moment(one.received),
        source=one.source,
        kind=one.kind.value,
        dev_eui=one.dev_eui,
        fcnt=one.fcnt,
        outcome=outcome,
        topic="" if end is None else end.topic,
        ended=None if end is None else moment(end.at),
        reason=end.reason if end is not None else "" if queued else LOST,
        size=len(one.body),
        document=body,
    )


def _documents(passed: Sequence[Passed]) -> list[msgspec.Raw]:
    """Give the bodies, each as it stands, or as a string if it is no JSON. In a thread: they may have 8 MiB."""
    return [_document(one.body) for one in passed]


def _document(body: bytes) -> msgspec.Raw:
    try:
        msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(body.decode(errors="replace")))
    return msgspec.Raw(body)


def _ended(ended: Ended) -> Submitted:
    return Submitted(
        outcome="expired" if ended.outcome.value == "expired" else "rejected",
        key=ended.key,
        dev_eui=short(ended.dev_eui),
        correlation_id=short(ended.correlation_id) or ended.key,
        field=short(ended.field),
        reason=short(ended.reason),
        warnings=few(ended.warnings),
    )
