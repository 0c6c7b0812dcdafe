"""The routes under /flows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Request, Response, delete, get, post, put

from mqttbridge.api.answers import answer, if_match, json_of, query
from mqttbridge.api.documents import id_of, shaped, tell, with_warnings, written
from mqttbridge.api.shapes import flow_of

if TYPE_CHECKING:
    from litestar.handlers import HTTPRouteHandler

    from mqttbridge.api.seam import Editor, Views

__all__ = ["FlowRoutes"]

Asked = Request[Any, Any, Any]
Answer = Response[bytes]


class FlowRoutes:
    """Answers who asks about flows, and edits them."""

    def __init__(self, editor: Editor, views: Views) -> None:
        """Edit with the one, look with the other."""
        self._editor = editor
        self._views = views

    def routes(self) -> list[HTTPRouteHandler]:
        """Give what it answers, for Litestar."""
        one = "/flows/{id:str}"
        return [
            get("/flows", operation_id="listFlows")(self._list),
            post("/flows", operation_id="createFlow")(self._create),
            get(one, operation_id="getFlow")(self._get),
            put(one, operation_id="replaceFlow")(self._replace),
            delete(one, operation_id="deleteFlow", status_code=204)(self._delete),
        ]

    async def _list(self, request: Asked) -> Answer:
        query(request)
        return answer({"flows": self._views.flows()})

    async def _create(self, request: Asked) -> Answer:
        query(request)
        body, _ = await json_of(request)
        given = shaped(flow_of, body, "flow")
        done = await self._editor.create("flow", given.id, given.document)
        tell(request, "created", "flow", done.id)
        view = written(self._views.flow, done.id)
        members = with_warnings(view, (*given.warnings, *done.warnings))
        return answer(members, 201, etag=view.etag, location=f"/flows/{view.id}")

    async def _get(self, request: Asked) -> Answer:
        query(request)
        view = self._views.flow(id_of(request))
        return answer(view, etag=view.etag)

    async def _replace(self, request: Asked) -> Answer:
        query(request)
        body, _ = await json_of(request)
        id_ = id_of(request)
        current = self._views.flow(id_).etag
        given = shaped(flow_of, body, "flow", id_)
        done = await self._editor.replace("flow", id_, given.document, if_match=if_match(request, current))
        tell(request, "replaced", "flow", id_)
        view = written(self._views.flow, id_)
        return answer(with_warnings(view, (*given.warnings, *done.warnings)), etag=view.etag)

    async def _delete(self, request: Asked) -> None:
        query(request)
        id_ = id_of(request)
        current = self._views.flow(id_).etag
        await self._editor.delete("flow", id_, if_match=if_match(request, current))
        tell(request, "deleted", "flow", id_)
