"""`mqttbridge … | head`: whoever reads stdout goes away. That is no failure, and nothing to tell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAKE = """
import sys
from pathlib import Path
from mqttbridge import cli
from mqttbridge.ask import client
from mqttbridge.errors import AskError
BODIES = {
    "/plan": b'{"empty": false, "connections": []}',
    "/parked": b'{"kept": {}, "parked": []}',
    "/trace": b'{"device": "0018B20000000B20", "now": "2026-11-22T14:03:07Z", "uplinks": [], "left_out": 0,'
    b'"downlinks": [], "remembered_seconds": 0, "last_source": null, "problem": ""}',
}
def ask(self, method, path, body=None, *, timeout=None):
    path = path.partition("?")[0]
    if path not in BODIES:
        raise AskError("no daemon")
    return client.Answer(Path("/s"), 200, BODIES[path])
client.Daemon.ask = ask
cli.main()
"""


def closed(*arguments: str) -> tuple[int, str]:
    """Run a command with a stdout that nobody reads; give its exit code and stderr."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-c", FAKE, *arguments],
            stdout=writer,
            stderr=subprocess.PIPE,
            env=environment,
            check=False,
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan",),
        ("plan", "--json"),
        ("parked", "list"),
        ("trace", "0018B20000000B20"),
        ("trace", "0018B20000000B20", "--json"),
        ("schema",),
        ("--version",),
        ("--help",),
        ("plan", "--help"),
    ],
    ids=" ".join,
)
def test_nobody_who_reads_is_no_failure(arguments: tuple[str, ...]) -> None:
    assert closed(*arguments) == (0, "")


def test_a_failure_is_one_though_nobody_reads() -> None:
    assert closed("status") == (1, "no daemon\n")
