"""What docs/install.md says to type works, in this order, in a scratch root; and the unit's command lines run there.

In the place of apt, pip and systemd stand recorders: `systemctl` starts and stops the program as the unit would have
it, with its environment. All else is real.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from mqttbridge.control.unix import NAME
from tests.support.bridge import JSON, uplink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "install.md"
UNIT = ROOT / "systemd" / "mqttbridge.service"
SECTION = re.compile(r"^## (.*?)\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PLACE = re.compile(r"(?<![\w.~-])/(?=(?:etc|opt|run|usr|var)/)")
OUTSIDE = re.compile(r"(?<![\w./}$-])/\w[\w/.-]*")
DEADLINE = 20.0
STUBS = {
    "apt-get": 'echo "apt-get $*" >> "$RECORD"\n',
    "systemctl": 'echo "systemctl $*" >> "$RECORD"\n',
    "curl": 'echo "curl $*" >> "$RECORD"\n',
    "chown": 'echo "chown $*" >> "$RECORD"\n',
    # An environment that has the program already: pip is for the network.
    "python3": """
test "$1 $2" = "-m venv" || exit 2
mkdir -p "$3/bin"
printf '#!/bin/sh\\necho "pip $*" >> "$RECORD"\\n' > "$3/bin/pip"
printf '#!/bin/sh\\nexec "$INTERPRETER" -m mqttbridge "$@"\\n' > "$3/bin/mqttbridge"
chmod 0755 "$3/bin/pip" "$3/bin/mqttbridge"
""",
}


def section(title: str) -> list[str]:
    """Give the blocks of commands of a section."""
    return BLOCK.findall(dict(SECTION.findall(PAGE.read_text(encoding="utf-8")))[title])


class Machine:
    """A fresh machine, below a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.record = root / "record"
        self.stubs = root / "stubs"
        self.stubs.mkdir()
        for directory in ("etc/systemd/system", "opt", "run", "usr/local/bin", "var/lib", "var/backups"):
            (root / directory).mkdir(parents=True)
        for name, text in STUBS.items():
            (self.stubs / name).write_text(f"#!/bin/sh\n{text}", encoding="utf-8")
            (self.stubs / name).chmod(0o755)

    def environ(self, **more: str) -> dict[str, str]:
        """Give what a root shell there has."""
        path = os.pathsep.join([str(self.stubs), str(self.root / "usr/local/bin"), os.environ["PATH"]])
        return {
            "PATH": path, "HOME": str(self.root), "RECORD": str(self.record), "INTERPRETER": sys.executable,
            "PYTHONPATH": str(ROOT), "MQTTBRIDGE_CONFIG": str(self.root / "etc/mqttbridge/mqttbridge.yaml"), **more,
        }  # fmt: skip

    def placed(self, text: str) -> str:
        """Have absolute paths lie below the root."""
        placed = PLACE.sub(f"{self.root}/", text)
        outside = [path for path in OUTSIDE.findall(placed) if not path.startswith(str(self.root))]
        assert not [path for path in outside if path not in ("/health", "/uplink/")], outside
        return placed

    def type(self, block: str) -> str:
        """Run a block of commands in a checkout; all of them must work. Gives what they print."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", self.placed(block)], cwd=ROOT, env=self.environ(), check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=50, encoding="utf-8",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    def recorded(self) -> list[str]:
        """Give what was asked of apt, pip and systemd since the last time."""
        lines = self.record.read_text(encoding="utf-8").splitlines() if self.record.exists() else []
        self.record.unlink(missing_ok=True)
        return lines

    def file(self, path: str) -> Path:
        """Give a file of the machine by its absolute path."""
        return self.root / path.lstrip("/")


class Service:
    """The daemon as systemd would have it started by the unit of a machine; or without systemd."""

    def __init__(self, machine: Machine, *, systemd: bool) -> None:
        self.machine = machine
        self.systemd = systemd
        self.notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notify.bind(str(machine.root / "notify"))
        self.notify.settimeout(DEADLINE)
        self.log = (machine.root / "log").open("w+", encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, key: str) -> list[str]:
        """Give a command line of the unit that is installed."""
        unit = self.machine.file("/etc/systemd/system/mqttbridge.service").read_text(encoding="utf-8")
        (line,) = re.findall(rf"^{key}=(.*)$", unit, re.MULTILINE)
        return self.machine.placed(line).split()

    def environ(self) -> dict[str, str]:
        """Give what systemd sets, after it made the directories."""
        if not self.systemd:
            return self.machine.environ()
        given = self.machine.root / "run/credentials"
        given.mkdir(exist_ok=True)
        secrets = self.machine.file("/etc/mqttbridge/credentials")
        for secret in secrets.iterdir():
            shutil.copy(secret, given / f"mqttbridge_{secret.name}")
        directories = {"STATE_DIRECTORY": "/var/lib/mqttbridge", "RUNTIME_DIRECTORY": "/run/mqttbridge"}
        places = {name: self.machine.file(path) for name, path in directories.items()}
        for place in places.values():
            place.mkdir(mode=0o700, exist_ok=True)
        own = {name: str(place) for name, place in places.items()}
        notify = str(self.machine.root / "notify")
        return self.machine.environ(CREDENTIALS_DIRECTORY=str(given), NOTIFY_SOCKET=notify, **own)

    def start(self) -> None:
        """Start it, and wait until it serves."""
        self.process = subprocess.Popen(
            self.command("ExecStart"), env=self.environ(), cwd="/", stdin=subprocess.DEVNULL, stdout=self.log,
            stderr=self.log,
        )  # fmt: skip
        self.until_said("daemon.started")
        if self.systemd:
            self.until_heard("READY=1")

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> int:
        """End it as systemd does; gives the exit code."""
        self.signal(signal.SIGTERM)
        assert self.process is not None
        return self.process.wait(DEADLINE)

    def heard(self) -> list[str]:
        """Give the lines of the next message to systemd."""
        return self.notify.recv(4096).decode().splitlines()

    def until_heard(self, wanted: str) -> list[str]:
        """Wait for a message that begins so; gives it."""
        while True:
            if (lines := self.heard())[0] == wanted:
                return lines

    def said(self, event: str) -> list[dict[str, object]]:
        """Give what the log has of an event."""
        lines = (self.machine.root / "log").read_text(encoding="utf-8").splitlines()
        return [told for told in map(json.loads, lines) if told["event"] == event]

    def until_said(self, event: str, times: int = 1) -> None:
        """Wait until the log has it."""
        self.until(lambda: len(self.said(event)) >= times, event)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait."""
        end = time.monotonic() + DEADLINE
        while not holds():
            running = self.process is not None and self.process.poll() is None
            assert running, f"it ended before {what}: {(self.machine.root / 'log').read_text(encoding='utf-8')}"
            assert time.monotonic() < end, f"no {what}"
            time.sleep(0.02)

    def ask(self, *command: str) -> tuple[int, str]:
        """Run a command as root on a shell; gives its exit code and what it printed."""
        extra = {"RUNTIME_DIRECTORY": str(self.machine.file("/run/mqttbridge"))} if self.systemd else {}
        done = subprocess.run(
            [sys.executable, "-m", "mqttbridge", *command], env=self.machine.environ(**extra), cwd="/", check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=50, encoding="utf-8",
        )  # fmt: skip
        return done.returncode, done.stdout

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE)
        self.notify.close()
        self.log.close()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def installed(machine: Machine) -> Machine:
    """Give a machine where the page was followed, and a configuration that fits any machine."""
    program, configuration, check, unit = section("Install")
    machine.type(program)
    machine.type(configuration)
    config = machine.file("/etc/mqttbridge/mqttbridge.yaml")
    text = config.read_text(encoding="utf-8").replace("localhost:1883", "127.0.0.1:1")
    text = text.replace("# password: !credential", "password: !credential").replace("# username:", "username:")
    config.write_text("http: {listen: 127.0.0.1:0}\n" + text, encoding="utf-8")
    machine.file("/etc/mqttbridge/credentials/local-password").write_text("not to be seen", encoding="utf-8")
    assert "good (1 connection, 1 source, 0 flows)" in machine.type(check)
    machine.type(unit)
    return machine


