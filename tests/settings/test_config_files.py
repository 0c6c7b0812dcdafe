"""Every file in config/ loads, and says what it seems to say."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mqttbridge.settings.loader import load
from mqttbridge.settings.problems import Problems
from mqttbridge.settings.reader import Mapping, Scalar, read
from tests.settings.pki import furnish

CONFIG = Path(__file__).parents[2] / "config"
FILES = sorted(file.relative_to(CONFIG).as_posix() for file in CONFIG.rglob("*") if file.is_file())
MAIN = [name for name in FILES if "/" not in name]


def test_these_are_all_files() -> None:
    assert FILES == ["connections.d/example.yaml", "full.yaml", "mqttbridge.yaml"]


def test_the_example_loads_as_it_is() -> None:
    result = load(CONFIG / "mqttbridge.yaml", environ={})
    assert result.warnings == ()
    assert set(result.settings.connections) == {"local", "example"}
    assert result.settings.connections["local"].configuration.address == ("localhost", 1883)


@pytest.mark.parametrize("name", MAIN)
def test_every_file_loads_with_what_it_refers_to(tmp_path: Path, name: str) -> None:
    environ = furnish(tmp_path)
    shutil.copy(CONFIG / name, tmp_path)
    result = load(tmp_path / name, environ=environ)
    assert result.warnings == ()
    assert not [secret for secret in result.secrets if secret in repr(result.settings)]


def test_each_connection_file_loads_alone(tmp_path: Path) -> None:
    shutil.copytree(CONFIG / "connections.d", tmp_path / "connections.d")
    (tmp_path / "mqttbridge.yaml").touch()
    result = load(tmp_path / "mqttbridge.yaml", environ={})
    assert set(result.settings.connections) == {Path(name).stem for name in FILES if name.startswith("connections.d/")}


def test_the_full_example_plants_every_secret(tmp_path: Path) -> None:
    environ = furnish(tmp_path)
    shutil.copy(CONFIG / "full.yaml", tmp_path)
    result = load(tmp_path / "full.yaml", environ=environ)
    planted = {
        "planted-admin-token",
        "planted-read-only-token",
        "planted-password",
        "planted-ttn-key",
        "planted-api-key",
        "Bearer planted-authorization",
    }
    assert planted | {"00112233445566778899aabbccddeeff"} < set(result.secrets)
    assert result.state_directory == Path("/var/lib/mqttbridge")


def test_the_full_example_names_every_beginning_that_needs_quotes() -> None:
    head = " ".join(line.removeprefix("# ") for line in (CONFIG / "full.yaml").read_text().splitlines()[:6])
    named = head.partition("begin with one of ")[2].partition(", or hold")[0]
    for character in map(chr, range(0x21, 0x7F)):
        for text in (f"{character}x", f"{character} x"):
            problems = Problems()
            node = read(f"a: {text}\n".encode(), "f", problems)
            value = node.entries["a"].node if isinstance(node, Mapping) and "a" in node.entries else None
            taken = isinstance(value, Scalar) and value.text == text and not value.tag
            if text == ": x":
                continue  # holds ": "
            beginnings = named.partition(" or with ")[::2]
            assert taken is not (character in beginnings[0].split() or f'"{text[:2]}"' in beginnings[1]), text


def test_the_full_example_promises_nothing_that_this_version_does_not_do() -> None:
    text = (CONFIG / "full.yaml").read_text()
    assert "not used in this version" not in text
