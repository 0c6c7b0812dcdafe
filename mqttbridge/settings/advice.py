"""What is right in a configuration and probably not meant: pure. `check` prints it, the daemon logs it.

Not errors: the daemon runs with each of these, and a file may be written step by step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqttbridge.settings.schema import Settings

__all__ = ["advice"]


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
    found += [
        f"connection {name}: downlinkTopicPattern is set, but this version takes no downlinks"
        for name in sorted(active)
        if settings.connections[name].configuration.downlink_topic_pattern is not None
    ]
    return found
