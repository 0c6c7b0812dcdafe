"""What `mqttbridge status` prints, line by line, from what the daemon answers. Pure.

What needs attention comes first, in sentences; then a table of the rest. No line is longer than 80 columns, and nothing
depends on colour: `style` is for a terminal that has it.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

import msgspec

from mqttbridge.ask.words import clean, many

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mqttbridge.control.status import ConnectionStatus, DownlinksStatus, SourceStatus, Status

__all__ = ["Line", "report", "size", "span"]

WIDTH = 80
ID_WIDTH = 22
NEARLY_FULL = 0.9
SHOWN = 5
"""Connections that are named above the tables, of a kind."""
UNITS = ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"))
SIZES = ((1024**4, "TiB"), (1024**3, "GiB"), (1024**2, "MiB"), (1024, "KiB"))


class Line(msgspec.Struct, frozen=True):
    """A line. `style`: `bad` needs attention, `head` stands above others, `plain` is the rest."""

    text: str
    style: Literal["bad", "head", "plain"] = "plain"


def report(status: Status) -> list[Line]:
    """Give the whole page."""
    bad = [one for one in status.connections if not one.ok]
    # Those that hold most come first.
    bad.sort(key=lambda one: (-one.queued, one.id))
    lines = [*_head(status, len(bad)), *_removed(status), *_parking(status)]
    for one in bad:
        lines += _connection(one, status.now)
    for source in status.sources:
        if not source.ok:
            lines += _source(source, status.now)
    lines += _connections([one for one in status.connections if one.ok], status.now)
    lines += _sources(status.sources, status.now)
    return lines


# -- numbers


def span(seconds: float) -> str:
    """Write a time span in at most six characters: `45s`, `12m04s`, `3h07m`, `2d03h`, `400d`."""
    whole = max(round(seconds), 0)
    for size_, unit, part_size, part in UNITS:
        if whole >= size_:
            times = whole // size_
            return f"{times}{unit}" if times > 99 else f"{times}{unit}{whole % size_ // part_size:02}{part}"  # noqa: PLR2004
    return f"{whole}s"


def size(count: int) -> str:
    """Write bytes."""
    for unit, name in SIZES:
        if count >= unit:
            return f"{count / unit:.3g} {name}" if count < 1000 * unit else f"{count // unit} {name}"
    return f"{count} B"


def _rate(value: float | None) -> str:
    """Write uplinks a second in at most six characters."""
    if value is None:
        return "?"
    if value >= 100_000:  # noqa: PLR2004 (more does not fit)
        return f"{value:.0e}"
    if value >= 10:  # noqa: PLR2004 (digits that nobody reads)
        return f"{value:.0f}"
    return "<0.01" if 0 < value < 0.01 else f"{value:.2g}"  # noqa: PLR2004 (likewise)


def _count(count: int) -> str:
    """Write a number in at most ten characters."""
    return f"{count:,}" if count < 100_000_000 else f"{count / 1e6:,.0f}M"  # noqa: PLR2004 (more does not fit)


def _ago(then: datetime | None, now: datetime, none: str = "-") -> str:
    return none if then is None else span((now - then).total_seconds())


def _short(name: str, width: int) -> str:
    """Cut the middle out of what is too long: ids often differ at their ends."""
    if len(name) <= width:
        return name
    front = (width - 2) // 2
    return f"{name[:front]}..{name[front + 2 - width :]}"


def _wrapped(text: str, indent: str) -> Iterator[Line]:
    """Break a sentence into lines; what is foreign in it must not steer the terminal."""
    for line in textwrap.wrap(clean(text), WIDTH, initial_indent=indent, subsequent_indent=indent):
        yield Line(line)


# -- what needs attention


def _head(status: Status, bad: int) -> Iterator[Line]:
    bad_sources = sum(not one.ok for one in status.sources)
    up = _ago(status.started, status.now)
    yield Line(f"mqttbridge {status.version}, pid {status.pid}, up {up}", "head")
    for reason in status.reasons:
        yield Line("uplinks are not accepted:", "bad")
        yield from _wrapped(reason, "  ")
    for sentence in status.attention:
        yield from (Line(line.text, "bad") for line in _wrapped(sentence, ""))
    active = sum(one.since is not None for one in status.connections)
    found = [
        f"{bad} of {many(active, 'active connection')}" if bad else "",
        f"{bad_sources} of {many(len(status.sources), 'source')}" if bad_sources else "",
    ]
    if any(found):
        yield Line(" and ".join(filter(None, found)) + f" need{'s' if bad + bad_sources == 1 else ''} attention", "bad")
    elif not (status.reasons or status.attention):
        yield Line(f"all is well: {many(active, 'active connection')}, {many(len(status.sources), 'source')}")
    journal = status.journal
    share = f"{size(journal.size)} of {size(journal.max_size)} ({100 * journal.size // max(journal.max_size, 1)}%)"
    full = journal.size >= NEARLY_FULL * journal.max_size
    yield Line(f"journal: {share}, {many(journal.queued, 'uplink')} queued", "bad" if full else "plain")
    if parked := sum(one.parked for one in status.connections):
        yield Line(f"{many(parked, 'parked uplink')} kept: see mqttbridge parked list")


def _removed(status: Status) -> Iterator[Line]:
    """Tell of queues that nobody will get: there is still time to bring their connections back."""
    found = [one for one in status.connections if one.state == "REMOVED" and one.queued]
    found.sort(key=lambda one: (one.expires or status.now, one.id))
    for one in found[:SHOWN]:
        first = "" if one.expires is None else f", the first {_when(one.expires, status.now)}"
        queued = f"{many(one.queued, 'uplink')} queued, to be dropped{first}"
        yield from _wrapped(f"removed connection {one.id}: {queued}", "")
    if len(found) > SHOWN:
        yield Line(f"and {many(len(found) - SHOWN, 'more removed connection')} with a queue")


def _parking(status: Status) -> Iterator[Line]:
    """Tell of what no broker takes as it is, while that goes on."""
    rates = [(one.rates.parked * 60, one.id) for one in status.connections if one.rates is not None]
    found = sorted((one for one in rates if one[0]), key=lambda one: (-one[0], one[1]))
    for number, name in found[:SHOWN]:
        whole = max(round(number), 1)
        about = f"about {many(whole, 'uplink')} {'was' if whole == 1 else 'were'}"
        yield from _wrapped(f"connection {name}: {about} parked in the last minute", "")
    if len(found) > SHOWN:
        yield Line(f"and {many(len(found) - SHOWN, 'more connection')} of which uplinks were parked")


def _connection(one: ConnectionStatus, now: datetime) -> Iterator[Line]:
    """Tell of a connection that needs attention."""
    yield Line("")
    yield from _title(f"connection {one.id}: {one.state}")
    if one.down_since is not None:
        tries = f", {many(one.attempts, 'attempt')} failed" if one.attempts else ""
        yield from _wrapped(f"not open for {_ago(one.down_since, now)}{tries}", "  ")
    if one.why:
        yield from _wrapped(one.why, "  ")
    yield from _again(one.retry_at, now)
    if one.low_rate:
        yield from _wrapped(one.low_rate, "  ")
    if one.state == "CLOSED" and one.retry_at is None:
        yield from _wrapped("does not try again by itself: its reconnectStrategy has come to its end", "  ")
    yield from _queue(one, now)
    if one.downlinks is not None and (one.downlinks.why or one.downlinks.waiting):
        yield from _downlinks(one.downlinks)


def _again(retry_at: datetime | None, now: datetime) -> Iterator[Line]:
    if retry_at is not None and retry_at > now:
        yield Line(f"  tries again in {span((retry_at - now).total_seconds())}")


def _title(text: str) -> Iterator[Line]:
    """Give a heading, also for an id that hardly fits a line."""
    for line in textwrap.wrap(text, WIDTH, break_on_hyphens=False):
        yield Line(line, "bad")


def _queue(one: ConnectionStatus, now: datetime) -> Iterator[Line]:
    """Tell what waits, how fast it moves, and what will expire."""
    rates = one.rates
    moves = "" if rates is None else f"; {_rate(rates.routed)}/s come, {_rate(rates.delivered)}/s are delivered"
    oldest = f", the oldest for {_ago(one.oldest, now)}" if one.oldest is not None else ""
    yield from _wrapped(f"{many(one.queued, 'uplink')} queued{oldest}{moves}", "  ")
    yield from _lost(one)
    if not one.queued:
        return
    if one.drain_seconds is not None:
        yield from _wrapped(f"the queue is empty in {span(one.drain_seconds)} at this rate", "  ")
    elif one.down_since is None and one.expiring is not None:
        yield from _wrapped("the queue does not become shorter: the broker takes no more than comes", "  ")
    if one.expiring:
        first = f", the first {_when(one.expires, now)}" if one.expires is not None else ""
        what = "before they are delivered" if one.down_since is None or one.retry_at is None else "before the next try"
        yield from _wrapped(f"about {one.expiring:,} of them will expire {what}{first}", "  ")
    elif one.expires is not None:
        yield from _wrapped(f"the first of them expires {_when(one.expires, now)}", "  ")


def _lost(one: ConnectionStatus) -> Iterator[Line]:
    """Tell what left the queue otherwise than to the broker."""
    if one.rates is None:
        return
    ways = (("expire", one.rates.expired), ("are parked", one.rates.parked), ("are dropped", one.rates.dropped))
    found = [f"{_rate(rate)}/s {way}" for way, rate in ways if rate]
    if found:
        yield Line(f"  and {', '.join(found)}")


def _when(then: datetime, now: datetime) -> str:
    return f"in {span((then - now).total_seconds())}" if then > now else "now"


def _downlinks(downlinks: DownlinksStatus) -> Iterator[Line]:
    why = f": {downlinks.why}" if downlinks.why else ""
    yield from _wrapped(f"{many(downlinks.waiting, 'downlink')} waiting{why}", "  ")


def _source(one: SourceStatus, now: datetime) -> Iterator[Line]:
    """Tell of a source that needs attention."""
    yield Line("")
    yield from _title(f"source {one.id}: {'its downlinks are held up' if one.open else 'not open'}")
    if not one.open:
        yield from _wrapped(f"not open for {_ago(one.since, now)}", "  ")
        yield from _wrapped(one.why, "  ")
        yield from _again(one.retry_at, now)
    if one.downlinks.why or one.downlinks.waiting:
        yield from _downlinks(one.downlinks)


# -- the tables


def _row(*cells: str) -> str:
    """Put cells side by side; the first two stand left, the others right."""
    name, state, *numbers = cells
    widths = (6, 10, 6, 6, 6, 6)
    right = " ".join(cell.rjust(width) for cell, width in zip(numbers, widths, strict=True))
    return f"{_short(name, ID_WIDTH):<{ID_WIDTH}} {state[:11]:<11} {right}"


def _connections(connections: list[ConnectionStatus], now: datetime) -> Iterator[Line]:
    """Give a line for each connection that is well, or of which nothing is expected."""
    if not connections:
        return
    yield Line("")
    yield Line(_row("connection", "state", "for", "queued", "oldest", "in/s", "out/s", "empty"), "head")
    for one in connections:
        rates = one.rates
        yield Line(
            _row(
                one.id,
                one.state,
                _ago(one.since, now),
                _count(one.queued),
                _ago(one.oldest, now),
                _rate(rates.routed if rates is not None else None),
                _rate(rates.delivered if rates is not None else None),
                span(one.drain_seconds) if one.queued and one.drain_seconds is not None else "-",
            )
        )
        yield from _lost(one)
        if one.downlinks is not None and one.downlinks.waiting:
            yield from _downlinks(one.downlinks)
        if one.expiring and one.expires is not None:
            yield from _wrapped(f"{one.expiring:,} will expire, the first {_when(one.expires, now)}", "  ")


def _sources(sources: tuple[SourceStatus, ...], now: datetime) -> Iterator[Line]:
    if not sources:
        return
    yield Line("")
    head = ("source", "by", "state", "uplinks/s", "refused/s", "last uplink")
    form = "{:<22} {:<5} {:<9} {:>9} {:>9} {:>20}"
    yield Line(form.format(*head), "head")
    for one in sources:
        last = "none since the start" if one.last_uplink is None else f"{_ago(one.last_uplink, now)} ago"
        state = "open" if one.open else "not open"
        rates = (_rate(one.rate), _rate(one.rejected_rate))
        yield Line(form.format(_short(one.id, 22), one.transport, state, *rates, last))
        if one.ok and one.downlinks.waiting:
            yield from _downlinks(one.downlinks)
