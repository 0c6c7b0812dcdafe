"""What `mqttbridge plan` and `mqttbridge reload` print, line by line, from what the daemon answers. Pure.

What asks for attention comes first: links that end. No line is longer than 80 columns; what is foreign in it cannot
steer the terminal.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Literal

from mqttbridge.ask.wording import Line
from mqttbridge.ask.words import clean, many
from mqttbridge.settings.diff import Action

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mqttbridge.control.plan import Example, PlanReport, Topic
    from mqttbridge.settings.diff import PartChange, Property

__all__ = ["page"]

Style = Literal["bad", "head", "plain"]
WIDTH = 80
NAME_WIDTH = 22
SHOWN_DEVICES = 10
ARROW = "->"
PLANNED = {
    Action.START: "starts",
    Action.STOP: "stops",
    Action.RESTART: "restarts",
    Action.CHANGE: "changes in place",
}
DONE = {
    Action.START: "started",
    Action.STOP: "stopped",
    Action.RESTART: "restarted",
    Action.CHANGE: "changed in place",
}
ORDER = (Action.STOP, Action.RESTART, Action.START, Action.CHANGE)
KEPT = "what is queued for it is kept; what is not sent within 72 h of its Time is dropped"
WAITS = "what is queued for it waits, and expires by its uplinkTimeValidity"


def page(report: PlanReport) -> list[Line]:
    """Give the whole page."""
    lines = [*_head(report)]
    by_connection: dict[str, list[Example]] = {}
    for example in report.examples:
        by_connection.setdefault(example.connection, []).append(example)
    for action in ORDER:
        for one in report.connections:
            if one.action is action:
                lines += _part(one, by_connection.get(one.id, ()), applied=report.applied)
                lines += _waiting(report.waiting.get(one.id, 0))
    for one in (*report.sources, *report.flows):
        lines += _part(one, (), applied=report.applied)
    lines += _daemon(report)
    lines += _devices(report)
    for warning in report.warnings:
        lines += [Line(""), *_wrapped(f"warning: {warning}", style="bad")]
    return lines


def _head(report: PlanReport) -> Iterator[Line]:
    """Sum it up in a line."""
    if report.empty:
        yield Line("nothing changed: the daemon runs with the file as it stands")
        return
    words = DONE if report.applied else PLANNED
    counts = []
    for part, changes in _parts(report):
        for action in ORDER:
            if count := sum(one.action is action for one in changes):
                verb = words[action] if report.applied or count == 1 else _plural(words[action])
                counts.append(f"{many(count, part)} {verb}")
    if count := len(report.daemon):
        counts.append(f"{many(count, 'property', 'properties')} of the daemon")
    if count := len(report.needs_restart):
        counts.append(f"{many(count, 'property needs', 'properties need')} a restart of the daemon")
    lead = "the file is in force: " if report.applied else "a reload would do this: "
    yield from _wrapped(lead + ", ".join(counts), style="head")


def _parts(report: PlanReport) -> tuple[tuple[str, tuple[PartChange, ...]], ...]:
    return ("connection", report.connections), ("source", report.sources), ("flow", report.flows)


def _plural(verbs: str) -> str:
    """Say what several do: `changes in place` becomes `change in place`."""
    verb, _, rest = verbs.partition(" ")
    return f"{verb.removesuffix('s')} {rest}".rstrip()


# -- a part


def _part(one: PartChange, examples: Iterable[Example], *, applied: bool) -> Iterator[Line]:
    """Tell of one connection, source or flow."""
    yield Line("")
    verb = (DONE if applied else PLANNED)[one.action]
    why = f": {one.why}" if one.why else ""
    ends = one.action in {Action.STOP, Action.RESTART}
    yield from _wrapped(f"{one.part} {one.id}   {verb}{why}", style="bad" if ends else "head")
    if one.part == "connection" and one.action is Action.STOP:
        yield from _wrapped(WAITS if one.properties else KEPT, indent="  ")
    for each in one.properties:
        yield from _property(each)
        if each.name == "configuration.uplinkTopicPattern":
            for example in examples:
                yield from _pair(example.dev_eui, _topic(example.before), _topic(example.after), indent="    ")


def _waiting(number: int) -> Iterator[Line]:
    """Tell what waits for a connection that comes back."""
    if number:
        waits = "waits for it, and is sent unless it is" if number == 1 else "wait for it, and are sent unless they are"
        yield Line(f"  {many(number, 'uplink')} {waits} too old by then")


def _property(one: Property) -> Iterator[Line]:
    yield from _pair(one.name.removeprefix("configuration."), one.old, one.new)


def _topic(topic: Topic) -> str:
    return f"parked: {topic.parked}" if topic.parked else topic.topic


def _pair(name: str, old: str, new: str, indent: str = "  ") -> Iterator[Line]:
    """Write `name  old -> new` in a line, or in several if it does not fit."""
    old, new = clean(old), clean(new)
    width = NAME_WIDTH + 2 - len(indent)
    whole = f"{indent}{clean(name):<{width}} {old} {ARROW} {new}"
    if len(whole) <= WIDTH:
        yield Line(whole)
        return
    yield Line(f"{indent}{clean(name)}")
    yield from _wrapped(old, indent=f"{indent}   ")
    yield from _wrapped(f"{ARROW} {new}", indent=indent, hanging=f"{indent}   ")


# -- the rest


def _daemon(report: PlanReport) -> Iterator[Line]:
    if report.daemon:
        yield from (Line(""), Line(f"the daemon   {(DONE if report.applied else PLANNED)[Action.CHANGE]}", "head"))
        for one in report.daemon:
            yield from _property(one)
    if report.needs_restart:
        yield Line("")
        yield Line("the daemon   goes on as it was until it is restarted:", "bad")
        for one in report.needs_restart:
            yield from _property(one)


def _devices(report: PlanReport) -> Iterator[Line]:
    """Tell which devices have their uplinks go elsewhere."""
    total = report.devices_rerouted
    if not total:
        return
    yield Line("")
    does = ("goes", "go") if not report.applied else ("goes from now on", "go from now on")
    text = f"{total:,} of {many(report.devices_known, 'known device')} {does[total != 1]} to other connections"
    yield from _wrapped(text, style="head")
    shown = report.devices[:SHOWN_DEVICES]
    for one in shown:
        yield from _pair(one.dev_eui, ", ".join(one.before) or "none", ", ".join(one.after) or "none")
    if total > len(shown):
        more = "; --json names more" if len(report.devices) > len(shown) else ""
        yield Line(f"  and {total - len(shown):,} more{more}")


def _wrapped(text: str, *, indent: str = "", hanging: str | None = None, style: Style = "plain") -> Iterator[Line]:
    """Break a text into lines; what is longer than a line is cut into pieces."""
    rest = indent + "  " if hanging is None else hanging
    lines = textwrap.wrap(
        clean(text),
        WIDTH,
        initial_indent=indent,
        subsequent_indent=rest,
        break_on_hyphens=False,
        drop_whitespace=True,
    )
    for line in lines:
        yield Line(line, style)
