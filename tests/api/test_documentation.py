"""docs/api.md says what the API does."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from mqttbridge.api.operations import ERRORS, OPERATIONS
from mqttbridge.api.shapes import connection_of, flow_of

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
BODY = re.compile(r"localhost(/\w+)[^'`]*'Content-Type: application/json' -d '\n(.*?)'\n```", re.DOTALL)


def test_every_route_is_in_the_table_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z]+ /.*?) \|", PAGE, re.MULTILINE)
    told = set()
    for row in rows:
        method, path = re.findall(r"`([A-Z]+) ([^`?]+)", row)[0]
        told.add((method.lower(), path))
        told |= {(method.lower(), path.rpartition("/")[0] + more) for more in re.findall(r"`…(/\w+)`", row)}
    assert told == {(one.method, one.path) for one in OPERATIONS}


def test_every_error_is_in_the_table() -> None:
    told = {int(status) for status in re.findall(r"^\| (\d{3}) \|", PAGE, re.MULTILINE)}
    assert told - {405} == set(ERRORS)


def test_what_stands_there_as_json_is_json() -> None:
    blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) >= 8
    for block in blocks:
        msgspec.json.decode(block)


def test_the_bodies_of_the_examples_are_taken() -> None:
    bodies = dict(BODY.findall(PAGE))
    assert set(bodies) == {"/connections", "/flows", "/downlinkMessages"}
    connection = connection_of(msgspec.json.decode(bodies["/connections"]))
    assert connection.document["configuration"]["privateKey"].startswith("-----BEGIN RSA")
    assert connection.warnings == flow_of(msgspec.json.decode(bodies["/flows"])).warnings == ()
    assert "DevEUI_downlink" in msgspec.json.decode(bodies["/downlinkMessages"])
