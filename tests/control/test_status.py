"""The answer of GET /status: its page in docs/ names every field, and it survives the way through JSON."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from mqttbridge.control.status import (
    ConnectionStatus,
    DownlinksStatus,
    JournalStatus,
    Rates,
    SourceStatus,
    Status,
)
from mqttbridge.model import Counts
from tests.ask.pages import connection, source, status

PAGE = Path(__file__).parents[2] / "docs" / "status.md"
STRUCTS = (Status, ConnectionStatus, SourceStatus, JournalStatus, DownlinksStatus, Rates, Counts)


def test_the_page_has_a_row_for_every_field_and_for_nothing_else() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]*) \|", text[text.index("## Fields") :], re.MULTILINE)
    in_rows = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    fields = {name for each in (Status, ConnectionStatus, SourceStatus) for name in each.__struct_fields__}
    assert in_rows == fields
    named = set(re.findall(r"`(\w+)`", text))
    assert {name for each in STRUCTS for name in each.__struct_fields__} <= named


def test_it_comes_out_of_json_as_it_went_in() -> None:
    whole = status([connection("a", since=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC))], [source("b")])
    assert msgspec.json.decode(msgspec.json.encode(whole), type=Status) == whole
