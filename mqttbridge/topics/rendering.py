"""From a document to the text of a placeholder. Values are foreign: whatever they hold, they stay in their level.

Raises nothing but `TopicError`, whose sentence never shows a value raw.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jsonpath_rfc9535 as jsonpath
import msgspec

from mqttbridge.errors import TopicError
from mqttbridge.topics.parts import (
    MAX_INTEGER_BITS,
    MAX_SHOWN,
    NOT_ONE_LEVEL,
    Literal,
    Path,
    Placeholder,
    Query,
    normal_dev_eui,
    shown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["asked", "content_of", "value_of"]


def asked(document: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Have the document decoded."""
    try:
        return document()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TopicError("the document cannot be decoded, so that its fields cannot be read") from error


def content_of(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what stands inside the root key; a document without one is its own content."""
    if len(whole) == 1:
        (only,) = whole.values()
        if isinstance(only, dict):
            return only
    return whole


def value_of(field: Placeholder, dev_eui: str, whole: Mapping[str, Any], content: Mapping[str, Any]) -> str:
    """Give the text of one placeholder, safe as a part of one topic level."""
    for choice in field.choices:
        if isinstance(choice, Literal):
            return choice.text
        if isinstance(choice, Path) and choice.steps == ("DevEUI",):
            return dev_eui
        key, value = _look_up(choice, field, whole, content)
        if value is not None:
            return _text(field, key, value)
    raise TopicError(f"the document has no value for {{{field.text}}}")


def _look_up(choice: Path | Query, field: Placeholder, whole: Any, content: Any) -> tuple[object, Any]:  # noqa: ANN401
    """Give the last key and the value that a path or JSONPath leads to; a value of None if to nothing."""
    if isinstance(choice, Path):
        for start in (content, whole):
            value = _walk(start, choice.steps)
            if value is not None:
                return choice.steps[-1], value
        return "", None
    try:
        for start in (whole, content):
            node = choice.compiled.find_one(start)
            if node is not None and node.value is not None:
                return (node.location[-1] if node.location else ""), node.value
    except (jsonpath.JSONPathError, RecursionError, ValueError, TypeError, ArithmeticError) as error:
        raise TopicError(f"{{{field.text}}} cannot be worked out on this document") from error
    return "", None


def _walk(value: Any, steps: Iterable[str]) -> Any:  # noqa: ANN401
    """Follow names and places; None if there is no such way."""
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isascii() and step.isdigit() and len(step) < MAX_SHOWN:
            place = int(step)
            value = value[place] if place < len(value) else None
        else:
            return None
    return value


def _text(field: Placeholder, key: object, value: object) -> str:
    """Write a value as a part of one topic level, or refuse it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise TopicError(f"{{{field.text}}} is not a finite number, and cannot be a topic level")
    if isinstance(value, int) and value.bit_length() > MAX_INTEGER_BITS:
        raise TopicError(
            f"{{{field.text}}} is a number of more than {MAX_INTEGER_BITS} bits, too long for a topic level"
        )
    if not isinstance(value, str | int | float):
        kind = "an object" if isinstance(value, dict) else "an array" if isinstance(value, list) else "not a text"
        raise TopicError(f"{{{field.text}}} is {kind}; a topic level takes a text, a number or true/false")
    text = value if isinstance(value, str) else str(value)
    if key == "DevEUI":
        text = normal_dev_eui(text) or text.upper()
    if not text:
        raise TopicError(f"{{{field.text}}} is empty, and a topic level cannot be")
    if bad := NOT_ONE_LEVEL.search(text):
        raise TopicError(f"{{{field.text}}} is {shown(text)}, which holds {_named(bad[0])}: not one topic level")
    return text


def _named(char: str) -> str:
    """Name a character without writing one that could do harm."""
    return char if char in "/+#" else f"U+{ord(char):04X}"
