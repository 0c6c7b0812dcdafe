"""Asking a daemon: where it is looked for, and the sentence when it cannot be asked."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from mqttbridge.ask import client
from mqttbridge.ask.client import Daemon
from mqttbridge.control import unix
from mqttbridge.errors import AskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PROBLEM = b'{"type": "about:blank", "title": "Misdirected Request", "status": 421, "detail": "it runs with /b.yaml"}'


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a configuration of nobody; the unit's directory is one of the test's."""
    monkeypatch.setattr(unix, "UNIT_DIRECTORY", tmp_path / "run")
    (tmp_path / "run").mkdir()
    (tmp_path / "state").mkdir()
    path = tmp_path / "mqttbridge.yaml"
    path.write_text("{}")
    return path


@pytest.fixture
def answering() -> Iterator[Callable[[Path, bytes], list[bytes]]]:
    """Have one request at a socket answered with these bytes; gives a list that the request is put into."""
    threads: list[threading.Thread] = []
    listening: list[unix.Listening] = []

    def begin(path: Path, answer: bytes) -> list[bytes]:
        one = unix.listen(path)
        one.socket.settimeout(10)
        listening.append(one)
        heard: list[bytes] = []

        def serve() -> None:
            peer, _ = one.socket.accept()
            with peer:
                heard.append(peer.recv(65536))
                peer.sendall(answer)

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return heard

    yield begin
    for thread in threads:
        thread.join(10)
    for one in listening:
        one.close()


def http(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\ncontent-length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def sockets(config: Path, environ: dict[str, str]) -> tuple[Path, ...]:
    return Daemon(config, environ).sockets


def refusal(config: Path, **environ: str) -> str:
    with pytest.raises(AskError) as refused:
        Daemon(config, environ).get("/status")
    return str(refused.value)


def test_it_looks_where_the_configuration_says_then_where_the_unit_is(config: Path, tmp_path: Path) -> None:
    unit = tmp_path / "run" / unix.NAME
    assert sockets(config, {}) == (tmp_path / "state" / unix.NAME, unit)
    config.write_text("stateDirectory: elsewhere\nnonsense: [")
    assert sockets(config, {}) == (tmp_path / "state" / unix.NAME, unit), "a broken file says nothing"
    config.write_text("stateDirectory: elsewhere\nconnections: {a: {qos: 9}}\n")
    assert sockets(config, {}) == (tmp_path / "elsewhere" / unix.NAME, unit)
    assert sockets(config, {"RUNTIME_DIRECTORY": str(tmp_path / "run")}) == (unit,)


def test_it_gives_the_body_of_the_answer_and_says_whom_it_means(
    config: Path, tmp_path: Path, answering: Callable[[Path, bytes], list[bytes]]
) -> None:
    heard = answering(tmp_path / "run" / unix.NAME, http("200 OK", b"{}"))
    assert Daemon(config, {}).get("/status") == b"{}"
    assert heard[0].startswith(b"GET /status HTTP/1.1\r\n")
    assert b"mqttbridge-config: %s %s\r\n" % (bytes(config), bytes(config.resolve())) in heard[0]


def test_in_the_state_directory_too_it_says_whom_it_means_for_two_files_may_name_one(
    config: Path, tmp_path: Path, answering: Callable[[Path, bytes], list[bytes]]
) -> None:
    heard = answering(tmp_path / "state" / unix.NAME, http("200 OK", b"{}"))
    Daemon(config, {}).get("/status")
    assert b"mqttbridge-config: %s %s\r\n" % (bytes(config), bytes(config.resolve())) in heard[0]


def test_a_daemon_with_another_configuration_is_told(
    config: Path, tmp_path: Path, answering: Callable[[Path, bytes], list[bytes]]
) -> None:
    where = tmp_path / "run" / unix.NAME
    answering(where, http("421 Misdirected Request", PROBLEM))
    assert refusal(config) == f"the mqttbridge at {where} does not answer GET /status: it runs with /b.yaml"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
def test_what_is_no_answer_is_a_sentence(
    config: Path, tmp_path: Path, answering: Callable[[Path, bytes], list[bytes]], answer: bytes
) -> None:
    where = tmp_path / "state" / unix.NAME
    answering(where, answer)
    assert refusal(config).startswith(f"the mqttbridge at {where} gave no answer: ")


def test_an_answer_that_does_not_come_is_not_waited_for_for_ever(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "TIMEOUT", 0.1)
    listening = unix.listen(tmp_path / "state" / unix.NAME)
    assert "no answer in time" in refusal(config)
    listening.close()


def test_without_a_daemon_it_asks_whether_it_runs(config: Path, tmp_path: Path) -> None:
    said = refusal(config)
    assert str(tmp_path / "state" / unix.NAME) in said
    assert str(tmp_path / "run" / unix.NAME) in said
    assert "is mqttbridge running" in said
    assert str(config) in said


def test_what_a_crash_has_left_is_named(config: Path, tmp_path: Path) -> None:
    where = tmp_path / "state" / unix.NAME
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(where))
    assert refusal(config).startswith(f"nobody answers at {where}")


def test_who_may_not_ask_is_told_who_may(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(path: Path, _: float) -> socket.socket:
        raise FileNotFoundError if path.parent.name == "state" else PermissionError

    monkeypatch.setattr(unix, "connect", connect)
    assert refusal(config).startswith(f"{tmp_path / 'run' / unix.NAME} may not be used by this user: only root")
