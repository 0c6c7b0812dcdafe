"""PEM: what can be read, and what is said of the rest."""

from __future__ import annotations

import ssl

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqttbridge.settings.pem import PemReader, holds_private_key
from tests.settings import pki


@pytest.mark.parametrize(
    ("form", "kind"), [("PKCS8", "EC"), ("PKCS8", "RSA"), ("TRADITIONAL", "RSA"), ("TRADITIONAL", "EC")]
)
def test_keys_are_read_in_every_usual_form(form: str, kind: str) -> None:
    assert PemReader().public_key_of(pki.key(form=form, kind=kind))


def test_a_key_is_found_behind_its_parameters() -> None:
    before = "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert PemReader().public_key_of(before + pki.key(form="TRADITIONAL"))


def test_a_certificate_and_its_key_have_one_public_key() -> None:
    certificate, key = pki.shared_pair()
    reader = PemReader()
    assert reader.certificate(certificate).public_key == reader.public_key_of(key)
    assert reader.certificate(certificate).public_key != reader.public_key_of(pki.key())


@pytest.mark.parametrize("form", ["PKCS8", "TRADITIONAL"])
def test_an_encrypted_key_is_refused_with_what_to_do(form: str) -> None:
    with pytest.raises(ValueError) as caught:
        PemReader().public_key_of(pki.key(form=form, passphrase="hunter2"))
    assert "decrypt it: openssl" in str(caught.value)


@pytest.mark.parametrize("text", ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"])
def test_what_is_no_key_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        PemReader().public_key_of(text)
    assert "PEM" in str(caught.value)
    assert "AAAA" not in str(caught.value)


def test_a_certificate_is_no_key_and_a_key_no_certificate() -> None:
    certificate, key = pki.shared_pair()
    with pytest.raises(ValueError):
        PemReader().public_key_of(certificate)
    with pytest.raises(ValueError) as caught:
        PemReader().certificate(key)
    assert "belongs into privateKey" in str(caught.value)


def openssl_reads(certificate: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=certificate)
    except ssl.SSLError:
        return False
    return True


LINES = pki.ca_certificate().splitlines()


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(LINES),
        "\r\n".join(LINES),
        "  \n".join(LINES),
        "subject=me\n" + "\n".join(LINES),
        f"{LINES[0]}\n{''.join(LINES[1:-1])}\n{LINES[-1]}",
        "".join(LINES),
        " ".join(LINES),
        "\\n".join(LINES),
        "\n  ".join(LINES),
        "  " + "\n".join(LINES),
        "me " + "\n".join(LINES),
        LINES[0] + "\n".join(LINES[1:]),
        "\n".join(LINES[:-1]) + LINES[-1],
        "\n".join(LINES + LINES).replace("-----\n-----", "----------"),
    ],
)
def test_what_openssl_does_not_read_is_refused_and_nothing_else(text: str) -> None:
    if openssl_reads(text):
        assert PemReader().certificate(text)
        return
    with pytest.raises(ValueError) as caught:
        PemReader().certificate(text)
    assert str(caught.value).startswith(("its line breaks are missing", "its lines are indented"))


def test_a_damaged_certificate_is_refused_every_time() -> None:
    reader = PemReader()
    lines = pki.ca_certificate().splitlines()
    damaged = "\n".join([lines[0], lines[2], *lines[1:2], *lines[3:]])
    for _ in range(2):
        with pytest.raises(ValueError) as caught:
            reader.certificate(damaged)
        assert "cannot be read as a certificate" in str(caught.value)


def test_a_text_with_a_key_in_it_is_not_public() -> None:
    certificate, key = pki.shared_pair()
    assert holds_private_key(certificate + key)
    assert not holds_private_key(certificate)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_changed_pem_is_read_or_refused(data: st.DataObject) -> None:
    certificate, key = pki.shared_pair()
    reader = PemReader()
    for text, read in ((certificate, reader.certificate), (key, reader.public_key_of)):
        position = data.draw(st.integers(0, len(text) - 1))
        changed = text[:position] + data.draw(st.text(max_size=3)) + text[position + data.draw(st.integers(0, 9)) :]
        try:
            assert read(changed)
        except ValueError:
            continue
