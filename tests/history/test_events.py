"""An event is taken as it is, whatever stands in it: it comes from inside logging."""

from __future__ import annotations

from typing import NoReturn

import msgspec

from mqttbridge.history.events import FIELDS_BYTES, row_of


class Odd:
    """Something whose text cannot be had."""

    def __str__(self) -> NoReturn:
        """Fail."""
        raise RuntimeError("no")


def test_fields_are_kept_as_json_and_what_is_asked_for_beside_them() -> None:
    fields = {"connection": "acme", "source": "lrc", "dev_eui": "0018b20000000b20", "fcnt": 7, "topics": ["a", "b"]}
    row = row_of(5, "warning", "uplink.parked", fields)
    assert row[:7] == (5, 2, "warning", "uplink.parked", "acme", "lrc", "0018B20000000B20")
    assert msgspec.json.decode(row[7]) == fields


def test_the_fields_may_change_afterwards() -> None:
    fields: dict[str, object] = {"reason": "one", "list": [1]}
    row = row_of(5, "info", "a.b", fields)
    fields["reason"] = "two"
    fields["list"].append(2)
    assert msgspec.json.decode(row[7]) == {"reason": "one", "list": [1]}


def test_values_that_no_encoder_takes_become_texts() -> None:
    row = row_of(5, "info", "a.b", {"reason": "\ud800 lone", "error": ValueError("wrong"), "n": 2**70, "ok": 1})
    assert msgspec.json.decode(row[7]) == {"reason": "? lone", "error": "wrong", "n": str(2**70), "ok": 1}
    assert row_of(5, "info", "a.b", {"x": Odd()})[7] == "{}"


def test_long_values_are_cut() -> None:
    row = row_of(5, "info", "a.b", {f"field{number}": "x" * 100_000 for number in range(100)})
    assert len(row[7]) < FIELDS_BYTES


def test_an_unknown_level_counts_as_info() -> None:
    assert row_of(5, "odd", "a.b", {})[1] == row_of(5, "info", "a.b", {})[1]
