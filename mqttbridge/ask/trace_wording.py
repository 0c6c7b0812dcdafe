"""What `mqttbridge trace` prints, line by line, from the passport of a device. Pure.

The newest uplink comes first; each is a timeline, with the time (of the zone that is handed in) on the left. A line
has 80 columns at most, but for a word that is longer, such as a topic: that stands on a line of its own, whole, so
that it can be copied.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from mqttbridge.ask.wording import WIDTH, Line, span
from mqttbridge.ask.words import clean
from mqttbridge.routing.explain import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime, tzinfo
    from typing import Literal

    from mqttbridge.control.passport import Delivery, DownlinkPassage, Passport, UplinkPassage
    from mqttbridge.routing.explain import Reason

    Style = Literal["bad", "head", "plain"]

__all__ = ["report"]

INDENT = 16
"""Columns: two, a time, two."""
MOST_CONNECTIONS = 20
"""Of one uplink, with a line each."""
MOST_NAMED = 20
SKEW = 60.0
"""Seconds: a document whose own Time is further from when it came is told so."""
ENDED = {
    "queued": "the network server took it",
    "rejected": "rejected",
    "expired": "expired",
    "failed": "failed",
}


def report(passport: Passport, zone: tzinfo | None = None) -> list[Line]:
    """Give the whole page; `zone`: None is that of this machine."""
    return list(_Page(passport, zone).lines())


def _words(*parts: str | tuple[str]) -> list[str]:
    """Break into words; what stands in a tuple is one word, whatever is in it."""
    words: list[str] = []
    for part in parts:
        if isinstance(part, tuple):
            words.append(clean(part[0]))
        else:
            words += clean(part).split()
    return words


def _filled(left: str, words: Iterable[str], style: Style = "plain") -> Iterator[Line]:
    """Fill lines with words behind what stands on the left; a word that is too long stands alone, whole."""
    line, has = f"  {left}".ljust(INDENT), False
    for word in words:
        if has and len(line) + 1 + len(word) > WIDTH:
            yield Line(line, style)
            line, has = " " * INDENT, False
        if not has and INDENT + len(word) > WIDTH:
            if line.strip():
                yield Line(line.rstrip(), style)
            yield Line(f"  {word}", style)
            line, has = " " * INDENT, False
            continue
        line, has = f"{line} {word}" if has else f"{line}{word}", True
    if line.strip():
        yield Line(line.rstrip(), style)


class _Page:
    """One page. It remembers which day it has written last."""

    def __init__(self, passport: Passport, zone: tzinfo | None) -> None:
        self._passport = passport
        self._zone = zone
        self._day = ""
        self._said: object = None

    def lines(self) -> Iterator[Line]:
        """Give the lines."""
        passport = self._passport
        if passport.problem:
            yield from _filled("", _words(f"something may be missing here: {passport.problem}"), "bad")
            yield Line("")
        if not passport.uplinks and not passport.downlinks:
            yield from self._nothing()
            return
        if not passport.uplinks:
            yield from self._no_uplinks()
        for place, uplink in enumerate(passport.uplinks):
            if place:
                yield Line("")
            yield from self._uplink(uplink)
        if passport.left_out:
            many = f"{passport.left_out} older uplinks are left out, since these went to so many connections"
            yield Line("")
            yield from _filled("", _words(many))
        for place, downlink in enumerate(passport.downlinks):
            if place or passport.uplinks:
                yield Line("")
            yield from self._downlink(downlink)

    # -- times

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone)

    def _timed(self, moment: datetime, words: Iterable[str], style: Style = "plain") -> Iterator[Line]:
        """Write what happened at a moment, below its day if that is another one than was written last."""
        local = self._local(moment)
        if (day := f"{local:%A %Y-%m-%d}") != self._day:
            self._day = day
            yield Line(f"  {day}")
        yield from _filled(f"{local:%H:%M:%S}.{local.microsecond // 1000:03}", words, style)

    def _at(self, moment: datetime) -> str:
        """Write a moment in a sentence, with its day if that is not today."""
        local = self._local(moment)
        today = local.date() == self._local(self._passport.now).date()
        return f"{local:%H:%M:%S}" if today else f"{local:%Y-%m-%d %H:%M:%S}"

    def _ago(self, moment: datetime) -> str:
        return span((self._passport.now - moment).total_seconds())

    # -- uplinks

    def _uplink(self, uplink: UplinkPassage) -> Iterator[Line]:
        yield Line(f"{self._passport.device}  {_title(uplink)}", "head")
        # What is queued again is as old as that: its validity counts anew. Its origin says when it came.
        came = uplink.time if _again(uplink) else uplink.received
        self._day = f"{self._local(came):%A %Y-%m-%d}"
        yield Line(f"  {self._day}, {self._ago(came)} ago")
        origin = f": {uplink.origin}" if uplink.origin else ""
        by = f"queued again{origin}" if _again(uplink) else f"received by {_source(uplink)}{origin}"
        yield from self._timed(came, _words(by))
        if uplink.payload_hex:
            more = ("…",) if uplink.payload_cut else ("",)
            yield from _filled("", _words("payload", (uplink.payload_hex + more[0],)))
        early = (came - uplink.time).total_seconds()
        if abs(early) >= SKEW:
            skew = f"{span(abs(early))} {'earlier' if early > 0 else 'later'}"
            yield from _filled("", _words(f"its own Time is {self._at(uplink.time)}, {skew}"))
        yield from self._routed(uplink)
        yield from self._deliveries(uplink)

    def _routed(self, uplink: UplinkPassage) -> Iterator[Line]:
        if uplink.stored:
            told = "stored" if _again(uplink) else f"stored before {uplink.source} got its answer"
            yield from _filled("", _words(f"{told}; routed to {_named(uplink.routed)}"))
        else:
            yield from _filled("", _words("not stored: no connection gets it"), "bad")
        if uplink.unread:
            yield from _filled("", _words(f"which flows match is not known: {uplink.unread}"))
        if uplink.now_differs and uplink.now is not None:
            where = f"to {_named(uplink.now)}" if uplink.now else "to no connection"
            yield from _filled("", _words(f"the flows have changed since: now it would go {where}"), "bad")
        if uplink.now is None:
            return
        said = (uplink.flows, uplink.flows_not_shown)
        if said == self._said:
            yield from _filled("", ["flows:", "as", "above"])
            return
        self._said = said
        for reason in uplink.flows:
            yield from _flow(reason)
        if uplink.flows_not_shown:
            yield from _filled("", _words(f"and {uplink.flows_not_shown:,} more flows did not match"))

    def _deliveries(self, uplink: UplinkPassage) -> Iterator[Line]:
        """Tell how it went for each connection: in the order of time, what is not yet over at the end."""
        shown = sorted(uplink.connections, key=lambda one: one.outcome == "delivered")[:MOST_CONNECTIONS]
        timed = [entry for one in shown for entry in self._entries(one)]
        for moment, words, style in sorted(timed, key=lambda entry: entry[0]):
            yield from self._timed(moment, words, style)
        for one in shown:
            if one.outcome in {"queued", "unknown"} or not (one.sent or one.ended):
                yield from self._untimed(one)
        if more := len(uplink.connections) - len(shown):
            left = [one for one in uplink.connections if one not in shown]
            fine = all(one.outcome == "delivered" for one in left)
            what = "all of them delivered" if fine else "some of them not delivered"
            yield from _filled("", _words(f"and {more:,} more connections, {what}: --json has each of them"))

    def _entries(self, one: Delivery) -> Iterator[tuple[datetime, list[str], Style]]:
        """Give the moments of one connection."""
        if one.outcome in {"queued", "unknown"}:
            return
        if one.sent is not None:
            on = _words("published on", (one.topic,)) if one.topic else ["published"]
            yield one.sent, [*_words(f"{one.connection}:"), *on], "plain"
        if one.ended is not None:
            yield one.ended, _end(one), "plain" if one.outcome == "delivered" else "bad"

    def _untimed(self, one: Delivery) -> Iterator[Line]:
        """Tell of a connection for which there is no moment: it waits, or nobody knows."""
        if one.outcome == "unknown":
            yield from _filled("unknown", _words(f"{one.connection}: {one.reason}"), "bad")
        elif one.outcome != "queued":
            yield from _filled(one.outcome, _end(one), "plain" if one.outcome == "delivered" else "bad")
        elif one.state == "OPENED":
            text = f"{one.connection}: the connection is OPENED; it is sent in its turn, or its acknowledgement awaited"
            yield from _filled("queued", _words(text))
        else:
            yield from _filled("queued", _words(f"{one.connection}: {self._waits(one)}"), "bad")

    def _waits(self, one: Delivery) -> str:
        """Say why a connection is not open, and when it tries again."""
        since = "" if one.down_since is None else f" since {self._at(one.down_since)}"
        why = f": {one.why}" if one.why else ""
        if one.retry_at is not None:
            wait = (one.retry_at - self._passport.now).total_seconds()
            again = f"; tries again in {span(wait)}" if wait > 0 else "; tries again now"
        else:
            again = "; does not try again by itself" if one.state == "CLOSED" else ""
        return f"{one.state}{since}{why}{again}"

    # -- downlinks

    def _downlink(self, one: DownlinkPassage) -> Iterator[Line]:
        of = f"downlink {one.correlation_id or one.key} from {one.connection or 'an unknown connection'}"
        yield Line(clean(f"{self._passport.device}  {of}"), "head")
        self._day = ""
        if one.received is not None:
            first = f"{one.connection}: taken, for source {one.source}"
            yield from self._timed(one.received, _words(first))
        if one.fport is not None:
            how = ", confirmed" if one.confirmed else ""
            payload = (
                _words("payload", (one.payload_hex + ("…" if one.payload_cut else ""),)) if one.payload_hex else []
            )
            yield from _filled("", [*_words(f"FPort {one.fport}{how}{',' if payload else ''}"), *payload])
        if one.ended is not None:
            to = f" (source {one.source})" if one.source else ""
            why = f": {one.reason}" if one.reason else ""
            style: Style = "plain" if one.outcome == "queued" else "bad"
            yield from self._timed(one.ended, _words(f"{ENDED[one.outcome]}{to}{why}"), style)
            return
        why = f": {one.reason}" if one.reason else ""
        yield from _filled("pending", _words(f"waits for the network server of {one.source}{why}"), "bad")
        if one.expires is not None:
            yield from _filled("", _words(f"valid until {self._at(one.expires)}"))

    # -- nothing

    def _no_uplinks(self) -> Iterator[Line]:
        yield Line(f"{self._passport.device}  no uplinks", "head")
        yield from _item(self._remembered())
        yield Line("")

    def _remembered(self) -> str:
        seconds = self._passport.remembered_seconds
        if not seconds:
            return "journal.retention is 0, so no uplinks are remembered: set it, such as 24h, for those that come"
        return f"uplinks are remembered for {span(seconds)} (journal.retention), fewer if there are very many"

    def _nothing(self) -> Iterator[Line]:
        """Say that nothing is known, and what to check."""
        device, source = self._passport.device, self._passport.last_source
        yield Line(f"nothing is known of {device}", "bad")
        if source is not None:
            yield from _item(f"its last uplink came from source {source}, and is not remembered any more")
        else:
            yield from _item("no uplink of it is known to have come here: check the DevEUI, digit by digit")
        yield from _item(self._remembered())
        yield from _item("if a source refused its uplinks, the events tell why:")
        yield Line(f"    mqttbridge events --name uplink.rejected --device {device}")
        yield from _item("else look in the network server whether it sends this device's uplinks here at all")


def _item(text: str) -> Iterator[Line]:
    """Write one thing of several."""
    for line in textwrap.wrap(
        clean(text),
        WIDTH,
        initial_indent="  - ",
        subsequent_indent="    ",
        break_long_words=False,
        break_on_hyphens=False,
    ):
        yield Line(line)


def _title(uplink: UplinkPassage) -> str:
    """Name an uplink: `uplink FCntUp 1174, FPort 1, 14 bytes`."""
    is_uplink = uplink.kind == "DevEUI_uplink"
    counter = "FCntUp" if is_uplink else "FCntDn"
    facts = [
        f"{counter} {uplink.fcnt}" if uplink.fcnt is not None else "",
        f"FPort {uplink.fport}" if uplink.fport is not None else "",
        f"{uplink.size:,} byte{'' if uplink.size == 1 else 's'}" if uplink.size is not None else "",
    ]
    name = "uplink" if is_uplink else uplink.kind
    again = f" ({_again(uplink)})" if _again(uplink) else ""
    return f"{name} {', '.join(filter(None, facts))}".rstrip() + again


def _again(uplink: UplinkPassage) -> str:
    """Tell whether an operator had it queued again: `replay`, `retry`, or nothing."""
    return "replay" if uplink.replayed else "retry" if uplink.origin.startswith("retry of ") else ""


def _source(uplink: UplinkPassage) -> str:
    if uplink.transport is None:
        return f"{uplink.source} (not configured any more)"
    return f"{uplink.source} ({uplink.transport}, {uplink.format})"


def _named(ids: tuple[str, ...]) -> str:
    return listed(ids, most=MOST_NAMED)


def _flow(reason: Reason) -> Iterator[Line]:
    """Tell of one flow."""
    if not reason.flow:
        yield from _filled("", _words(reason.why))
    else:
        verb = "matched" if reason.matched else "did not match"
        yield from _filled("", _words(f"flow {reason.flow} {verb}: {reason.why}"))
    for one in reason.withheld[:MOST_NAMED]:
        yield from _filled("", _words(f"but {one.connection} does not get it: {one.why}"))
    if (more := len(reason.withheld) - MOST_NAMED) > 0:
        yield from _filled("", _words(f"and {more:,} more connections do not get it: --json has each of them"))


def _end(one: Delivery) -> list[str]:
    """Say how an uplink ended for a connection."""
    why = f": {one.reason}" if one.reason else ""
    if one.outcome == "delivered":
        took = (
            "" if one.milliseconds is None else f" ({one.milliseconds:,} ms)" if one.milliseconds else " (under 1 ms)"
        )
        on = [] if one.sent is not None or not one.topic else _words("- published on", (one.topic,))
        by = "handed over (QoS 0: no broker acknowledges that)" if one.qos == 0 else "acknowledged by the broker"
        return [*_words(f"{one.connection}: {by}{took}"), *on]
    words = _words(f"{one.connection}: {one.outcome}{why}")
    if one.topic and one.sent is None:
        words += _words("- its topic is", (one.topic,))
    if one.outcome == "parked":
        words += _words("- see", (f"mqttbridge parked list --connection {one.connection}",))
    return words
