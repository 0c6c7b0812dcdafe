"""What is right in a configuration and probably not meant: pure. `check` prints it, the daemon logs it.

Not errors: the daemon runs with each of these, and a file may be written step by step.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mqttbridge.settings.listening import exposed
from mqttbridge.settings.loops import loops
from mqttbridge.settings.schema import MqttSource
from mqttbridge.settings.secret import plain
from mqttbridge.settings.wayback import lacking

if TYPE_CHECKING:
    from mqttbridge.settings.schema import Settings, Source

__all__ = ["advice", "no_way_back"]

PLACEHOLDER = re.compile(r"\{[A-Za-z][A-Za-z0-9_. -]{0,40}\}").search
LOOPBACK = re.compile(r"http://(?:localhost|127\.[0-9.]+|\[::1\])(?:[:/]|$)").match


def advice(settings: Settings) -> list[str]:
    """Give a sentence for each oddity."""
    found: list[str] = []
    active = {name for name, connection in settings.connections.items() if connection.active}
    if not settings.sources:
        found.append("no source is configured: nothing can come in")
    if not active:
        found.append("no connection is active: every uplink is accepted, counted as unrouted and not kept")
    for name, flow in settings.flows.items():
        if active and not active.intersection(flow.connections):
            found.append(f"flow {name}: none of its connections is active: what it matches goes nowhere by it")
    for name, source in settings.sources.items():
        placeholders = PLACEHOLDER(" ".join(map(plain, source.topics))) if isinstance(source, MqttSource) else None
        if placeholders:
            text = f"topics has {placeholders[0]}, which stands for nothing here; write + for any level"
            found.append(f"source {name}: {text}")
    if exposed(settings.http) and not settings.http.insecure:
        text = "uplinks and their keys come in over the network without TLS; set http.certificate and http.privateKey"
        found.append(f"http.listen: {text}, or insecure: true if a proxy in front of it has TLS")
    found += loops(settings)
    found += _about_downlinks(settings, sorted(active))
    return found


def _about_downlinks(settings: Settings, active: list[str]) -> list[str]:
    """Say where downlinks come in that can go nowhere, and where a key goes over the wire in the clear."""
    found: list[str] = []
    takers = [name for name in active if settings.connections[name].configuration.takes_downlinks]
    without = [name for name, source in settings.sources.items() if no_way_back(source)]
    if takers and settings.sources and len(without) == len(settings.sources):
        (first, *_) = without
        found.append(
            f"connection {', '.join(takers)}: downlinks are taken and then rejected, because no source has a way back; "
            f"source {first}: {no_way_back(settings.sources[first])}"
        )
    for name, source in settings.sources.items():
        url = source.api_url or ""
        if source.api_key is not None and plain(url).startswith("http://") and not LOOPBACK(plain(url)):
            found.append(f"source {name}: apiUrl is http://, so that apiKey goes over the network unencrypted")
    return found


def no_way_back(source: Source) -> str:
    """Say what a source lacks to take downlinks to its network server; empty if nothing."""
    lacks = lacking(source)
    if not lacks or (source.format != "thingpark" and isinstance(source, MqttSource)):
        return ""
    wanted = f"{', '.join(lacks[:-1])} and {lacks[-1]}" if len(lacks) > 1 else lacks[0]
    return f"no downlink can be sent to its network server; give it {wanted}"
