"""The listener with its certificate, the tokens, and both together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mqttbridge.settings import effects
from mqttbridge.settings.advice import advice
from mqttbridge.settings.diff import diff, in_force, renewed
from mqttbridge.settings.listening import exposed, loopback
from mqttbridge.settings.schema import Api, Http, Settings
from mqttbridge.settings.secret import Secret
from tests.settings import pki
from tests.settings.helpers import complaints, loaded

if TYPE_CHECKING:
    from pathlib import Path

TOKEN = "an-admins-token-1"
OTHER = "a-readers-token-2"
TOKENS = f"api: {{adminTokens: [{TOKEN}]}}\n"
HERE, EVERYWHERE = Http(), Http(listen="0.0.0.0:8080")
WITH_TLS = Http(listen="0.0.0.0:8080", certificate="c", private_key=Secret("k"))
RENEWED = Http(listen="0.0.0.0:8080", certificate="d", private_key=Secret("l"))
API = Api(admin_tokens=(Secret(TOKEN),))


def http(*lines: str) -> str:
    return "http:\n" + "".join(f"  {line}\n" for line in lines)


def with_pair(directory: Path, certificate: str, key: str) -> list[str]:
    (directory / "c.pem").write_text(certificate)
    (directory / "k.pem").write_text(key)
    return ["certificate: !file c.pem", "privateKey: !file k.pem"]


def test_tokens_are_secrets_and_the_certificate_is_none(tmp_path: Path) -> None:
    text = http("listen: 0.0.0.0:1", *with_pair(tmp_path, *pki.shared_pair())) + TOKENS
    result = loaded(tmp_path, text)
    assert result.settings.api.tokens == (TOKEN,)
    assert TOKEN in result.secrets
    assert TOKEN not in repr(result.settings)
    assert result.settings.http.certificate == pki.shared_pair()[0].rstrip("\n")
    assert {path.name for path in result.certificate_files} == {"c.pem", "k.pem"}
    assert result.warnings == ()


@pytest.mark.parametrize(
    "token", ["short", '"fifteen chars  "', '"with blanks in it, long"', '"ümläute-sind-keine-ascii"']
)
def test_a_token_that_is_weak_or_no_header_can_hold_is_refused_unseen(tmp_path: Path, token: str) -> None:
    (found,) = complaints(tmp_path, f"api:\n  readOnlyTokens:\n    - {token}\n")
    assert found.startswith("mqttbridge.yaml:3:7: api.readOnlyTokens.[0]: must be 16 to 512") or "[0]: must be" in found
    assert token.strip('"') not in found


@pytest.mark.parametrize(
    ("lists", "place"),
    [
        (f"adminTokens: [{TOKEN}, {TOKEN}]", "adminTokens"),
        (f"adminTokens: [{TOKEN}], readOnlyTokens: [{OTHER}, {TOKEN}]", "readOnlyTokens"),
    ],
)
def test_a_token_that_stands_twice_is_refused_unseen(tmp_path: Path, lists: str, place: str) -> None:
    (found,) = complaints(tmp_path, f"api: {{{lists}}}\n")
    assert f"api.{place}" in found
    assert "is the same token as api.adminTokens" in found
    assert TOKEN not in found


def test_entries_of_the_allowlist_are_checked_and_read(tmp_path: Path) -> None:
    result = loaded(tmp_path, 'api: {brokerAllowlist: ["*.Example.com.", "[::1]", 192.0.2.0/24]}\n')
    assert result.settings.api.broker_allowlist == ("*.example.com", "::1/128", "192.0.2.0/24")
    (found,) = complaints(tmp_path, "api: {brokerAllowlist: [a.example.com:1883]}\n")
    assert "without a port" in found


def test_a_certificate_and_its_key_are_checked_as_those_of_a_connection(tmp_path: Path) -> None:
    certificate, key = pki.shared_pair()
    (found,) = complaints(tmp_path, http(with_pair(tmp_path, certificate, key)[0]))
    assert "http.certificate: needs privateKey beside it: TLS takes both" in found
    (found,) = complaints(tmp_path, http(*with_pair(tmp_path, certificate, pki.key())))
    assert "http.privateKey: does not belong to certificate" in found
    (found,) = complaints(tmp_path, http(*with_pair(tmp_path, "x", key)))
    assert "http.certificate: holds no certificate" in found
    (found,) = loaded(tmp_path, http(*with_pair(tmp_path, *pki.pair(ends_in_days=-1)))).warnings
    assert "clients will refuse it" in found


@pytest.mark.parametrize(
    "listen", ["0.0.0.0:80", '"[::]:80"', "192.0.2.1:80", "host.example:80", '"[::ffff:0.0.0.0]:80"']
)
def test_tokens_and_no_tls_on_the_network_are_refused_with_what_to_do(tmp_path: Path, listen: str) -> None:
    (found,) = complaints(tmp_path, http(f"listen: {listen}") + TOKENS)
    assert "http.listen: the tokens of api would come in at" in found
    assert "http.certificate" in found
    assert "insecure: true" in found
    loaded(tmp_path, http(f"listen: {listen}", "insecure: true") + TOKENS)
    loaded(tmp_path, http(f"listen: {listen}"))


@pytest.mark.parametrize(
    "listen", ["127.0.0.1:80", "127.9.9.9:80", '"[::1]:80"', "localhost:80", '"[::ffff:127.0.0.1]:80"']
)
def test_loopback_needs_no_tls(tmp_path: Path, listen: str) -> None:
    loaded(tmp_path, http(f"listen: {listen}") + TOKENS)


def test_without_tokens_it_is_no_more_than_advice() -> None:
    assert exposed(EVERYWHERE)
    assert not exposed(WITH_TLS)
    assert [line for line in advice(Settings(http=EVERYWHERE)) if "without TLS" in line]
    for fine in (HERE, WITH_TLS, Http(listen="0.0.0.0:8080", insecure=True)):
        assert not [line for line in advice(Settings(http=fine)) if "TLS" in line]


def test_loopback_is_what_cannot_be_reached_from_elsewhere() -> None:
    assert not any(map(loopback, ("0.0.0.0", "::", "localhost.evil.example", "127.1", "")))


# -- what a reload makes of it


def names(old: Settings, new: Settings) -> tuple[list[str], list[str]]:
    """Give what changes in place, and what needs a restart."""
    found = diff(old, new)
    return [one.name for one in found.daemon], [one.name for one in found.needs_restart]


def test_a_renewed_certificate_is_in_force_at_once() -> None:
    old, new = Settings(http=WITH_TLS), Settings(http=RENEWED)
    assert names(old, new) == (["http.certificate", "http.privateKey"], [])
    assert in_force(old, new).http == renewed(old, new).http == RENEWED


@pytest.mark.parametrize(("one", "other"), [(WITH_TLS, EVERYWHERE), (EVERYWHERE, WITH_TLS)])
def test_tls_begins_and_ends_with_a_restart_alone(one: Http, other: Http) -> None:
    old, new = Settings(http=one), Settings(http=other)
    assert names(old, new) == ([], ["http.certificate", "http.privateKey"])
    assert in_force(old, new).http == renewed(old, new).http == one


def test_new_tokens_wait_for_the_restart_that_brings_tls_and_old_ones_go_at_once() -> None:
    old = Settings(http=EVERYWHERE, api=Api(admin_tokens=(Secret(OTHER),)))
    new = Settings(http=WITH_TLS, api=Api(admin_tokens=(Secret(TOKEN),), broker_allowlist=("a",)))
    assert in_force(old, new).api == Api(broker_allowlist=("a",))
    in_place, later = names(old, new)
    assert in_place == ["api.brokerAllowlist"]
    assert later == ["http.certificate", "http.privateKey", "api.adminTokens"]


def test_tokens_change_in_place_where_nobody_can_overhear_them() -> None:
    for where in (HERE, WITH_TLS, Http(listen="0.0.0.0:8080", insecure=True)):
        old, new = Settings(http=where), Settings(http=where, api=API)
        assert in_force(old, new) == new
        assert names(old, new) == (["api.adminTokens"], [])


def test_a_change_of_tokens_is_shown_without_them() -> None:
    (shown,) = diff(Settings(api=API), Settings(api=Api(admin_tokens=(Secret(OTHER),)))).daemon
    assert (shown.old, shown.new) == ("[*****]", "[*****]")


def test_each_property_is_classified() -> None:
    assert {name for name in effects.DAEMON if name.startswith(("http.", "api."))} == {
        "http.listen",
        "http.certificate",
        "http.privateKey",
        "http.insecure",
        "api.adminTokens",
        "api.readOnlyTokens",
        "api.brokerAllowlist",
    }
