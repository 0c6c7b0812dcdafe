"""Look into single values, beyond their type. Pure.

A check takes the text and gives the value to use (mostly the same), or raises `ValueError` with a sentence without
its subject: "must begin with /". A check of a secret never quotes it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mqttbridge import topics
from mqttbridge.errors import PatternError, TopicError
from mqttbridge.settings import address, allowlist
from mqttbridge.settings.alarms import ALARM_CHECKS

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHECKS", "CONTROL", "IDENTITY", "IDENTITY_PATTERN", "IDENTITY_RULE"]

IDENTITY_PATTERN = "^[A-Za-z0-9_][A-Za-z0-9._-]{0,63}$"
IDENTITY = re.compile(IDENTITY_PATTERN).fullmatch
IDENTITY_RULE = "1 to 64 letters, digits, . _ or -, the first a letter, digit or _"

MAX_STRING = 65535
"""MQTT 3.1.1, section 1.5.3: a string has a length of 16 bits."""
MAX_ALPN = 255
DEV_EUI_DIGITS = 16
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
AS_KEY = re.compile(r"[0-9A-Fa-f]{32}").fullmatch
DEVICE_KEY = re.compile(r"lora:([0-9A-F]{16})", re.IGNORECASE).fullmatch
DEVICES = re.compile(r"[0-9A-F?]*\*[0-9A-F?*]*|[0-9A-F?]{16}").fullmatch
WEBHOOK = re.compile(r"[a-z0-9](?:-?[a-z0-9]){1,35}").fullmatch
HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?").fullmatch
RECEIPT = {"DevEUI": "0018B20000000B20", "outcome": "queued", "CorrelationID": 16 * "0", "key": 16 * "0"}
"""What every receipt has and a topic can hold."""
ALPN = re.compile(r"[\x21-\x7e]{1,255}").fullmatch
TOKEN = re.compile(r"[\x21-\x7e]{16,512}").fullmatch


def _host_name(text: str) -> str:
    # The protocol only decides on the default port.
    address.broker(text, "SSL")
    return text


def _listen(text: str) -> str:
    address.listener(text)
    return text


def _web_socket_path(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("must begin with /, such as /mqtt")
    if CONTROL.search(text) or " " in text or "#" in text or not text.isascii():
        raise ValueError(
            "must be the path of a URL, such as /mqtt, without spaces and #; encode other characters (%20)"
        )
    return text


def _client_id(text: str) -> str:
    _fits(text)
    if CONTROL.search(text):
        raise ValueError("must not hold control characters or line ends")
    return text


def _username(text: str) -> str:
    return _client_id(text)


def _password(text: str) -> str:
    _fits(text)
    return text


def _as_key(text: str) -> str:
    stripped = text.strip()
    if not AS_KEY(stripped):
        raise ValueError("must be 32 hex digits")
    # The Token is made with the key in lower case.
    return stripped.lower()


def _device_key(text: str) -> str:
    found = DEVICE_KEY(text.strip().replace("-", ""))
    if not found:
        raise ValueError("must be lora:<DevEUI> with the 16 hex digits of the DevEUI, such as lora:0018B20000000B20")
    return f"lora:{found[1].upper()}"


def _device_pattern(text: str) -> str:
    digits = text.strip().upper().removeprefix("LORA:").replace("-", "").replace(":", "")
    if not DEVICES(digits) or len(digits.replace("*", "")) > DEV_EUI_DIGITS:
        raise ValueError(
            "must be a DevEUI of 16 hex digits, in which ? stands for one digit and * for any number of them, "
            "such as 0018B2*"
        )
    return re.sub(r"\*+", "*", digits)


def _webhook(text: str) -> str:
    if not WEBHOOK(text):
        raise ValueError("must be the id of a webhook: 2 to 36 lower-case letters, digits and single hyphens")
    return text


def _header(text: str) -> str:
    if not HEADER(text):
        raise ValueError("must be the value of an HTTP header: ASCII without control characters and outer blanks")
    return text


def _topic_filter(text: str) -> str:
    _fits(text)
    if CONTROL.search(text):
        raise ValueError("must not hold control characters")
    if text.startswith("$share/"):
        _, group, *rest = text.split("/", 2)
        if not group or "+" in group or "#" in group or not rest or not rest[0]:
            raise ValueError("must be $share/<group>/<topic filter>")
        text_without_group = rest[0]
    else:
        text_without_group = text
    levels = text_without_group.split("/")
    for number, level in enumerate(levels, 1):
        if len(level) > 1 and ("+" in level or "#" in level):
            raise ValueError("must have + and # only as whole levels, such as network/+/uplink")
        if level == "#" and number < len(levels):
            raise ValueError("must have # only at its end, such as network/#")
    return text


def _alpn(text: str) -> str:
    if not ALPN(text):
        raise ValueError(f"must be 1 to {MAX_ALPN} ASCII characters without spaces")
    return text


def _token(text: str) -> str:
    if not TOKEN(text):
        raise ValueError(
            "must be 16 to 512 printable ASCII characters without blanks, such as openssl rand -hex 24 gives"
        )
    return text


def _uplink_pattern(text: str) -> str:
    _pattern(text)
    return text


def _downlink_pattern(text: str) -> str:
    if not _pattern(text).leads_back():
        raise ValueError("must hold {DevEUI}, so that a topic leads back to its device, or no placeholder at all")
    return text


def _receipt_pattern(text: str) -> str:
    try:
        _pattern(text).render(str(RECEIPT["DevEUI"]), lambda: RECEIPT)
    except TopicError:
        fields = ", ".join(f"{{{name}}}" for name in RECEIPT)
        raise ValueError(f"must hold no fields but {fields}: other ones are not in every receipt") from None
    return text


def _pattern(text: str) -> topics.Pattern:
    try:
        return topics.compile_pattern(text)
    except PatternError as error:
        raise ValueError(f"{error} (at character {error.position + 1})") from None


def _path(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold a NUL character")
    if text.startswith("~") and text.partition("/")[0] != "~":
        raise ValueError("begins with ~, but only ~/ stands for a home directory; write the whole path")
    return text


def _text(text: str) -> str:
    return text


def _fits(text: str) -> None:
    if len(text.encode()) > MAX_STRING:
        raise ValueError(f"must be at most {MAX_STRING} bytes of UTF-8")


CHECKS: dict[str, Callable[[str], str]] = {
    "allowedHost": allowlist.entry,
    "alpn": _alpn,
    "apiUrl": address.url,
    "asKey": _as_key,
    # What PEM holds is looked into together, in `links`.
    "certificate": _text,
    "clientId": _client_id,
    "deviceKey": _device_key,
    "devicePattern": _device_pattern,
    "downlinkTopicPattern": _downlink_pattern,
    "header": _header,
    "hostName": _host_name,
    "listen": _listen,
    "password": _password,
    "path": _path,
    "privateKey": _text,
    "receiptTopicPattern": _receipt_pattern,
    "text": _text,
    "token": _token,
    "topicFilter": _topic_filter,
    "uplinkTopicPattern": _uplink_pattern,
    "username": _username,
    "webSocketPath": _web_socket_path,
    "webhook": _webhook,
} | ALARM_CHECKS
"""By `Meta.extra["kind"]` of the schema."""
