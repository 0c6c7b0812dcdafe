"""Documents of the API out of settings: what `drafts` reads, the other way round. Pure.

A document shows what the file has: also a property that stands there with its default, and a duration in milliseconds
where the file has a number alone. Invariant: no secret is in a document, nor in an outline.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

import msgspec
import msgspec.inspect as types

from mqttbridge.settings import scalars
from mqttbridge.settings.convert import unwrapped
from mqttbridge.settings.reader import Mapping, Node, Scalar, Sequence
from mqttbridge.settings.secret import MASK, Secret

if TYPE_CHECKING:
    import collections.abc

__all__ = ["Outline", "document_of", "known", "outline", "same"]

Outline = dict[str, Any] | list[Any] | bool
"""What stands in a file, without its values: names, lists, and of each value whether it is a number alone."""
QUANTITIES: Final = {"duration": scalars.write_duration, "size": scalars.write_size}


def outline(node: Node) -> Outline:
    """Give the outline of what was read. A property without a value is not there."""
    match node:
        case Mapping():
            return {name: outline(entry.node) for name, entry in node.entries.items() if not _null(entry.node)}
        case Sequence():
            return [outline(item) for item in node.items]
        case Scalar(tag=""):
            return node.text.isascii() and node.text.isdigit()
        case _:
            return False


def document_of(part: msgspec.Struct, written: Outline | None = None) -> dict[str, Any]:
    """Give the document of a connection or flow: the properties that differ from their defaults or are `written`.

    Secrets, and whatever came by `!file`, `!env` or `!credential`, are `*****`. Durations are such as `5s`.
    """
    info, fields = known(type(part))
    names = written if isinstance(written, dict) else {}
    document: dict[str, Any] = {str(info.tag_field): info.tag} if info.tag_field else {}
    for one in info.fields:
        value = getattr(part, one.name)
        extra = fields[one.name]
        given = names.get(one.encode_name, names.get(str(extra.get("alias"))))
        if one.required or value != one.default or (given is not None and value is not None):
            document[one.encode_name] = _shown(value, extra.get("kind") or "", given)
    return document


@functools.cache
def known(struct: type[msgspec.Struct]) -> tuple[types.StructType, dict[str, dict[str, Any]]]:
    """Give what the schema tells of a struct, and what is added to each field; to look takes milliseconds."""
    info = types.type_info(struct)
    if not isinstance(info, types.StructType):
        raise TypeError(f"{struct} is no struct")
    return info, {one.name: unwrapped(one.type)[1] for one in info.fields}


def _shown(value: object, kind: str, written: Outline | None) -> object:
    match value:
        case Secret():
            return MASK
        case msgspec.Struct():
            return document_of(value, {} if written is None else written)
        case tuple():
            items = written if isinstance(written, list) and len(written) == len(value) else [None] * len(value)
            return [_shown(one, kind, item) for one, item in zip(value, items, strict=True)]
        case int() if kind in QUANTITIES and written is not True:
            return QUANTITIES[kind](value)
        case _:
            return value


def same(one: object, other: object) -> bool:
    """Tell whether two values of documents mean the same in a file."""
    match one, other:
        case dict(), dict():
            mine, theirs = _given(one), _given(other)
            return mine.keys() == theirs.keys() and all(same(mine[name], theirs[name]) for name in mine)
        case ((list() | tuple()), (list() | tuple())):
            return len(one) == len(other) and all(map(same, one, other))
        case ((str() | bool() | int()), (str() | bool() | int())):
            return _text(one) == _text(other)
        case _:
            return one == other


def _given(document: collections.abc.Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value is not None}


def _text(value: str | bool | int) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    # Line ends and blanks around mean nothing in PEM.
    return "\n".join(line.strip() for line in text.strip().splitlines()) if "-----BEGIN" in text else text


def _null(node: Node) -> bool:
    return isinstance(node, Scalar) and node.null
