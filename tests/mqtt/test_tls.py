"""TLS: who is let in and who is not, and what is said about it."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trustme

from mqttbridge.errors import LinkError, LinkLost, TlsFailed
from mqttbridge.mqtt import tls
from mqttbridge.mqtt.client import open_link
from mqttbridge.mqtt.link import Publish
from mqttbridge.settings.secret import Secret
from tests.brokers.certs import Certificates, Pair
from tests.brokers.fake import fake_broker
from tests.brokers.mosquitto import find
from tests.mqtt.conformance import Broker, descriptors, options
from tests.mqtt.listening import Listener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqttbridge.mqtt.options import LinkOptions
    from tests.brokers.mosquitto import Mosquitto

    Start = Callable[..., Awaitable[Mosquitto]]


@pytest.fixture(scope="module")
def certificates() -> Certificates:
    return Certificates()


async def enter(link_options: LinkOptions) -> None:
    """Connect, log in, publish, close."""
    listener = Listener()
    link = open_link(link_options, listener)
    try:
        await link.connect()
        await link.login()
        link.publish([Publish(1, "t", b"x")])
        await listener.until_acked(1)
    finally:
        await link.close()


def tls_options(broker: Broker, certificates: Certificates, **changes: object) -> LinkOptions:
    return options(broker, **{"protocol": "SSL", "host": "localhost", "ca": certificates.ca, **changes})


async def refused(link_options: LinkOptions) -> str:
    with pytest.raises(TlsFailed) as caught:
        await enter(link_options)
    return str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_a_broker_with_a_good_certificate_is_entered(
    start_mosquitto: Start, certificates: Certificates, tmp_path: Path, host: str
) -> None:
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path)})
    await enter(tls_options(broker, certificates, host=host))


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("expired", "has expired"),
        ("wrong_host", "is not for this host name"),
        ("self_signed", "self-signed"),
    ],
)
async def test_a_bad_certificate_is_named_in_plain_words(
    start_mosquitto: Start, certificates: Certificates, tmp_path: Path, which: str, words: str
) -> None:
    pair: Pair = getattr(certificates, which)
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path, pair)})
    sentence = await refused(tls_options(broker, certificates))
    assert words in sentence
    assert f"localhost:{broker.port}" in sentence


async def test_an_unknown_authority_is_refused(
    start_mosquitto: Start, certificates: Certificates, tmp_path: Path
) -> None:
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path)})
    assert "set trustedCaCertificate" in await refused(tls_options(broker, certificates, ca=None))


@pytest.mark.parametrize("which", ["server", "self_signed"])
@pytest.mark.parametrize("with_root", [False, True])
async def test_a_trusted_ca_certificate_that_is_the_wrong_one_is_said_to_be_that(
    start_mosquitto: Start, certificates: Certificates, tmp_path: Path, which: str, with_root: bool
) -> None:
    pair: Pair = getattr(certificates, which)
    if with_root:
        pair = Pair(pair.certificate + certificates.ca, pair.key)
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path, pair)})
    sentence = await refused(tls_options(broker, Certificates()))
    assert sentence.endswith("; trustedCaCertificate does not hold this authority")
    assert "set trustedCaCertificate" not in sentence


async def test_a_wrong_address_is_refused(start_mosquitto: Start, certificates: Certificates, tmp_path: Path) -> None:
    pair = certificates.issue("localhost")
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path, pair)})
    assert "IP address" in await refused(tls_options(broker, certificates, host="127.0.0.1"))


@pytest.mark.parametrize("form", ["pkcs8", "pkcs1"])
@pytest.mark.parametrize("key_type", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
async def test_mutual_tls_takes_keys_in_both_forms(
    start_mosquitto: Start, tmp_path: Path, form: str, key_type: trustme.KeyType
) -> None:
    certificates = Certificates(key_type)
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path, demand=True)})
    pair = certificates.client
    key = pair.pkcs1() if form == "pkcs1" else pair.key
    assert ("BEGIN PRIVATE KEY" in key) == (form == "pkcs8")
    before = descriptors()
    await enter(tls_options(broker, certificates, certificate=pair.certificate, private_key=Secret(key)))
    assert descriptors() <= before


async def test_a_broker_that_demands_a_client_certificate_is_understood(
    start_mosquitto: Start, certificates: Certificates, tmp_path: Path
) -> None:
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path, demand=True)})
    assert "demands a client certificate" in await refused(tls_options(broker, certificates))
    stranger = Certificates().client
    sentence = await refused(
        tls_options(broker, certificates, certificate=stranger.certificate, private_key=Secret(stranger.key))
    )
    assert "client certificate" in sentence


@pytest.mark.parametrize("version", ["TLSv1_1", "TLSv1_2", "TLSv1_3"])
async def test_nothing_below_tls_1_2_is_spoken(certificates: Certificates, tmp_path: Path, version: str) -> None:
    context = certificates.server_context(tmp_path)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    async with fake_broker(tls=context) as broker:
        if version == "TLSv1_1":
            assert "TLS" in await refused(tls_options(broker, certificates))
        else:
            await enter(tls_options(broker, certificates))
            assert broker.client.writer.get_extra_info("ssl_object").version() == version.replace("_", ".")


async def test_a_broker_without_tls_is_named(plain_mosquitto: Mosquitto, certificates: Certificates) -> None:
    sentence = await refused(tls_options(plain_mosquitto, certificates))
    assert "TLS" in sentence


async def test_a_plain_link_to_a_tls_port_is_lost(
    start_mosquitto: Start, certificates: Certificates, tmp_path: Path
) -> None:
    broker = await start_mosquitto(listeners={"tls": certificates.listener(tmp_path)})
    with pytest.raises(LinkError, match="check the port and protocol"):
        await enter(options(broker))


async def test_alpn_is_offered(certificates: Certificates, tmp_path: Path) -> None:
    context = certificates.server_context(tmp_path)
    context.set_alpn_protocols(["x-amzn-mqtt-ca"])
    async with fake_broker(tls=context) as broker:
        await enter(tls_options(broker, certificates, alpn=("x-amzn-mqtt-ca",)))
        chosen = broker.client.writer.get_extra_info("ssl_object").selected_alpn_protocol()
        assert chosen == "x-amzn-mqtt-ca"


async def test_a_tls_link_that_the_broker_breaks_is_lost(certificates: Certificates, tmp_path: Path) -> None:
    async with fake_broker(tls=certificates.server_context(tmp_path)) as broker:
        for ending in ("hang_up", "reset"):
            listener = Listener()
            link = open_link(tls_options(broker, certificates), listener)
            await link.connect()
            await link.login()
            getattr(broker.client, ending)()
            assert isinstance(await listener.until_lost(), LinkLost)
            await link.close()


@pytest.mark.parametrize(
    ("certificate", "key", "words"),
    [
        ("good", None, "needs privateKey"),
        ("good", "other", "do not belong together"),
        ("good", "junk", "not usable PEM"),
        ("junk", "good", "not usable PEM"),
        ("good", "encrypted", "passphrase"),
    ],
)
async def test_an_unusable_pair_is_named_without_showing_it(
    plain_mosquitto: Mosquitto, certificates: Certificates, certificate: str, key: str | None, words: str
) -> None:
    pair = certificates.client
    texts = {
        "good": (pair.certificate, pair.key),
        "other": ("", Certificates().client.key),
        "junk": ("junk certificate", "junk key"),
        "encrypted": ("", pair.encrypted()),
    }
    secret = Secret(texts[key][1]) if key else None
    before = descriptors()
    sentence = await refused(
        tls_options(plain_mosquitto, certificates, certificate=texts[certificate][0], private_key=secret)
    )
    assert words in sentence
    assert "BEGIN" not in sentence
    assert "junk" not in sentence
    assert descriptors() <= before


async def test_an_unusable_authority_is_named(plain_mosquitto: Mosquitto, certificates: Certificates) -> None:
    assert "trustedCaCertificate" in await refused(tls_options(plain_mosquitto, certificates, ca="junk"))


async def test_links_with_equal_certificates_share_a_context(
    certificates: Certificates, plain_mosquitto: Mosquitto
) -> None:
    first = await tls.context_for(tls_options(plain_mosquitto, certificates))
    again = await tls.context_for(tls_options(plain_mosquitto, certificates, client_id="another"))
    other = await tls.context_for(tls_options(plain_mosquitto, certificates, alpn=("mqtt",)))
    assert first is again
    assert first is not other


def test_nothing_turns_verification_off(certificates: Certificates) -> None:
    pair = certificates.client
    context = tls.build(certificates.ca, pair.certificate, pair.key, ())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_the_file_with_the_key_has_no_name(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path
) -> None:
    def without_memfd(*_: object) -> int:
        raise OSError

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    for replaced in (False, True):
        if replaced:
            monkeypatch.setattr(os, "memfd_create", without_memfd)
        with tls._nameless_file() as file:
            file.write(b"secret")
            assert os.fstat(file.fileno()).st_nlink == 0
        assert not list(tmp_path.iterdir())
        tls.build(None, certificates.client.certificate, certificates.client.key, ())


def test_the_systems_authorities_are_trusted_and_contexts_of_many_clients_stay_small(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path
) -> None:
    pair = certificates.client
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(certificates.ca)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    for chosen in (tls.build(None, None, None, ()), tls.build(None, pair.certificate, pair.key, ())):
        assert certificates.ca in [ssl.DER_cert_to_PEM_cert(der) for der in chosen.get_ca_certs(binary_form=True)]
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    directory = ssl.get_default_verify_paths().capath
    if directory is None or not any(Path(directory).glob("????????.0")):
        pytest.skip("this system has no directory of authorities")
    assert tls.build(None, pair.certificate, pair.key, ()).cert_store_stats()["x509"] == 0


async def test_an_authority_in_the_systems_directory_is_found(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path
) -> None:
    system = tmp_path / "system"
    system.mkdir()
    authority = system / "ca.pem"
    authority.write_text(certificates.ca)
    command = [find("openssl"), "rehash", str(system)]
    rehash = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
    if rehash.returncode:
        pytest.skip("openssl rehash is not there")
    paths = ssl.get_default_verify_paths()._replace(capath=str(system))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    pair = certificates.client
    async with fake_broker(tls=certificates.server_context(tmp_path, demand=True)) as broker:
        await enter(
            tls_options(broker, certificates, ca=None, certificate=pair.certificate, private_key=Secret(pair.key))
        )
