"""Runs the doctor on a configuration of a test's."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from mqttbridge.clock import SystemClock
from mqttbridge.doctor.examine import examine
from mqttbridge.doctor.findings import State
from mqttbridge.doctor.target import Wish
from mqttbridge.settings.loader import load

if TYPE_CHECKING:
    from pathlib import Path

    from mqttbridge.doctor.findings import Diagnosis, Finding


def write(directory: Path, connections: dict[str, Any], sources: dict[str, Any] | None = None) -> Path:
    """Write a configuration; of each connection only what stands under `configuration` is given."""
    path = directory / "mqttbridge.yaml"
    whole = {name: {"configuration": own} for name, own in connections.items()}
    path.write_text(json.dumps({"connections": whole, "sources": sources or {}}))
    return path


async def diagnose(directory: Path, configuration: dict[str, Any], **wish: Any) -> Diagnosis:  # noqa: ANN401 (wishes of any kind)
    """Examine one connection, `acme`."""
    path = await asyncio.to_thread(write, directory, {"acme": configuration})
    loaded = await asyncio.to_thread(load, path, environ={})
    return await examine(loaded.settings, Wish(connection="acme", **wish), SystemClock())


def step(diagnosis: Diagnosis, name: str) -> Finding:
    (found,) = [finding for finding in diagnosis.findings if finding.step == name]
    return found


def states(diagnosis: Diagnosis) -> dict[str, str]:
    return {finding.step: finding.state.value for finding in diagnosis.findings}


def failure(diagnosis: Diagnosis) -> tuple[str, str, str]:
    """Give the one step that failed, what it says, and all advice; what comes behind it was skipped."""
    (found,) = [finding for finding in diagnosis.findings if finding.state is State.FAILED]
    assert not diagnosis.well
    return found.step, found.says, "\n".join(found.advice)
