"""Tags that tell nothing of what they are tags of."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from mqttbridge.settings.reader import etag
from mqttbridge.settings.seal import KEY_FILE, Seal

if TYPE_CHECKING:
    from pathlib import Path


def test_a_sealed_tag_outlives_a_restart_and_is_another_at_another_daemon(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    tag = etag(b"password: bar")
    sealed = Seal.of(here)(tag)
    assert Seal.of(here)(tag) == sealed != Seal.of(there)(tag)
    assert Seal.of(here)(etag(b"password: baz")) != sealed
    assert len(sealed) == 32
    assert tag not in sealed
    assert stat.S_IMODE((here / KEY_FILE).stat().st_mode) == 0o600


def test_a_key_that_is_torn_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / KEY_FILE).write_bytes(b"x")
    sealed = Seal.of(tmp_path)("tag")
    assert Seal.of(tmp_path)("tag") == sealed != Seal(b"x")("tag")


def test_without_a_disk_there_is_a_seal_for_this_time(tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere" / "else"
    seal = Seal.of(nowhere)
    assert seal("tag") == seal("tag") != Seal.of(nowhere)("tag")
