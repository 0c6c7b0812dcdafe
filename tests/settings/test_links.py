"""Properties that must fit together: TLS, login, client ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mqttbridge.settings.loader import load
from mqttbridge.settings.secret import Secret
from tests.settings import pki
from tests.settings.helpers import complaints, connection, loaded, write

if TYPE_CHECKING:
    from pathlib import Path


def with_files(directory: Path, **files: str) -> list[str]:
    """Write files, and give the lines that refer to them."""
    for name, content in files.items():
        (directory / f"{name}.pem").write_text(content)
    return [f"{name}: !file {name}.pem" for name in files]


def test_mutual_tls_loads_and_only_the_key_is_secret(tmp_path: Path) -> None:
    certificate, key = pki.shared_pair()
    lines = with_files(tmp_path, certificate=certificate, privateKey=key, trustedCaCertificate=pki.ca_certificate())
    result = loaded(tmp_path, connection("hostName: h", *lines))
    configuration = result.settings.connections["acme"].configuration
    assert type(configuration.certificate) is str
    assert type(configuration.trusted_ca_certificate) is str
    assert isinstance(configuration.private_key, Secret)
    assert result.secrets == (key.rstrip("\n"),)
    assert result.warnings == ()


def test_pem_in_the_file_itself_works_too(tmp_path: Path) -> None:
    certificate, key = pki.shared_pair()
    text = connection("hostName: h", f"certificate: {pki.indented(certificate)}", f"privateKey: {pki.indented(key)}")
    assert loaded(tmp_path, text).secrets == (key,)


def test_a_certificate_file_that_holds_the_key_as_well_is_a_secret(tmp_path: Path) -> None:
    certificate, key = pki.shared_pair()
    lines = with_files(tmp_path, certificate=certificate + key, privateKey=key)
    result = loaded(tmp_path, connection("hostName: h", *lines))
    assert isinstance(result.settings.connections["acme"].configuration.certificate, Secret)
    assert len(result.secrets) == 2


@pytest.mark.parametrize(("given", "missing"), [("certificate", "privateKey"), ("privateKey", "certificate")])
def test_certificate_and_key_come_together(tmp_path: Path, given: str, missing: str) -> None:
    pem = dict(zip(("certificate", "privateKey"), pki.shared_pair(), strict=True))[given]
    (found,) = complaints(tmp_path, connection("hostName: h", *with_files(tmp_path, **{given: pem})))
    assert found.startswith(
        f"mqttbridge.yaml:5:{9 + len(given)}: connections.acme.configuration.{given}: needs {missing}"
    )


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    lines = with_files(tmp_path, certificate=pki.shared_pair()[0], privateKey=pki.key())
    (found,) = complaints(tmp_path, connection("hostName: h", *lines))
    assert "privateKey: does not belong to certificate" in found


def test_everything_wrong_with_pem_comes_at_once(tmp_path: Path) -> None:
    lines = with_files(tmp_path, certificate="x", privateKey=pki.key(passphrase="p"), trustedCaCertificate="y")
    first, second, third = complaints(tmp_path, connection("hostName: h", *lines))
    assert ".certificate: holds no certificate" in first
    assert ".privateKey: is an encrypted key" in second
    assert ".trustedCaCertificate: holds no certificate" in third


class Clock:
    """Stands still at a moment."""

    def __init__(self, now: int) -> None:
        self._now = now

    def now(self) -> int:
        return self._now

    def monotonic(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("now", "words"),
    [(4_000_000_000_000, "expired on 20"), (631_152_000_000, "is not valid before 20")],
)
def test_a_certificate_out_of_its_time_is_a_warning_with_the_date(tmp_path: Path, now: int, words: str) -> None:
    certificate, key = pki.shared_pair()
    path = write(tmp_path, connection("hostName: h", *with_files(tmp_path, certificate=certificate, privateKey=key)))
    result = load(path, environ={}, clock=Clock(now))
    (warning,) = result.warnings
    assert warning.startswith(f"{path}:5:20: connections.acme.configuration.certificate: {words}")


@pytest.mark.parametrize("name", ["trustedCaCertificate", "certificate", "privateKey", "alpn"])
def test_tls_properties_need_tls(tmp_path: Path, name: str) -> None:
    certificate, key = pki.shared_pair()
    lines = with_files(tmp_path, trustedCaCertificate=pki.ca_certificate(), certificate=certificate, privateKey=key)
    lines.append("alpn: [x]")
    found = complaints(tmp_path, connection("hostName: h", "protocol: TCP", *lines))
    assert len(found) == 4
    assert any(f".{name}: needs TLS, but protocol is TCP; write protocol: SSL" in line for line in found)


def test_a_web_socket_path_beside_another_protocol_is_left_alone(tmp_path: Path) -> None:
    # Definitions from elsewhere carry it whatever the protocol is.
    assert loaded(tmp_path, connection("hostName: h", "webSocketPath: /mqtt"))


@pytest.mark.parametrize("line", ["mqttVersion: 3.1.1", "mqttVersion: 5", "username: u"])
def test_a_password_without_a_user_name_is_allowed(tmp_path: Path, line: str) -> None:
    # On MQTT 3.1.1 an empty user name is sent beside it; mosquitto takes it.
    result = loaded(tmp_path, connection("hostName: h", "password: x", line))
    assert result.secrets == ("x",)
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("value", "warned"),
    [
        (r'"hunter2\eim"', True),
        ("!file two", True),
        (r"'hunter2\eim'", False),
        ("!file one", False),
        ("hunter2 ü", False),
    ],
)
def test_a_control_character_in_a_password_is_a_warning_without_it(tmp_path: Path, value: str, *, warned: bool) -> None:
    (tmp_path / "one").write_text("hunter2\n")
    (tmp_path / "two").write_text("hunter2\n# of acme\n")
    warnings = loaded(tmp_path, connection("hostName: h", "username: u", f"password: {value}")).warnings
    assert len(warnings) == warned
    assert "hunter2" not in "".join(warnings)
    if warned:
        assert "configuration.password: holds a line end or another control character" in warnings[0]


def test_swapped_certificate_and_key_are_named_as_such(tmp_path: Path) -> None:
    certificate, key = pki.shared_pair()
    lines = with_files(tmp_path, certificate=key, privateKey=certificate, trustedCaCertificate=key)
    first, second, third = complaints(tmp_path, connection("hostName: h", *lines))
    assert first.endswith(".certificate: this is a private key; it belongs into privateKey")
    assert second.endswith(".privateKey: this is a certificate; it belongs into certificate")
    assert third.endswith(".trustedCaCertificate: this is a private key; it belongs into privateKey")


@pytest.mark.parametrize("name", ["certificate", "privateKey", "trustedCaCertificate"])
@pytest.mark.parametrize("joint", ["", " ", "\\n"])
def test_pem_without_its_line_breaks_is_refused_at_load(tmp_path: Path, name: str, joint: str) -> None:
    certificate, key = pki.shared_pair()
    files = {"certificate": certificate, "privateKey": key, "trustedCaCertificate": pki.ca_certificate()}
    lines = with_files(tmp_path, **files | {name: files[name].replace("\n", joint)})
    (found,) = complaints(tmp_path, connection("hostName: h", *lines))
    assert f"configuration.{name}: its line breaks are missing" in found


@pytest.mark.parametrize("path", ["/etc/ca.pem", "./ca", "../x/ca", "~/ca", "ca.crt", "tls/ca.pem"])
def test_a_path_instead_of_pem_is_told_to_be_read_by_file(tmp_path: Path, path: str) -> None:
    lines = [f"{name}: {path}" for name in ("trustedCaCertificate", "certificate", "privateKey")]
    first, second, third = complaints(tmp_path, connection("hostName: h", *lines))
    for found in (first, second):
        assert found.endswith(f": holds the path of a file, not PEM; write “!file {path}”")
    # It may be a key after all, without its first line.
    assert third.endswith(".privateKey: holds the path of a file, as it seems, not PEM; write !file in front of it")


def test_a_chain_in_the_wrong_order_is_named_as_such(tmp_path: Path) -> None:
    certificate, key = pki.shared_pair()
    lines = with_files(tmp_path, certificate=pki.ca_certificate() + certificate, privateKey=key)
    (found,) = complaints(tmp_path, connection("hostName: h", *lines))
    assert found.startswith("mqttbridge.yaml:5:20: connections.acme.configuration.certificate: is in the wrong order")
    assert found.endswith("the client's own certificate must come first")


def test_an_expired_authority_is_a_warning_unless_another_is_good(tmp_path: Path) -> None:
    expired, _ = pki.pair(ends_in_days=-1)
    lines = with_files(tmp_path, trustedCaCertificate=pki.ca_certificate())
    path = write(tmp_path, connection("hostName: h", *lines))
    (warning,) = load(path, environ={}, clock=Clock(40_000_000_000_000)).warnings
    assert ".trustedCaCertificate: expired on " in warning
    assert load(path, environ={}).warnings == ()
    with_files(tmp_path, trustedCaCertificate=expired + pki.ca_certificate())
    assert load(path, environ={}).warnings == ()


def test_a_certificate_of_no_authority_as_the_trusted_one_is_a_warning(tmp_path: Path) -> None:
    certificate, _ = pki.shared_pair()
    lines = with_files(tmp_path, trustedCaCertificate=certificate)
    (warning,) = loaded(tmp_path, connection("hostName: h", *lines)).warnings
    assert ".trustedCaCertificate: holds no certificate of an authority" in warning
    with_files(tmp_path, trustedCaCertificate=certificate + pki.ca_certificate())
    assert loaded(tmp_path, connection("hostName: h", *lines)).warnings == ()


def two(first: str, second: str, *, active: str = "yes") -> str:
    return (
        f"connections:\n  a:\n    configuration: {{{first}}}\n"
        f"  b:\n    active: {active}\n    configuration: {{{second}}}\n"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("hostName: h, clientId: x", "hostName: h, clientId: x"),
        ("hostName: h, clientId: x", "hostName: 'H.:8883', clientId: x"),
        ("hostName: h, clientId: mqttbridge-b", "hostName: h"),
    ],
)
def test_two_clients_with_one_id_at_one_broker_are_a_warning_and_all_load(
    tmp_path: Path, first: str, second: str
) -> None:
    result = loaded(tmp_path, two(first, second))
    assert set(result.settings.connections) == {"a", "b"}
    (found,) = result.warnings
    assert found.startswith(f"{tmp_path}/mqttbridge.yaml:6:")
    assert "connections.b.configuration.clientId: has the same client id" in found
    assert "as connections.a.configuration (" in found


@pytest.mark.parametrize(
    ("first", "second", "active"),
    [
        ("hostName: h, clientId: x", "hostName: h, clientId: y", "yes"),
        ("hostName: h, clientId: x", "hostName: g, clientId: x", "yes"),
        ("hostName: h, clientId: x", "hostName: 'h:1', clientId: x", "yes"),
        ("hostName: h, clientId: x", "hostName: h, clientId: x", "no"),
    ],
)
def test_clients_that_cannot_meet_are_fine(tmp_path: Path, first: str, second: str, active: str) -> None:
    assert loaded(tmp_path, two(first, second, active=active)).warnings == ()


def test_a_source_and_a_connection_can_fight_too(tmp_path: Path) -> None:
    source = "sources: {{acme: {{transport: mqtt, hostName: h, topics: [a]{}}}}}\n"
    load(write(tmp_path, source.format("") + connection("hostName: h")), environ={})  # the defaults differ
    text = source.format(", clientId: mqttbridge-acme") + connection("hostName: h")
    (found,) = loaded(tmp_path, text).warnings
    assert "“mqttbridge-acme” at the same broker as sources.acme (" in found


def test_a_hidden_client_id_is_not_shown(tmp_path: Path) -> None:
    text = two("hostName: h, clientId: !env ID", "hostName: h, clientId: !env ID")
    found = loaded(tmp_path, text, {"ID": "hunter2"}).warnings
    assert len(found) == 1
    assert "hunter2" not in found[0]
