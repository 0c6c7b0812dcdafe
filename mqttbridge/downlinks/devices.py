"""Which devices a connection may send downlinks to, and to which source a device belongs: pure.

`downlinkDevices` decides where it is set: each is a DevEUI in any case, dashes and colons ignored, with `*` for any
digits and `?` for one, and perhaps `lora:` in front. Else the connection may command the devices whose uplinks it gets.
Matching takes time in proportion to the pattern's length, whatever the pattern.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mqttbridge.downlinks.receipts import listed, short
from mqttbridge.errors import DocumentError
from mqttbridge.model import DocumentKind, Uplink
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from mqttbridge.model import Device
    from mqttbridge.routing import Router
    from mqttbridge.settings.schema import Connection

__all__ = ["DevicePatterns", "Devices", "source_of"]

PREFIX = "lora:"
DIGITS = 16
STARS = re.compile(r"\*+")
DROPPED = str.maketrans("", "", "-:")


class DevicePatterns:
    """Some patterns, any of which may match."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Take them as configured; one that no DevEUI fits matches nothing."""
        normal = {_normal(plain(pattern)) for pattern in patterns}
        self._exact = frozenset(pattern for pattern in normal if not {"*", "?"} & set(pattern))
        # What needs more than 16 digits is left out, so that no pattern has more than 33 characters to look at.
        self._wild = tuple(
            sorted(pattern for pattern in normal - self._exact if len(pattern.replace("*", "")) <= DIGITS)
        )

    def match(self, dev_eui: str) -> bool:
        """Whether any fits. The DevEUI is in upper case."""
        return dev_eui in self._exact or any(_fits(pattern, dev_eui) for pattern in self._wild)


class Devices:
    """Who may command what."""

    def __init__(self, connections: Mapping[str, Connection], router: Router) -> None:
        """Take what the settings say; the connections are looked up at each use."""
        self._connections = connections
        self._router = router
        self._patterns: dict[str, tuple[tuple[str, ...], DevicePatterns]] = {}
        """Compiled, with what they were compiled from."""

    def use(self, router: Router) -> None:
        """Go by other flows from now on."""
        self._router = router

    def refusal(self, connection: str, dev_eui: str, device: Device | None) -> str:
        """Give a sentence why the connection must not command this device; empty if it may.

        `device` is what was learnt from its uplinks, if any came.
        """
        patterns = self._patterns_of(connection)
        if patterns is not None:
            if patterns.match(dev_eui):
                return ""
            return "this connection must not send downlinks to this device: none of its downlinkDevices matches"
        tags = device.tags if device is not None else frozenset[str]()
        uplink = Uplink("", DocumentKind.UPLINK, dev_eui, 0, 0, None, b"", tags)
        if connection in self._router.route(uplink):
            return ""
        hint = "" if device is not None else ", and none has come yet that could show its tags"
        return f"this connection must not send downlinks to this device: it does not get its uplinks{hint}"

    def _patterns_of(self, connection: str) -> DevicePatterns | None:
        """Give the connection's own patterns, if it has any."""
        known = self._connections.get(connection)
        written = () if known is None else known.configuration.downlink_devices
        if not written:
            self._patterns.pop(connection, None)
            return None
        compiled = self._patterns.get(connection)
        if compiled is None or compiled[0] is not written:
            compiled = self._patterns[connection] = (written, DevicePatterns(written))
        return compiled[1]


def _normal(pattern: str) -> str:
    """Give a pattern in upper case, without what is ignored, and with no star beside another."""
    if pattern[: len(PREFIX)].lower() == PREFIX:
        pattern = pattern[len(PREFIX) :]
    return STARS.sub("*", pattern.translate(DROPPED).upper())


def _fits(pattern: str, text: str) -> bool:
    """Whether the text is what the pattern says. Only the last star is ever taken back: 16 times at most."""
    place = at = 0
    star, resume = -1, 0
    while at < len(text):
        if place < len(pattern) and pattern[place] == "*":
            star, resume = place, at
            place += 1
        elif place < len(pattern) and pattern[place] in {"?", text[at]}:
            place += 1
            at += 1
        elif star >= 0:
            resume += 1
            place, at = star + 1, resume
        else:
            return False
    return not pattern[place:].strip("*")


def source_of(device: Device | None, sources: Collection[str]) -> str:
    """Give the source that the device belongs to. Raises `DocumentError`: it cannot be told."""
    names = sorted(sources)
    if len(names) == 1:
        return names[0]
    if not names:
        raise DocumentError("no source is configured, so that no network server can take downlinks")
    if device is None:
        raise DocumentError(
            f"no uplink of this device has come yet, so that it is not known which of the sources {listed(names)} "
            "it belongs to; send the downlink again after one"
        )
    if device.source not in sources:
        raise DocumentError(
            f"the uplinks of this device came from the source {short(device.source)}, which is not configured any "
            f"more, and none has come yet from one of {listed(names)}"
        )
    return device.source
