"""From the text of a pattern to a `Pattern`. Called by settings while loading; raises nothing but `PatternError`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import jsonpath_rfc9535 as jsonpath

from mqttbridge.errors import PatternError
from mqttbridge.topics.matching import is_fixed_text
from mqttbridge.topics.parts import (
    CLOSING,
    DEV_EUI_LENGTH,
    MAX_PLACEHOLDER,
    MAX_PLACEHOLDERS,
    MAX_TOPIC_BYTES,
    NOT_ONE_LEVEL,
    SEGMENT,
    UNUSABLE,
    Choice,
    Literal,
    Part,
    Path,
    Placeholder,
    Query,
    shown,
)
from mqttbridge.topics.pattern import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["compile_pattern"]


def compile_pattern(text: str) -> Pattern:
    """Compile the text of a pattern. Raises `PatternError` with a sentence and a position."""
    if not text:
        raise PatternError("the pattern is empty; write a topic such as mqtt/things/{DevEUI}/uplink")
    if len(text) > MAX_TOPIC_BYTES:
        raise PatternError(f"the pattern has {len(text)} characters; a topic has {MAX_TOPIC_BYTES} bytes at most")
    if bad := UNUSABLE.search(text):
        raise PatternError(f"U+{ord(bad[0]):04X} cannot stand in a topic pattern; take it out", bad.start())
    parts = tuple(_parts(text))
    levels = _levels(parts)
    _check_size(parts)
    if text.lower().startswith("$share/"):
        raise PatternError("a topic cannot start with $share/, which is for shared subscriptions; take it out")
    fields = [part for part in parts if isinstance(part, Placeholder)]
    plain = all(field.is_dev_eui for field in fields)
    return Pattern(
        text=text,
        plain=plain,
        subscription="/".join("".join(map(str, level)) if is_fixed_text(level) else "+" for level in levels),
        parts=parts,
        levels=levels,
        joints=_joints(parts) if plain else (),
    )


def _parts(text: str) -> Iterable[Part]:
    """Cut a pattern into texts and placeholders."""
    start = position = count = 0
    while position < len(text):
        char = text[position]
        if char in "{<":
            if position > start:
                yield text[start:position]
            end = _closing(text, position)
            count += 1
            if count > MAX_PLACEHOLDERS:
                raise PatternError(f"the pattern has more than {MAX_PLACEHOLDERS} placeholders; use fewer", position)
            yield _placeholder(text[position + 1 : end], position)
            start = position = end + 1
            continue
        if char in "}>":
            raise PatternError(f"{char} closes a placeholder that was never opened; take it out", position)
        if char in "+#":
            raise PatternError(f"{char} is a wildcard, and a topic has none; name a field such as {{DevEUI}}", position)
        position += 1
    if position > start:
        yield text[start:]


def _closing(text: str, opening: int) -> int:
    """Find where the placeholder that opens here ends: quotes, brackets and parentheses hide what they hold."""
    want = CLOSING[text[opening]]
    for position, char, depth in _open(text, opening + 1):
        if depth == 0 and char == want:
            return position
        if depth == 0 and char in "{}<>":
            break
    raise PatternError(f"the placeholder that {text[opening]} opens is not closed; {want} is missing", opening)


def _open(text: str, start: int) -> Iterable[tuple[int, str, int]]:
    """Give position, character and depth of what stands outside of quotes; stops where a quote is not closed."""
    position, depth = start, 0
    while position < len(text):
        char = text[position]
        if char in "'\"":
            position = _end_of_quote(text, position)
        elif char in "[(":
            depth += 1
        elif char in "])":
            depth = max(0, depth - 1)
        else:
            yield position, char, depth
        position += 1


def _end_of_quote(text: str, start: int) -> int:
    """Find the quote that closes the one that opens here; a backslash hides the character behind it."""
    position = start + 1
    while position < len(text) and text[position] != text[start]:
        position += 2 if text[position] == "\\" else 1
    if position >= len(text):
        raise PatternError(f"the quote {text[start]} that opens here is not closed", start)
    return position


def _placeholder(text: str, position: int) -> Placeholder:
    """Read what stands between the braces."""
    if len(text) > MAX_PLACEHOLDER:
        raise PatternError(f"this placeholder has {len(text)} characters; {MAX_PLACEHOLDER} at most", position)
    if not text.strip():
        raise PatternError("the placeholder is empty; name a field such as {DevEUI}", position)
    cuts = [place for place, char, depth in _open(text, 0) if char == "|" and depth == 0]
    choices: list[Choice] = []
    for start, end in zip([-1, *cuts], [*cuts, len(text)], strict=True):
        if choices and isinstance(choices[-1], Literal):
            raise PatternError("a quoted text always exists, so nothing may follow it; put it last", position)
        choices.append(_choice(text[start + 1 : end].strip(), position + start + 2))
    if isinstance(choices[0], Literal):
        raise PatternError("this placeholder names no field; write the text without braces and quotes", position)
    names = [choice.steps if isinstance(choice, Path) else () for choice in choices]
    if ("DevEUI",) in names:
        # Every document has a DevEUI: what follows it would never be taken.
        choices = choices[: names.index(("DevEUI",)) + 1]
    return Placeholder(text=text.strip(), position=position, choices=tuple(choices))


def _choice(text: str, position: int) -> Choice:
    """Read one of the alternatives."""
    if not text:
        raise PatternError("nothing stands between two |, or at an end; name a field or take the | out", position)
    if text[0] in "'\"":
        return _literal(text, position)
    if text[0] == "$":
        return _query(text, position)
    steps = tuple(text.split("."))
    for step in steps:
        if not step:
            raise PatternError(f"{text} has an empty name; write names with one dot between them", position)
        if not SEGMENT.fullmatch(step):
            hint = "write it as JSONPath, such as $['a name']"
            raise PatternError(f"{text} is not a field or a path of fields; if a name is so, {hint}", position)
    if len(steps) == 1 and text != "DevEUI" and text.lower() in {"deveui", "dev_eui"}:
        raise PatternError(f"no document has a field {text}; did you mean DevEUI?", position)
    return Path(steps)


def _literal(text: str, position: int) -> Literal:
    """Read a quoted text."""
    if _end_of_quote(text, 0) != len(text) - 1:
        raise PatternError("something stands behind the quoted text; put a | between", position)
    inner = re.sub(r"\\(.)", r"\1", text[1:-1])
    if not inner:
        raise PatternError("the quoted text is empty, and a topic level is not; write a word", position)
    if bad := NOT_ONE_LEVEL.search(inner):
        raise PatternError(f"the quoted text holds {bad[0]}, which no single topic level can; take it out", position)
    return Literal(inner)


def _query(text: str, position: int) -> Query:
    """Compile a JSONPath."""
    try:
        return Query(jsonpath.compile(text))
    except Exception as error:  # a foreign parser: whatever it raises, the path cannot be used
        token = getattr(error, "token", None)
        place = token.index if token is not None else 0
        what = str(error.args[0]) if error.args and isinstance(error, jsonpath.JSONPathError) else type(error).__name__
        raise PatternError(f"{shown(text)} is not a JSONPath: {what}", position + place) from error


def _levels(parts: Iterable[Part]) -> tuple[tuple[Part, ...], ...]:
    """Sort the parts into topic levels; an empty level has no parts."""
    levels: list[list[Part]] = [[]]
    for part in parts:
        if isinstance(part, Placeholder):
            levels[-1].append(part)
            continue
        first, *more = part.split("/")
        if first:
            levels[-1].append(first)
        levels.extend([text] if text else [] for text in more)
    return tuple(map(tuple, levels))


def _joints(parts: Iterable[Part]) -> tuple[str, ...]:
    """Give the texts that stand before, between and behind the placeholders."""
    joints = [""]
    for part in parts:
        if isinstance(part, str):
            joints[-1] += part
        else:
            joints.append("")
    return tuple(joints)


def _check_size(parts: Iterable[Part]) -> None:
    """Refuse a pattern whose shortest topic is too long."""
    size = sum(
        len(part.encode()) if isinstance(part, str) else DEV_EUI_LENGTH if part.is_dev_eui else 1 for part in parts
    )
    if size > MAX_TOPIC_BYTES:
        raise PatternError(f"its topics would have {size} bytes or more; MQTT allows {MAX_TOPIC_BYTES}")
