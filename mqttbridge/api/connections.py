"""The routes under /connections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, Response, delete, get, post, put

from mqttbridge.api.answers import answer, flag, if_match, json_of, query
from mqttbridge.api.documents import id_of, shaped, tell, with_warnings, written
from mqttbridge.api.shapes import connection_of
from mqttbridge.control.request import BadRequest, whole_number

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from mqttbridge.api.seam import ConnectionView, Editor, Tested, Views
    from mqttbridge.api.shapes import Shaped

__all__ = ["MOST_UPLINKS", "USUAL", "ConnectionRoutes", "after_of"]

MOST_UPLINKS = 200
USUAL = 50
MAX_DIGITS = 18

Asked = Request[Any, Any, Any]
Answer = Response[bytes]


class ConnectionRoutes:
    """Answers who asks about connections, and edits them."""

    def __init__(self, editor: Editor, views: Views) -> None:
        """Edit with the one, look with the other."""
        self._editor = editor
        self._views = views

    def routes(self) -> list[HTTPRouteHandler]:
        """Give what it answers, for Litestar."""
        one = "/connections/{id:str}"
        return [
            get("/connections", operation_id="listConnections")(self._list),
            post("/connections", operation_id="createConnection")(self._create),
            get(one, operation_id="getConnection")(self._get),
            put(one, operation_id="replaceConnection")(self._replace),
            delete(one, operation_id="deleteConnection", status_code=204)(self._delete),
            post(f"{one}/start", operation_id="startConnection")(self._start),
            post(f"{one}/stop", operation_id="stopConnection")(self._stop),
            post(f"{one}/restart", operation_id="restartConnection")(self._restart),
            get(f"{one}/uplinks", operation_id="listUplinks")(self._uplinks),
            get(f"{one}/counters", operation_id="getCounters")(self._counters),
        ]

    async def _list(self, request: Asked) -> Answer:
        query(request)
        return answer({"connections": self._views.connections()})

    async def _create(self, request: Asked) -> Answer:
        dry = flag(query(request, "dryRun"), "dryRun")
        body, _ = await json_of(request)
        given = shaped(connection_of, body, "connection")
        if dry:
            return _tested(await self._editor.try_out(None, given.document), given)
        done = await self._editor.create("connection", given.id, given.document)
        tell(request, "created", "connection", done.id)
        view = written(self._views.connection, done.id)
        return _shown(view, (*given.warnings, *done.warnings), status=201)

    async def _get(self, request: Asked) -> Answer:
        query(request)
        view = self._views.connection(id_of(request))
        return answer(view, etag=view.etag)

    async def _replace(self, request: Asked) -> Answer:
        dry = flag(query(request, "dryRun"), "dryRun")
        body, _ = await json_of(request)
        id_ = id_of(request)
        current = self._views.connection(id_).etag
        given = shaped(connection_of, body, "connection", id_)
        match = if_match(request, current)
        if dry:
            return _tested(await self._editor.try_out(id_, given.document), given)
        done = await self._editor.replace("connection", id_, given.document, if_match=match)
        tell(request, "replaced", "connection", id_)
        view = written(self._views.connection, id_)
        return _shown(view, (*given.warnings, *done.warnings))

    async def _delete(self, request: Asked) -> None:
        query(request)
        id_ = id_of(request)
        current = self._views.connection(id_).etag
        await self._editor.delete("connection", id_, if_match=if_match(request, current))
        tell(request, "deleted", "connection", id_)

    async def _start(self, request: Asked) -> Answer:
        query(request)
        id_ = id_of(request)
        view = self._views.connection(id_)
        if not view.active:
            await self._editor.activate(id_, active=True)
            tell(request, "started", "connection", id_)
        elif view.state == "CLOSED":
            # It has given up (reconnectStrategy CALM): it is active, and yet does not run.
            await self._views.restart(id_)
            tell(request, "restarted", "connection", id_)
        return self._now(id_)

    async def _stop(self, request: Asked) -> Answer:
        query(request)
        id_ = id_of(request)
        if self._views.connection(id_).active:
            await self._editor.activate(id_, active=False)
            tell(request, "stopped", "connection", id_)
        return self._now(id_)

    async def _restart(self, request: Asked) -> Answer:
        query(request)
        id_ = id_of(request)
        await self._views.restart(id_)
        tell(request, "restarted", "connection", id_)
        return self._now(id_)

    def _now(self, id_: str) -> Answer:
        view = written(self._views.connection, id_)
        return answer(view, etag=view.etag)

    async def _uplinks(self, request: Asked) -> Answer:
        given = query(request, "limit", "after", "documents")
        limit = whole_number(given, "limit", USUAL, most=MOST_UPLINKS)
        found = await self._views.uplinks(
            id_of(request), limit=limit, after=after_of(given), documents=flag(given, "documents")
        )
        return answer({"uplinks": found})

    async def _counters(self, request: Asked) -> Answer:
        query(request)
        return answer(self._views.counters(id_of(request)))


def after_of(given: dict[str, str]) -> int:
    """Give the id after which something is asked for, or 0. Raises `BadRequest`."""
    text = given.get("after", "0")
    if not (text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS):
        raise BadRequest("after is an id: a whole number")
    return int(text)


def _shown(view: ConnectionView, warnings: tuple[str, ...], status: int = 200) -> Answer:
    location = f"/connections/{view.id}" if status == 201 else ""  # noqa: PLR2004
    return answer(with_warnings(view, warnings), status, etag=view.etag, location=location)


def _tested(tested: Tested, given: Shaped) -> Answer:
    return answer({"ok": tested.ok, "steps": tested.steps, "warnings": (*given.warnings, *tested.warnings)})
