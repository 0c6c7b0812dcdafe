"""Seals the tags of files before anybody sees them, with a key that stays with the daemon.

The tag of a file is a hash of its bytes, and these hold secrets. Who may see the tag, and knows the rest of the file,
could try out at home which password gives that tag; without the key nobody can. The key is kept in the state directory
(mode 0600), so that tags outlive a restart. Reading and making it blocks.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from mqttbridge.errors import WriteFailed
from mqttbridge.settings import writing

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["KEY_FILE", "Seal"]

KEY_FILE: Final = "etag.key"
KEY_BYTES: Final = 32
TAG_BYTES: Final = 16


class Seal:
    """Turns tags into others: the same into the same, and nobody can tell which it was."""

    def __init__(self, key: bytes) -> None:
        """Take the key."""
        self._key = key

    def __call__(self, tag: str) -> str:
        """Give what may be shown in place of a tag: 32 hex digits."""
        return hmac.digest(self._key, tag.encode(), hashlib.sha256)[:TAG_BYTES].hex()

    @classmethod
    def of(cls, state_directory: Path) -> Seal:
        """Take the key of this directory; make one if there is none. If that fails, one is made for this time."""
        file = state_directory / KEY_FILE
        key = secrets.token_bytes(KEY_BYTES)
        try:
            found = writing.present(file)
            if found is not None and len(found) == KEY_BYTES:
                return cls(found)
            writing.write(file, key)
        except WriteFailed:
            # Tags last until the next start then: who has one of before gets 412, and asks again.
            pass
        return cls(key)
