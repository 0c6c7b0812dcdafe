"""What /metrics shows with everything in it, and what a PromQL expression speaks of."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from mqttbridge.journal.protocol import JournalHealth
from mqttbridge.model import Counts, DownlinkOutcome
from mqttbridge.observe.families import OUTCOMES
from mqttbridge.observe.metrics import REJECTIONS, STATES, Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TARGET = frozenset({"job", "instance"})
"""Labels that Prometheus itself adds."""
FUNCTIONS = {
    "abs", "absent", "changes", "count", "deriv", "increase", "max", "min", "min_over_time", "predict_linear", "rate",
    "sort", "sum", "time", "topk", "vector",
}  # fmt: skip
"""Functions and aggregations of PromQL that are used here. Prometheus knows more."""
WORDS = {"and", "by", "on", "or", "unless", "bool"}
TOKEN = re.compile(
    r"""(?P<space>\s+) | (?P<string>"(?:[^"\\]|\\.)*") | (?P<range>\[(?:\d+[smhd]|\$__\w+)\])
    | (?P<number>\d+(?:\.\d+)?) | (?P<name>[A-Za-z_:][A-Za-z0-9_:]*) | (?P<sign>==|!=|<=|>=|=~|!~|[-+*/<>=(){},])""",
    re.VERBOSE,
)
PAIRS = {")": "(", "}": "{"}


class Shown(msgspec.Struct):
    """One metric as it is on the page."""

    type: str
    text: str
    labels: frozenset[str]
    values: Mapping[str, frozenset[str]]
    """What the labels of a fixed set may be."""


def page() -> dict[str, Shown]:
    """Render a page on which every metric has a sample; give what is on it, by the names that PromQL takes."""
    health = JournalHealth("", 4096, 2**30)
    metrics = Metrics(
        lambda: {"acme": Counts(9, 3, 1, 1, 1)}, lambda: {"acme": "OPENED"}, lambda: health, lambda: {"acme": 1}
    )
    metrics.announce("lrc")
    metrics.downlinks.announce("acme")
    metrics.certificates = lambda: {"connection acme": 1.8e9}
    metrics.parked_kept = lambda: {"acme": 1}
    metrics.history_lost = lambda: 1
    metrics.reloaded(ok=True, at=1_700_000_000_000)
    found: dict[str, Shown] = {}
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        assert family.samples, f"{family.name} has no sample here"
        names = {sample.name for sample in family.samples}
        assert len(names) == 1, names
        labels = frozenset().union(*(sample.labels for sample in family.samples))
        values = {name: {sample.labels.get(name, "") for sample in family.samples} for name in labels}
        fixed = {name: frozenset(values[name]) for name in labels & {"outcome", "state", "reason"}}
        found[names.pop()] = Shown(family.type, family.documentation, labels, fixed)
    assert found["mqttbridge_connection_uplinks_total"].values["outcome"] == set(OUTCOMES)
    assert found["mqttbridge_connection_downlinks_total"].values["outcome"] == set(DownlinkOutcome)
    assert found["mqttbridge_connection_state"].values["state"] == set(STATES)
    assert found["mqttbridge_source_uplinks_rejected_total"].values["reason"] == set(REJECTIONS)
    return found


class Token(NamedTuple):
    """A piece of an expression."""

    kind: str
    text: str


def tokens(expression: str) -> list[Token]:
    """Take an expression apart. Raises `ValueError` for what is not PromQL as it is used here."""
    found: list[Token] = []
    at = 0
    while at < len(expression):
        match = TOKEN.match(expression, at)
        if match is None or match.lastgroup is None:
            raise ValueError(f"cannot be read at {expression[at : at + 20]!r}")
        if match.lastgroup != "space":
            found.append(Token(match.lastgroup, match[0]))
        at = match.end()
    return found


def check_balance(pieces: list[Token]) -> None:
    """Raise `ValueError` if brackets do not match."""
    open_: list[str] = []
    for piece in pieces:
        if piece.kind == "sign" and piece.text in PAIRS.values():
            open_.append(piece.text)
        elif piece.kind == "sign" and piece.text in PAIRS and (not open_ or open_.pop() != PAIRS[piece.text]):
            raise ValueError(f"{piece.text} closes nothing")
    if open_:
        raise ValueError(f"{open_[-1]} is not closed")


def mistakes(expression: str, known: Mapping[str, Shown]) -> Iterator[str]:
    """Say what is wrong with an expression: syntax as far as it can be told, metrics, labels, their values."""
    try:
        pieces = tokens(expression)
        check_balance(pieces)
    except ValueError as error:
        yield str(error)
        return
    metrics = [piece.text for piece in pieces if piece.kind == "name" and piece.text in known]
    if not metrics and not any(piece.text == "up" for piece in pieces):
        yield "names no metric"
    yield from _wrong_names(pieces, TARGET.union(*(known[name].labels for name in metrics)), known)
    yield from _wrong_values(expression, known)


def _wrong_names(pieces: list[Token], allowed: frozenset[str], known: Mapping[str, Shown]) -> Iterator[str]:
    """Say which metrics, labels and functions there are none of. `allowed`: labels that may be grouped by."""
    metric, inside = "", ""
    for piece, after in zip(pieces, [*pieces[1:], Token("end", "")], strict=True):
        if piece.text in {"by", "on", "{"}:
            inside = piece.text
        elif piece.text in PAIRS:
            inside = ""
        elif piece.kind == "name" and inside == "{":
            if piece.text not in TARGET.union(known[metric].labels if metric in known else ()):
                yield f"{metric} has no label {piece.text}"
        elif piece.kind == "name" and inside:
            if piece.text not in allowed:
                yield f"no metric has the label {piece.text}"
        elif piece.kind == "name":
            metric = piece.text
            yield from _wrong_name(metric, known, function=after.text in {"(", "by"})


def _wrong_name(name: str, known: Mapping[str, Shown], *, function: bool) -> Iterator[str]:
    if function and name not in FUNCTIONS | WORDS:
        yield f"unknown function {name}"
    elif not function and name not in {"up", *known, *WORDS}:
        yield f"unknown metric {name}"


def _wrong_values(expression: str, known: Mapping[str, Shown]) -> Iterator[str]:
    """Say which values of fixed labels there are none of."""
    for name, selector in re.findall(r"(\w+)\s*\{([^}]*)\}", expression):
        for label, given in re.findall(r'(\w+)\s*(?:!=|=~|!~|=)\s*"([^"]*)"', selector):
            fixed = known[name].values.get(label) if name in known else None
            for value in given.split("|") if fixed else ():
                if value not in (fixed or ()):
                    yield f"{name} has no {label} {value!r}"
