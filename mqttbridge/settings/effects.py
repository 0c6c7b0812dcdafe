"""What a change of each property means for a running daemon: one table for each part of the configuration. Pure.

`diff` reads them, docs/reload.md shows them, and a test walks the schema: a property that stands in no table fails it.
Names are dotted camelCase, from the part down. Only what a broker sees restarts a link to it.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONNECTION", "DAEMON", "FLOW", "HTTP_SOURCE", "MQTT_SOURCE", "Effect"]


class Effect(enum.StrEnum):
    """What it takes to apply a changed property."""

    IN_PLACE = "in place"
    """It counts from the next uplink, downlink or attempt on; nothing is interrupted."""
    RESTART = "restart"
    """The link to the broker ends, and is made anew."""
    NEEDS_RESTART = "needs a restart"
    """A reload cannot change it: only a restart of the daemon can."""


IN_PLACE, RESTART = Effect.IN_PLACE, Effect.RESTART

LINK: Mapping[str, Effect] = MappingProxyType(
    {
        "hostName": RESTART,
        "protocol": RESTART,
        "webSocketPath": RESTART,
        "username": RESTART,
        "password": RESTART,
        "trustedCaCertificate": RESTART,
        "certificate": RESTART,
        "privateKey": RESTART,
        "connectionTimeout": IN_PLACE,
        "actionTimeout": IN_PLACE,
        "mqttVersion": RESTART,
        "clientId": RESTART,
        "keepAlive": RESTART,
        "alpn": RESTART,
    }
)
CONFIGURATION: Mapping[str, Effect] = {
    **LINK,
    "description": IN_PLACE,
    "uplinkTopicPattern": IN_PLACE,
    "downlinkTopicPattern": RESTART,
    "downlinkEnabled": RESTART,
    "downlinkPort": IN_PLACE,
    "downlinkAsId": IN_PLACE,
    "downlinkAsKey": IN_PLACE,
    "downlinkReceiptTopicPattern": IN_PLACE,
    "downlinkDevices": IN_PLACE,
    "downlinkRate": IN_PLACE,
    "sendMetadata": IN_PLACE,
    "sendRawDecodedFormat": IN_PLACE,
    "uplinkTimeValidity": IN_PLACE,
    "reconnectStrategy": IN_PLACE,
    "qos": RESTART,
    "retain": RESTART,
    "maxInflight": IN_PLACE,
    "debug": IN_PLACE,
}
CONNECTION: Mapping[str, Effect] = MappingProxyType(
    {
        "connectorId": IN_PLACE,
        "name": IN_PLACE,
        # Starts or stops the connection, which `diff` sees to; of what it becomes, nothing is left to restart.
        "active": IN_PLACE,
        "alarms": IN_PLACE,
    }
    | {f"configuration.{name}": effect for name, effect in CONFIGURATION.items()}
)
SOURCE: Mapping[str, Effect] = MappingProxyType(
    {
        "transport": RESTART,
        "format": IN_PLACE,
        "passThrough": IN_PLACE,
        "duplicateWindow": IN_PLACE,
        "apiUrl": IN_PLACE,
        "apiKey": IN_PLACE,
        "apiCaCertificate": IN_PLACE,
        "webhook": IN_PLACE,
        "downlinkAsId": IN_PLACE,
        "downlinkAsKey": IN_PLACE,
    }
)
HTTP_SOURCE: Mapping[str, Effect] = MappingProxyType(
    {**SOURCE, "asKey": IN_PLACE, "authorization": IN_PLACE},
)
MQTT_SOURCE: Mapping[str, Effect] = MappingProxyType({**SOURCE, **LINK, "topics": RESTART})
FLOW: Mapping[str, Effect] = MappingProxyType(
    {"name": IN_PLACE, "description": IN_PLACE, "matchers": IN_PLACE, "connections": IN_PLACE},
)
DAEMON: Mapping[str, Effect] = MappingProxyType(
    {
        "stateDirectory": Effect.NEEDS_RESTART,
        "watch": IN_PLACE,
        "http.listen": Effect.NEEDS_RESTART,
        # These take TLS, and tokens, into account that the listener of a running daemon does not have: see `diff`.
        "http.certificate": IN_PLACE,
        "http.privateKey": IN_PLACE,
        "http.insecure": IN_PLACE,
        "api.adminTokens": IN_PLACE,
        "api.readOnlyTokens": IN_PLACE,
        "api.brokerAllowlist": IN_PLACE,
        "journal.maxSize": IN_PLACE,
        "journal.whenFull": IN_PLACE,
        "journal.retention": IN_PLACE,
    }
)
"""All but the parts themselves: sources, flows and connections."""
