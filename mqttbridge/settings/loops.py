"""Find what would come back: topics that we publish on and listen to at the same broker. Pure.

For `advice` alone. A connection's own topics are looked at by `wayback`, which refuses loops; here it is others that
listen: a source whose filter takes a connection's uplinks, or a connection whose downlink topics are another's uplinks.
None of these goes round for ever (copies are dropped, receipts have no receipts), and a customer may mean it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge import topics
from mqttbridge.settings.schema import LinkSettings, MqttSource
from mqttbridge.settings.secret import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mqttbridge.settings.schema import Settings

__all__ = ["loops"]


class _Place(msgspec.Struct, frozen=True):
    """Who publishes or listens, where, and on which topics, as the levels of a filter."""

    who: str
    what: str
    broker: tuple[str, int]
    levels: tuple[str, ...]


def loops(settings: Settings) -> list[str]:
    """Give a sentence for each who hears one of our own messages."""
    published: dict[tuple[tuple[str, int], str], list[_Place]] = {}
    for place in _published(settings):
        published.setdefault((place.broker, place.levels[0]), []).append(place)
    firsts: dict[tuple[str, int], set[str]] = {}
    for broker, first in published:
        firsts.setdefault(broker, set()).add(first)
    found = []
    for ear in _listened(settings):
        here = firsts.get(ear.broker, set())
        wanted = here if ear.levels[0] in {"+", "#"} else here & {ear.levels[0], "+"}
        places = (place for first in sorted(wanted) for place in published[ear.broker, first])
        heard = next((one for one in places if one.who != ear.who and _meet(ear.levels, one.levels)), None)
        if heard is not None:
            found.append(
                f"{ear.who}: {ear.what} takes the {heard.what} of {heard.who} too, at the same broker; "
                "use other levels for one of them"
            )
    return found


def _published(settings: Settings) -> Iterator[_Place]:
    for name, connection in settings.connections.items():
        if connection.active:
            link = connection.configuration
            who = f"connection {name}"
            yield _Place(who, "uplinks", _broker(link), _levels(link.uplink_topic_pattern))
            if link.takes_downlinks and link.downlink_receipt_topic_pattern is not None:
                yield _Place(who, "receipts", _broker(link), _levels(link.downlink_receipt_topic_pattern))


def _listened(settings: Settings) -> Iterator[_Place]:
    for name, source in settings.sources.items():
        if isinstance(source, MqttSource):
            for topic in source.topics:
                given = tuple(plain(topic).split("/"))
                given = given[2:] if given[0] == "$share" else given
                yield _Place(f"source {name}", "topics", _broker(source), given)
    for name, connection in settings.connections.items():
        link = connection.configuration
        if connection.active and link.takes_downlinks and link.downlink_topic_pattern is not None:
            levels = _levels(link.downlink_topic_pattern)
            yield _Place(f"connection {name}", "downlinkTopicPattern", _broker(link), levels)


def _broker(link: LinkSettings) -> tuple[str, int]:
    host, port = link.address
    return host.lower().removesuffix("."), port


def _levels(pattern: str) -> tuple[str, ...]:
    return tuple(topics.compile_pattern(plain(pattern)).subscription.split("/"))


def _meet(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a topic may fit both filters."""
    for a, b in zip(one, other, strict=False):
        if "#" in {a, b}:
            return True
        if a != b and "+" not in {a, b}:
            return False
    longer = one if len(one) > len(other) else other
    return len(one) == len(other) or longer[min(len(one), len(other))] == "#"
