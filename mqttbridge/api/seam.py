"""What the API may do to a running daemon, and what it may see: two narrow protocols. The composition root has both.

Documents are JSON objects with the property names of the configuration file. Times are UTC; rates and numbers as in
docs/status.md. Whatever leaves here shows secrets as `*****`.
"""

from __future__ import annotations

from datetime import datetime  # noqa: TC003 (msgspec reads the annotations at run time)
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec

from mqttbridge.model import Counts  # noqa: TC001 (likewise)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mqttbridge.control.status import Status
    from mqttbridge.history.records import KeptEvent

__all__ = [
    "ConnectionView",
    "Counters",
    "Edited",
    "Editor",
    "FlowView",
    "Kind",
    "Problem",
    "RecentUplink",
    "Refused",
    "Span",
    "Step",
    "Submitted",
    "Tested",
    "Views",
]

Kind = Literal["connection", "flow"]
Owner = Literal["api", "main"]
"""Whose it is: a file of its own in connections.d or flows.d, or the main file, which the API does not touch."""


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with one property: its path from the document down (`configuration.hostName`), and a sentence."""

    property: str
    detail: str


class Refused(Exception):
    """An edit or a wish is refused: nothing was changed. `status` is that of HTTP (400, 404, 409, 412, 422, 503)."""

    def __init__(self, status: int, detail: str, problems: Sequence[Problem] = ()) -> None:
        """Take a sentence for people, and what is wrong property by property."""
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = tuple(problems)


class Edited(msgspec.Struct, frozen=True):
    """An edit that is on disk and in force. `warnings` are sentences."""

    id: str
    etag: str
    warnings: tuple[str, ...] = ()


class Editor(Protocol):
    """Edits the files of the configuration, one edit at a time; each returns when it is in force. Raises `Refused`."""

    async def create(self, kind: Kind, id_: str | None, document: Mapping[str, Any]) -> Edited:
        """Write a new file; without an id one is made of the name. 409: the id exists. 422: the document is wrong."""
        ...

    async def replace(
        self, kind: Kind, id_: str, document: Mapping[str, Any], *, if_match: str | None = None
    ) -> Edited:
        """Write the whole document in place of what is there; a secret that is `*****` stays as it is.

        404: there is none. 409: the main file owns it. 412: `if_match` is not its etag any more. 422: it is wrong.
        """
        ...

    async def activate(self, id_: str, *, active: bool) -> Edited:
        """Change `active` of a connection, and nothing else of its file. Errors as `replace`."""
        ...

    async def delete(self, kind: Kind, id_: str, *, if_match: str | None = None) -> None:
        """Remove its file. 404, 409 (the main file owns it; a flow names it), 412."""
        ...

    async def try_out(self, id_: str | None, document: Mapping[str, Any]) -> Tested:
        """Check a document as `create` (without an id) or `replace` would, then the broker, by steps; keep nothing."""
        ...


class Step(msgspec.Struct, frozen=True):
    """One step of trying a connection out: DNS, TCP, TLS, … `milliseconds`: how long it took."""

    name: str
    outcome: Literal["ok", "warning", "failed", "skipped"]
    detail: str = ""
    advice: str = ""
    milliseconds: float | None = None


class Tested(msgspec.Struct, frozen=True):
    """What came of trying a connection out."""

    ok: bool
    steps: tuple[Step, ...]
    warnings: tuple[str, ...] = ()


class ConnectionView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One connection: its document, and how it is. Field names in JSON are camelCase.

    `startupTime`: when it was last opened. `since`: when its state began. `why`: why it is not open, a sentence.
    """

    id: str
    name: str
    connector_id: str
    active: bool
    configuration: dict[str, Any]
    """The properties that are set, secrets as `*****`."""
    alarms: list[dict[str, Any]] = []
    state: str
    startup_time: datetime | None = None
    since: datetime | None = None
    why: str = ""
    retry_at: datetime | None = None
    queued: int = 0
    oldest: datetime | None = None
    parked: int = 0
    """Parked uplinks that are kept."""
    totals: Counts
    delivered_rate: float | None = None
    """Uplinks a second over the last minute."""
    owner: Owner
    file: str
    """The file that has it, by its name alone, such as `acme.yaml`."""
    etag: str


class FlowView(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One flow: its document."""

    id: str
    name: str
    description: str
    matchers: list[dict[str, Any]]
    connections: list[str]
    owner: Owner
    file: str
    etag: str


class Span(msgspec.Struct, frozen=True):
    """What was counted in one span of time: a minute, or an hour. `start`: when it began."""

    start: datetime
    routed: int
    delivered: int
    expired: int
    parked: int
    dropped: int


class Counters(msgspec.Struct, frozen=True, rename="camel"):
    """A connection's last 60 minutes and 24 hours, oldest first, as far as the daemon has run.

    `active_devices`: how many devices had an uplink routed to it in the last 24 hours; null: nobody knows.
    """

    hour: tuple[Span, ...]
    day: tuple[Span, ...]
    active_devices: int | None


class RecentUplink(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One uplink that was routed to a connection, and how it went there. `id` rises."""

    id: int
    received: datetime
    source: str
    kind: str
    dev_eui: str
    fcnt: int | None
    outcome: Literal["queued", "delivered", "expired", "parked", "dropped", "unknown"]
    topic: str = ""
    ended: datetime | None = None
    reason: str = ""
    size: int
    document: Any = None
    """The document, if it was asked for."""


class Submitted(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A downlink that was given through the API: `accepted` (it is on disk, and goes on), or how it ended at once."""

    outcome: Literal["accepted", "rejected", "expired"]
    key: str
    dev_eui: str = ""
    correlation_id: str = ""
    field: str = ""
    reason: str = ""
    warnings: tuple[str, ...] = ()


class Views(Protocol):
    """The running daemon, to look at; nothing here changes a file. Raises `Refused` (404: there is no such id)."""

    def status(self) -> Status:
        """Show every part of it, now."""
        ...

    def connections(self) -> list[ConnectionView]:
        """Give all that are configured, in the order of the file."""
        ...

    def connection(self, id_: str) -> ConnectionView:
        """Give one."""
        ...

    def flows(self) -> list[FlowView]:
        """Give all of them."""
        ...

    def flow(self, id_: str) -> FlowView:
        """Give one."""
        ...

    def counters(self, id_: str) -> Counters:
        """Give what was counted for a connection."""
        ...

    async def uplinks(self, id_: str, *, limit: int, after: int = 0, documents: bool = False) -> list[RecentUplink]:
        """Give its last uplinks, newest first; with `after` those with a higher id alone."""
        ...

    async def events(
        self,
        *,
        limit: int,
        level: str = "info",
        name: str = "",
        connection: str = "",
        since: int = 0,
        after: int = 0,
    ) -> list[KeptEvent]:
        """Give events as the history keeps them, oldest first."""
        ...

    async def submit_downlink(self, id_: str, body: bytes) -> Submitted:
        """Take a DevEUI_downlink document as if the connection's broker had sent it. 409: it takes no downlinks."""
        ...

    async def restart(self, id_: str) -> None:
        """End its session and begin another, without any change. 409: it is not active."""
        ...
