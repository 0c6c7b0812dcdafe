"""The unit file: systemd takes it, it is locked down, and it says what the daemon relies on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mqttbridge.control.unix import UNIT_DIRECTORY

UNIT = Path(__file__).parents[2] / "systemd" / "mqttbridge.service"
EXAMPLE = UNIT.with_name("credentials.conf.example")
PROGRAM = "/opt/mqttbridge/bin/mqttbridge"


def settings() -> dict[str, list[str]]:
    """Give what the unit sets, by key."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith(("#", ";")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


@pytest.fixture
def analyze() -> str:
    """Give systemd-analyze."""
    found = shutil.which("systemd-analyze")
    if found is None:
        message = "systemd-analyze is not installed: the unit file was not checked"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Give the unit as it would be installed, its program at a path that exists."""
    program = tmp_path / "mqttbridge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "units" / UNIT.name
    unit.parent.mkdir()
    text = UNIT.read_text(encoding="utf-8")
    assert text.count(PROGRAM) == 2
    unit.write_text(text.replace(PROGRAM, str(program)), encoding="utf-8")
    return unit


def run(*command: str | Path) -> tuple[int, str]:
    """Run a command; give its exit code and what it said."""
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=50, check=False, encoding="utf-8"
    )
    return done.returncode, done.stdout


def about_the_unit(output: str) -> str:
    """Leave out what is said of other units of this machine."""
    return "\n".join(line for line in output.splitlines() if "mqttbridge" in line)


def test_systemd_takes_the_unit(analyze: str, installed: Path) -> None:
    code, output = run(analyze, "verify", "--man=no", installed)
    assert (code, about_the_unit(output)) == (0, "")


def test_systemd_would_tell_of_a_mistake(analyze: str, installed: Path) -> None:
    installed.write_text(installed.read_text(encoding="utf-8").replace("WatchdogSec=30", "WatchdogSec=often\nNo=1"))
    _, output = run(analyze, "verify", "--man=no", installed)
    assert "Failed to parse sec value" in about_the_unit(output)
    assert "'No'" in about_the_unit(output)


@pytest.mark.parametrize("with_example", [False, True])
def test_the_exposure_level_is_at_most_one_and_a_half(analyze: str, installed: Path, *, with_example: bool) -> None:
    if with_example:
        place = installed.with_name(installed.name + ".d")
        place.mkdir()
        shutil.copy(EXAMPLE, place / "credentials.conf")
    code, output = run(analyze, "security", "--no-pager", "--offline=true", "--threshold=15", installed)
    assert code == 0, output
    level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", output)
    assert level, output
    assert float(level[1]) <= 1.5


def test_the_example_of_credentials_is_taken(analyze: str, installed: Path) -> None:
    place = installed.with_name(installed.name + ".d")
    place.mkdir()
    text = EXAMPLE.read_text(encoding="utf-8")
    everything = re.sub(r"^#(LoadCredential|SupplementaryGroups)", r"\1", text, flags=re.MULTILINE)
    assert len(re.findall(r"^\w+=", everything, re.MULTILINE)) == 4
    (place / "credentials.conf").write_text(everything)
    code, output = run(analyze, "verify", "--man=no", installed)
    assert (code, about_the_unit(output)) == (0, "")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("WatchdogSec", "30"),
        ("DynamicUser", "yes"),
        ("StateDirectory", "mqttbridge mqttbridge/connections.d mqttbridge/flows.d"),
        ("StateDirectoryMode", "0700"),
        ("RuntimeDirectory", "mqttbridge"),
        ("RuntimeDirectoryMode", "0700"),
        ("Restart", "on-failure"),
        ("TimeoutStopSec", "30"),
        ("LimitCORE", "0"),
        ("ExecStart", f"{PROGRAM} run --config /etc/mqttbridge/mqttbridge.yaml"),
        ("ExecReload", f"{PROGRAM} reload --config /etc/mqttbridge/mqttbridge.yaml"),
    ],
)
def test_the_unit_says_what_the_daemon_relies_on(key: str, value: str) -> None:
    assert settings()[key] == [value]


@pytest.mark.parametrize("key", ["ExecStart", "ExecReload"])
def test_the_commands_of_the_unit_are_those_of_the_program(key: str) -> None:
    program, *arguments = settings()[key][0].split()
    assert program == PROGRAM
    code, output = run(sys.executable, "-m", "mqttbridge", *arguments, "--help")
    assert code == 0, output
    assert f"mqttbridge {arguments[0]}" in output


def test_the_runtime_directory_lies_where_the_commands_look() -> None:
    # With RuntimeDirectoryPreserve= it would lie below /run/private, where only root gets.
    assert "RuntimeDirectoryPreserve" not in settings()
    assert Path("/run", settings()["RuntimeDirectory"][0]) == UNIT_DIRECTORY


def test_a_thousand_connections_and_as_many_requests_have_their_files() -> None:
    assert int(settings()["LimitNOFILE"][0]) >= 4096


def test_a_missing_directory_of_credentials_does_not_keep_the_service_down() -> None:
    # An absolute path that is missing is fatal, unless a credential of the same id is set (systemd.exec(5)).
    ids = {value.partition(":")[0] for value in settings()["LoadCredential"]}
    assert ids == {value.partition(":")[0] for value in settings()["SetCredential"]}


def test_what_is_missing_at_boot_is_tried_again_for_ever_and_without_hurry() -> None:
    assert settings()["RestartPreventExitStatus"] == ["2"], "1 may be a port or a disk that is not there yet"
    assert settings()["StartLimitIntervalSec"] == ["0"]
    assert int(settings()["RestartSec"][0]) >= 5
