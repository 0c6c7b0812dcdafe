"""What `mqttbridge replay` asks and prints."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from msgspec.structs import replace

from mqttbridge.ask import replay as command
from mqttbridge.ask.replay import Wish
from mqttbridge.control.again import ReplayDone
from mqttbridge.errors import AskError
from tests.ask.test_parked import Asked

FIRST = datetime(2026, 11, 22, 2, 0, 1, tzinfo=UTC)
WISH = Wish(connection="acme", device=None, start=1000, end=None, everything=False, dry_run=False)
DONE = ReplayDone(
    connection="acme", found=1200, queued=1200, skipped=(), first=FIRST, last=FIRST + timedelta(minutes=90)
)
NONE = ReplayDone(connection="acme", found=0, queued=0, skipped=(), first=None, last=None)


def local(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def test_what_was_queued_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(DONE)
    assert command.replay(asked, WISH, as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == [
        "1,200 uplinks are queued again for acme",
        f"  received from {local(FIRST)} to {local(FIRST + timedelta(minutes=90))}",
    ]
    assert asked.asked == [
        (
            "/replay",
            {
                "connection": "acme",
                "start": 1000,
                "end": None,
                "device": None,
                "everything": False,
                "dryRun": False,
            },
        )
    ]


def test_a_dry_run_says_would_be(capsys: pytest.CaptureFixture[str]) -> None:
    done = replace(DONE, found=1, queued=0, skipped=("2 are still queued for acme: not delivered yet",))
    assert command.replay(Asked(done), replace(WISH, dry_run=True), as_json=False) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1 uplink would be queued again for acme"
    assert lines[2:] == ["left out:", "  2 are still queued for acme: not delivered yet"]


def test_none_is_an_exit_code_of_its_own_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.replay(Asked(NONE), replace(WISH, device="0018B20000000B20"), as_json=False) == command.NONE_FOUND
    page = capsys.readouterr().out
    assert page.splitlines()[:2] == [
        "there is nothing to replay: no uplink of device 0018B20000000B20 that was routed",
        "to acme is known of that time",
    ]
    assert "journal.retention" in page
    assert "--all" in page
    assert max(map(len, page.splitlines())) <= 80
    skipped = replace(NONE, skipped=("5 are still queued for acme: not delivered yet",))
    assert command.replay(Asked(skipped), replace(WISH, everything=True), as_json=False) == command.NONE_FOUND
    page = capsys.readouterr().out
    assert "5 are still queued" in page
    assert "journal.retention" not in page


def test_a_refusal_has_the_times_as_the_clock_on_the_wall_has_them() -> None:
    class Refusing:
        def post(self, *_: object, **__: object) -> bytes:
            late = FIRST + timedelta(milliseconds=5)
            raise AskError(
                f"from {FIRST.isoformat(timespec='milliseconds')} ({late.isoformat(timespec='milliseconds')})"
            )

    with pytest.raises(AskError) as refused:
        command.replay(Refusing(), WISH, as_json=False)
    assert str(refused.value) == f"from {local(FIRST)} ({local(FIRST)}.005)"


def test_json_is_what_the_daemon_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.replay(Asked(DONE), WISH, as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(msgspec.json.encode(DONE))


def test_a_time_before_all_times_is_the_beginning() -> None:
    asked = Asked(DONE)
    command.replay(asked, replace(WISH, start=-5), as_json=False)
    assert asked.asked[0][1]["start"] == 0


def test_an_answer_that_is_none_is_said() -> None:
    with pytest.raises(AskError, match="of one version"):
        command.replay(Asked({"found": "x"}), WISH, as_json=False)
