"""The command around the lines: what it asks for, when it ends, and how."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import pytest

from mqttbridge.ask import tap as command
from mqttbridge.ask.tap import Wish, follow
from mqttbridge.errors import AskError
from mqttbridge.observe.tap_line import TapLine

if TYPE_CHECKING:
    from collections.abc import Iterator

AT = datetime(2026, 11, 22, 14, 3, 7, tzinfo=UTC)


class Answering:
    """Stands in for the daemon: gives lines, and ends."""

    def __init__(self, *lines: bytes) -> None:
        self.given = lines
        self.asked: list[str] = []

    def lines(self, path: str) -> Iterator[bytes]:
        self.asked.append(path)
        yield from self.given


def line(seq: int, **fields: object) -> bytes:
    return msgspec.json.encode(TapLine(**{"what": "uplink", "at": AT, "seq": seq, "fcnt": seq} | fields)) + b"\n"


def test_it_asks_for_what_is_wished() -> None:
    daemon = Answering()
    follow(daemon, Wish(), None, as_json=False)
    follow(daemon, Wish(connection="a b", source="s", device="00-18", payload=True), None, as_json=False)
    assert daemon.asked == ["/tap?", "/tap?connection=a+b&source=s&device=00-18&payload=1"]


def test_a_daemon_that_ends_is_told_of_and_the_exit_code_is_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert follow(Answering(b"\n", line(1), b"\n"), Wish(), None, as_json=False) == 1
    out, err = capsys.readouterr()
    assert out.endswith(" uplink    #1 0 B\n")
    assert len(out.splitlines()) == 1
    assert "has ended" in err


def test_it_ends_after_as_many_lines_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    lines = (line(1), b"\n", line(0, what="left_out", count=5), line(2), line(3))
    assert follow(Answering(*lines), Wish(), 2, as_json=True) == 0
    out, err = capsys.readouterr()
    assert [json.loads(one).get("seq") for one in out.splitlines()] == [1, None, 2]
    assert err == ""


def test_off_a_terminal_a_line_of_the_tap_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    long = line(
        1,
        dev_eui="0018B20000000B20",
        topic="a/b",
        connections=("a-customer-with-a-name",) * 9,
        document=msgspec.Raw(b"{}"),
    )
    follow(Answering(line(2, what="parked", reason="why not " * 30), long), Wish(), None, as_json=False)
    parked, came = capsys.readouterr().out.splitlines()
    assert parked.endswith("why not why not")
    assert "0018B20000000B20" in came
    assert came.endswith("and 4 more {}"), "with its document"


def test_what_is_no_line_is_said() -> None:
    with pytest.raises(AskError) as refused:
        follow(Answering(b'{"what": "else"}\n'), Wish(), None, as_json=False)
    assert "one version" in str(refused.value)


PROGRAM = """
import sys
from datetime import UTC, datetime
from mqttbridge.ask import tap, events
class Daemon:
    def lines(self, path):
        for number in range(1000000):
            if path.startswith("/tap"):
                yield b'{"what":"uplink","at":"2026-11-22T14:03:07Z","fcnt":%d}\\n' % number
            else:
                yield b'{"id":1,"at":"2026-11-22T14:03:07Z","level":"info","event":"daemon.started"}\\n'
if sys.argv[1] == "tap":
    sys.exit(tap.follow(Daemon(), tap.Wish(), None, as_json=sys.argv[2] == "json"))
sys.exit(events.show(Daemon(), events.Wish(), follow=True, as_json=sys.argv[2] == "json"))
"""


@pytest.mark.parametrize("what", ["tap", "events"])
@pytest.mark.parametrize("form", ["json", "text"])
def test_it_ends_without_a_fuss_when_nobody_reads_on(what: str, form: str) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what, form], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
    )
    with running:
        assert running.stdout is not None
        assert running.stderr is not None
        assert running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(20) == 0


def test_ctrl_c_is_left_to_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: bytes) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_line", interrupted)
    with pytest.raises(KeyboardInterrupt):
        follow(Answering(line(1)), Wish(), None, as_json=False)
