"""Downlinks as The Things Stack takes them: the body, and the topic or URL path that it goes to. For `formats.tts`.

An id reaches a topic or a path only if The Things Stack could have given it; anything else is a `DocumentError`.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw

from mqttbridge.errors import DocumentError
from mqttbridge.formats.words import shown

if TYPE_CHECKING:
    from mqttbridge.model import Downlink

__all__ = ["OUR_CORRELATION", "OUR_DEVICE", "is_id", "path", "push", "topic"]

IDENTITY = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*").fullmatch
SHORTEST, LONGEST = 2, 36
OUR_CORRELATION = re.compile(r"mqttbridge:cid:([0-9A-Fa-f]{16})").fullmatch
OUR_DEVICE = re.compile(r"mqttbridge:dev:([0-9A-F]{16})").fullmatch


def is_id(text: str) -> bool:
    """Whether The Things Stack could have given it to an application, a device or a webhook: [a-z0-9-], for short."""
    return SHORTEST <= len(text) <= LONGEST and IDENTITY(text) is not None


def push(downlink: Downlink, *, correlation_id: str, key: str) -> bytes:
    """Give the body that queues a downlink; the same for `push` and `replace`, by MQTT and by HTTP.

    Its correlation ids come back with every report about it. The last names the device, since The Things Stack reports
    what it refuses at once without a DevEUI.
    """
    content: dict[str, Any] = {"f_port": downlink.fport}
    if downlink.payload_hex is None:
        content["decoded_payload"] = Raw(downlink.payload)
    else:
        content["frm_payload"] = base64.b64encode(bytes.fromhex(downlink.payload_hex)).decode()
    content["confirmed"] = downlink.confirmed
    content["priority"] = "NORMAL"
    content["correlation_ids"] = [
        f"mqttbridge:cid:{correlation_id}",
        f"mqttbridge:key:{key}",
        f"mqttbridge:dev:{downlink.dev_eui}",
    ]
    return msgspec.json.encode({"downlinks": [content]})


def topic(user: str, device: str, *, replace: bool) -> str:
    """Give the topic for a downlink. `user` is the MQTT username: `<application>@<tenant>`, or `<application>`."""
    if not all(map(is_id, user.split("@", 1))):
        raise DocumentError(f"{shown(user)} cannot be the user of an application; it is <application>@<tenant>")
    return f"v3/{user}/devices/{_checked(device, 'a device')}/down/{'replace' if replace else 'push'}"


def path(application: str, webhook: str, device: str, *, replace: bool) -> str:
    """Give the path of the URL for a downlink, from `/api/v3` on."""
    return (
        f"/api/v3/as/applications/{_checked(application, 'an application')}/webhooks/{_checked(webhook, 'a webhook')}"
        f"/devices/{_checked(device, 'a device')}/down/{'replace' if replace else 'push'}"
    )


def _checked(text: str, what: str) -> str:
    """Give an id that is one."""
    if not is_id(text):
        raise DocumentError(
            f"{shown(text)} cannot be the id of {what}; it has 2 to 36 lower-case letters, digits and single dashes"
        )
    return text
