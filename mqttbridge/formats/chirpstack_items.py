"""The ids of queue items that we give ChirpStack: a UUID of version 8, in which the correlation id travels both ways.

ChirpStack's own ids are of version 4, so that ours are known by their version, with nothing remembered. It keeps to
them by MQTT; some versions of its REST API make their own instead, and answer them.
"""

from __future__ import annotations

import re

__all__ = ["correlation_of", "item_id"]

UUID_8 = re.compile(
    r"([0-9a-f]{8})-([0-9a-f]{4})-8([0-9a-f]{3})-8([0-9a-f])[0-9a-f]{2}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII
).fullmatch


def item_id(correlation_id: str, key: str) -> str:
    """Give the id of a queue item. `correlation_id` and `key`: 16 hex digits each."""
    cid = correlation_id.lower()
    return f"{cid[:8]}-{cid[8:12]}-8{cid[12:15]}-8{cid[15]}{key[:2]}-{key[2:14]}"


def correlation_of(item: str) -> str:
    """Give the correlation id in an id of ours, in lower case; nothing if it is another's."""
    ours = UUID_8(item)
    return "".join(ours.groups()).lower() if ours else ""
