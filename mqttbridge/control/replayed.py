"""How a replayed uplink is told from the first one: its document begins with `"Replayed": true`. Pure.

The member stands inside the root object of a ThingPark document, and at the top of any other. All else stays as it
came, byte for byte, unless the document has a member of that name already.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

if TYPE_CHECKING:
    from mqttbridge.model import DocumentKind

__all__ = ["MEMBER", "ORIGIN", "is_replay", "mark"]

ORIGIN = "replay of the uplink"
"""How the origin of a replayed uplink begins."""
MEMBER = "Replayed"
SPACE = rb"[ \t\r\n]*"
OPEN = re.compile(SPACE + rb"\{" + SPACE)
decode_object = msgspec.json.Decoder(dict[str, Raw]).decode


def is_replay(origin: str) -> bool:
    """Tell whether an uplink with this origin is one that passed before: a replay, or the retry of a parked one."""
    return origin.startswith((ORIGIN, "retry of "))


def mark(body: bytes, kind: DocumentKind) -> bytes:
    """Give the document with the mark. Raises `ValueError` if it is no JSON object."""
    try:
        members = decode_object(body)
        root = kind.value
        if root not in members or bytes(members[root]).lstrip()[:1] != b"{":
            return _marked(body, members)
        content = bytes(members[root])
        marked = _marked(content, decode_object(content))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise ValueError("the document is no JSON object") from error
    if body.count(content) == 1:
        return body.replace(content, marked)
    return msgspec.json.encode(members | {root: Raw(marked)})


def _marked(text: bytes, members: dict[str, Raw]) -> bytes:
    """Put the mark first into an object."""
    if members and next(iter(members)) == MEMBER and bytes(members[MEMBER]) == b"true":
        return text
    if MEMBER in members:
        others = {name: value for name, value in members.items() if name != MEMBER}
        return msgspec.json.encode({MEMBER: Raw(b"true")} | others)
    begin = OPEN.match(text)
    if begin is None:
        raise ValueError("the document is no JSON object")
    comma = b"," if members else b""
    return b'%b"%b":true%b%b' % (text[: begin.end()], MEMBER.encode(), comma, text[begin.end() :])
