"""How JSON nests, found with a few passes of C speed over the bytes: a megabyte takes milliseconds, not a second.

For the modules of this room. The bytes must be valid JSON or the valid beginning of some.
"""

from __future__ import annotations

import re

__all__ = ["deeper_than", "element_at_end"]

SQUARE = bytes.maketrans(b"{}", b"[]")
NOT_MARKS = bytes(set(range(256)) - set(b"[]{},"))
CLOSED = re.compile(rb"\[,*\]")


def deeper_than(json: bytes, limit: int) -> bool:
    """Whether valid JSON nests deeper than `limit` levels."""
    if json.count(b"{") + json.count(b"[") <= limit:
        return False
    outline = _outline(json).replace(b",", b"")
    for _ in range(limit):
        # Each pass takes the innermost level away.
        outline = outline.replace(b"[]", b"")
        if not outline:
            break
    return bool(outline)


def element_at_end(json: bytes) -> int | None:
    """Tell in which element (from 0) of a JSON array its beginning ends; None if the array is closed there."""
    outline, count = _outline(json), 1
    while count:
        outline, count = CLOSED.subn(b"", outline)
    return outline[1:].partition(b"[")[0].count(b",") if outline else None


def _outline(json: bytes) -> bytes:
    """Give brackets and commas alone, those inside of strings left out, braces written as brackets."""
    quotes_only = json.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(quotes_only.split(b'"')[::2]).translate(SQUARE, NOT_MARKS)
