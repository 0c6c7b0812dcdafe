"""`mqttbridge status` in front of a real daemon: what it says, its exit code, and who may ask."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
import time
from typing import TYPE_CHECKING, Any

from mqttbridge.control.unix import NAME
from tests.support.bridge import NOBODY, ROOT, bridge, command, run, to, uplink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.support.bridge import Bridge, Command


def code(done: Command) -> int | None:
    assert done.process is not None
    return done.process.returncode


async def status(daemon: Bridge, *more: str, env: dict[str, str] | None = None) -> Command:
    return await run("status", "--config", str(daemon.path), *more, env=env)


async def as_json(daemon: Bridge) -> dict[str, Any]:
    found: dict[str, Any] = json.loads("\n".join((await status(daemon, "--json")).stdout))
    return found


async def test_all_is_well_while_every_connection_is_open(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    connections = {"acme": to(plain_mosquitto), "off": {**to(NOBODY), "active": False}}
    async with bridge(tmp_path, connections=connections) as daemon:
        await daemon.until_state("acme", "OPENED")
        await daemon.accept("lrc", *(uplink(number) for number in range(20)))
        await daemon.until_account("acme", delivered=20)
        done = await status(daemon)
        assert (code(done), done.stderr) == (0, []), done.text
        assert "all is well: 1 active connection, 1 source" in done.text
        assert [line.split()[:2] for line in done.stdout if line.startswith(("acme", "off"))] == [
            ["acme", "OPENED"],
            ["off", "DEACTIVATED"],
        ]
        whole = await as_json(daemon)
        assert (whole["ok"], whole["pid"], whole["config"]) == (True, daemon.pid, str(daemon.path))
        assert whole["sources"][0]["accepted"] == 20
        assert whole["connections"][0]["totals"]["delivered"] == 20


async def test_what_is_wrong_is_said_while_the_file_is_being_edited(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with bridge(tmp_path, connections={"down": to(NOBODY), "up": to(plain_mosquitto)}) as daemon:
        await daemon.accept("lrc", uplink(1), uplink(2))
        await daemon.until_state("up", "OPENED")
        await daemon.until_state("down", "UNREACHABLE")
        daemon.path.write_text(daemon.path.read_text() + "\n]: half of an ed")
        done = await status(daemon)
        assert (code(done), done.stderr) == (2, [])
        text = " ".join(done.text.split())
        assert "connection down: " in text
        assert "connection refused" in text
        assert "2 uplinks queued" in text
        assert max(map(len, done.stdout)) <= 80


async def test_without_a_daemon_it_says_where_it_looked(tmp_path: Path) -> None:
    async with bridge(tmp_path) as daemon:
        socket = daemon.state / NAME
        assert socket.stat().st_mode & 0o777 == 0o600
        await daemon.kill()
        done = await status(daemon)
        assert (code(done), done.stdout) == (1, [])
        assert f"nobody answers at {socket}" in done.stderr[0]
        await daemon.restart()
        assert code(await status(daemon)) == 0, "what the crash has left is replaced"
        await daemon.stop()
        done = await status(daemon)
        assert (code(done), len(done.stderr)) == (1, 1)
        assert "is mqttbridge running" in done.stderr[0]
        assert not socket.exists()


async def test_the_socket_stands_in_the_runtime_directory_if_there_is_one(tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    env = {"RUNTIME_DIRECTORY": str(runtime)}
    async with bridge(tmp_path, env=env) as daemon:
        assert [path.name for path in runtime.iterdir()] == [NAME]
        assert not (daemon.state / NAME).exists()
        assert code(await status(daemon, env=env)) == 0
        other = tmp_path / "other.yaml"
        other.write_text("{}")
        done = await run("status", "--config", str(other), env=env)
        assert code(done) == 1
        assert f"it runs with {daemon.path}: name that file with --config" in done.text
        await daemon.stop()
    assert list(runtime.iterdir()) == []


def relative(path: Path) -> str:
    """Write a path as seen from where commands run."""
    return os.path.relpath(path, ROOT)


async def test_of_two_files_that_name_one_state_directory_only_that_of_the_daemon_is_answered(tmp_path: Path) -> None:
    async with bridge(tmp_path) as daemon:
        other, link = tmp_path / "other.yaml", tmp_path / "link.yaml"
        other.write_text(daemon.path.read_text())
        link.symlink_to(daemon.path)
        for arguments in (("status",), ("plan",), ("tap", "--count", "1"), ("parked", "list")):
            done = await run(*arguments, "--config", str(other))
            assert code(done) == 1
            (said,) = done.stderr
            assert said.startswith(f"the mqttbridge at {daemon.state / NAME} does not answer GET /")
            assert said.endswith(f": it runs with {daemon.path}: name that file with --config")
        for path in (link, relative(daemon.path)):
            assert code(await run("status", "--config", str(path))) == 0


async def test_watching_as_json_ends_well_with_ctrl_c(tmp_path: Path) -> None:
    async with (
        bridge(tmp_path) as daemon,
        command("status", "--config", str(daemon.path), "--json", "--watch") as watch,
    ):
        await watch.until(lambda: len(watch.stdout) >= 2, "two looks")
        watch.signal(signal.SIGINT)
        assert await watch.wait() == 0
        assert watch.stderr == []
        assert all(json.loads(line)["pid"] == daemon.pid for line in watch.stdout)


def read_all(descriptor: int, wanted: bytes, deadline: float) -> bytes:
    """Read from a terminal until something is seen, or it ends."""
    seen = b""
    while wanted not in seen and time.monotonic() < deadline:
        try:
            seen += os.read(descriptor, 65536)
        except OSError:
            break
    return seen


async def test_watching_on_a_terminal_ends_well_with_ctrl_c(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        ours, theirs = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mqttbridge", "status", "--watch", "--config", str(daemon.path),
            cwd=ROOT, env={"PATH": os.environ["PATH"], "TERM": "xterm"}, stdin=theirs, stdout=theirs, stderr=theirs,
            start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        deadline = time.monotonic() + 20
        seen = await asyncio.to_thread(read_all, ours, b"connection acme", deadline)
        assert b"connection acme" in seen, seen
        process.send_signal(signal.SIGINT)
        rest = await asyncio.to_thread(read_all, ours, b"\x1b[?1049l", deadline)
        assert await asyncio.wait_for(process.wait(), 20) == 0, rest
        assert b"\x1b[?1049l" in rest, "the screen from before is back"
        assert b"Traceback" not in seen + rest
        os.close(ours)
