"""References: what they give, and each way in which they can fail."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mqttbridge.settings.problems import Mark
from mqttbridge.settings.reader import Scalar
from mqttbridge.settings.references import MAX_REFERENCED, References, read_file


def scalar(directory: Path, tag: str, text: str) -> Scalar:
    return Scalar(Mark(str(directory / "mqttbridge.yaml"), 1, 1), text, plain=True, tag=tag)


def refused(directory: Path, tag: str, text: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ValueError) as caught:
        References(environ or {}).resolve(scalar(directory, tag, text))
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("secret", "secret"),
        ("secret\n", "secret"),
        ("secret\r\n", "secret"),
        ("a\n\n", "a\n"),
        (" a ", " a "),
        ("\ufeffa", "a"),
    ],
)
def test_one_newline_at_the_end_of_a_file_is_taken_off(tmp_path: Path, content: str, text: str) -> None:
    (tmp_path / "key").write_bytes(content.encode())
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    for tag in ("file", "credential"):
        assert References(environ).resolve(scalar(tmp_path, tag, "key")) == text


def test_a_file_is_relative_to_where_it_is_named_or_absolute(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "key").write_text("x")
    assert References({}).resolve(scalar(tmp_path / "deep", "file", "../key")) == "x"
    assert References({}).resolve(scalar(Path("/nowhere"), "file", str(tmp_path / "key"))) == "x"


def test_a_credential_of_a_loaded_directory_needs_no_prefix(tmp_path: Path) -> None:
    """`LoadCredential=mqttbridge:/etc/mqttbridge/credentials` gives each file the name mqttbridge_<file>."""
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    (tmp_path / "mqttbridge_key").write_text("of the directory")
    assert References(environ).resolve(scalar(tmp_path, "credential", "key")) == "of the directory"
    (tmp_path / "key").write_text("of its own")
    assert References(environ).resolve(scalar(tmp_path, "credential", "key")) == "of its own"


def test_a_variable_is_taken_as_it_is(tmp_path: Path) -> None:
    assert References({"A": "x\n"}).resolve(scalar(tmp_path, "env", "A")) == "x\n"


def test_each_failure_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "der").write_bytes(b"0\x82\xff")
    (tmp_path / "large").write_bytes(b"x" * (MAX_REFERENCED + 1))
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "fifo")
    assert "No such file" in refused(tmp_path, "file", "none")
    assert "not a regular file" in refused(tmp_path, "file", "dir")
    assert "not a regular file" in refused(tmp_path, "file", "fifo")
    assert "not a regular file" in refused(tmp_path, "file", "/dev/zero")
    assert "is larger than 1 MiB" in refused(tmp_path, "file", "large")
    assert "PEM form, not DER" in refused(tmp_path, "file", "der")
    assert "is empty" in refused(tmp_path, "file", "empty")
    assert "no file can have this name" in refused(tmp_path, "file", "a\0b")
    assert "needs a name" in refused(tmp_path, "file", "")
    assert "variable A is not set" in refused(tmp_path, "env", "A")
    assert "variable A is empty" in refused(tmp_path, "env", "A", {"A": ""})
    assert "not UTF-8" in refused(tmp_path, "env", "A", {"A": "\udcff"})
    inside = {"CREDENTIALS_DIRECTORY": str(tmp_path)}
    assert "the credential x cannot be read" in refused(tmp_path, "credential", "x", inside)
    assert "not a path" in refused(tmp_path, "credential", "../x", inside)
    assert "not a path" in refused(tmp_path, "credential", "..", inside)


def test_a_file_without_a_size_is_bounded_too() -> None:
    assert read_file(Path("/proc/self/status"), MAX_REFERENCED)
    with pytest.raises(ValueError):
        read_file(Path("/proc/self/status"), 10)


def test_a_credential_outside_of_systemd_is_told_how_a_shell_gives_it(tmp_path: Path) -> None:
    assert refused(tmp_path, "credential", "x") == (
        "$CREDENTIALS_DIRECTORY is not set; systemd sets it for the service; on a shell set it to the directory of the "
        "credential files, such as CREDENTIALS_DIRECTORY=/etc/mqttbridge/credentials"
    )
