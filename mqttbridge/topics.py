"""Topic patterns: compile, render, and match back. Floor 1, pure.

Settings compile every pattern while loading, sessions render with it, downlinks match with it. Rendering never lets
a value of a document out of its topic level, and never shows such a value raw in an error.

Rules (design, section 3): `{DevEUI}` is a field, also written `<DevEUI>`; `{CustomerData.tags.0}` is a path, with
numbers for places in arrays; `{$..tags[0]}` is JSONPath (RFC 9535), of which the first match counts;
`{a|b|'none'}` takes the first that exists and is not null. A level may mix text and placeholders. A path is looked up
in the document's content (inside its root key, such as DevEUI_uplink) first, then in the whole document; a JSONPath
in the whole document first, then in the content.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import jsonpath_rfc9535 as jsonpath
import msgspec

from mqttbridge.errors import PatternError, TopicError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["MAX_TOPIC_BYTES", "Pattern", "compile_pattern"]

MAX_TOPIC_BYTES = 65535
"""MQTT 3.1.1, section 1.5.3: a string has a length of 16 bits."""

MAX_PLACEHOLDER = 1024
MAX_PLACEHOLDERS = 64
MAX_SHOWN = 40
MAX_INTEGER_BITS = 1024
DEV_EUI_LENGTH = 16
DEV_EUI_DASHED_LENGTH = 23

CONTROL = r"\x00-\x1f\x7f-\x9f"
NOT_TEXT = r"\ud800-\udfff\ufdd0-\ufdef" + "".join(
    f"{chr(p * 0x10000 + 0xFFFE)}{chr(p * 0x10000 + 0xFFFF)}" for p in range(17)
)
UNUSABLE = re.compile(f"[{CONTROL}{NOT_TEXT}]")
NOT_ONE_LEVEL = re.compile(f"[/+#{CONTROL}{NOT_TEXT}]")
SEGMENT = re.compile(r"""[^\s'"\[\](){}<>|/+#$*?@,;\\]+""")
HEX16 = re.compile(r"[0-9A-Fa-f]{16}").fullmatch
DASHED = re.compile(r"[0-9A-Fa-f]{2}([-:])(?:[0-9A-Fa-f]{2}\1){6}[0-9A-Fa-f]{2}").fullmatch
CLOSING = {"{": "}", "<": ">", "[": "]", "(": ")"}


class Path(msgspec.Struct, frozen=True):
    """A way by names and places: `CustomerData.tags.0`."""

    steps: tuple[str, ...]


class Query(msgspec.Struct, frozen=True):
    """A compiled JSONPath."""

    compiled: jsonpath.JSONPathQuery


class Literal(msgspec.Struct, frozen=True):
    """What stands in when nothing exists: `'none'`."""

    text: str


Choice = Path | Query | Literal


class Placeholder(msgspec.Struct, frozen=True):
    """One `{…}`: `text` is what stands inside, `position` where it begins in the pattern."""

    text: str
    position: int
    choices: tuple[Choice, ...]

    @property
    def name(self) -> str:
        """The path, when it is a path and nothing else; else nothing."""
        only = self.choices[0]
        return ".".join(only.steps) if len(self.choices) == 1 and isinstance(only, Path) else ""

    @property
    def is_dev_eui(self) -> bool:
        """Whether it is `{DevEUI}`."""
        return self.name == "DevEUI"


Part = str | Placeholder


class Pattern(msgspec.Struct, frozen=True):
    """A compiled topic pattern; made by `compile_pattern` alone.

    `plain`: it holds no placeholder but DevEUI, so that `render` never asks for the document. `subscription` is the
    topic filter of its topics: each level with a placeholder is `+`.
    """

    text: str
    plain: bool
    subscription: str
    parts: tuple[Part, ...]
    levels: tuple[tuple[Part, ...], ...]
    joints: tuple[str, ...]
    """Of a plain pattern, the texts between the DevEUIs."""

    def render(self, dev_eui: str, document: Callable[[], Mapping[str, Any]]) -> str:
        """Give the topic for a document.

        `dev_eui` is 16 hex digits. `document` gives the decoded document with its root key; it is called at most
        once, and never by a plain pattern. Raises `TopicError`: its sentence is the reason to park the uplink.
        """
        if HEX16(dev_eui) is None:
            raise TopicError(f"the DevEUI is {_shown(dev_eui)}, not 16 hex digits")
        dev_eui = dev_eui.upper()
        if self.plain:
            return dev_eui.join(self.joints)
        whole = _asked(document)
        content = _content(whole)
        topic = "".join(part if isinstance(part, str) else _value(part, dev_eui, whole, content) for part in self.parts)
        if topic[0] == "$" and not isinstance(self.parts[0], str):
            raise TopicError(f"{{{self.parts[0].text}}} would make the topic start with $, which is for brokers alone")
        size = len(topic.encode())
        if size > MAX_TOPIC_BYTES:
            raise TopicError(f"the topic would have {size} bytes; MQTT allows {MAX_TOPIC_BYTES}")
        return topic

    def match(self, topic: str) -> dict[str, str] | None:
        """Give the values of the named placeholders (`{"DevEUI": "…"}`) that lead to this topic, or None.

        A DevEUI is taken in any case, with dashes or colons too, and given in upper case. A name that stands twice
        must have one value. Where several placeholders of unknown length share a level, their values cannot be told
        apart and are left out. Takes time in proportion to the topic's length, whatever the topic.
        """
        texts = topic.split("/")
        if len(texts) != len(self.levels):
            return None
        found: dict[str, str] = {}
        for parts, text in zip(self.levels, texts, strict=True):
            values = _match_level(parts, text)
            if values is None:
                return None
            for name, value in values:
                if found.setdefault(name, value) != value:
                    return None
        return found

    def leads_back(self) -> bool:
        """Whether a topic tells its DevEUI without doubt, or the pattern has no placeholder at all.

        A DevEUI is without doubt where all that stands before it in its level, or all that stands behind it, has a
        known length.
        """
        return len(self.joints) == 1 or any(map(_tells_dev_eui, self.levels))


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
        subscription="/".join("".join(map(str, level)) if _is_fixed_text(level) else "+" for level in levels),
        parts=parts,
        levels=levels,
        joints=_joints(parts) if plain else (),
    )


