"""The Unix socket: who may use it, what is there already, and that it is gone at the end."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from mqttbridge.control import unix
from mqttbridge.control.unix import connect, listen, may_ask, socket_path
from mqttbridge.errors import StartError

FDS = "/proc/self/fd"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mqttbridge.sock"


def speaks(path: Path, listener: socket.socket) -> bool:
    """Tell whether what is said there is heard here."""
    listener.settimeout(5)
    with connect(path, 5) as client:
        client.sendall(b"hello")
        while True:
            peer, _ = listener.accept()
            with peer:
                # One that has only looked whether somebody is here has said nothing.
                if said := peer.recv(5):
                    return said == b"hello"


def test_it_stands_in_the_directory_that_systemd_gives_else_in_that_of_the_state() -> None:
    state = Path("/var/lib/mqttbridge")
    assert socket_path(state, {}) == state / "mqttbridge.sock"
    assert socket_path(state, {"RUNTIME_DIRECTORY": "/run/a:/run/b"}) == Path("/run/a/mqttbridge.sock")
    assert socket_path(state, {"RUNTIME_DIRECTORY": ""}) == state / "mqttbridge.sock"
    assert socket_path(state, {"RUNTIME_DIRECTORY": "here"}) == state / "mqttbridge.sock"


def test_only_its_user_may_use_the_file_whatever_the_umask(path: Path) -> None:
    before = os.umask(0)
    try:
        listening = listen(path)
    finally:
        os.umask(before)
    mode = path.stat().st_mode
    assert (stat.S_ISSOCK(mode), stat.S_IMODE(mode)) == (True, 0o600)
    assert speaks(path, listening.socket)
    listening.close()
    assert not path.exists()


def test_what_a_crash_has_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))
        crashed.listen()
    assert path.exists()
    listening = listen(path)
    assert speaks(path, listening.socket)
    listening.close()


def test_one_that_answers_is_left_alone(path: Path) -> None:
    first = listen(path)
    with pytest.raises(StartError) as refused:
        listen(path)
    assert str(path) in str(refused.value)
    assert speaks(path, first.socket)
    first.close()


def test_a_file_that_is_no_socket_is_left_alone(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(StartError) as refused:
        listen(path)
    assert f"{path} is no socket" in str(refused.value)
    assert path.read_text() == "precious"


def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError) as refused:
        listen(tmp_path / "none" / "mqttbridge.sock")
    assert str(tmp_path / "none") in str(refused.value)
    assert "No such file or directory" in str(refused.value)


def test_at_the_end_the_socket_of_another_stays(path: Path) -> None:
    first = listen(path)
    path.unlink()
    second = listen(path)
    first.close()
    assert speaks(path, second.socket)
    second.close()
    assert not path.exists()


def test_a_path_that_is_longer_than_a_socket_may_have_works_at_both_ends(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 60] * 4)
    deep.mkdir(parents=True)
    path = deep / unix.NAME
    before = sum(1 for _ in Path(FDS).iterdir())
    listening = listen(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert speaks(path, listening.socket)
    listening.close()
    assert not path.exists()
    assert sum(1 for _ in Path(FDS).iterdir()) == before


def test_without_proc_a_path_that_is_too_long_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*["d" * 60] * 4)
    deep.mkdir(parents=True)
    monkeypatch.setattr(unix.os, "access", lambda *_: False)
    with pytest.raises(StartError) as refused:
        listen(deep / unix.NAME)
    assert "longer than 107 bytes" in str(refused.value)


def test_our_own_user_and_root_may_ask_and_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        assert may_ask(ours)

    class Peer:
        """Somebody, as the kernel tells."""

        def __init__(self, uid: int) -> None:
            self.uid = uid

        def getsockopt(self, *_: int) -> bytes:
            return unix.CREDENTIALS.pack(1234, self.uid, 99)

    monkeypatch.setattr(unix.os, "geteuid", lambda: 65432)
    assert [may_ask(Peer(uid)) for uid in (0, 65432, 65433, 1)] == [True, True, False, False]  # type: ignore[arg-type]
