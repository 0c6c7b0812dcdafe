"""Turn the text of a scalar into the value that its property asks for. Pure.

Each function takes the text as written and raises `ValueError` with the words that follow "must be".
"""

from __future__ import annotations

import re

__all__ = ["BOOLEANS", "boolean", "duration", "integer", "size", "write_duration", "write_size"]

DURATIONS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
SIZES = {"B": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}

INTEGER = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
QUANTITY = re.compile(r"([0-9]{1,15})([A-Za-z]*)").fullmatch


def boolean(text: str) -> bool:
    """Read `true` or `false`, or another YAML spelling of them, in any case."""
    try:
        return BOOLEANS[text.strip().lower()]
    except KeyError:
        raise ValueError("true or false") from None


def integer(text: str, low: int | None, high: int | None) -> int:
    """Read a whole number in decimal notation, within the bounds."""
    stripped = text.strip()
    if INTEGER(stripped):
        value = int(stripped)
        if (low is None or value >= low) and (high is None or value <= high):
            return value
    raise ValueError(f"an integer{_range(low, high)}")


def duration(text: str, low: int, high: int) -> int:
    """Read a duration: an integer of milliseconds, or `250ms`, `5s`, `10m`, `72h`, `7d`. Gives milliseconds."""
    value = _quantity(text, DURATIONS, "ms")
    if value is not None and low <= value <= high:
        return value
    span = f"from {write_duration(low)} to {write_duration(high)}"
    raise ValueError(f"a duration {span}, as milliseconds or such as 250ms, 5s, 10m, 72h, 7d")


def size(text: str, low: int, high: int) -> int:
    """Read a size: an integer of bytes, or `64KiB`, `16MiB`, `1GiB`. Gives bytes."""
    value = _quantity(text, SIZES, "B")
    if value is not None and low <= value <= high:
        return value
    span = f"from {write_size(low)} to {write_size(high)}"
    raise ValueError(f"a size {span}, in bytes or such as 64KiB, 16MiB, 1GiB")


def write_duration(value: int) -> str:
    """Write milliseconds in the largest unit that divides them."""
    return _written(value, DURATIONS)


def write_size(value: int) -> str:
    """Write bytes in the largest unit that divides them."""
    return _written(value, SIZES)


def _quantity(text: str, units: dict[str, int], default: str) -> int | None:
    found = QUANTITY(text.strip())
    if found is None:
        return None
    factor = units.get(found[2] or default)
    return None if factor is None else int(found[1]) * factor


def _written(value: int, units: dict[str, int]) -> str:
    """Write a quantity in the largest unit that divides it."""
    if not value:
        return "0"
    unit = next(unit for unit, factor in reversed(units.items()) if value % factor == 0)
    return f"{value // units[unit]}{unit}"


def _range(low: int | None, high: int | None) -> str:
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""
