"""The command around the page: exit codes, watching, and a daemon that is gone meanwhile."""

from __future__ import annotations

import io
import json

import msgspec
import pytest
from rich.console import Console

from mqttbridge.ask import status as command
from mqttbridge.errors import AskError
from tests.ask.pages import connection, source, status


class Asked:
    """Stands in for the daemon: gives one answer after the other, the last one for ever; None: it is gone."""

    def __init__(self, *answers: bytes | None) -> None:
        self.answers = list(answers)

    def get(self, path: str) -> bytes:
        assert path == "/status"
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            raise AskError("there is no socket: is mqttbridge running?")
        return answer


def body(*, ok: bool = True, many: int = 1) -> bytes:
    return msgspec.json.encode(status([connection(f"c{number}", ok=ok) for number in range(many)], [source("lrc")]))


class Interrupted:
    """Passes the time, then presses Ctrl-C."""

    def __init__(self, looks: int) -> None:
        self.left = looks

    def __call__(self, seconds: float) -> None:
        assert seconds == command.EVERY
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.parametrize(("ok", "code"), [(True, 0), (False, 2)])
def test_the_exit_code_tells_whether_all_is_well(capsys: pytest.CaptureFixture[str], *, ok: bool, code: int) -> None:
    assert command.show(Asked(body(ok=ok))) == code
    page = capsys.readouterr().out
    assert "c0" in page
    assert "\x1b" not in page, "no colour where there is no terminal"
    assert command.show_json(Asked(body(ok=ok))) == code
    assert json.loads(capsys.readouterr().out)["ok"] is ok


def test_what_is_no_status_is_said() -> None:
    with pytest.raises(AskError) as refused:
        command.show(Asked(b'{"ok": 1}'))
    assert "one version" in str(refused.value)


def test_watching_shows_the_news_and_waits_for_a_daemon_that_is_gone() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=24)
    answers = (body(), None, body(ok=False))
    with pytest.raises(KeyboardInterrupt):
        command.watch(Asked(*answers), console=console, pause=Interrupted(3))
    text = out.getvalue()
    places = [text.index(word) for word in ("all is well", "is mqttbridge running?", "needs attention")]
    assert places == sorted(places)
    assert text.endswith("\x1b[?25h\x1b[?1049l"), "the terminal is as it was"


def test_a_page_that_is_too_long_keeps_its_top() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=80, height=10)
    with pytest.raises(KeyboardInterrupt):
        command.watch(Asked(body(many=500)), console=console, pause=Interrupted(1))
    text = out.getvalue()
    assert "all is well: 500 active connections" in text
    assert "more lines" in text
    assert "c499" not in text
    assert text.count("\n") <= 10


def test_watching_as_json_gives_a_line_each_time(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        command.watch_json(Asked(body(), body(ok=False)), pause=Interrupted(3))
    assert [json.loads(line)["ok"] for line in capsys.readouterr().out.splitlines()] == [True, False, False]
