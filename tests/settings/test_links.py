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


def test_a_password_needs_a_user_name_on_mqtt_3(tmp_path: Path) -> None:
    (found,) = complaints(tmp_path, connection("hostName: h", "password: hunter2"))
    assert found.startswith("mqttbridge.yaml:5:17: connections.acme.configuration.password: needs username")
    assert "hunter2" not in found
    assert loaded(tmp_path, connection("hostName: h", "password: x", "mqttVersion: 5"))
    assert loaded(tmp_path, connection("hostName: h", "password: x", "username: u"))


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
def test_two_clients_with_one_id_at_one_broker_are_refused(tmp_path: Path, first: str, second: str) -> None:
    (found,) = complaints(tmp_path, two(first, second))
    assert found.startswith("mqttbridge.yaml:6:")
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
    assert loaded(tmp_path, two(first, second, active=active))


def test_a_source_and_a_connection_can_fight_too(tmp_path: Path) -> None:
    source = "sources: {{acme: {{transport: mqtt, hostName: h, topics: [a]{}}}}}\n"
    load(write(tmp_path, source.format("") + connection("hostName: h")), environ={})  # the defaults differ
    (found,) = complaints(tmp_path, source.format(", clientId: mqttbridge-acme") + connection("hostName: h"))
    assert "“mqttbridge-acme” at the same broker as sources.acme (" in found


def test_a_hidden_client_id_is_not_shown(tmp_path: Path) -> None:
    found = complaints(
        tmp_path,
        two("hostName: h, clientId: !env ID", "hostName: h, clientId: !env ID"),
        {"ID": "hunter2"},
    )
    assert len(found) == 1
    assert "hunter2" not in found[0]
