"""What the routes of connections and of flows have in common: which one is meant, what came in, what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from mqttbridge.api.answers import scope_of
from mqttbridge.api.auth import edited
from mqttbridge.api.seam import Refused
from mqttbridge.api.shapes import Misshapen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import msgspec
    from litestar import Request

    from mqttbridge.api.seam import Kind
    from mqttbridge.api.shapes import Shaped

__all__ = ["id_of", "shaped", "tell", "with_warnings", "written"]

T = TypeVar("T")
NOT_FOUND, CONFLICT = 404, 409


def id_of(request: Request[Any, Any, Any]) -> str:
    """Give the id in the path."""
    return str(request.path_params["id"])


def tell(request: Request[Any, Any, Any], what: str, kind: Kind, id_: str) -> None:
    """Log an edit that is done."""
    edited(scope_of(request), what, kind, id_)


def shaped(shape: Callable[[object, str | None], Shaped], body: object, what: str, id_: str | None = None) -> Shaped:
    """Read a document. Raises `Refused` (422)."""
    try:
        return shape(body, id_)
    except Misshapen as error:
        first, more = error.problems[0], len(error.problems) - 1
        others = f" (and {more} more)" if more else ""
        detail = f"the {what} is not right: {first.property or 'the document'}: {first.detail}{others}"
        raise Refused(422, detail, error.problems) from None


def written(look: Callable[[str], T], id_: str) -> T:
    """Look at what was just written. Raises `Refused`: 409 if somebody removed it in between."""
    try:
        return look(id_)
    except Refused as error:
        if error.status != NOT_FOUND:
            raise
        raise Refused(CONFLICT, f"{id_} was written, and removed by somebody else since") from None


def with_warnings(view: msgspec.Struct, warnings: Sequence[str]) -> dict[str, Any]:
    """Give a view with `warnings` beside its own members, to be encoded."""
    members = {
        encoded: getattr(view, name)
        for name, encoded in zip(view.__struct_fields__, view.__struct_encode_fields__, strict=True)
    }
    return {**members, "warnings": list(warnings)}
