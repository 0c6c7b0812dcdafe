"""What is known of the brokers that people use: how each says no, and why. Pure.

A hosted broker is told by its host name. What is said here of others holds for what most of them do.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mqttbridge.errors import LinkError
    from mqttbridge.mqtt.options import LinkOptions

__all__ = ["Broker", "about", "broker", "of_login", "of_publish", "of_subscribe"]

LONGEST_ID_3 = 23
"""Characters of a client id that each broker of MQTT 3.1 takes (3.1.1, section 3.1.3.1: at least so many)."""
BAD_ID = frozenset({2, 0x85})
NOT_AUTHORISED = frozenset({5, 0x87})
ABOUT_IDS = BAD_ID | NOT_AUTHORISED | {None, 0x80}
"""CONNACK codes with which a broker may mean the client id; None: it hung up without a word."""


class Broker(enum.Enum):
    """Brokers whose habits are known."""

    AWS = re.compile(r"\.iot\.[a-z0-9-]+\.amazonaws\.com(\.cn)?$")
    AZURE = re.compile(r"\.azure-devices\.(net|cn|us)$")
    HIVEMQ = re.compile(r"\.hivemq\.cloud$")
    EMQX = re.compile(r"\.(emqxsl\.(com|cn)|emqx\.cloud|emqxcloud\.com)$")
    OTHER = re.compile("")


def broker(host: str) -> Broker:
    """Tell a broker by its host name."""
    name = host.lower().removesuffix(".")
    return next(one for one in Broker if one.value.search(name))


def about(options: LinkOptions) -> list[str]:
    """Say what in the configuration such a broker does not take."""
    kind = broker(options.host)
    if kind is Broker.AWS:
        return list(_aws(options))
    if kind is Broker.AZURE and "api-version=" not in (options.username or ""):
        return [
            (
                "Azure IoT Hub wants the username <hub>.azure-devices.net/<device>/?api-version=2021-04-12, "
                "and the device's id as clientId"
            )
        ]
    if kind in {Broker.HIVEMQ, Broker.EMQX} and options.username is None:
        return ["this broker asks for username and password"]
    return []


def _aws(options: LinkOptions) -> list[str]:
    found = []
    if "-ats." not in options.host.lower():
        found.append(
            "this is an old AWS endpoint, whose authority is trusted no more; take the one with -ats in its name "
            "(aws iot describe-endpoint --endpoint-type iot:Data-ATS)"
        )
    if options.protocol == "SSL" and options.certificate is None and options.username is None:
        found.append("AWS IoT Core asks for a client certificate on this port: set certificate and privateKey")
    if options.protocol == "SSL" and options.port == 443 and not options.alpn:  # noqa: PLR2004 - HTTPS
        found.append("on port 443 AWS IoT Core wants alpn: [x-amzn-mqtt-ca]")
    if options.protocol == "WSS":
        found.append("over WSS AWS IoT Core wants signed requests or a custom authorizer; use SSL with a certificate")
    if options.qos > 1:
        found.append("AWS IoT Core has no QoS 2; set qos: 1")
    return found


def of_login(error: LinkError, options: LinkOptions, own_id: str) -> list[str]:
    """Say what a login that failed may mean. `own_id`: the client id that the daemon uses."""
    kind, found = broker(options.host), []
    if error.code in BAD_ID and not options.v5 and len(options.client_id) > LONGEST_ID_3:
        found.append(
            f"this client id has {len(options.client_id)} characters, and an old broker takes {LONGEST_ID_3}: "
            "try a shorter --client-id"
        )
    if kind is Broker.AWS:
        found.append(
            "AWS IoT Core closes the connection instead of saying no: look whether the certificate is active, whether "
            "a policy is attached to it, and whether that policy allows iot:Connect for this client id"
        )
    elif kind is Broker.AZURE:
        found.append("Azure IoT Hub takes only the device's own id as client id, and a SAS token that has not expired")
    elif kind is Broker.HIVEMQ:
        found.append("HiveMQ Cloud: the credentials are those of Access Management, not of your account")
    elif error.code in NOT_AUTHORISED:
        found.append(
            "mosquitto says 'not authorised' for a wrong password and an unknown user alike, EMQX for a client that "
            "is banned or not known to its authentication too: the broker's log tells which"
        )
    if error.code in ABOUT_IDS:
        found.append(_about_id(options, own_id))
    return found


def _about_id(options: LinkOptions, own_id: str) -> str:
    return (
        f"a broker that goes by client ids (such as a policy of AWS IoT Core) may refuse {options.client_id} though it "
        f"takes {own_id}: allow {own_id}*, or give one that it takes with --client-id"
    )


def of_subscribe(options: LinkOptions, topic_filter: str) -> list[str]:
    """Say what a refused subscription may mean."""
    if broker(options.host) is Broker.AWS:
        return [
            (
                f"the policy must allow iot:Subscribe on topicfilter/{topic_filter} and iot:Receive on its topics; "
                "AWS IoT Core ends the connection where it does not"
            )
        ]
    return [f"allow this user to subscribe to {topic_filter} in the broker's access control"]


def of_publish(options: LinkOptions, topic: str) -> list[str]:
    """Say what a refused publish may mean."""
    if broker(options.host) is Broker.AWS:
        return [
            f"the policy must allow iot:Publish on topic/{topic}; AWS IoT Core ends the connection where it does not"
        ]
    return [f"allow this user to publish to {topic} in the broker's access control"]
