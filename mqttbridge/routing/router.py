"""The router: which connections get an uplink. Pure; built anew whenever flows or connections change.

Called by the sources for every uplink, so matchers stand in indexes: devices by DevEUI, tags by the rarest tag that a
matcher asks for. Sets of connections are integers with a bit for each, and one tuple stands for each set.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from mqttbridge.model import DocumentKind
from mqttbridge.settings.schema import KeyMatcher, ThingMatcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mqttbridge.model import Connections, Uplink
    from mqttbridge.settings.schema import Connection, Flow

__all__ = ["KEY_PREFIX", "Router", "key_dev_eui"]

KEY_PREFIX = "lora:"
MAX_SETS = 65536
"""How many sets of connections are remembered; beyond, remembering starts anew."""


class Router:
    """Routes by flows (design, section 3). Without flows, every active connection gets every uplink.

    A flow without matchers takes everything; with matchers, what any of them matches. Inactive connections get
    nothing; those with `sendMetadata` get DevEUI_uplink documents alone.
    """

    def __init__(self, flows: Mapping[str, Flow], connections: Mapping[str, Connection]) -> None:
        """Take what the settings say. Connections that do not exist, and keys that are no DevEUI, match nothing."""
        self._ids = sorted(id_ for id_, connection in connections.items() if connection.active)
        self._bits = {id_: 1 << place for place, id_ in enumerate(self._ids)}
        all_bits = (1 << len(self._ids)) - 1
        self._reports = all_bits & ~self._mask(
            id_ for id_, connection in connections.items() if connection.configuration.send_metadata
        )
        self._always = 0 if flows else all_bits
        self._by_key: defaultdict[str, int] = defaultdict(int)
        by_tags: defaultdict[frozenset[str], int] = defaultdict(int)
        for flow in flows.values():
            mask = self._mask(flow.connections)
            if not flow.matchers:
                self._always |= mask
            for matcher in flow.matchers:
                match matcher:
                    case KeyMatcher():
                        self._by_key[key_dev_eui(matcher.key)] |= mask
                    case ThingMatcher():
                        by_tags[frozenset(map(str.casefold, matcher.tags))] |= mask
        self._by_tag = _index(by_tags)
        self._sets: dict[int, Connections] = {}

    def route(self, uplink: Uplink) -> Connections:
        """Give the ids of the connections that get this uplink: the same tuple object for the same set."""
        mask = self._always | self._by_key.get(uplink.dev_eui, 0)
        tags = uplink.tags
        if tags and self._by_tag:
            for tag in tags:
                for wanted, found in self._by_tag.get(tag, ()):
                    if wanted <= tags:
                        mask |= found
        if uplink.kind is not DocumentKind.UPLINK:
            mask &= self._reports
        connections = self._sets.get(mask)
        return self._remember(mask) if connections is None else connections

    def with_sender(self, connections: Connections, sender: str) -> Connections:
        """Add the connection that sent a downlink to those that get a report about it, unless it takes no reports."""
        bit = self._bits.get(sender, 0) & self._reports
        if not bit or sender in connections:
            return connections
        mask = self._mask(connections) | bit
        return self._sets.get(mask) or self._remember(mask)

    def _mask(self, ids: Iterable[str]) -> int:
        """Give the bits of connections."""
        mask = 0
        for id_ in ids:
            mask |= self._bits.get(id_, 0)
        return mask

    def _remember(self, mask: int) -> Connections:
        """Make the tuple of a set, once."""
        if len(self._sets) >= MAX_SETS:
            self._sets.clear()
        connections = tuple(id_ for id_ in self._ids if self._bits[id_] & mask)
        return self._sets.setdefault(mask, connections)


def key_dev_eui(key: str) -> str:
    """Give the DevEUI of `lora:<DevEUI>`, as uplinks have it; nothing for another key."""
    prefix, dev_eui = key[: len(KEY_PREFIX)], key[len(KEY_PREFIX) :]
    return dev_eui.replace("-", "").replace(":", "").upper() if prefix.lower() == KEY_PREFIX else ""


def _index(by_tags: Mapping[frozenset[str], int]) -> dict[str, list[tuple[frozenset[str], int]]]:
    """Put each set of tags under the one of them that the fewest sets hold."""
    uses = Counter(tag for tags in by_tags for tag in tags)
    index: defaultdict[str, list[tuple[frozenset[str], int]]] = defaultdict(list)
    for tags, mask in by_tags.items():
        index[min(tags, key=lambda tag: (uses[tag], tag))].append((tags, mask))
    return dict(index)
