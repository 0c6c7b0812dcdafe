"""The command around the lines of events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mqttbridge.ask.events import Wish, show
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from collections.abc import Iterator

ONE = b'{"id":1,"at":"2026-11-22T14:03:07.1Z","level":"warning","event":"connection.lost","connection":"acme"}'
TWO = b'{"id":2,"at":"2026-11-22T14:03:09.1Z","level":"info","event":"connection.opened","connection":"acme"}'


class Answering:
    """Stands in for the daemon."""

    def __init__(self, *events: bytes, whole: bytes | None = None) -> None:
        self.events = events
        self.whole = b"[%s]" % b",".join(events) if whole is None else whole
        self.asked: list[str] = []

    def get(self, path: str) -> bytes:
        self.asked.append(path)
        return self.whole

    def lines(self, path: str) -> Iterator[bytes]:
        self.asked.append(path)
        for event in self.events:
            yield event + b"\n"
            yield b"\n"


def test_it_asks_for_what_is_wished() -> None:
    daemon = Answering()
    show(daemon, Wish(), follow=False, as_json=False)
    wish = Wish(connection="a b", source="s", device="d", name="uplink.*", level="error", since=5, limit=7)
    show(daemon, wish, follow=True, as_json=True)
    assert daemon.asked == [
        "/events?level=info&limit=50",
        "/events?connection=a+b&source=s&device=d&name=uplink.%2A&level=error&since=5&limit=7&follow=1",
    ]


def test_events_are_lines_the_newest_last(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Answering(ONE, TWO), Wish(), follow=False, as_json=False) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith(" WARNING connection.lost acme")
    assert second.endswith(" connection.opened acme")
    assert "\x1b" not in first, "no colour where there is no terminal"


def test_off_a_terminal_an_event_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    long = ONE.replace(b'"acme"}', b'"acme","reason":"%sthe end\\nand more","rate":5}' % (b"of many words " * 20))
    show(Answering(long, TWO), Wish(), follow=False, as_json=False)
    first, second = capsys.readouterr().out.splitlines()
    assert " connection.lost acme: of many words of many" in first
    assert first.endswith("words the end; and more; rate=5")
    assert second.endswith(" connection.opened acme")


def test_json_is_what_the_daemon_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert show(Answering(ONE, TWO), Wish(), follow=False, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == [json.loads(ONE), json.loads(TWO)]
    assert show(Answering(), Wish(), follow=False, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    ("wish", "said"), [(Wish(limit=5), "no event is kept yet\n"), (Wish(level="error"), "of this kind")]
)
def test_nothing_is_a_sentence_on_stderr(capsys: pytest.CaptureFixture[str], wish: Wish, said: str) -> None:
    assert show(Answering(), wish, follow=False, as_json=False) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err


@pytest.mark.parametrize("as_json", [True, False])
def test_who_follows_gets_a_line_each_until_the_daemon_ends(
    capsys: pytest.CaptureFixture[str], *, as_json: bool
) -> None:
    assert show(Answering(ONE, TWO), Wish(), follow=True, as_json=as_json) == 1
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 2
    if as_json:
        assert [json.loads(line)["id"] for line in out.splitlines()] == [1, 2]
    assert "has ended" in err


@pytest.mark.parametrize(
    "whole", [b'{"not": "a list"}', b"[", b'[{"id": 1}]', b'[{"at": 5, "level": "x", "event": 1}]']
)
def test_what_is_no_answer_is_said(whole: bytes) -> None:
    with pytest.raises(AskError) as refused:
        show(Answering(whole=whole), Wish(), follow=False, as_json=False)
    assert "one version" in str(refused.value)
