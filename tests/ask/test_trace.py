"""The command around the page: what is asked, exit codes, JSON."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import msgspec
import pytest
from rich.console import Console

from mqttbridge.ask import trace as command
from mqttbridge.ask.trace_wording import report
from mqttbridge.control.passport import Passport
from mqttbridge.errors import AskError
from tests.ask.passports import DEVICE, delivery, downlink, passport, queued, uplink

if TYPE_CHECKING:
    from collections.abc import Mapping


class Asked:
    """Stands in for the daemon, which has one answer."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.asked = ""

    def get(self, path: str) -> bytes:
        self.asked = path
        return self.answer


def asked(answer: Passport) -> Asked:
    return Asked(msgspec.json.encode(answer))


def test_it_asks_for_the_device_as_it_was_written(capsys: pytest.CaptureFixture[str]) -> None:
    daemon = asked(passport(uplink(delivery())))
    assert command.show(daemon, "00-18 b2&ä", 7, as_json=False) == 0
    assert daemon.asked == "/trace?device=00-18+b2%26%C3%A4&limit=7"
    page = capsys.readouterr().out
    assert page.startswith(f"{DEVICE}  uplink FCntUp 1174")
    assert "\x1b" not in page, "no colour where there is no terminal"


@pytest.mark.parametrize(
    ("answer", "code"),
    [(passport(uplink(delivery())), 0), (passport(downlinks=(downlink(),)), 0), (passport(), 2)],
    ids=["uplinks", "downlinks", "nothing"],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_the_exit_code_tells_whether_something_is_known(
    capsys: pytest.CaptureFixture[str], answer: Passport, code: int, *, as_json: bool
) -> None:
    assert command.show(asked(answer), DEVICE, 3, as_json=as_json) == code
    assert capsys.readouterr().out


def test_as_json_it_gives_what_the_daemon_said(capsys: pytest.CaptureFixture[str]) -> None:
    given = passport(uplink(delivery(), queued()), downlinks=(downlink(),))
    command.show(asked(given), DEVICE, 3, as_json=True)
    out = capsys.readouterr().out
    assert msgspec.json.decode(out, type=Passport) == given
    whole: Mapping[str, list[dict[str, object]]] = json.loads(out)
    assert whole["uplinks"][0]["received"] == "2026-11-22T10:02:03.120000Z"


def test_a_terminal_gets_a_long_topic_whole() -> None:
    out = io.StringIO()
    topic = "level/" * 40
    lines = report(passport(uplink(delivery(topic=topic))))
    command.print_page(lines, Console(file=out, force_terminal=True, width=80, height=10, highlight=False))
    assert topic in out.getvalue(), "neither cut nor broken"
    assert out.getvalue().count("\n") == len(lines)


def test_what_is_no_passport_is_said() -> None:
    with pytest.raises(AskError) as refused:
        command.show(Asked(b'{"device": 1}'), DEVICE, 3, as_json=False)
    assert "one version" in str(refused.value)
