"""A string that does not show itself.

Whatever prints, formats or reprs a `Secret` gets `*****`; only `reveal()` gives the text, and it is called where the
text is used and nowhere else.
"""

from __future__ import annotations

from typing import Self

__all__ = ["MASK", "Secret", "plain"]

MASK = "*****"


def plain(text: str) -> str:
    """Give the text itself, secret or not: for whoever uses it, never for whoever shows it."""
    return "".join(text)


class Secret(str):
    """A password, key or token, or any value that came by `!file`, `!env` or `!credential`."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """Take the text; that of another Secret too, whose `str()` is the mask."""
        return super().__new__(cls, plain(text))

    def reveal(self) -> str:
        """Give the text itself, as a plain string."""
        return plain(self)

    def __repr__(self) -> str:
        """Show the mask."""
        return MASK

    def __str__(self) -> str:
        """Show the mask."""
        return MASK

    def __format__(self, spec: str) -> str:
        """Show the mask."""
        return format(MASK, spec)
