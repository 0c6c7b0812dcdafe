"""What changed on disk is noticed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mqttbridge.settings.watching import signature

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_done_is_nothing_noticed(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    files = (tmp_path, tmp_path / "a", tmp_path / "missing")
    assert signature(files) == signature(files)
    assert signature(files)[2] == (tmp_path / "missing", None)


def test_writing_renaming_and_removing_are_noticed(tmp_path: Path) -> None:
    file = tmp_path / "a"
    looks = [signature([file])]
    file.write_text("one")
    looks.append(signature([file]))
    os.utime(file, ns=(1, 1))
    looks.append(signature([file]))
    other = tmp_path / "b"
    other.write_text("two")
    os.utime(other, ns=(1, 1))
    other.rename(file)
    looks.append(signature([file]))
    file.write_text("twofold")
    os.utime(file, ns=(1, 1))
    looks.append(signature([file]))
    assert len(set(looks)) == len(looks)
    file.unlink()
    assert signature([file]) == looks[0]


def test_a_file_beside_is_noticed_by_its_directory_and_behind_a_link_too(tmp_path: Path) -> None:
    inner = tmp_path / "connections.d"
    inner.mkdir()
    os.utime(inner, ns=(1, 1))
    before = signature([inner])
    (inner / "acme.yaml").touch()
    assert signature([inner]) != before
    link = tmp_path / "link"
    link.symlink_to(inner / "acme.yaml")
    before = signature([link])
    (inner / "acme.yaml").write_text("x: y")
    assert signature([link]) != before


def test_what_cannot_be_looked_at_is_a_value_too(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    strange = tmp_path / "a" / "b", tmp_path / "nul\0", tmp_path / ("x" * 5000)
    assert [look for _, look in signature(strange)] == [None, None, None]


def test_a_file_that_becomes_readable_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("x")
    file.chmod(0)
    before = signature([file])
    file.chmod(0o600)
    assert signature([file]) != before
