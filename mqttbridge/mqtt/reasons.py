"""MQTT's reason codes in plain words, and what they mean for an uplink or a login. Pure.

For links (why the broker refused or hung up), sessions and sources (what an answer means). A code that is not known
never counts as delivered if it is 0x80 or above.
"""

from __future__ import annotations

import enum

from mqttbridge.errors import BrokerRefused, LinkError, LinkLost, LoginRefused
from mqttbridge.mqtt.link import REFUSED

__all__ = ["CHECK_PORT", "TAKEN_OVER", "Verdict", "connack_error", "disconnect_error", "reason", "verdict"]

TAKEN_OVER = 0x8E
"""DISCONNECT of MQTT 5: another client came with the same client id."""

CHECK_PORT = "check the port and protocol (SSL, WSS or TCP)"
"""What to do about a peer that does not behave as a broker of this protocol does."""

# MQTT 3.1.1, table 3.1.
CONNACK_3 = {
    1: "it does not speak this MQTT version; check mqttVersion",
    2: "it does not accept this client id; check clientId",
    3: "its MQTT service is unavailable",
    4: "user name or password is wrong",
    5: "this client is not authorised to connect",
}

# MQTT 5, section 2.4.
CODES_5 = {
    0x00: "success",
    0x04: "disconnected, with the will message",
    0x10: "no subscriber matches",
    0x11: "no subscription existed",
    0x80: "unspecified error",
    0x81: "malformed packet",
    0x82: "protocol error",
    0x83: "implementation specific error",
    0x84: "it does not speak this MQTT version; check mqttVersion",
    0x85: "it does not accept this client id; check clientId",
    0x86: "user name or password is wrong",
    0x87: "not authorised",
    0x88: "the server is unavailable",
    0x89: "the server is busy",
    0x8A: "this client is banned",
    0x8B: "the server is shutting down",
    0x8C: "bad authentication method",
    0x8D: "keep alive timeout",
    0x8E: "another client connected with the same client id",
    0x8F: "the topic filter is not valid here",
    0x90: "the topic name is not valid here",
    0x91: "the packet identifier is in use",
    0x92: "the packet identifier is unknown",
    0x93: "receive maximum exceeded",
    0x94: "the topic alias is invalid",
    0x95: "the packet is too large",
    0x96: "the message rate is too high",
    0x97: "quota exceeded",
    0x98: "an administrator ended it",
    0x99: "the payload format is invalid",
    0x9A: "retained messages are not supported",
    0x9B: "this QoS is not supported",
    0x9C: "use another server",
    0x9D: "the server has moved",
    0x9E: "shared subscriptions are not supported",
    0x9F: "the connection rate is exceeded",
    0xA0: "the maximum connect time is over",
    0xA1: "subscription identifiers are not supported",
    0xA2: "wildcard subscriptions are not supported",
}

LOGIN_3 = frozenset({4, 5})
LOGIN_5 = frozenset({0x86, 0x87, 0x8A, 0x8C})
CREDENTIALS = frozenset({4, 5, 0x86, 0x87})
"""CONNACK codes about who logs in with what."""

PARK = frozenset({0x87, 0x90, 0x95, 0x99})
BACK_OFF = frozenset({0x97})


class Verdict(enum.Enum):
    """What an acknowledgement means for the uplink."""

    DELIVERED = "delivered"
    PARK = "park"
    """The broker will never take this uplink."""
    BACK_OFF = "back off"
    """The broker will take it later: slow down, then send again."""
    RETRY = "retry"
    """Something went wrong: send again."""


def verdict(code: int) -> Verdict:
    """Classify the code of an `Ack`."""
    if code < REFUSED:
        return Verdict.DELIVERED
    if code in PARK:
        return Verdict.PARK
    return Verdict.BACK_OFF if code in BACK_OFF else Verdict.RETRY


def reason(code: int) -> str:
    """Say what a reason code means (MQTT 5; a SUBACK of 3.1.1 has 0x80 alone)."""
    words = CODES_5.get(code)
    return f"{words} (0x{code:02X})" if words else f"unknown reason code 0x{code:02X}"


def connack_error(where: str, code: int, *, v5: bool, text: str = "", named: bool = True) -> LinkError:
    """Make the error for a refusing CONNACK. `text`: the broker's own reason string; `named`: a username was sent."""
    if v5 and code >= REFUSED:
        words, login = reason(code), code in LOGIN_5
    else:  # a broker that knows no MQTT 5 answers it with a code of 3.1.1
        words = f"{CONNACK_3[code]} (code {code})" if code in CONNACK_3 else f"unknown return code {code}"
        login = code in LOGIN_3
    kind = LoginRefused if login else BrokerRefused
    advice = ""
    if code in CREDENTIALS:
        advice = "; check username and password" if named else "; no username is configured"
    return kind(f"{where}: the broker refused the login: {words}{_quoted(text)}{advice}", code=code)


def disconnect_error(where: str, code: int, text: str = "") -> LinkError:
    """Make the error for a DISCONNECT from the broker (MQTT 5)."""
    kind = BrokerRefused if code >= REFUSED else LinkLost
    return kind(f"{where}: the broker ended the connection: {reason(code)}{_quoted(text)}", code=code)


def _quoted(text: str) -> str:
    """Quote what the broker says, shortened and without control characters."""
    shown = "".join(char for char in text[:200] if char.isprintable())
    return f'; it says "{shown}"' if shown else ""
