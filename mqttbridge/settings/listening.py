"""Look at the listener and the tokens together: no token may come in over the network where others can read it.

For this room's own use. Checks of single values stand in `checks`. A property that failed on its own is not judged
again. No sentence shows a token.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from mqttbridge.settings.problems import dotted, shown
from mqttbridge.settings.schema import Api, Http, Settings
from mqttbridge.settings.secret import Secret, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec.inspect as types

    from mqttbridge.settings.links import LinkCheck
    from mqttbridge.settings.problems import KeyPath, Mark, Problems

__all__ = ["ListenCheck", "exposed", "loopback"]

TOKENS = {"admin_tokens": "adminTokens", "read_only_tokens": "readOnlyTokens"}


def loopback(host: str) -> bool:
    """Tell whether only this machine reaches a listener at this host."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def exposed(http: Http) -> bool:
    """Tell whether what comes in here goes over the network where others can read it."""
    return http.certificate is None and not loopback(http.address[0])


class ListenCheck:
    """Checks the listener and the tokens of one load."""

    def __init__(self, problems: Problems, marks: Mapping[KeyPath, Mark], links: LinkCheck, failed: object) -> None:
        """Take where problems go, where each property stands, who reads PEM, and what stands for what failed."""
        self._problems = problems
        self._marks = marks
        self._links = links
        self._failed = failed

    def check(self, struct: types.StructType, given: Mapping[str, Any], path: KeyPath) -> bool:
        """Check one section; `given` has the converted properties by attribute. Gives whether all is well."""
        if struct.cls is Http:
            return self._links.served(given.get("certificate"), given.get("private_key"), path, self._failed)
        if struct.cls is Api:
            return self._tokens(given, path)
        if struct.cls is Settings:
            return self._exposed(given.get("http", Http()), given.get("api", Api()))
        return True

    def _tokens(self, given: Mapping[str, Any], path: KeyPath) -> bool:
        """Refuse a token that stands twice: nobody could say what it may, or take it back with certainty."""
        known: dict[str, KeyPath] = {}
        sound = True
        for attribute, name in TOKENS.items():
            tokens = given.get(attribute, ())
            for number, token in enumerate(() if tokens is self._failed else tokens):
                here = (*path, name, f"[{number}]")
                first = known.setdefault(plain(token), here)
                if first != here:
                    self._problems.add(
                        self._marks[here], here, f"is the same token as {dotted(first)}; keep one of them"
                    )
                    sound = False
        return sound

    def _exposed(self, http: Any, api: Any) -> bool:  # noqa: ANN401 - may be `failed`
        if not isinstance(http, Http) or not isinstance(api, Api):
            return True
        if not api.tokens or http.insecure or not exposed(http):
            return True
        at: KeyPath = ("http", "listen")
        place = "this address" if isinstance(http.listen, Secret) else shown(http.listen)
        text = (
            f"the tokens of api would come in at {place} over the network without TLS; set http.certificate and "
            "http.privateKey, or listen on 127.0.0.1, or write insecure: true if a proxy in front of it has TLS"
        )
        self._problems.add(self._marks[at], at, text)
        return False
