"""Loading as a whole: files, flows, the state directory, and that nothing but ConfigError ever comes out."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mqttbridge.errors import ConfigError
from mqttbridge.settings.loader import Loaded, find_state_directory, load
from tests.settings.helpers import complaints, connection, loaded, write
from tests.settings.pki import ca_certificate, furnish, shared_pair

ROOT = Path(__file__).parents[2]
ONE = "configuration: {hostName: h}\n"


def refused(path: Path, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ)
    return list(caught.value.problems)


def test_a_missing_file_is_an_error_with_its_name(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert refused(path) == [
        f"{path}: cannot be read: No such file or directory; name the file with --config or $MQTTBRIDGE_CONFIG"
    ]
    assert refused(tmp_path) == [f"{tmp_path}: is not a regular file"]
    assert "no file can have this name" in refused(tmp_path / "a\0b")[0]


def test_all_problems_of_all_files_come_at_once_in_order(tmp_path: Path) -> None:
    write(tmp_path, "configuration: {hostName: h, qos: 7}\n", "connections.d/b.yaml")
    write(tmp_path, "configuration: @\n", "connections.d/a.yaml")
    found = complaints(tmp_path, "zzz: 1\nhttp: {listen: x}\njournal: {maxSize: 1}\nzzz: 2\n")
    assert [line.split(" ")[0] for line in found] == [
        "mqttbridge.yaml:1:1:",
        "mqttbridge.yaml:2:16:",
        "mqttbridge.yaml:3:20:",
        "mqttbridge.yaml:4:1:",
        "connections.d/a.yaml:1:16:",
        "connections.d/b.yaml:1:35:",
    ]
    assert "connections.b.configuration.qos: must be" in found[-1]


def test_connections_may_stand_in_files_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "connections.d").mkdir()
    (tmp_path / "connections.d" / "password").write_text("secret")
    write(tmp_path, "configuration: {hostName: h, username: u, password: !file password}\n", "connections.d/b.yaml")
    write(tmp_path, ONE, "connections.d/c.d.yaml")
    for ignored in (".hidden.yaml", "x.yml", "x.yaml~", "x.yaml.bak", "README"):
        write(tmp_path, "[", f"connections.d/{ignored}")
    result = loaded(tmp_path, connection("hostName: h", identity="a") + "flows: {f: {connections: [a, b, c.d]}}\n")
    assert list(result.settings.connections) == ["a", "b", "c.d"]
    assert result.secrets == ("secret",)


@pytest.mark.parametrize("main", ["", "connections:\n", "connections: {}\n"])
def test_connections_beside_an_empty_file_are_enough(tmp_path: Path, main: str) -> None:
    write(tmp_path, ONE, "connections.d/b.yaml")
    assert list(loaded(tmp_path, main).settings.connections) == ["b"]


def test_the_same_id_in_both_places_is_an_error_that_names_both(tmp_path: Path) -> None:
    write(tmp_path, ONE, "connections.d/acme.yaml")
    (found,) = complaints(tmp_path, connection("hostName: h"))
    assert found.startswith("mqttbridge.yaml:2:3: connections.acme: is defined here and in ")
    assert "connections.d/acme.yaml" in found


def test_a_file_name_that_cannot_be_an_id_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ONE, "connections.d/a b.yaml")
    (found,) = complaints(tmp_path, "")
    assert found.startswith("connections.d/a b.yaml:1:1: connections.a b: cannot be an id")


def test_an_empty_or_odd_connection_file_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "", "connections.d/a.yaml")
    (tmp_path / "connections.d" / "b.yaml").mkdir()
    (tmp_path / "connections.d" / "c.yaml").symlink_to("nowhere")
    first, second, third = complaints(tmp_path, "flows: {f: {connections: [a, b, c]}}")
    assert "connections.a.configuration: is missing" in first
    assert "connections.b: the file is not a regular file" in second
    assert "connections.c: the file cannot be read: No such file" in third


def test_a_connections_directory_that_is_none_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "", "connections.d")
    (found,) = complaints(tmp_path, "")
    assert "the directory cannot be read" in found


@pytest.mark.parametrize("main", ["[1]", "connections: [1]", "a: ["])
def test_connections_beside_a_wrong_file_are_looked_at_too(tmp_path: Path, main: str) -> None:
    write(tmp_path, "configuration: {hostName: h, qos: 7}\n", "connections.d/b.yaml")
    found = complaints(tmp_path, main)
    assert len(found) == 2
    assert "connections.b.configuration.qos" in found[1]


def test_a_flow_that_names_no_connection_is_refused_with_a_near_miss(tmp_path: Path) -> None:
    text = "flows:\n  f:\n    connections: [acmee, x, acme]\n" + connection("hostName: h")
    first, second = complaints(tmp_path, text)
    place = "mqttbridge.yaml:3:19: flows.f.connections[0]"
    assert first == f"{place}: there is no connection “acmee”; did you mean “acme”?"
    assert second.endswith("there is no connection “x”; define it under connections")


def test_a_flow_may_name_a_connection_that_has_problems_of_its_own(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, "flows: {f: {connections: [acme]}}\n" + connection("hostName: h", "qos: 9"))
    assert "qos" in found


def test_a_flow_whose_hidden_name_is_no_connection_is_refused_without_it(tmp_path: Path) -> None:
    text = "flows: {f: {connections: [!env A]}}\n" + connection("hostName: h")
    assert loaded(tmp_path, text, {"A": "acme"})
    (found,) = complaints(tmp_path, text, {"A": "hunter2"})
    assert "gives no id of a connection" in found
    assert "hunter2" not in found


def test_the_state_directory_as_configured_else_from_systemd_else_beside_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, "stateDirectory: data\n")
    assert load(path, environ={"STATE_DIRECTORY": "/x"}).state_directory == tmp_path / "data"
    path = write(tmp_path, "stateDirectory: !env WHERE\n")
    assert load(path, environ={"WHERE": "/somewhere"}).state_directory == Path("/somewhere")
    path = write(tmp_path, "")
    assert load(path, environ={"STATE_DIRECTORY": "/x:/y"}).state_directory == Path("/x")
    assert load(path, environ={"STATE_DIRECTORY": ""}).state_directory == tmp_path / "state"
    assert load(path, environ={}).path == path


def test_the_state_directory_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "")
    monkeypatch.chdir(tmp_path)
    result = load(Path("mqttbridge.yaml"), environ={})
    assert result.state_directory == tmp_path / "state"


def test_a_definition_in_json_loads_unchanged(tmp_path: Path) -> None:
    text = """{
\t"connectorId": "actility-mqtt-iot", "name": "caf\\u00e9 \\/", "active": true,
\t"configuration": {
\t\t"hostName": "broker.example:8883", "protocol": "SSL", "username": "0123", "password": "p: #x",
\t\t"connectionTimeout": 5000, "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink", "webSocketPath": null
\t}
}"""
    write(tmp_path, text, "connections.d/a.yaml")
    connection = loaded(tmp_path, "").settings.connections["a"]
    assert connection.name == "café /"
    assert connection.configuration.username == "0123"
    assert connection.configuration.password == "p: #x"
    assert connection.configuration.web_socket_path == "/mqtt"


def test_a_file_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "connections.d").mkdir()
    (tmp_path / "connections.d" / os.fsdecode(b"\xff.yaml")).write_text(ONE)
    (found,) = complaints(tmp_path, "")
    assert "connections.\\udcff: cannot be an id" in found
    assert found.isprintable()


@pytest.mark.parametrize("name", ["x.yml", "X.YAML", "x.Yml"])
def test_a_connection_file_whose_name_ends_otherwise_is_a_warning(tmp_path: Path, name: str) -> None:
    write(tmp_path, ONE, f"connections.d/{name}")
    (tmp_path / "connections.d" / "directory.yml").mkdir()
    result = loaded(tmp_path, "")
    assert result.settings.connections == {}
    assert result.warnings == (f"{tmp_path}/connections.d/{name}:1:1: is not read: the name must end in .yaml",)


@pytest.mark.parametrize("wrapper", ["connections:\n  acme:\n    ", "connections:\n  b:\n    ", "acme:\n  "])
def test_a_connection_file_with_the_wrapper_of_the_main_file_is_told_to_drop_it(tmp_path: Path, wrapper: str) -> None:
    write(tmp_path, f"{wrapper}configuration: {{hostName: h}}\n", "connections.d/acme.yaml")
    (found,) = complaints(tmp_path, "flows: {f: {connections: [acme]}}")
    assert found == (
        "connections.d/acme.yaml:1:1: connections.acme: "
        "the file is one connection: write its properties (configuration: …) at the top level"
    )


def test_a_connection_file_named_like_a_property_is_not_taken_for_a_wrapper(tmp_path: Path) -> None:
    write(tmp_path, "name: x\n", "connections.d/name.yaml")
    (found,) = complaints(tmp_path, "")
    assert "connections.name.configuration: is missing" in found


@pytest.mark.parametrize("written", ["~/x", "'~/x'", "!env DIRECTORY", "~//x"])
def test_a_state_directory_under_the_home_directory_is_found_there(tmp_path: Path, written: str) -> None:
    environ = {"HOME": "/home/me", "DIRECTORY": "~/x"}
    assert loaded(tmp_path, f"stateDirectory: {written}", environ).state_directory == Path("/home/me/x")
    assert loaded(tmp_path, "stateDirectory: '~'", environ).state_directory == Path("/home/me")


@pytest.mark.parametrize("written", ["~/x", "~root/x", "~x"])
def test_a_state_directory_without_a_known_home_is_refused(tmp_path: Path, written: str) -> None:
    environ = {"HOME": "/home/me"} if written != "~/x" else {}
    (found,) = complaints(tmp_path, f"stateDirectory: {written}\n", environ)
    assert found.startswith("mqttbridge.yaml:1:17: stateDirectory: begins with ~, but ")
    assert found.endswith("; write the whole path")


def test_secrets_are_given_the_longest_first(tmp_path: Path) -> None:
    key = "00112233445566778899AABBCCDDEEFF"
    text = f"sources: {{a: {{transport: http, asKey: {key}}}}}\n" + connection(
        "hostName: h", "username: u", "password: 'x'", "downlinkAsId: !env A"
    )
    secrets = loaded(tmp_path, text, {"A": "TWA_1"}).secrets
    # The key as it was written, and as it is used.
    assert sorted(secrets[:2]) == [key, key.lower()]
    assert secrets[2:] == ("TWA_1", "x")


def test_a_thousand_connections_load_fast(tmp_path: Path) -> None:
    one = (ROOT / "config" / "connections.d" / "example.yaml").read_text()
    for number in range(1000):
        write(tmp_path, one.replace("active: false", "active: true"), f"connections.d/c{number}.yaml")
    started = time.perf_counter()
    assert len(loaded(tmp_path, "").settings.connections) == 1000
    assert time.perf_counter() - started < 10


def test_a_file_of_a_hundred_megabytes_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    started = time.perf_counter()
    assert refused(path) == [f"{path}: is larger than 16 MiB"]
    assert time.perf_counter() - started < 1


@pytest.mark.parametrize(
    "line",
    [
        "hostName: '" + "ü." * 4_000_000 + "'",
        "hostName: h\n      privateKey: '" + "-----BEGIN PRIVATE KEY----- " * 300_000 + "'",
        "hostName: h\n      privateKey: '" + "-----BEGIN PRIVATE KEY----- " * 30_000 + "'",
        "hostName: h\n      trustedCaCertificate: '" + "-----BEGIN CERTIFICATE-----" * 30_000 + "'",
        "hostName: h\n      uplinkTopicPattern: '" + "{a|" * 300_000 + "'",
        "hostName: h\n" + "".join(f"      k{number}: 1\n" for number in range(20_000)),
    ],
    ids=["host", "large key", "key", "certificate", "pattern", "unknown keys"],
)
def test_no_value_takes_long_to_refuse(tmp_path: Path, line: str) -> None:
    started = time.perf_counter()
    found = complaints(tmp_path, connection(line))
    assert time.perf_counter() - started < 5
    assert all(len(problem) < 2000 for problem in found)


def outcome(path: Path, environ: dict[str, str] | None = None) -> Loaded | tuple[str, ...]:
    """Load; whatever is not a ConfigError is a failure of the test."""
    try:
        return load(path, environ=environ or {})
    except ConfigError as error:
        problems = error.problems
    assert problems
    assert all(line.startswith(f"{path}:") for line in problems)
    assert not any("hunter2" in line for line in problems)
    return problems


EXAMPLES = [(ROOT / "config" / name).read_text() for name in ("mqttbridge.yaml", "full.yaml")]
PIECES = [
    # The pieces that matter in YAML, and in this configuration.
    "~", "[", "]", "{", "}", ":", "- ", "'", '"', "\n", "  ", "\t", "|", ">", "!env NS_PASSWORD", "!file .", "!file x",
    "&a ", "*a", "<<: ", "hostName", "0", "-1", "99999999999999999999", "é", "\x00", "#", ",", "null", "type: key",
    "{DevEUI}", "{a|", "$share/", "mqtt://a:b@c", "/", "%", "!!binary x", "? ", "---\n", "...\n", "\ufeff", "\u2028",
]  # fmt: skip


def mutated(text: str, chance: random.Random) -> str:
    """Damage a text in a few places, as editors, merges and people do."""
    for _ in range(chance.randint(1, 4)):
        begin = chance.randrange(len(text) + 1)
        end = min(len(text), begin + chance.choice([0, 0, 1, 3, 20, 200]))
        lines = text.splitlines(keepends=True) or [""]
        line = chance.choice(lines)
        piece = chance.choice([chance.choice(PIECES), chance.choice(PIECES), line, text[begin : begin + 100], ""])
        text = text[:begin] + piece + text[end:]
    return text


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_example_loads_or_is_refused(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311 - damage needs no cryptography
    environ = furnish(tmp_path)
    (tmp_path / "acme-password").write_text("hunter2")
    kinds = set()
    for _ in range(100):
        text = mutated(chance.choice(EXAMPLES), chance)
        kinds.add(type(outcome(write(tmp_path, text), environ)))
    assert kinds == {Loaded, tuple}


NAMES = st.sampled_from([
    "connections", "sources", "flows", "http", "journal", "configuration", "hostName", "listen", "matchers",
    "type", "transport", "topics", "tags", "key", "password", "alpn", "certificate", "privateKey",
    "trustedCaCertficate", "uplinkTopicPattern", "clientId", "stateDirectory", "maxSize", "keepAlive",
    "format", "active", "a", "b",
])  # fmt: skip
LEAVES = st.sampled_from(["mqtt", "http", "key", "thing", "a", "lora:0", "1", "no", "", "-----BEGIN CERTIFICATE-----"])
TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | LEAVES | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=25,
)


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TREES)
def test_any_tree_loads_or_is_refused(tmp_path: Path, tree: object) -> None:
    import json

    outcome(write(tmp_path, json.dumps(tree, ensure_ascii=False)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60))
def test_any_bytes_load_or_are_refused(tmp_path: Path, data: bytes) -> None:
    outcome(write(tmp_path, data))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", "state"),
        ("", "state"),
        ("stateDirectory: here", "here"),
        ("stateDirectory: /var/lib/x\nhttp: {listen: nowhere}\nconections: 1", "/var/lib/x"),
        ("stateDirectory: !env PLACE", "/placed"),
        ("stateDirectory: !env NOWHERE", "state"),
        ("stateDirectory: [a]", "state"),
        ("stateDirectory: here\n]: broken", "state"),
        ("- a list", "state"),
    ],
)
def test_the_state_directory_is_found_whatever_else_is_wrong(tmp_path: Path, text: str, expected: str) -> None:
    path = write(tmp_path, text)
    assert find_state_directory(path, environ={"PLACE": "/placed"}) == tmp_path / expected


def test_the_state_directory_of_a_file_that_is_not_there_is_the_default(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    assert find_state_directory(path, environ={}) == tmp_path / "state"
    assert find_state_directory(path, environ={"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}) == Path("/var/lib/a")


def test_every_file_that_was_looked_at_is_told(tmp_path: Path) -> None:
    write(tmp_path, "configuration: {hostName: b}\n", "connections.d/beta.yaml")
    certificate, key = shared_pair()
    for name, text in {"a.crt": certificate, "a.key": key, "ca.crt": ca_certificate(), "pw": "secret"}.items():
        write(tmp_path, text, f"pki/{name}")
    text = connection(
        "hostName: h",
        "username: u",
        "password: !credential pw",
        "certificate: !file pki/a.crt",
        "privateKey: !file pki/a.key",
        "trustedCaCertificate: !file pki/ca.crt",
        "clientId: !env ID",
    )
    result = loaded(tmp_path, text, {"CREDENTIALS_DIRECTORY": str(tmp_path / "pki"), "ID": "x"})
    pki = {tmp_path / "pki" / name for name in ("a.crt", "a.key", "ca.crt")}
    assert set(result.certificate_files) == pki
    assert set(result.files) == pki | {
        tmp_path / "mqttbridge.yaml",
        tmp_path / "connections.d",
        tmp_path / "connections.d" / "beta.yaml",
        tmp_path / "flows.d",
        tmp_path / "pki" / "pw",
    }


def test_a_directory_of_connections_that_is_not_there_was_looked_for(tmp_path: Path) -> None:
    looked_for = ("mqttbridge.yaml", "connections.d", "flows.d")
    assert loaded(tmp_path, "{}").files == tuple(tmp_path / name for name in looked_for)


def test_a_failed_load_tells_its_files_too_so_that_the_repair_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, connection("hostName: h", "username: u", "password: !file missing"))
    with pytest.raises(ConfigError) as caught:
        load(path, environ={})
    assert set(caught.value.files) == {path, tmp_path / "connections.d", tmp_path / "flows.d", tmp_path / "missing"}
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "none.yaml", environ={})
    assert tmp_path / "none.yaml" in caught.value.files
