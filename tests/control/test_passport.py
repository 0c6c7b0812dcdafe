"""The answer of GET /trace: its page in docs/ names every field of every struct, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from mqttbridge.ask.trace_wording import report
from mqttbridge.control.passport import Delivery, DownlinkPassage, Passport, UplinkPassage
from mqttbridge.routing import Reason
from tests.ask.passports import UTC, delivery, passport, queued, uplink

PAGE = (Path(__file__).parents[2] / "docs" / "trace.md").read_text(encoding="utf-8")
TABLES = {
    "": Passport,
    "an uplink": UplinkPassage,
    "a connection": Delivery,
    "a flow": Reason,
    "a downlink": DownlinkPassage,
}


def test_each_table_has_every_field_and_nothing_else() -> None:
    parts = re.split(r"^Of (a\w* \w+):$", PAGE[PAGE.index("## Fields") :], flags=re.MULTILINE)
    tables = dict(zip(["", *parts[1::2]], parts[::2], strict=True))
    assert tables.keys() == TABLES.keys()
    for name, struct in TABLES.items():
        rows = re.findall(r"^\| (`[^|]*) \|(.*)\|$", tables[name], re.MULTILINE)
        named = {word for first, _ in rows for word in re.findall(r"`(\w+)`", first)}
        # `flows_not_shown` is told beside `flows`.
        named |= {word for _, rest in rows for word in re.findall(r"`(\w+)`: how", rest)}
        assert named == set(struct.__struct_fields__), name


def test_the_example_is_what_is_printed() -> None:
    page = passport(uplink(delivery(), queued()))
    assert "\n".join(line.text for line in report(page, UTC)) in PAGE


def test_every_outcome_is_explained() -> None:
    for outcome in ("delivered", "queued", "expired", "parked", "dropped", "unknown"):
        assert f"| `{outcome}` |" in PAGE
