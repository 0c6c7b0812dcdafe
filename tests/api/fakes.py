"""An Editor and Views that keep everything in memory; what they take, the real loader has checked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.api.seam import (
    ConnectionView,
    Counters,
    Edited,
    FlowView,
    Problem,
    RecentUplink,
    Refused,
    Span,
    Step,
    Submitted,
    Tested,
)
from mqttbridge.control.status import JournalStatus, Status
from mqttbridge.errors import ConfigError, DocumentError
from mqttbridge.formats.downlink import parse
from mqttbridge.history.records import KeptEvent
from mqttbridge.model import Counts
from mqttbridge.settings.loader import load

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.api.seam import Kind

SECRETS = ("password", "privateKey", "downlinkAsKey")
MASK = "*****"
NOW = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)
LINE = re.compile(r"[^:]*:\d+:\d+: (.*)", re.DOTALL).fullmatch
MAIN = "main-owned"
BASE: dict[str, Any] = {"configuration": {"hostName": "broker.example.com", "password": "hunter2hunter2"}}


class Kept(msgspec.Struct):
    """One file."""

    kind: Kind
    id: str
    document: dict[str, Any]

    @property
    def etag(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self.document)).hexdigest()[:12]


class Daemon:
    """Both in one: what is edited is what is seen."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Kept] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.state: dict[str, str] = {}
        self.broken: Exception | None = None
        self.reset()

    def reset(self) -> None:
        """Begin anew."""
        self.kept.clear()
        self.calls.clear()
        self.state.clear()
        for id_ in ("acme", MAIN):
            self._keep("connection", id_, {"name": id_, **BASE})
        self._keep("flow", "temperature", {"connections": ["acme"]})

    # Editor

    async def create(self, kind: Kind, id_: str | None, document: Mapping[str, Any]) -> Edited:
        self._may()
        name = id_ or re.sub(r"[^a-z0-9]+", "-", str(document.get("name", "")).lower()).strip("-")[:64] or kind
        if (kind, name) in self.kept:
            raise Refused(409, f"there is a {kind} {name} already")
        await asyncio.to_thread(self._check, kind, name, document)
        return self._keep(kind, name, dict(document))

    async def replace(
        self, kind: Kind, id_: str, document: Mapping[str, Any], *, if_match: str | None = None
    ) -> Edited:
        self._may()
        old = self._own(kind, id_, if_match)
        new = _unmasked(document, old.document)
        await asyncio.to_thread(self._check, kind, id_, new)
        return self._keep(kind, id_, new)

    async def activate(self, id_: str, *, active: bool) -> Edited:
        self._may()
        old = self._own("connection", id_, None)
        return self._keep("connection", id_, {**old.document, "active": active})

    async def delete(self, kind: Kind, id_: str, *, if_match: str | None = None) -> None:
        self._may()
        self._own(kind, id_, if_match)
        users = [one.id for one in self.kept.values() if one.kind == "flow" and id_ in one.document["connections"]]
        if kind == "connection" and users:
            raise Refused(409, f"flow {users[0]} names it")
        del self.kept[kind, id_]

    async def try_out(self, id_: str | None, document: Mapping[str, Any]) -> Tested:
        self._may()
        self.calls.append(("try_out", id_))
        await asyncio.to_thread(self._check, "connection", id_ or "new", document)
        return Tested(ok=True, steps=(Step("DNS", "ok", "127.0.0.1", milliseconds=1.5), Step("MQTT", "skipped")))

    # Views

    def status(self) -> Status:
        journal = JournalStatus("", 1, 2, 0)
        return Status(
            ok=True, version="1", pid=1, config="/x", state_directory="/y", started=NOW, now=NOW, reasons=(),
            journal=journal, connections=(), sources=(),
        )  # fmt: skip

    def connections(self) -> list[ConnectionView]:
        self._may()
        return [self._connection(one) for one in self.kept.values() if one.kind == "connection"]

    def connection(self, id_: str) -> ConnectionView:
        self._may()
        return self._connection(self._one("connection", id_))

    def flows(self) -> list[FlowView]:
        return [self._flow(one) for one in self.kept.values() if one.kind == "flow"]

    def flow(self, id_: str) -> FlowView:
        return self._flow(self._one("flow", id_))

    def counters(self, id_: str) -> Counters:
        self._one("connection", id_)
        return Counters((Span(NOW, 3, 2, 1, 0, 0),), (), None)

    async def uplinks(self, id_: str, *, limit: int, after: int = 0, documents: bool = False) -> list[RecentUplink]:
        self._one("connection", id_)
        self.calls.append(("uplinks", limit, after, documents))
        return [
            RecentUplink(
                id=7, received=NOW, source="lrc", kind="DevEUI_uplink", dev_eui="0018B20000000B20", fcnt=None,
                outcome="queued", size=12, document={"DevEUI_uplink": {}} if documents else None,
            )
        ]  # fmt: skip

    async def events(
        self, *, limit: int, level: str = "info", name: str = "", connection: str = "", since: int = 0, after: int = 0
    ) -> list[KeptEvent]:
        self._may()
        self.calls.append(("events", limit, level, name, connection, since, after))
        return [
            KeptEvent(id=9, at=1000, level="info", name="connection.opened", fields={"connection": "acme", "id": 5})
        ]

    async def submit_downlink(self, id_: str, body: bytes) -> Submitted:
        self._one("connection", id_)
        self.calls.append(("downlink", id_, body))
        try:
            parsed = parse(body, dev_eui="", default_fport=2, now=0)
        except DocumentError as error:
            return Submitted(outcome="rejected", key="k", field=error.field, reason=str(error))
        return Submitted(outcome="accepted", key="k", dev_eui=parsed.downlink.dev_eui, warnings=parsed.warnings)

    async def restart(self, id_: str) -> None:
        self.calls.append(("restart", id_))
        if not self.connection(id_).active:
            raise Refused(409, f"connection {id_} is not active")
        self.state[id_] = "OPENING"

    # Inside

    def _may(self) -> None:
        if self.broken is not None:
            raise self.broken

    def _one(self, kind: Kind, id_: str) -> Kept:
        found = self.kept.get((kind, id_))
        if found is None:
            raise Refused(404, f"there is no {kind} {id_[:100]!a}")
        return found

    def _own(self, kind: Kind, id_: str, if_match: str | None) -> Kept:
        found = self._one(kind, id_)
        if id_ == MAIN:
            raise Refused(409, "it stands in mqttbridge.yaml, which the API does not touch")
        if if_match is not None and if_match != found.etag:
            raise Refused(412, "somebody else changed it")
        return found

    def _keep(self, kind: Kind, id_: str, document: dict[str, Any]) -> Edited:
        self.kept[kind, id_] = Kept(kind, id_, document)
        return Edited(id_, self.kept[kind, id_].etag)

    def _check(self, kind: Kind, id_: str, document: Mapping[str, Any]) -> None:
        everything: dict[str, Any] = {"connections": {}, "flows": {}}
        for one in self.kept.values():
            everything[f"{one.kind}s"][one.id] = one.document
        everything[f"{kind}s"][id_] = document
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "m.yaml"
            path.write_bytes(json.dumps(everything, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            try:
                load(path, environ={})
            except ConfigError as error:
                raise Refused(422, f"the {kind} is not right", _problems(error, f"{kind}s.{id_}.")) from None

    def _connection(self, one: Kept) -> ConnectionView:
        active = _truth(one.document.get("active", True))
        return ConnectionView(
            id=one.id, name=str(one.document.get("name", "")),
            connector_id=one.document.get("connectorId", "actility-mqtt-iot"),
            active=active, configuration=_masked(one.document["configuration"]),
            alarms=one.document.get("alarms", []),
            state=self.state.get(one.id, "OPENED" if active else "DEACTIVATED"), totals=Counts(3, 2, 1),
            owner="main" if one.id == MAIN else "api", file=f"{one.id}.yaml", etag=one.etag,
        )  # fmt: skip

    def _flow(self, one: Kept) -> FlowView:
        document = one.document
        return FlowView(
            id=one.id, name=document.get("name", ""), description=document.get("description", ""),
            matchers=document.get("matchers", []), connections=document["connections"],
            owner="api", file=f"{one.id}.yaml", etag=one.etag,
        )  # fmt: skip


def _truth(value: object) -> bool:
    return value is True or str(value).strip().lower() in {"true", "yes", "on"}


def _masked(configuration: Mapping[str, Any]) -> dict[str, Any]:
    return {name: MASK if name in SECRETS else value for name, value in configuration.items()}


def _unmasked(document: Mapping[str, Any], old: Mapping[str, Any]) -> dict[str, Any]:
    if "configuration" not in document:
        return dict(document)
    before = old["configuration"]
    kept = {name: before.get(name) if value == MASK else value for name, value in document["configuration"].items()}
    return {**document, "configuration": kept}


def _problems(error: ConfigError, prefix: str) -> list[Problem]:
    found = []
    for line in error.problems:
        place = LINE(line)
        path, _, text = (place[1] if place else line).partition(": ")
        found.append(Problem(path.removeprefix(prefix), text))
    return found
