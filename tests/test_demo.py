"""The demo: what it shows with and without a terminal, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import signal
import sys
import termios
import threading
from typing import TYPE_CHECKING

import httpx

from tests.brokers.recorder import publish
from tests.support.bridge import JSON, ROOT, Command, command, names, uplink

if TYPE_CHECKING:
    from pathlib import Path

LINE = re.compile(r"mqtt/things/[0-9A-F]{16}/uplink FCntUp=\d+ FPort=1 payload_hex=[0-9a-f]{6} ")


def where(demo: Command) -> tuple[str, int]:
    """Give the URL that takes uplinks, and the broker's port."""
    found = re.search(r"in at (\S+); the broker listens on 127.0.0.1:(\d+)", "\n".join(demo.stderr))
    assert found
    return found[1], int(found[2])


class Broker:
    """The demo's broker, for mosquitto_pub."""

    host = "127.0.0.1"

    def __init__(self, port: int) -> None:
        self.port = port


def own_temporary(tmp_path: Path) -> dict[str, str]:
    """Have the demo use a directory for temporary files that a test can look into."""
    return {"TMPDIR": str(tmp_path)}


async def test_without_a_terminal_it_prints_a_line_per_uplink_and_ends_by_itself(tmp_path: Path) -> None:
    async with command("demo", "--duration", "2s", "--devices", "2", env=own_temporary(tmp_path)) as demo:
        await demo.until(lambda: demo.stdout, "uplink")
        assert [name[:16] for name in names(tmp_path)] == ["mqttbridge-demo-"]
        assert await demo.wait() == 0
    assert len(demo.stdout) >= 4
    assert all(LINE.match(line) for line in demo.stdout), demo.stdout
    assert len({line.split()[0] for line in demo.stdout}) == 2
    assert len(demo.stderr) == 1, demo.stderr
    assert names(tmp_path) == []


async def test_ctrl_c_ends_it_clean(tmp_path: Path) -> None:
    async with command("demo", env=own_temporary(tmp_path)) as demo:
        await demo.until(lambda: demo.stdout, "uplink")
        demo.signal(signal.SIGINT)
        assert await demo.wait(5) == 0
    assert len(demo.stderr) == 1, demo.stderr
    assert names(tmp_path) == []


async def test_a_signal_while_it_still_starts_leaves_nothing_behind(tmp_path: Path) -> None:
    async with command("demo", env=own_temporary(tmp_path)) as demo:
        while not names(tmp_path):  # noqa: ASYNC110 (the directory is the first thing to be seen)
            await asyncio.sleep(0.002)
        demo.signal(signal.SIGTERM)
        assert await demo.wait(5) == 0
    assert "Traceback" not in demo.text
    assert names(tmp_path) == []


async def test_what_others_post_and_publish_does_not_disturb_it(tmp_path: Path) -> None:
    async with command("demo", env=own_temporary(tmp_path)) as demo:
        await demo.until(lambda: demo.stdout, "uplink")
        url, port = where(demo)
        for topic, payload in (("x", b"not JSON"), ("x", b'["a"]'), ("x", b'{"DevEUI_uplink": 1}'), ("x", b"\xff")):
            await publish(Broker(port), topic, payload)
        async with httpx.AsyncClient(trust_env=False) as client:
            for body in (
                b'{"DevEUI_uplink": {"DevEUI": "0018B20000000C31"}}',
                b'{"DevEUI_notification": {"DevEUI": "0018B20000000C31", "Type": "join"}}',
                uplink(4242, "0018B20000000C31"),
            ):
                assert (await client.post(url, content=body, headers=JSON)).status_code == 200
        await demo.until(lambda: any("FCntUp=4242" in line for line in demo.stdout), "uplink of another")
        assert "mqtt/things/0018B20000000C31/uplink" in demo.stdout, "an uplink without a counter is shown, too"
        demo.signal(signal.SIGINT)
        assert await demo.wait(5) == 0
    assert len(demo.stderr) == 1, demo.stderr


async def test_it_ends_quietly_when_nobody_reads_on(tmp_path: Path) -> None:
    line = f"{sys.executable} -m mqttbridge demo --duration 30s | head -n 1; exit ${{PIPESTATUS[0]}}"
    environ = {"PATH": os.environ["PATH"], **own_temporary(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", line, cwd=ROOT, env=environ, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(10):
        out, err = await process.communicate()
    assert LINE.match(out.decode())
    assert len(err.splitlines()) == 1, err
    assert process.returncode == 0
    assert names(tmp_path) == []


async def test_on_a_terminal_it_shows_a_live_table(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 140))
    screen = bytearray()

    def read() -> None:
        while True:
            try:
                screen.extend(os.read(master, 65536))
            except OSError:
                return

    reader = threading.Thread(target=read)
    reader.start()
    environ = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **own_temporary(tmp_path)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mqttbridge", "demo", cwd=ROOT, env=environ, stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    try:
        async with asyncio.timeout(10):
            while not re.search(rb"published [2-9].*mqtt/things/[0-9A-F]{16}/uplink.*temperature 1", screen, re.DOTALL):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await asyncio.to_thread(reader.join)
        os.close(master)
    text = screen.decode()
    assert "watch the broker: mosquitto_sub" in text
    assert "left nothing behind" in text
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1, "the cursor is back"
    assert names(tmp_path) == []
