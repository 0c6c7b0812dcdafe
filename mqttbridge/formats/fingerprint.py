"""Fingerprints: what tells that two documents are copies of one uplink. For the formats of this room.

A fingerprint has 63 bits and is never 0, so that it fits a signed column and 0 can mean "cannot be told". It must not
change between versions: the journal remembers fingerprints across restarts.
"""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["of_text", "of_uplink"]

BITS = 2**63 - 1


def of_uplink(dev_eui: str, fcnt: int, payload_hex: str) -> int:
    """Give the fingerprint of an uplink: the same however its DevEUI and its payload are spelled (hex, in any case)."""
    text = f"uplink {dev_eui} {fcnt} {payload_hex}".lower()
    try:
        return of_text(text.encode())
    except UnicodeEncodeError:
        return of_text(text.encode("utf-8", "surrogatepass"))


def of_text(text: bytes) -> int:
    """Give the fingerprint of whatever names one uplink: an id of the network server, or a whole document."""
    # Not 0, even for the one text in 2**63 that hashes to it.
    return int.from_bytes(blake2b(text, digest_size=8).digest()) & BITS or 1