@pytest.fixture(params=[True, False], ids=["as the unit", "without systemd"])
def service(request: pytest.FixtureRequest, installed: Machine) -> Iterator[Service]:
    service = Service(installed, systemd=request.param)
    if not service.systemd:
        config = installed.file("/etc/mqttbridge/mqttbridge.yaml")
        text = config.read_text(encoding="utf-8").replace("!credential local-", "!file credentials/local-")
        config.write_text(text, encoding="utf-8")
    yield service
    service.close()


def test_the_page_installs_what_the_unit_starts(installed: Machine) -> None:
    assert installed.recorded() == [
        "apt-get install --yes git python3-venv curl sqlite3",
        "pip install --quiet .",
        "systemctl daemon-reload",
        "systemctl enable --now mqttbridge",
    ]
    unit = installed.file("/etc/systemd/system/mqttbridge.service")
    assert unit.read_bytes() == UNIT.read_bytes()
    program = installed.file("/opt/mqttbridge/bin/mqttbridge")
    assert installed.file("/usr/local/bin/mqttbridge").resolve() == program.resolve()
    assert installed.file("/etc/mqttbridge/credentials").stat().st_mode & 0o777 == 0o700
    assert installed.file("/etc/mqttbridge/mqttbridge.yaml").stat().st_mode & 0o777 == 0o644
    assert str(program) == installed.placed("/opt/mqttbridge/bin/mqttbridge")


def test_an_upgrade_lies_beside_the_old_version_and_takes_its_place(installed: Machine) -> None:
    old = installed.file("/opt/mqttbridge").resolve()
    renamed = old.with_name("mqttbridge-20200101-000000")
    old.rename(renamed)
    (upgrade,) = section("Upgrade")
    installed.recorded()
    installed.type(upgrade)
    assert installed.recorded() == ["pip install --quiet .", "systemctl daemon-reload", "systemctl restart mqttbridge"]
    assert renamed.is_dir()
    assert installed.file("/opt/mqttbridge").resolve() not in {old.parent, renamed}
    assert installed.file("/opt/mqttbridge/bin/mqttbridge").is_file()


