"""What `mqttbridge parked` asks and prints: within 80 columns, and nothing that steers the terminal."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from mqttbridge.ask import parked as command
from mqttbridge.ask.parked import Selection
from mqttbridge.control.again import ParkedDocument, ParkedEntry, ParkedList, UnparkDone
from mqttbridge.errors import AskError
from mqttbridge.model import DocumentKind

MOMENT = datetime(2026, 11, 22, 14, 30, 12, tzinfo=UTC)
LOCAL = MOMENT.astimezone().strftime("%Y-%m-%d %H:%M:%S")
REASON = "the topic cannot be rendered: CustomerData.name holds '/', which would make another level of it"


class Asked:
    """Stands in for the daemon."""

    def __init__(self, answer: object) -> None:
        self.answer = msgspec.json.encode(answer)
        self.asked: list[tuple[str, object]] = []

    def get(self, path: str) -> bytes:
        self.asked.append((path, None))
        return self.answer

    def post(self, path: str, body: object, *, timeout: float) -> bytes:
        assert timeout > 60
        self.asked.append((path, json.loads(msgspec.json.encode(body))))
        return self.answer


def entry(number: int, **more: object) -> dict[str, Any]:
    return {
        "number": number,
        "connection": "acme",
        "parked": MOMENT,
        "reason": REASON,
        "received": MOMENT,
        "source": "lrc",
        "dev_eui": "0018B20000000B20",
        "fcnt": 17,
        "kind": DocumentKind.UPLINK,
        "size": 1234,
        "seq": 99,
    } | more


def listed(*entries: dict[str, Any], **kept: int) -> ParkedList:
    return ParkedList(kept=kept, parked=tuple(ParkedEntry(**one) for one in entries))


def test_the_list_has_a_heading_for_each_reason_and_a_line_for_each_uplink(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(entry(1236), entry(1235, fcnt=None), entry(7, connection="beta", reason=""), acme=1234, beta=1)
    asked = Asked(found)
    assert command.show_list(asked, None, 3, as_json=False) == 0
    assert asked.asked == [("/parked?limit=3", None)]
    page = capsys.readouterr().out
    assert page.splitlines() == [
        "   number  parked               device                 FCnt      size",
        "",
        "acme: the topic cannot be rendered: CustomerData.name holds '/', which would",
        "make another level of it",
        f"     1236  {LOCAL}  0018B20000000B20         17  1.21 KiB",
        f"     1235  {LOCAL}  0018B20000000B20          -  1.21 KiB",
        "",
        "beta: no reason is known",
        f"        7  {LOCAL}  0018B20000000B20         17  1.21 KiB",
        "",
        "the newest 3 of 1,235; --limit shows more, --connection those of one",
        "parked: 1,234 for acme, 1 for beta",
        "`mqttbridge parked show NUMBER` has the document, `retry` and `drop` take",
        "numbers or --all",
    ]


def test_a_connection_is_asked_for_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(listed(entry(1), acme=1, beta=5))
    command.show_list(asked, "a&b", 50, as_json=False)
    assert asked.asked == [("/parked?limit=50&connection=a%26b", None)]
    assert "parked: " not in capsys.readouterr().out


@pytest.mark.parametrize(("connection", "said"), [(None, "nothing is parked"), ("a", "nothing is parked for a")])
def test_nothing_to_list_is_said(capsys: pytest.CaptureFixture[str], connection: str | None, said: str) -> None:
    assert command.show_list(Asked(listed()), connection, 50, as_json=False) == 0
    assert capsys.readouterr().out == f"{said}\n"


@pytest.mark.parametrize("number", [1, 999_999_999])
def test_no_line_is_too_long_or_steers_the_terminal(capsys: pytest.CaptureFixture[str], number: int) -> None:
    name = "connection-" + "x" * 100
    foreign = {"reason": "\x1b[31m" + "r" * 300, "connection": name, "fcnt": 2**32 - 1, "size": 1023 * 1024}
    command.show_list(Asked(listed(entry(number, **foreign), **{name: 10**9})), None, 50, as_json=False)
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert "\x1b" not in page
    shown = ParkedDocument(**entry(number, **foreign), document=msgspec.Raw(b'{"x": "\xc2\x9b31m"}'))
    command.show_one(Asked(shown), number, as_json=False)
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert "\x9b" not in page
    assert "\x1b" not in page


def test_one_is_shown_with_its_document_indented(capsys: pytest.CaptureFixture[str]) -> None:
    document = b'{"DevEUI_uplink": {"FCntUp": 17}}'
    asked = Asked(ParkedDocument(**entry(1236), document=msgspec.Raw(document)))
    assert command.show_one(asked, 1236, as_json=False) == 0
    assert asked.asked == [("/parked/one?number=1236", None)]
    assert capsys.readouterr().out.splitlines() == [
        "parked uplink 1236",
        "  connection  acme",
        "  reason      the topic cannot be rendered: CustomerData.name holds '/', which",
        "              would make another level of it",
        f"  parked      {LOCAL}",
        f"  received    {LOCAL} from source lrc",
        "  device      0018B20000000B20, FCnt 17",
        "  document    DevEUI_uplink, 1,234 bytes",
        "",
        "{",
        '  "DevEUI_uplink": {',
        '    "FCntUp": 17',
        "  }",
        "}",
    ]


def test_retry_and_drop_ask_for_the_selection_and_tell_what_was_done(capsys: pytest.CaptureFixture[str]) -> None:
    asked = Asked(UnparkDone(count=1001, connections={"beta": 1, "acme": 1000}))
    assert command.retry(asked, Selection((), "acme", everything=True), as_json=False) == 0
    assert capsys.readouterr().out == "1,000 uplinks are queued again for acme\n1 uplink is queued again for beta\n"
    assert command.drop(asked, Selection((3, 4), None, everything=False), as_json=False) == 0
    assert capsys.readouterr().out.splitlines()[1] == "1 parked uplink of beta is given up"
    assert asked.asked == [
        ("/parked/retry", {"numbers": [], "connection": "acme", "everything": True}),
        ("/parked/drop", {"numbers": [3, 4], "connection": None, "everything": False}),
    ]


def test_what_could_not_be_retried_is_said_and_nothing_at_all_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    some = UnparkDone(count=1, connections={"acme": 1}, skipped=("3 stay parked: why",))
    assert command.retry(Asked(some), Selection((), None, everything=True), as_json=False) == 0
    assert capsys.readouterr().out.splitlines() == ["1 uplink is queued again for acme", "3 stay parked: why"]
    none = UnparkDone(count=0, connections={}, skipped=("3 stay parked: why",))
    assert command.retry(Asked(none), Selection((), None, everything=True), as_json=False) == 1
    assert capsys.readouterr().out == "3 stay parked: why\n"
    nothing = UnparkDone(count=0, connections={})
    assert command.drop(Asked(nothing), Selection((), "acme", everything=True), as_json=False) == 0
    assert capsys.readouterr().out == "nothing is parked for acme\n"


def test_json_is_what_the_daemon_answers(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(entry(1), acme=1)
    command.show_list(Asked(found), None, 50, as_json=True)
    assert json.loads(capsys.readouterr().out) == json.loads(msgspec.json.encode(found))
    shown = ParkedDocument(**entry(1), document=msgspec.Raw(b'{"a": 1.50}'))
    command.show_one(Asked(shown), 1, as_json=True)
    assert '"a": 1.50' in capsys.readouterr().out
    command.drop(Asked(UnparkDone(count=2, connections={"a": 2})), Selection((1, 2), None, False), as_json=True)  # noqa: FBT003
    assert json.loads(capsys.readouterr().out) == {"count": 2, "connections": {"a": 2}, "skipped": []}


def test_an_answer_that_is_none_is_said() -> None:
    with pytest.raises(AskError, match="of one version"):
        command.show_list(Asked({"parked": 1}), None, 50, as_json=False)
