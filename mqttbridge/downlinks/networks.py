"""The network server of each source: which way its downlinks go, and what it takes to go there.

The daemon makes one `Network` a source; `way_back` tells why a source has none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from mqttbridge.downlinks.http import HttpNetwork
from mqttbridge.downlinks.mqtt import MqttNetwork
from mqttbridge.downlinks.ways import (
    ChirpStackApi,
    ChirpStackCommands,
    Credentials,
    LrcApi,
    ThingsStackApi,
    ThingsStackCommands,
    application_in,
)
from mqttbridge.settings.schema import HttpSource, MqttSource
from mqttbridge.settings.secret import plain
from mqttbridge.settings.wayback import lacking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.downlinks.network import Network
    from mqttbridge.settings.schema import Connection, Source

__all__ = ["make_network", "way_back"]


def way_back(source: Source) -> str:
    """Say why no downlink can go to the network server of a source; empty if one can."""
    if source.api_url and not _usable(plain(source.api_url)):
        return "its apiUrl is not the http:// or https:// URL of a host"
    if source.format == "thingpark":
        return "" if source.api_url else "it has no apiUrl, by which downlinks go to the LRC"
    if lacks := lacking(source):
        words = f"it has no {' and no '.join(lacks)}, by which downlinks go over HTTP"
        if not isinstance(source, MqttSource):
            return words
        if source.format == "tts" and not source.username:
            return f"it has no username, which The Things Stack's topics begin with; and {words}"
    return ""


def make_network(
    source_id: str, source: Source, connections: Mapping[str, Connection], *, clock: Clock
) -> Network | None:
    """Make the network of a source; None if it has no way back. Nothing is connected before its first `send`."""
    if way_back(source):
        return None
    url = plain(source.api_url or "")
    key = plain(source.api_key or "")
    if source.format == "thingpark":
        api = LrcApi(url, _credentials(source, connections))
        return HttpNetwork(api, url, ca=source.api_ca_certificate, secrets=(), clock=clock)
    if not lacking(source):
        rest = ChirpStackApi(url, key) if source.format == "chirpstack" else _things_stack(source, url, key)
        return HttpNetwork(rest, url, ca=source.api_ca_certificate, secrets=[key], clock=clock)
    if not isinstance(source, MqttSource):  # `way_back` has said so
        return None
    if source.format == "chirpstack":
        return MqttNetwork(source_id, source, ChirpStackCommands(application_in(source.topics)))
    return MqttNetwork(source_id, source, ThingsStackCommands(plain(source.username or "")))


def _usable(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    return parsed.scheme in {"http", "https"} and bool(parsed.host)


def _things_stack(source: Source, url: str, key: str) -> ThingsStackApi:
    return ThingsStackApi(url, key, plain(source.webhook or ""))


def _credentials(source: Source, connections: Mapping[str, Connection]) -> Callable[[str], Credentials]:
    """Give who signs: the connection's own AS_ID and key, at this moment, over those of the source."""

    def of(connection: str) -> Credentials:
        own = connections[connection].configuration if connection in connections else None
        as_id = (own and own.downlink_as_id) or source.downlink_as_id
        as_key = (own and own.downlink_as_key) or source.downlink_as_key or _uplink_key(source)
        if not as_id or not as_key:
            return Credentials()
        return Credentials(plain(as_id), plain(as_key))

    return of


def _uplink_key(source: Source) -> str | None:
    return source.as_key if isinstance(source, HttpSource) else None
