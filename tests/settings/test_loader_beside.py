"""Files beside the main one: flows of their own, who has what, and how it would be with other files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import ConfigError
from mqttbridge.settings.loader import load
from mqttbridge.settings.problems import Problems
from mqttbridge.settings.reader import etag
from tests.settings.helpers import complaints, loaded, write

if TYPE_CHECKING:
    from pathlib import Path

    from mqttbridge.settings.loader import Loaded, Overlay

MAIN = "connections: {a: {configuration: {hostName: h}}}\nflows: {all: {connections: [a]}}\n"
ONE = "configuration: {hostName: h}\n"


def overlaid(directory: Path, overlay: Overlay, problems: Problems | None = None) -> Loaded:
    return load(directory / "mqttbridge.yaml", environ={}, overlay=overlay, problems=problems)


def test_flows_may_stand_in_files_of_their_own_beside_those_of_the_main_file(tmp_path: Path) -> None:
    write(tmp_path, ONE, "connections.d/b.yaml")
    write(tmp_path, "connections: [b]\nmatchers: [{type: thing, tags: [x]}]\n", "flows.d/f.yaml")
    write(tmp_path, "connections: [a]\n", "flows.d/matchers.yaml")
    write(tmp_path, "[", "flows.d/.hidden.yaml")
    result = loaded(tmp_path, MAIN)
    assert list(result.settings.flows) == ["all", "f", "matchers"]
    assert result.settings.flows["f"].connections == ("b",)


def test_each_part_has_an_owner_and_each_file_a_tag(tmp_path: Path) -> None:
    connection = write(tmp_path, ONE, "connections.d/b.yaml")
    flow = write(tmp_path, "connections: [b]\n", "flows.d/b.yaml")
    result = loaded(tmp_path, MAIN)
    main = tmp_path / "mqttbridge.yaml"
    assert result.owners == {
        ("connection", "a"): main,
        ("connection", "b"): connection,
        ("flow", "all"): main,
        ("flow", "b"): flow,
    }
    assert result.etags == {
        ("connection", "b"): etag(ONE.encode()),
        ("flow", "b"): etag(b"connections: [b]\n"),
    }


@pytest.mark.parametrize("section", ["connections.d/a.yaml", "flows.d/all.yaml"])
def test_an_id_in_both_places_is_an_error_that_names_both(tmp_path: Path, section: str) -> None:
    write(tmp_path, ONE if "connections" in section else "connections: [a]\n", section)
    (found,) = complaints(tmp_path, MAIN)
    assert found.startswith("mqttbridge.yaml:")
    assert "is defined here and in " in found
    assert section in found


def test_what_is_wrong_in_a_flow_of_its_own_has_its_place_there(tmp_path: Path) -> None:
    write(tmp_path, "connections: [a, nobody]\nmatcher: []\n", "flows.d/f.yaml")
    write(tmp_path, "flows: {g: {connections: [a]}}\n", "flows.d/g.yaml")
    write(tmp_path, "", "flows.d/h.yaml")
    found = complaints(tmp_path, MAIN)
    assert [line.split(" ")[0] for line in found] == [
        "flows.d/f.yaml:1:18:",
        "flows.d/f.yaml:2:1:",
        "flows.d/g.yaml:1:1:",
        "flows.d/h.yaml:1:1:",
    ]
    assert "flows.f.connections[1]: there is no connection “nobody”" in found[0]
    assert "the file is one flow" in found[2]


def test_a_main_file_that_cannot_be_read_does_not_make_flows_beside_it_wrong(tmp_path: Path) -> None:
    write(tmp_path, "connections: [a]\nzzz: 1\n", "flows.d/f.yaml")
    found = complaints(tmp_path, MAIN + "[")
    assert len(found) == 2
    assert "flows.f.zzz" in found[1]


def test_an_overlay_adds_replaces_and_removes_files_and_the_disk_stays(tmp_path: Path) -> None:
    one = write(tmp_path, ONE, "connections.d/one.yaml")
    two = write(tmp_path, ONE, "connections.d/two.yaml")
    write(tmp_path, MAIN)
    overlay = {
        one: None,
        two: b"name: Two\n" + ONE.encode(),
        tmp_path / "connections.d" / "zero.yaml": ONE.encode(),
        tmp_path / "flows.d" / "f.yaml": b"connections: [zero]\n",
    }
    result = overlaid(tmp_path, overlay)
    assert list(result.settings.connections) == ["a", "two", "zero"]
    assert result.settings.connections["two"].name == "Two"
    assert list(result.settings.flows) == ["all", "f"]
    assert result.etags["connection", "two"] == etag(overlay[two] or b"")
    assert list(overlaid(tmp_path, {}).settings.connections) == ["a", "one", "two"]
    assert not (tmp_path / "flows.d").exists()


def test_references_of_a_file_that_is_not_there_yet_lead_where_they_would(tmp_path: Path) -> None:
    write(tmp_path, "secret", "connections.d/password")
    write(tmp_path, MAIN)
    text = b"configuration: {hostName: h, username: u, password: !file password}\n"
    result = overlaid(tmp_path, {tmp_path / "connections.d" / "b.yaml": text})
    assert result.settings.connections["b"].configuration.password == "secret"


def test_problems_may_be_looked_at_one_by_one(tmp_path: Path) -> None:
    write(tmp_path, MAIN)
    file = tmp_path / "connections.d" / "b.yaml"
    problems = Problems()
    with pytest.raises(ConfigError):
        overlaid(tmp_path, {file: b"configuration: {hostName: h, qos: 9}\nzzz: 1\n"}, problems)
    assert [(each.mark.file, each.path) for each in problems.errors] == [
        (str(file), ("connections", "b", "configuration", "qos")),
        (str(file), ("connections", "b", "zzz")),
    ]
    problems = Problems()
    overlaid(tmp_path, {file: b"configuration: {hostName: h, downlinkReceiptTopicPattern: r}\n"}, problems)
    assert [each.path[-1] for each in problems.cautions] == ["downlinkReceiptTopicPattern"]
