"""What is kept of a line of the log. Pure: called from inside logging, in any thread, so it never raises nor logs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.history.reader import RANKS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mqttbridge.history.store import Event

__all__ = ["row_of"]

FIELDS_BYTES = 16 * 1024
"""Of an event's fields as JSON; what is longer has its values cut."""
VALUE_CHARS = 500
MOST_FIELDS = 24


def row_of(at: int, level: str, name: str, fields: Mapping[str, object]) -> Event:
    """Give the row that is stored: the fields are encoded at once, for they may change later."""
    try:
        encoded = msgspec.json.encode(fields, enc_hook=str)
        if len(encoded) > FIELDS_BYTES:
            encoded = _cut(fields)
    except Exception:  # noqa: BLE001 - whatever stands there: an odd value, a text that is no Unicode
        encoded = _cut(fields)
    texts = [_text(fields.get(field)) for field in ("connection", "source", "dev_eui")]
    rank = RANKS.get(level, RANKS["info"])
    return at, rank, _text(level), _text(name), texts[0], texts[1], texts[2].upper(), encoded.decode()


def _cut(fields: Mapping[str, object]) -> bytes:
    try:
        pairs = list(fields.items())[:MOST_FIELDS]
        return msgspec.json.encode({_text(name): _short(value) for name, value in pairs})
    except Exception:  # noqa: BLE001 - a value whose own `str` fails
        return b"{}"


def _short(value: object) -> int | str:
    return value if isinstance(value, int) and abs(value) < 2**63 else _text(value)


def _text(value: object) -> str:
    """Give a text that every encoder takes."""
    if value is None:
        return ""
    return str(value)[:VALUE_CHARS].replace("\0", "").encode("utf-8", "replace").decode()
