"""A diagnosis as text of at most 80 columns, or as JSON. Pure.

Both go through a function that masks secrets: nothing is to be shown that was read from a secret place.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.doctor.findings import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mqttbridge.doctor.findings import Diagnosis, Finding

__all__ = ["as_json", "as_lines"]

WIDTH = 79
STEP, MARK, TIME = 15, 8, 9
INDENT = " " * 6
MARKS = {State.OK: "ok", State.WARNING: "warning", State.FAILED: "FAILED", State.SKIPPED: "-"}


def as_lines(diagnosis: Diagnosis, mask: Callable[[str], str]) -> list[str]:
    """Give the lines to print."""
    lines = _wrapped(
        f"{diagnosis.subject}: {diagnosis.address} ({diagnosis.protocol}, MQTT {diagnosis.mqtt_version}), "
        f"as client {diagnosis.client_id}",
        mask,
        "",
    )
    for finding in diagnosis.findings:
        lines += ["", *_step(finding, mask)]
    return [*lines, "", *_wrapped(_end(diagnosis), mask, "")]


def _step(finding: Finding, mask: Callable[[str], str]) -> Iterator[str]:
    took = "" if finding.ms is None else f"{finding.ms:.0f} ms" if finding.ms >= 1 else "<1 ms"
    yield f"{finding.step:<{STEP}}{MARKS[finding.state]:<{MARK}}{took:>{TIME}}".rstrip()
    yield from _wrapped(finding.says, mask, "  ")
    for detail in finding.details:
        yield from _wrapped(detail, mask, INDENT)
    for advice in finding.advice:
        yield from _wrapped(advice, mask, "  > ", "    ")


def _wrapped(text: str, mask: Callable[[str], str], indent: str, rest: str | None = None) -> list[str]:
    """Break a sentence into lines; one that is indented itself stays so."""
    shown = mask(text)
    further = indent if rest is None else rest
    if shown.startswith("  "):
        indent, further, shown = f"{indent}  ", f"{further}    ", shown.strip()
    return textwrap.wrap(shown, WIDTH, initial_indent=indent, subsequent_indent=further, break_on_hyphens=False) or [
        indent.rstrip()
    ]


def _end(diagnosis: Diagnosis) -> str:
    published = "one test uplink was published" if diagnosis.published else "nothing was published"
    failed = [finding.step for finding in diagnosis.findings if finding.state is State.FAILED]
    warned = [finding.step for finding in diagnosis.findings if finding.state is State.WARNING]
    if failed:
        return f"failed: {', '.join(failed)}; {published}"
    return f"all well{', with warnings: ' + ', '.join(warned) if warned else ''}; {published}"


def as_json(diagnosis: Diagnosis, mask: Callable[[Any], Any]) -> str:
    """Give one JSON document. `mask` takes any JSON data."""
    steps = [
        {
            "step": finding.step,
            "state": finding.state.value,
            "ms": None if finding.ms is None else round(finding.ms, 1),
            "says": mask(finding.says),
            "details": [mask(detail.strip()) for detail in finding.details],
            "advice": mask(list(finding.advice)),
            "facts": mask(finding.facts),
        }
        for finding in diagnosis.findings
    ]
    whole = {
        "subject": mask(diagnosis.subject),
        "well": diagnosis.well,
        "address": mask(diagnosis.address),
        "protocol": diagnosis.protocol,
        "mqttVersion": diagnosis.mqtt_version,
        "clientId": mask(diagnosis.client_id),
        "published": diagnosis.published,
        "steps": steps,
    }
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()
