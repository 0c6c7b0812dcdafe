"""What the pages of all commands share: foreign text that steers no terminal, and how many there are. Pure."""

from __future__ import annotations

__all__ = ["clean", "many"]


def clean(text: str) -> str:
    """Give a text without what would steer the terminal: a ? stands for each such character."""
    return text if text.isprintable() else "".join(char if char.isprintable() else "?" for char in text)


def many(count: int, one: str, several: str = "") -> str:
    """Write how many there are, with the word for one or for several: by default that of one and an s."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
