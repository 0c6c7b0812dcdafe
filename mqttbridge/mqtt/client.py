"""Where the rest of the house gets links: the one place that knows which implementation is underneath."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mqttbridge.errors import LinkTimeout
from mqttbridge.mqtt.aiomqtt_link import AiomqttLink
from mqttbridge.mqtt.link import Step
from mqttbridge.mqtt.options import LinkOptions, link_options
from mqttbridge.mqtt.reasons import CHECK_PORT

if TYPE_CHECKING:
    from mqttbridge.mqtt.facts import Learn
    from mqttbridge.mqtt.link import Link, LinkListener

__all__ = ["LinkOptions", "link_options", "open_link", "overdue"]

ANSWERED = frozenset({Step.TLS, Step.WEBSOCKET, Step.CONNACK})
"""Somebody listens there, but does not answer as an MQTT broker of this protocol would."""


def open_link(options: LinkOptions, listener: LinkListener, learn: Learn | None = None) -> Link:
    """Make a link; it does nothing until `connect`. `learn` hears what is found on the way in."""
    return AiomqttLink(options, listener, learn)


def overdue(link: Link, options: LinkOptions, limit: int) -> LinkTimeout:
    """Make the error for a connect that took longer than `limit` ms: it names the step that hangs."""
    hint = f"; {CHECK_PORT}" if link.step in ANSWERED else ""
    step = link.step or "the connection"
    return LinkTimeout(f"{options.where}: {step} did not end within {limit} ms (connectionTimeout){hint}")
