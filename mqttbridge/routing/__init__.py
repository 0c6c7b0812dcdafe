"""Which connections get an uplink, and why: pure. Floor 2."""

from mqttbridge.routing.explain import Reason, Withheld, explain, goes_to
from mqttbridge.routing.router import Router

__all__ = ["Reason", "Router", "Withheld", "explain", "goes_to"]
