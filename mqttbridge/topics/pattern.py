"""The compiled pattern: the one thing of this room that others hold in their hands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.errors import TopicError
from mqttbridge.topics.matching import match_level, tells_dev_eui
from mqttbridge.topics.parts import HEX16, MAX_TOPIC_BYTES, UNKNOWN, Part, shown
from mqttbridge.topics.rendering import asked, content_of, value_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Pattern"]


class Pattern(msgspec.Struct, frozen=True):
    """A compiled topic pattern; made by `compile_pattern` alone.

    `plain`: it holds no placeholder but DevEUI, so that `render` never asks for the document. `subscription` is the
    topic filter of its topics: each level with a placeholder is `+`.
    """

    text: str
    plain: bool
    subscription: str
    parts: tuple[Part, ...]
    levels: tuple[tuple[Part, ...], ...]
    joints: tuple[str, ...]
    """Of a plain pattern, the texts between the DevEUIs."""

    def render(self, dev_eui: str, document: Callable[[], Mapping[str, Any]]) -> str:
        """Give the topic for a document.

        `dev_eui` is 16 hex digits, or `UNKNOWN`. `document` gives the decoded document with its root key; it is called
        at most once, and never by a plain pattern. Raises `TopicError`: its sentence is the reason to park the uplink.
        """
        if HEX16(dev_eui) is not None:
            dev_eui = dev_eui.upper()
        elif dev_eui != UNKNOWN:
            raise TopicError(f"the DevEUI is {shown(dev_eui)}, not 16 hex digits")
        if self.plain:
            return dev_eui.join(self.joints)
        whole = asked(document)
        content = content_of(whole)
        topic = "".join(
            part if isinstance(part, str) else value_of(part, dev_eui, whole, content) for part in self.parts
        )
        if topic[0] == "$" and not isinstance(self.parts[0], str):
            raise TopicError(f"{{{self.parts[0].text}}} would make the topic start with $, which is for brokers alone")
        size = len(topic.encode())
        if size > MAX_TOPIC_BYTES:
            raise TopicError(f"the topic would have {size} bytes; MQTT allows {MAX_TOPIC_BYTES}")
        return topic

    def match(self, topic: str) -> dict[str, str] | None:
        """Give the values of the named placeholders (`{"DevEUI": "…"}`) that lead to this topic, or None.

        A DevEUI is taken in any case, with dashes or colons too, and given in upper case. A name that stands twice
        must have one value. Where several placeholders of unknown length share a level, their values cannot be told
        apart and are left out. Takes time in proportion to the topic's length, whatever the topic.
        """
        texts = topic.split("/")
        if len(texts) != len(self.levels):
            return None
        found: dict[str, str] = {}
        for parts, text in zip(self.levels, texts, strict=True):
            values = match_level(parts, text)
            if values is None:
                return None
            for name, value in values:
                if found.setdefault(name, value) != value:
                    return None
        return found

    def leads_back(self) -> bool:
        """Whether a topic tells its DevEUI without doubt, or the pattern has no placeholder at all.

        A DevEUI is without doubt where all that stands before it in its level, or all that stands behind it, has a
        known length.
        """
        return len(self.joints) == 1 or any(map(tells_dev_eui, self.levels))
