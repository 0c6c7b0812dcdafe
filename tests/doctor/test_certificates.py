"""Certificates in plain words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.doctor.certificates import age, describe, host_matches, missing, order, read_chain, read_pem

NOW = datetime.now(UTC)
ROOT = trustme.CA()
MIDDLE = ROOT.create_child_ca()


def pem(*authorities: trustme.CA) -> str:
    return "".join(each.cert_pem.bytes().decode() for each in authorities)


def leaf(authority: trustme.CA, *names: str, name: str | None = None) -> str:
    return authority.issue_cert(*names, common_name=name).cert_chain_pems[0].bytes().decode()


LEAF = leaf(MIDDLE, "broker.example", "*.wild.example", "192.0.2.1", "2001:db8::1", name="the broker")


def made(since: timedelta, until: timedelta, name: str = "x") -> bytes:
    """Make a certificate that begins and ends so far from now; gives DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), 1, NOW + since, NOW + until)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("since", "until", "words", "level"),
    [
        (-400, 300, "299 days left", 0),
        (-400, 20, "19 days left", 1),
        (-400, 1, "23 hours left", 1),
        (-2, 5, "4 days left", 0),
        (-60, 29, "28 days left", 1),
        (-60, -1, "expired on", 2),
        (1, 60, "not valid before", 2),
    ],
)
def test_the_end_of_a_certificate_is_told_and_warned_of_in_time(since: int, until: int, words: str, level: int) -> None:
    (seen,) = read_chain([made(timedelta(days=since), timedelta(days=until))])
    said, found = age(seen, NOW + timedelta(seconds=1))
    assert words in said
    assert found == level


@pytest.mark.parametrize(
    ("host", "matches"),
    [
        ("broker.example", True),
        ("BROKER.example.", True),
        ("a.wild.example", True),
        ("a.b.wild.example", False),
        ("wild.example", False),
        ("other.example", False),
        ("192.0.2.1", True),
        ("192.0.2.2", False),
        ("2001:db8:0::1", True),
        ("the broker", False),
        ("." * 300, False),
    ],
)
def test_a_host_name_matches_by_its_names_and_never_by_the_common_name(host: str, matches: bool) -> None:
    (seen,) = read_pem(LEAF)
    assert host_matches(seen, host) is matches


def test_a_certificate_is_described_in_one_line() -> None:
    (seen,) = read_pem(LEAF)
    line = describe(seen, NOW)
    assert line.startswith("the broker: issued by trustme")
    assert "for broker.example, *.wild.example, 192.0.2.1, 2001:db8::1" in line
    (many,) = read_pem(leaf(ROOT, *(f"h{number}.example" for number in range(50))))
    assert describe(many, NOW).endswith("h7.example and 42 more")


def test_a_name_cannot_steer_a_terminal_and_is_bounded() -> None:
    (seen,) = read_chain([made(timedelta(days=-1), timedelta(days=1), "\x1b[2Jevil\r\n")])
    assert seen.subject == "[2Jevil"


def test_the_order_of_a_chain_is_looked_at() -> None:
    assert order(read_pem(LEAF + pem(MIDDLE, ROOT))) == ""
    assert "which did not sign it" in order(read_pem(LEAF + pem(ROOT, MIDDLE)))


@pytest.mark.parametrize(
    ("chain", "trusted", "words"),
    [
        (LEAF + pem(MIDDLE), pem(ROOT), ""),
        (LEAF, pem(ROOT), "is missing: neither the broker sends it, nor does trustedCaCertificate hold it"),
        (LEAF + pem(MIDDLE), None, "nor does the system hold it"),
        (LEAF + pem(MIDDLE, ROOT), pem(trustme.CA()), "which signed itself; it holds"),
        (LEAF + pem(MIDDLE, ROOT), None, "the system does not hold"),
        ("", pem(ROOT), ""),
    ],
)
def test_the_authority_that_is_missing_is_named(chain: str, trusted: str | None, words: str) -> None:
    said = missing(read_pem(chain), None if trusted is None else read_pem(trusted))
    assert words in said if words else said == ""


def test_the_name_of_the_missing_one_is_that_of_the_next_in_the_chain() -> None:
    (middle,), (root,) = read_pem(pem(MIDDLE)), read_pem(pem(ROOT))
    assert middle.subject in missing(read_pem(LEAF), [root])
    assert root.subject in missing(read_pem(LEAF + pem(MIDDLE)), None)


def test_an_authority_of_the_same_name_with_another_key_is_told_apart() -> None:
    old, new = (
        trustme.CA(organization_name="A", organization_unit_name="B"),
        trustme.CA(organization_name="A", organization_unit_name="B"),
    )
    assert "its key differs" in missing(read_pem(leaf(new, "x.example")), read_pem(pem(old)))


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=200), max_size=3))
def test_whatever_a_peer_sends_for_certificates_is_read_or_left_out(chain: list[bytes]) -> None:
    assert read_chain(chain) == []


def test_pem_that_cannot_be_read_gives_nothing() -> None:
    assert read_pem("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n") == []
