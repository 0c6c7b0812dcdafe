"""Files are written whole or not at all, for nobody else to read, and what a crash leaves is swept away."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mqttbridge.errors import WriteFailed
from mqttbridge.settings import writing

if TYPE_CHECKING:
    from collections.abc import Callable


class Crash(BaseException):
    """The process ends here."""


STEPS: list[tuple[object, str]] = [
    (os, "open"),
    (os, "write"),
    (os, "fsync"),
    (os, "close"),
    (Path, "replace"),
]


def names(directory: Path) -> list[str]:
    return sorted(one.name for one in directory.iterdir())


def fails(error: BaseException) -> Callable[..., object]:
    """Give a function that raises, in place of one that would do something."""

    def failing(*_: object, **__: object) -> object:
        raise error

    return failing


def test_a_file_is_made_with_its_directory_for_nobody_else_to_read(tmp_path: Path) -> None:
    path = tmp_path / "connections.d" / "acme.yaml"
    before = os.umask(0)
    try:
        writing.write(path, b"one")
    finally:
        os.umask(before)
    assert writing.present(path) == b"one"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o750
    path.chmod(0o644)
    writing.write(path, b"two")
    assert writing.present(path) == b"two"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert names(path.parent) == ["acme.yaml"]


def test_a_directory_may_be_a_link_and_a_file_may_not(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "connections.d").symlink_to(tmp_path / "elsewhere")
    path = tmp_path / "connections.d" / "a.yaml"
    writing.write(path, b"one")
    assert (tmp_path / "elsewhere" / "a.yaml").read_bytes() == b"one"
    (tmp_path / "connections.d" / "b.yaml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WriteFailed, match="is a link"):
        writing.present(tmp_path / "connections.d" / "b.yaml")
    (tmp_path / "connections.d" / "c.yaml").mkdir()
    with pytest.raises(WriteFailed, match="not a regular file"):
        writing.present(tmp_path / "connections.d" / "c.yaml")


def test_a_link_that_leads_to_no_directory_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "connections.d").symlink_to(tmp_path / "nowhere")
    with pytest.raises(WriteFailed, match="leads to no directory"):
        writing.write(tmp_path / "connections.d" / "a.yaml", b"x")


def test_what_is_removed_is_gone_and_may_have_been_gone(tmp_path: Path) -> None:
    path = tmp_path / "d" / "a.yaml"
    writing.remove(path)
    writing.write(path, b"x")
    writing.remove(path)
    writing.remove(path)
    assert writing.present(path) is None
    assert names(path.parent) == []


@pytest.mark.parametrize("number", range(8))
def test_a_crash_at_any_step_leaves_the_old_or_the_new_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = tmp_path / "a.yaml"
    writing.write(path, b"old")
    left = number

    def counted(real: Callable[..., object]) -> Callable[..., object]:
        def step(*args: object, **named: object) -> object:
            nonlocal left
            if left == 0:
                raise Crash
            left -= 1
            return real(*args, **named)

        return step

    with monkeypatch.context() as patch:
        for owner, name in STEPS:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        # Whoever has crashed cleans nothing up.
        patch.setattr(Path, "unlink", fails(Crash()))
        with pytest.raises(Crash):
            writing.write(path, b"new")
    assert path.read_bytes() in {b"old", b"new"}
    assert all(name.startswith(".") for name in names(tmp_path) if name != "a.yaml")
    writing.sweep(tmp_path)
    assert names(tmp_path) == ["a.yaml"]


def test_only_what_a_crash_left_is_swept_away(tmp_path: Path) -> None:
    for name in (".hidden.yaml", ".mqttbridge-1.tmp", ".mqttbridge-1", "a.yaml", "a.tmp"):
        (tmp_path / name).write_text("x")
    writing.sweep(tmp_path)
    assert names(tmp_path) == [".hidden.yaml", ".mqttbridge-1", "a.tmp", "a.yaml"]
    writing.sweep(tmp_path / "missing")


@pytest.mark.parametrize(
    ("number", "words", "passing"),
    [
        (errno.EROFS, "read-only for the daemon", False),
        (errno.EACCES, "no permission", False),
        (errno.EPERM, "no permission", False),
        (errno.ENOSPC, "no space left", True),
        (errno.EDQUOT, "no space left", True),
        (errno.EIO, os.strerror(errno.EIO), True),
    ],
)
@pytest.mark.parametrize("step", STEPS[:1] + STEPS[2:3] + STEPS[4:])
def test_what_the_disk_refuses_is_a_sentence_and_leaves_what_was_there(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: tuple[object, str],
    number: int,
    words: str,
    passing: bool,
) -> None:
    path = tmp_path / "a.yaml"
    writing.write(path, b"old")
    with monkeypatch.context() as patch:
        patch.setattr(*step, fails(OSError(number, os.strerror(number))))
        with pytest.raises(WriteFailed, match=words) as caught:
            writing.write(path, b"new")
    assert caught.value.passing is passing
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.yaml"]


def test_a_write_goes_on_where_the_disk_took_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda handle, data: real(handle, data[:3]))
    writing.write(tmp_path / "a", b"0123456789")
    assert (tmp_path / "a").read_bytes() == b"0123456789"
