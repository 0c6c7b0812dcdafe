"""The commands around the page: exit codes, JSON, a file that is wrong, and answers that are none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from mqttbridge.ask import plan as command
from mqttbridge.ask.client import Answer
from mqttbridge.control.plan import PlanReport
from mqttbridge.errors import AskError
from mqttbridge.settings.diff import Action, PartChange

if TYPE_CHECKING:
    from collections.abc import Callable

NOTHING = PlanReport(empty=True)
CHANGE = PlanReport(connections=(PartChange("connection", "acme", Action.RESTART, "password changed"),))
LINES = ["f.yaml:1:1: a: wrong", "f.yaml:2:1: b: wrong too"]


class Asked:
    """Stands in for the daemon: gives one answer."""

    def __init__(self, status: int, body: bytes, problem: str = "") -> None:
        self.answer = Answer(Path("/run/s"), status, body, problem)
        self.heard: list[tuple[str, str, float]] = []

    def ask(self, method: str, path: str, *, timeout: float) -> Answer:
        self.heard.append((method, path, timeout))
        return self.answer


def good(report: PlanReport) -> Asked:
    return Asked(200, msgspec.json.encode(report))


def wrong() -> Asked:
    details = {"type": "about:blank", "title": "x", "status": 422, "detail": "it is wrong", "problems": LINES}
    return Asked(422, msgspec.json.encode(details), "it is wrong")


@pytest.mark.parametrize(
    ("run", "method", "path", "code"), [(command.show, "GET", "/plan", 2), (command.reload, "POST", "/reload", 0)]
)
def test_the_exit_code_tells_whether_there_are_changes(
    capsys: pytest.CaptureFixture[str], run: Callable[..., int], method: str, path: str, code: int
) -> None:
    daemon = good(CHANGE)
    assert run(daemon, as_json=False) == code
    assert daemon.heard == [(method, path, 60)]
    page = capsys.readouterr().out
    assert "connection acme" in page
    assert "\x1b" not in page, "no colour where there is no terminal"
    assert run(good(NOTHING), as_json=False) == 0
    assert "nothing changed" in capsys.readouterr().out


@pytest.mark.parametrize("run", [command.show, command.reload])
def test_json_is_what_the_daemon_said(capsys: pytest.CaptureFixture[str], run: Callable[..., int]) -> None:
    run(good(CHANGE), as_json=True)
    assert msgspec.json.decode(capsys.readouterr().out, type=PlanReport) == CHANGE


@pytest.mark.parametrize("run", [command.show, command.reload])
def test_a_wrong_file_is_told_on_stderr_line_by_line(
    capsys: pytest.CaptureFixture[str], run: Callable[..., int]
) -> None:
    assert run(wrong(), as_json=False) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err.splitlines()) == ("", LINES)
    assert run(wrong(), as_json=True) == 1
    captured = capsys.readouterr()
    assert (json.loads(captured.out)["problems"], json.loads(captured.out)["empty"]) == (LINES, False)
    assert captured.err.splitlines() == LINES


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Asked(503, b"{}", "too many requests"), "too many requests"),
        (Asked(422, b'{"detail": "no"}', "no"), "no"),
        (Asked(200, b'{"empty": 1}'), "not understood"),
        (Asked(200, b"<html>"), "one version"),
    ],
)
def test_what_is_no_answer_is_said(answer: Asked, words: str) -> None:
    with pytest.raises(AskError, match=words):
        command.show(answer, as_json=False)
