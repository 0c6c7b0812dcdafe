"""Whether a request comes from a page of our own, or from another web site through somebody's browser. Pure.

Browsers say so in `Origin` (RFC 6454) and `Sec-Fetch-Site`; who is no browser sends neither. There is no CORS: no other
site may read an answer, and none may have one made.
"""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SAFE", "foreign"]

SAFE = frozenset({"GET", "HEAD"})
PORTS = {"http": 80, "https": 443}
OWN_SITES = frozenset({b"same-origin", b"none"})


def foreign(method: str, scheme: str, headers: Sequence[tuple[bytes, bytes]]) -> str:
    """Say why a request must not be answered, a sentence; empty if it may. `scheme`: that of our listener.

    An https origin is our own too if we listen without TLS: a proxy in front of us has it, and hands on `Host`.
    """
    origins = [value for name, value in headers if name == b"origin"]
    hosts = [value for name, value in headers if name == b"host"]
    sites = [value.strip().lower() for name, value in headers if name == b"sec-fetch-site"]
    if origins and not (len(origins) == len(hosts) == 1 and _same(origins[0], hosts[0], scheme)):
        return "the request comes from another web site (Origin): only the page of this daemon may use it in a browser"
    if method not in SAFE and not OWN_SITES.issuperset(sites):
        return (
            "the request comes from another web site (Sec-Fetch-Site): only the page of this daemon may change things"
        )
    return ""


def _same(origin: bytes, host: bytes, scheme: str) -> bool:
    try:
        theirs = urllib.parse.urlsplit(origin.decode("ascii").lower())
        ours = urllib.parse.urlsplit(f"//{host.decode('ascii')}")
        ports = theirs.port, ours.port
    except ValueError:
        return False
    # What a browser sends is that and no more; nothing of it is looked up or taken apart any further.
    whole = f"{theirs.scheme}://{theirs.netloc}".encode() == origin.lower() and ours.netloc.encode() == host
    known = theirs.scheme == scheme or (theirs.scheme, scheme) == ("https", "http")
    if not whole or not known or not ours.hostname or b"@" in origin + host:
        return False
    default = PORTS[theirs.scheme]
    return (theirs.hostname, ports[0] or default) == (ours.hostname, ports[1] or default)
