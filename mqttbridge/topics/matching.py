"""From a topic back to the values of its placeholders. Topics are foreign: time grows with their length alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.topics.parts import DEV_EUI_DASHED_LENGTH, DEV_EUI_LENGTH, Part, Placeholder, normal_dev_eui

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["is_fixed_text", "match_level", "tells_dev_eui"]


def is_fixed_text(parts: Iterable[Part]) -> bool:
    """Whether a level has no placeholder."""
    return all(isinstance(part, str) for part in parts)


def _open_ends(parts: tuple[Part, ...]) -> list[int]:
    """Give the places of the parts whose length is not known."""
    return [place for place, part in enumerate(parts) if isinstance(part, Placeholder) and not part.is_dev_eui]


def tells_dev_eui(parts: tuple[Part, ...]) -> bool:
    """Whether a level has a DevEUI before its first part of unknown length, or behind its last."""
    vague = _open_ends(parts) or [len(parts)]
    fixed = parts[: vague[0]] + parts[vague[-1] + 1 :]
    return any(isinstance(part, Placeholder) for part in fixed)


def match_level(parts: tuple[Part, ...], text: str) -> list[tuple[str, str]] | None:
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
        value = normal_dev_eui(text[-size:] if at_end else text[:size])
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