def test_an_upgrade_that_does_not_like_the_configuration_leaves_the_old_version_in_place(installed: Machine) -> None:
    old = installed.file("/opt/mqttbridge").resolve()
    kept = old.rename(old.with_name("mqttbridge-20200101-000000"))
    installed.file("/opt/mqttbridge").unlink()
    installed.file("/opt/mqttbridge").symlink_to(kept)
    installed.file("/etc/mqttbridge/mqttbridge.yaml").write_text("sources: 7", encoding="utf-8")
    installed.recorded()
    with pytest.raises(AssertionError, match="sources"):
        installed.type(section("Upgrade")[0])
    assert installed.file("/opt/mqttbridge").resolve() == kept
    assert installed.recorded() == ["pip install --quiet ."]


def test_it_runs_where_the_unit_or_the_defaults_say_and_ends_in_good_order(service: Service) -> None:
    service.start()
    machine = service.machine
    state = "/var/lib/mqttbridge" if service.systemd else "/etc/mqttbridge/state"
    runtime = "/run/mqttbridge" if service.systemd else state
    assert machine.file(f"{state}/journal.db").is_file()
    assert machine.file(f"{runtime}/{NAME}").is_socket()
    code, printed = service.ask("status", "--json")
    status = json.loads(printed)
    assert (code, status["state_directory"]) == (2, str(machine.file(state)))
    assert [each["id"] for each in status["connections"]] == ["local"]
    assert service.stop() == 0
    assert not machine.file(f"{runtime}/{NAME}").exists()
    if service.systemd:
        assert service.until_heard("STOPPING=1")


def test_a_signal_reloads_and_systemd_hears_of_it(service: Service) -> None:
    service.start()
    config = service.machine.file("/etc/mqttbridge/mqttbridge.yaml")
    config.write_text(config.read_text(encoding="utf-8") + "journal: {maxSize: 2GiB}\n", encoding="utf-8")
    service.signal(signal.SIGHUP)
    service.until_said("config.reloaded")
    if service.systemd:
        began = service.until_heard("RELOADING=1")
        assert re.fullmatch(r"MONOTONIC_USEC=\d+", began[1])
        service.until_heard("READY=1")
    assert service.stop() == 0


def test_the_units_reload_waits_and_fails_when_the_file_is_wrong(service: Service) -> None:
    service.start()
    config = service.machine.file("/etc/mqttbridge/mqttbridge.yaml")
    good = config.read_text(encoding="utf-8")
    _, *reload = service.command("ExecReload")
    config.write_text(good + "journal: {maxSize: 2GiB}\n", encoding="utf-8")
    assert service.ask("plan")[0] == 2
    code, printed = service.ask(*reload)
    assert code == 0, printed
    assert len(service.said("config.reloaded")) == 1
    assert service.ask("plan")[0] == 0
    config.write_text(good + "jurnal: {maxSize: 3GiB}\n", encoding="utf-8")
    code, printed = service.ask(*reload)
    assert (code, "jurnal" in printed) == (1, True)
    service.until_said("config.rejected")
    assert service.stop() == 0


def test_a_backup_of_a_running_daemon_can_be_restored(installed: Machine) -> None:
    if shutil.which("sqlite3") is None:
        pytest.skip("sqlite3 is not installed: the commands for the backup were not tried")
    service = Service(installed, systemd=True)
    try:
        service.start()
        (listening,) = service.said("http.listening")
        for fcnt in range(3):
            answer = httpx.post(f"http://{listening['address']}/uplink/lrc", content=uplink(fcnt), headers=JSON)
            assert answer.status_code == 200, answer.text
        backup, restore = section("Backup")
        installed.type(backup)
        installed.type(backup)
        assert service.stop() == 0
        shutil.rmtree(installed.file("/var/lib/mqttbridge"))
        installed.file("/var/lib/mqttbridge").mkdir()
        installed.recorded()
        installed.type(restore)
        assert [line.split()[0] for line in installed.recorded()] == ["systemctl", "chown", "systemctl"]
        service.start()
        status = json.loads(service.ask("status", "--json")[1])
        assert status["journal"]["queued"] == 3
        assert service.stop() == 0
    finally:
        service.close()


def test_nothing_is_left_after_the_end(installed: Machine) -> None:
    (uninstall,) = section("Uninstall")
    installed.recorded()
    installed.type(uninstall)
    assert installed.recorded() == ["systemctl disable --now mqttbridge", "systemctl daemon-reload"]
    left = [path for path in installed.root.rglob("*") if "mqttbridge" in path.name]
    assert left == []


def test_the_other_blocks_are_commands_that_a_shell_reads(machine: Machine) -> None:
    for title, text in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        for block in BLOCK.findall(text):
            done = subprocess.run(["bash", "-n", "-c", machine.placed(block)], check=False)
            assert done.returncode == 0, title
