"""Which connections get an uplink: pure. Floor 2."""

from mqttbridge.routing.router import Router

__all__ = ["Router"]
