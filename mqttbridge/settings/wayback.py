"""Look at the properties of downlinks together: of a source (the way to its network server) and of a connection.

For this room's own use. Checks of single values stand in `checks`. A property that failed on its own is not judged
again. Patterns that reach this are sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mqttbridge import topics
from mqttbridge.settings.schema import Configuration, HttpSource, MqttSource
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    import msgspec.inspect as types

    from mqttbridge.settings.problems import KeyPath, Mark, Problems
    from mqttbridge.settings.schema import Source

__all__ = ["WayBackCheck", "lacking"]

ONLY_FOR = {
    "as_key": ("asKey", ("thingpark",)),
    "downlink_as_id": ("downlinkAsId", ("thingpark",)),
    "downlink_as_key": ("downlinkAsKey", ("thingpark",)),
    "api_key": ("apiKey", ("chirpstack", "tts")),
    "webhook": ("webhook", ("tts",)),
}
"""Properties of a source that mean something with some formats alone."""
EXACTLY_ONCE = 2
SAMPLE = "0018B20000000B20"


def lacking(source: Source) -> list[str]:
    """Name the properties that a source lacks to send downlinks to its network server over HTTP."""
    needed = {"apiUrl": source.api_url}
    if source.format != "thingpark":
        needed["apiKey"] = source.api_key
    if source.format == "tts":
        needed["webhook"] = source.webhook
    return [name for name, value in needed.items() if not value]


class WayBackCheck:
    """Checks sources and connections of one load, one at a time."""

    def __init__(self, problems: Problems, marks: Mapping[KeyPath, Mark], failed: object) -> None:
        """Take where problems go, where each property stands, and what stands for a property that failed."""
        self._problems = problems
        self._marks = marks
        self._failed = failed

    def check(self, struct: types.StructType, given: Mapping[str, Any], path: KeyPath) -> bool:
        """Check one section; `given` has the converted properties by attribute. Gives whether all is well."""
        if any(value is self._failed for value in given.values()):
            return True
        values = {field.name: field.default for field in struct.fields} | dict(given)
        if issubclass(struct.cls, HttpSource | MqttSource):
            return self._source(values, path)
        if issubclass(struct.cls, Configuration):
            return self._exactly_once(values, path) and self._loops(values, path)
        return True

    # -- sources -------------------------------------------------------------------------------------------------

    def _source(self, values: Mapping[str, Any], path: KeyPath) -> bool:
        form = values["format"]
        sound = True
        for attribute, (name, formats) in ONLY_FOR.items():
            if values.get(attribute) is not None and form not in formats:
                sound = self._fail((*path, name), f"is for format {' or '.join(formats)}, and this source's is {form}")
        if not sound:
            return False
        if form == "thingpark":
            return self._lrc(values, path)
        return self._api(values, form, path)

    def _lrc(self, values: Mapping[str, Any], path: KeyPath) -> bool:
        as_key = values["downlink_as_key"] or values.get("as_key")
        if values["downlink_as_id"] is not None and as_key is None:
            keys = "asKey or downlinkAsKey" if "as_key" in values else "downlinkAsKey"
            return self._fail((*path, "downlinkAsId"), f"needs {keys} beside it: both make the Token")
        if values["downlink_as_key"] is not None and values["downlink_as_id"] is None:
            self._warn((*path, "downlinkAsKey"), "is of no use without downlinkAsId: downlinks go out unsigned")
        return True

    def _api(self, values: Mapping[str, Any], form: str, path: KeyPath) -> bool:
        if (values["api_url"] is None) != (values["api_key"] is None):
            given, missing = ("apiUrl", "apiKey") if values["api_key"] is None else ("apiKey", "apiUrl")
            return self._fail((*path, given), f"needs {missing} beside it, for downlinks by HTTP")
        if values["api_url"] is not None and "api" in plain(values["api_url"]).split("/")[3:]:
            return self._fail((*path, "apiUrl"), "must end before /api, which is added")
        if form == "tts" and values["api_url"] is not None and values["webhook"] is None:
            text = "needs webhook beside it: the id of the webhook, which The Things Stack wants in the URL"
            return self._fail((*path, "apiUrl"), text)
        if form == "tts" and values["api_url"] is None and "topics" in values and values["username"] is None:
            self._warn((*path, "topics"), "have no username beside them, which downlinks need in their topic")
        return True

    # -- connections ---------------------------------------------------------------------------------------------

    def _exactly_once(self, values: Mapping[str, Any], path: KeyPath) -> bool:
        """Refuse QoS 2 over a persistent session: its packet identifiers would outlive our memory of them."""
        if values["qos"] != EXACTLY_ONCE or values["downlink_topic_pattern"] is None or not values["downlink_enabled"]:
            return True
        return self._fail((*path, "qos"), "must be 0 or 1 for a connection that takes downlinks")

    def _loops(self, values: Mapping[str, Any], path: KeyPath) -> bool:
        """Refuse topics by which what we publish would come back as a downlink."""
        text, receipts = values["downlink_topic_pattern"], values["downlink_receipt_topic_pattern"]
        if text is None:
            if receipts is not None:
                self._warn((*path, "downlinkReceiptTopicPattern"), "has nothing to tell without downlinkTopicPattern")
            return True
        downlinks = topics.compile_pattern(plain(text))
        sound = True
        published = {"downlinkReceiptTopicPattern": receipts, "downlinkTopicPattern": values["uplink_topic_pattern"]}
        for name, other in published.items():
            what = "a receipt" if name == "downlinkReceiptTopicPattern" else "an uplink"
            if other is None or not _overlap(downlinks, other := topics.compile_pattern(plain(other))):
                continue
            if not other.plain or downlinks.match(other.render(SAMPLE, dict)) is not None:
                text = f"gives topics by which {what} would come back as a downlink; use another level for one of them"
                sound = self._fail((*path, name), text)
            else:
                self._warn((*path, name), f"has the broker send back {what} each time; use other levels, to spare that")
        return sound

    # -- saying so -----------------------------------------------------------------------------------------------

    def _at(self, path: KeyPath) -> Mark:
        """Find the place of a property; one with a default may not stand in the file."""
        return self._marks.get(path) or self._marks[path[:-1]]

    def _warn(self, path: KeyPath, text: str) -> None:
        self._problems.warn(self._at(path), path, text)

    def _fail(self, path: KeyPath, text: str) -> bool:
        self._problems.add(self._at(path), path, text)
        return False


def _overlap(one: topics.Pattern, other: topics.Pattern) -> bool:
    """Whether a topic may fit the subscriptions of both."""
    levels, others = one.subscription.split("/"), other.subscription.split("/")
    return len(levels) == len(others) and all(a == b or "+" in {a, b} for a, b in zip(levels, others, strict=True))