# --- compiling


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
        raise PatternError(f"{_shown(text)} is not a JSONPath: {what}", position + place) from error


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


# --- rendering


def _asked(document: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
    """Have the document decoded."""
    try:
        return document()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise TopicError("the document cannot be decoded, so that its fields cannot be read") from error


def _content(whole: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what stands inside the root key; a document without one is its own content."""
    if len(whole) == 1:
        (only,) = whole.values()
        if isinstance(only, dict):
            return only
    return whole


def _value(field: Placeholder, dev_eui: str, whole: Mapping[str, Any], content: Mapping[str, Any]) -> str:
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
        text = _dev_eui(text) or text.upper()
    if not text:
        raise TopicError(f"{{{field.text}}} is empty, and a topic level cannot be")
    if bad := NOT_ONE_LEVEL.search(text):
        raise TopicError(f"{{{field.text}}} is {_shown(text)}, which holds {_named(bad[0])}: not one topic level")
    return text


def _dev_eui(text: str) -> str:
    """Give a DevEUI of any spelling in upper case, without dashes and colons; nothing if it is none."""
    if HEX16(text):
        return text.upper()
    return text.replace(text[2], "").upper() if len(text) == DEV_EUI_DASHED_LENGTH and DASHED(text) else ""


def _named(char: str) -> str:
    """Name a character without writing one that could do harm."""
    return char if char in "/+#" else f"U+{ord(char):04X}"


def _shown(text: str) -> str:
    """Give a short form of a foreign text that is safe in a log line."""
    return ascii(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")


# --- matching back


def _is_fixed_text(parts: Iterable[Part]) -> bool:
    """Whether a level has no placeholder."""
    return all(isinstance(part, str) for part in parts)


def _open_ends(parts: tuple[Part, ...]) -> list[int]:
    """Give the places of the parts whose length is not known."""
    return [place for place, part in enumerate(parts) if isinstance(part, Placeholder) and not part.is_dev_eui]


def _tells_dev_eui(parts: tuple[Part, ...]) -> bool:
    """Whether a level has a DevEUI before its first part of unknown length, or behind its last."""
    vague = _open_ends(parts) or [len(parts)]
    fixed = parts[: vague[0]] + parts[vague[-1] + 1 :]
    return any(isinstance(part, Placeholder) for part in fixed)


def _match_level(parts: tuple[Part, ...], text: str) -> list[tuple[str, str]] | None:
    """Give the names and values that make this text of this level, or None."""
    vague = _open_ends(parts)
    first, last = (vague[0], vague[-1]) if vague else (len(parts), len(parts))
    found: list[tuple[str, str]] = []
    start, end = 0, len(text)
    for part in parts[:first]:
        size = _size_at(part, text[start:end], found, at_end=False)
        if size is None:
            return None
        start += size
    for part in reversed(parts[last + 1 :]):
        size = _size_at(part, text[start:end], found, at_end=True)
        if size is None:
            return None
        end -= size
    middle = text[start:end]
    if not vague:
        return None if middle else found
    if first == last:
        field = parts[first]
        if middle and isinstance(field, Placeholder) and field.name:
            found.append((field.name, middle))
        return found if middle else None
    return found if _fits(parts[first : last + 1], middle) else None


def _size_at(part: Part, text: str, found: list[tuple[str, str]], *, at_end: bool) -> int | None:
    """Give how much of the start (or end) of a text is this part of known length; note a DevEUI; None if it is not."""
    if isinstance(part, str):
        return len(part) if (text.endswith(part) if at_end else text.startswith(part)) else None
    for size in (DEV_EUI_LENGTH, DEV_EUI_DASHED_LENGTH):
        value = _dev_eui(text[-size:] if at_end else text[:size])
        if value:
            found.append(("DevEUI", value))
            return size
    return None


def _fits(parts: Iterable[Part], text: str) -> bool:
    """Whether a text fits parts of which the first and the last are of unknown length (one character at least).

    The first place that fits is taken for each text between: if any choice fits, this one does.
    """
    position = least = 0
    for part in parts:
        if isinstance(part, Placeholder):
            least += DEV_EUI_LENGTH if part.is_dev_eui else 1
            continue
        place = text.find(part, position + least)
        if place < 0:
            return False
        position, least = place + len(part), 0
    return len(text) - position >= least
