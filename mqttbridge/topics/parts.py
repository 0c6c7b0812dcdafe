"""What topic patterns are made of, and which characters they may hold. For the modules of this room alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import jsonpath_rfc9535 as jsonpath

MAX_TOPIC_BYTES = 65535
"""MQTT 3.1.1, section 1.5.3: a string has a length of 16 bits."""

UNKNOWN = "unknown"
"""Stands for the DevEUI in the topic of a receipt that belongs to no device."""

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


def normal_dev_eui(text: str) -> str:
    """Give a DevEUI of any spelling in upper case, without dashes and colons; nothing if it is none."""
    if HEX16(text):
        return text.upper()
    return text.replace(text[2], "").upper() if len(text) == DEV_EUI_DASHED_LENGTH and DASHED(text) else ""


def shown(text: str) -> str:
    """Give a short form of a foreign text that is safe in a log line."""
    return repr(text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "...")
