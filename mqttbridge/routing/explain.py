"""Why an uplink goes where it goes, flow by flow, in sentences for an operator. Pure.

`Router` decides, fast; this tells why, for one uplink at a time, by walking through all flows. Both follow the same
rules: what is explained as going somewhere is exactly what is routed there, which a test holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mqttbridge.model import DocumentKind
from mqttbridge.routing.router import KEY_PREFIX, key_dev_eui
from mqttbridge.settings.schema import KeyMatcher

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mqttbridge.model import Uplink
    from mqttbridge.settings.schema import Connection, Flow, Matcher, ThingMatcher

__all__ = ["Reason", "Withheld", "explain", "goes_to", "listed", "withheld_from"]

MOST_NAMED = 12
"""Tags in a sentence."""
MOST_WANTED = 4
"""Matchers of a flow in a sentence."""


class Withheld(msgspec.Struct, frozen=True, gc=False):
    """A connection that does not get an uplink though a flow leads to it. `why` is a sentence."""

    connection: str
    why: str


class Reason(msgspec.Struct, frozen=True):
    """What one flow says to one uplink.

    `flow` is empty where no flows are configured. `connections`: which of its connections get the uplink, `withheld`:
    which do not although it matched. `near`: of a flow that did not match, how many tags of its best matcher the
    device has.
    """

    flow: str
    matched: bool
    why: str
    connections: tuple[str, ...] = ()
    withheld: tuple[Withheld, ...] = ()
    near: int = 0


def explain(flows: Mapping[str, Flow], connections: Mapping[str, Connection], uplink: Uplink) -> tuple[Reason, ...]:
    """Tell for each flow, in the order of the file, whether it matches this uplink, and why.

    Without flows there is one reason, of no flow.
    """
    if not flows:
        why = "no flows are configured, so every active connection gets every uplink"
        return (_leading("", why, connections, connections, uplink.kind),)
    return tuple(_reason(id_, flow, connections, uplink) for id_, flow in flows.items())


def goes_to(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Give the connections that get the uplink, sorted, as `Router.route` does."""
    return tuple(sorted({id_ for reason in reasons for id_ in reason.connections}))


def withheld_from(id_: str, connections: Mapping[str, Connection], kind: DocumentKind) -> str:
    """Tell why a connection gets no documents of this kind, whatever the flows say; empty if it gets them."""
    connection = connections.get(id_)
    if connection is None:
        return "it is not configured"
    if not connection.active:
        return "it is inactive: active is false"
    if kind is not DocumentKind.UPLINK and connection.configuration.send_metadata:
        return f"it has sendMetadata, which takes uplinks alone, and this is a {kind}"
    return ""


def listed(names: Sequence[str], last: str = "and", most: int = MOST_NAMED) -> str:
    """Write `a, b and c`; beyond the most, how many more there are."""
    shown = [f"{name}" for name in names[:most]]
    if more := len(names) - len(shown):
        shown.append(f"{more} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} {last} {shown[-1]}" if shown else ""


def _leading(
    id_: str, why: str, wanted: Iterable[str], connections: Mapping[str, Connection], kind: DocumentKind
) -> Reason:
    """Tell where a flow that matched leads."""
    gets: list[str] = []
    withheld: list[Withheld] = []
    for name in dict.fromkeys(map("".join, wanted)):
        problem = withheld_from(name, connections, kind)
        if problem:
            withheld.append(Withheld(name, problem))
        else:
            gets.append(name)
    return Reason(id_, matched=True, why=why, connections=tuple(gets), withheld=tuple(withheld))


def _reason(id_: str, flow: Flow, connections: Mapping[str, Connection], uplink: Uplink) -> Reason:
    if not flow.matchers:
        return _leading(id_, "it has no matchers, so every uplink matches", flow.connections, connections, uplink.kind)
    for matcher in flow.matchers:
        if why := _match(matcher, uplink):
            return _leading(id_, why, flow.connections, connections, uplink.kind)
    keys = [matcher for matcher in flow.matchers if isinstance(matcher, KeyMatcher)]
    things = [matcher for matcher in flow.matchers if not isinstance(matcher, KeyMatcher)]
    lacking = sorted(((_missing(matcher, uplink), matcher) for matcher in things), key=lambda pair: len(pair[0]))
    parts: list[str] = []
    if lacking:
        parts.append(f"its tags are {listed(sorted(uplink.tags))}" if uplink.tags else "the device has no tags")
        parts.append(_wanted(lacking))
    if keys:
        parts.append(_others(keys))
    near = max((len(matcher.tags) - len(missing) for missing, matcher in lacking), default=0)
    return Reason(id_, matched=False, why="; ".join(parts), near=near)


def _match(matcher: Matcher, uplink: Uplink) -> str:
    """Tell by what it matches; empty if it does not."""
    if isinstance(matcher, KeyMatcher):
        return f"the key {matcher.key} is this device" if key_dev_eui(matcher.key) == uplink.dev_eui else ""
    if _missing(matcher, uplink):
        return ""
    return f"the device has the tag{'s' * (len(matcher.tags) > 1)} {listed(matcher.tags)}"


def _missing(matcher: ThingMatcher, uplink: Uplink) -> list[str]:
    """Give the tags that it wants and the device has not."""
    # Of a secret, casefold gives the text itself: this is for comparing, what is shown is the tag.
    return [tag for tag in matcher.tags if tag.casefold() not in uplink.tags]


def _wanted(lacking: Sequence[tuple[list[str], ThingMatcher]]) -> str:
    """Tell which tags would have matched, and which of them are missing: the nearest first."""
    wishes = []
    for missing, matcher in lacking[:MOST_WANTED]:
        wish = listed(matcher.tags)
        if len(matcher.tags) == 1:
            wishes.append(wish)
        elif len(missing) == len(matcher.tags):
            wishes.append(f"{wish} (it has none of them)")
        else:
            wishes.append(f"{wish} ({listed(missing)} {'is' if len(missing) == 1 else 'are'} missing)")
    more = len(lacking) - len(wishes)
    return f"the flow wants {', or '.join(wishes)}" + (f", or what {more} more matchers want" if more else "")


def _others(keys: Sequence[KeyMatcher]) -> str:
    """Tell that no key is this device."""
    if len(keys) > 1:
        return f"none of its {len(keys)} keys is this device"
    if key_dev_eui(keys[0].key):
        return f"the key {keys[0].key} is another device"
    return f"the key {keys[0].key} names no device: write {KEY_PREFIX}<DevEUI>"
