"""The command line: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from mqttbridge import cli
from tests.support.bridge import NOBODY, bridge, names, run, to

if TYPE_CHECKING:
    from tests.support.bridge import Command

ROOT = Path(__file__).parents[1]


def code(done: Command) -> int | None:
    assert done.process is not None
    return done.process.returncode


def one_sentence(done: Command) -> str:
    """Give what stands on stderr, which must be one sentence, beside the log."""
    assert "Traceback" not in done.text
    (sentence,) = [line for line in done.stderr if not line.startswith("{")]
    return sentence


# -- check and schema ------------------------------------------------------------------------------------------------


async def test_check_says_what_a_good_file_holds(tmp_path: Path) -> None:
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("sources: {lrc: {transport: http}, b: {transport: http}}\n")
    done = await run("check", "--config", str(path))
    assert (code(done), done.stdout[-1]) == (0, f"{path}: good (0 connections, 2 sources, 0 flows)")
    assert done.stderr == []
    assert names(tmp_path) == ["mqttbridge.yaml"], "it only looks"


async def test_check_takes_the_file_from_the_environment(tmp_path: Path) -> None:
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("{}")
    assert code(await run("check", env={"MQTTBRIDGE_CONFIG": str(path)})) == 0


async def test_check_tells_every_problem_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("htpp: {}\njournal: {maxSize: 1KiB}\nsources:\n  lrc: {transport: carrier-pigeon}\n")
    done = await run("check", "--config", str(path))
    assert code(done) == 1
    assert done.stdout == []
    assert [line.split(": ")[0] for line in done.stderr] == [f"{path}:1:1", f"{path}:2:20", f"{path}:4:20"]
    assert "did you mean" in done.stderr[0]


async def test_check_warns_of_what_works_but_will_fail(tmp_path: Path) -> None:
    from tests.brokers.certs import Certificates

    expired = Certificates().expired
    configuration = {"hostName": "a.example", "certificate": expired.certificate, "privateKey": expired.key}
    path = tmp_path / "mqttbridge.yaml"
    path.write_text(json.dumps({"connections": {"acme": {"configuration": configuration}}}))
    done = await run("check", "--config", str(path))
    assert code(done) == 1
    assert "expired" in one_sentence(done)


async def test_schema_prints_a_json_schema_that_knows_every_section() -> None:
    done = await run("schema")
    assert (code(done), done.stderr) == (0, [])
    schema = json.loads("\n".join(done.stdout))
    assert "$schema" in schema
    text = msgspec.json.encode(schema).decode()
    for name in ("stateDirectory", "sources", "flows", "connections", "uplinkTopicPattern", "reconnectStrategy"):
        assert f'"{name}"' in text


# -- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ["rnu"],
        ["run", "--confg", "x"],
        ["run", "--log-level", "loud"],
        ["send"],
        ["send", "--source", "lrc", "--count", "0"],
        ["send", "--source", "lrc", "--count", "many"],
        ["demo", "--duration", "soon"],
        ["demo", "--devices", "0"],
        ["schema", "surplus"],
        ["status", "surplus"],
        ["status", "--watch"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mqttbridge", *arguments])
    monkeypatch.setattr(cli, "install_excepthook", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Usage" in err


async def test_help_and_version_answer() -> None:
    from mqttbridge import __version__

    helped = await run("--help")
    assert code(helped) == 0
    for name in ("run", "check", "demo", "send", "status", "schema"):
        assert f" {name} " in helped.text
    assert __version__ in (await run("--version")).text


def _all_commands() -> list[str]:
    found = []
    for name, command in cli.cli.commands.items():
        found += [f"{name} {part}" for part in getattr(command, "commands", {})] + [name]
    return sorted(found)


@pytest.mark.parametrize("name", _all_commands())
def test_the_help_of_each_command_has_an_example(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mqttbridge", *name.split(), "--help"])
    monkeypatch.setattr(cli, "install_excepthook", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    example = next(number for number, line in enumerate(lines) if line.startswith(f"mqttbridge {name}"))
    assert lines[example - 1] == "", "it stands apart from what is said of the command"


def test_a_bug_exits_with_70_and_a_sentence_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def buggy(*_: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(cli, "_load", buggy)
    monkeypatch.setattr(sys, "argv", ["mqttbridge", "check"])
    for hook in ("excepthook", "unraisablehook"):
        monkeypatch.setattr(sys, hook, getattr(sys, hook))
    monkeypatch.setattr("threading.excepthook", None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 70
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["mqttbridge: internal error: ZeroDivisionError: by zero"]


# -- what run does with what it is given -----------------------------------------------------------------------------


async def test_run_without_a_configuration_file_says_so(tmp_path: Path) -> None:
    done = await run("run", "--config", str(tmp_path / "none.yaml"))
    assert code(done) == 1
    assert str(tmp_path / "none.yaml") in one_sentence(done)


async def test_run_tells_every_problem_of_a_wrong_configuration(tmp_path: Path) -> None:
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("http: {listen: nowhere}\njournal: {whenFull: panic}\n")
    done = await run("run", "--config", str(path))
    assert code(done) == 1
    sentences = [line for line in done.stderr if line.startswith(f"{path}:")]
    events = [json.loads(line) for line in done.stderr if line.startswith("{")]
    assert len(sentences) == 2
    assert [(line["event"], line["reason"]) for line in events] == [("config.rejected", text) for text in sentences]
    assert not (tmp_path / "state").exists()


async def test_run_on_a_port_in_use_says_so(tmp_path: Path) -> None:
    async with bridge(tmp_path) as daemon:
        address = daemon.url.removeprefix("http://")
        path = tmp_path / "second.yaml"
        path.write_text(f"http: {{listen: '{address}'}}\nstateDirectory: elsewhere\n")
        done = await run("run", "--config", str(path))
        assert code(done) == 1
        assert address in one_sentence(done)
        assert "http.listen" in one_sentence(done)


async def test_run_on_a_state_directory_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("http: {listen: '127.0.0.1:0'}\n")
    done = await run("run", "--config", str(path))
    assert code(done) == 1
    assert str(tmp_path / "state") in one_sentence(done)


async def test_run_on_a_damaged_journal_says_so(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state/journal.db").write_bytes(b"not a database" * 1000)
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("http: {listen: '127.0.0.1:0'}\n")
    done = await run("run", "--config", str(path))
    assert code(done) == 1
    assert "journal.db" in one_sentence(done)


async def test_run_on_the_state_directory_of_another_says_so_and_leaves_it_alone(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        done = await run("run", "--config", str(daemon.path))
        assert code(done) == 1
        assert f"pid {daemon.pid}" in one_sentence(done)
        assert (await daemon.get("/health")).status_code == 200


async def test_output_to_a_closed_pipe_is_no_bug() -> None:
    import asyncio

    command = f"{sys.executable} -m mqttbridge schema | head -c 1 >/dev/null; exit ${{PIPESTATUS[0]}}"
    process = await asyncio.create_subprocess_exec("bash", "-c", command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert b"internal error" not in err
    assert process.returncode in {0, 1}


async def test_output_that_a_disk_has_no_room_for_is_no_bug() -> None:
    import asyncio

    command = f"{sys.executable} -m mqttbridge schema > /dev/full"
    process = await asyncio.create_subprocess_shell(command, cwd=ROOT, stderr=asyncio.subprocess.PIPE)
    _, err = await process.communicate()
    assert err.decode().splitlines() == ["mqttbridge: what it says cannot be written: No space left on device"]
    assert process.returncode == 1


async def test_a_terminal_that_knows_no_utf_8_is_no_bug(tmp_path: Path) -> None:
    path = tmp_path / "\N{GREEK SMALL LETTER MU}.yaml"
    path.write_text("{}\n")
    for encoding in ("ascii", "latin-1"):
        done = await run("check", "--config", str(path), env={"PYTHONIOENCODING": encoding})
        assert code(done) == 0, done.text
        done = await run("send", "--help", env={"PYTHONIOENCODING": encoding})
        assert code(done) == 0, done.text


async def test_check_notes_what_was_probably_not_meant_and_is_content(tmp_path: Path) -> None:
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("{}\n")
    done = await run("check", "--config", str(path))
    assert code(done) == 0
    assert "note: no source is configured" in done.text


async def test_a_hangup_does_not_end_the_daemon(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        os.kill(daemon.pid, signal.SIGHUP)
        assert (await daemon.get("/health")).status_code == 200


async def test_the_level_of_the_log_may_be_written_in_capitals(tmp_path: Path) -> None:
    done = await run("run", "--config", str(tmp_path / "none.yaml"), env={"MQTTBRIDGE_LOG_LEVEL": "DEBUG"})
    assert code(done) == 1
