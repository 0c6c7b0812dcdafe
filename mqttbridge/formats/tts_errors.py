"""What The Things Stack says is wrong, as one short sentence. For the tts modules.

ErrorDetails name a message with placeholders, the values for them, and the error that caused this one.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from mqttbridge.formats.tts_messages import present
from mqttbridge.formats.words import shown

__all__ = ["reason", "refusal"]

PLACEHOLDER = re.compile(r"\{([A-Za-z0-9_]{1,64})\}")
NAMED = re.compile(r"error:[A-Za-z0-9_/.-]+:[A-Za-z0-9_]+ \((.*)\)", re.DOTALL).fullmatch
MAX_REASON = 200
MAX_CAUSES = 3
NO_REASON = "The Things Stack gave no reason"


class Failure(Struct, gc=False):
    """ErrorDetails."""

    message_format: str = ""
    name: str = ""
    attributes: Raw = field(default_factory=Raw)
    cause: Raw = field(default_factory=Raw)


class Status(Struct, gc=False):
    """The body of an answer that says no."""

    message: str = ""
    details: list[Failure] = []


decode_failure = msgspec.json.Decoder(Failure).decode
decode_status = msgspec.json.Decoder(Status).decode
decode_attributes = msgspec.json.Decoder(dict[str, Any]).decode


def reason(error: Raw) -> str:
    """Put ErrorDetails and its first causes into a sentence of printable ASCII. Takes anything."""
    return _short(_said(error)) or NO_REASON


def refusal(body: bytes) -> str:
    """Put the body of an HTTP answer that says no into a sentence of printable ASCII; empty if it says nothing.

    Takes anything.
    """
    try:
        status = decode_status(body)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        # A proxy on the way, or another server altogether.
        text = " ".join(body[:MAX_REASON].decode("utf-8", "replace").split())
        return f"the answer is not one of The Things Stack: {shown(text)}" if text else ""
    named = NAMED(status.message)
    causes = [text for failure in status.details[:1] for text in _said(failure.cause)]
    return _short([named[1] if named else status.message, *causes])


def _said(error: Raw) -> list[str]:
    """Give what an error and its first causes say."""
    said: list[str] = []
    try:
        while present(error) and len(said) < MAX_CAUSES:
            failure = decode_failure(error)
            said.append(_filled(failure))
            error = failure.cause
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        pass  # What was understood so far is said.
    return said


def _filled(failure: Failure) -> str:
    """Put the values into the message."""
    text = (failure.message_format or failure.name)[:MAX_REASON]
    try:
        values = decode_attributes(failure.attributes)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text

    def value(found: re.Match[str]) -> str:
        known = values.get(found[1])
        return str(known)[:MAX_REASON] if isinstance(known, str | int | float) else found[0]

    return PLACEHOLDER.sub(value, text)


def _short(said: list[str]) -> str:
    """Join what is said, short and safe in a log line."""
    text = " ".join(": ".join(filter(None, said)).split())
    shortened = text if len(text) <= MAX_REASON else text[:MAX_REASON] + "..."
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in shortened)
