"""Where the rest of the house gets links: the one place that knows which implementation is underneath."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.mqtt.aiomqtt_link import AiomqttLink
from mqttbridge.mqtt.options import LinkOptions, link_options

if TYPE_CHECKING:
    from mqttbridge.mqtt.link import Link, LinkListener

__all__ = ["LinkOptions", "link_options", "open_link"]


def open_link(options: LinkOptions, listener: LinkListener) -> Link:
    """Make a link; it does nothing until `connect`."""
    return AiomqttLink(options, listener)
