"""HTTPS: what is spoken, what is not, and a certificate that is renewed under way."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import pytest
import trustme
from cryptography import x509

from mqttbridge.control import protocol
from mqttbridge.control.server import HttpServer, bind
from mqttbridge.control.tls import ServerTls
from mqttbridge.errors import StartError
from mqttbridge.settings.schema import Http
from mqttbridge.settings.secret import Secret
from tests.settings import pki
from tests.support.bridge import until
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AUTHORITY = trustme.CA()


def shown(key_type: trustme.KeyType = trustme.KeyType.ECDSA) -> tuple[Http, int]:
    """Give a new certificate for localhost, and its number."""
    leaf = AUTHORITY.issue_cert("localhost", key_type=key_type)
    chain = "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems)
    http = Http(certificate=chain, private_key=Secret(leaf.private_key_pem.bytes().decode()))
    return http, x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def trusting() -> ssl.SSLContext:
    """Give the context of a client that knows the authority."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


async def made(http: Http | None = None) -> ServerTls:
    return await asyncio.to_thread(ServerTls, http or shown()[0])


async def app(scope: Any, _receive: object, send: Any) -> None:  # noqa: ANN401 (ASGI)
    body = scope["scheme"].encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


@contextlib.asynccontextmanager
async def serving(tls: ServerTls) -> AsyncIterator[int]:
    with bind("127.0.0.1", 0) as listener:
        async with HttpServer(app, listener, tls=tls).serving():
            yield listener.getsockname()[1]


async def ask(port: int, context: ssl.SSLContext, name: str | None = "localhost") -> tuple[bytes, int, str | None]:
    """Ask once; give the answer's body, the number of the certificate, and the protocol that was chosen."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    tls = writer.get_extra_info("ssl_object")
    certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))
    writer.close()
    return answer.rpartition(b"\r\n")[2], certificate.serial_number, tls.selected_alpn_protocol()


async def test_requests_come_in_by_https_and_http_1_1_is_what_is_chosen() -> None:
    http, number = shown()
    context = trusting()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with serving(await made(http)) as port:
        assert await ask(port, context) == (b"https", number, "http/1.1")


async def test_curl_gets_an_answer(tmp_path: Any) -> None:  # noqa: ANN401 (a path)
    http, _ = shown()
    ca = tmp_path / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(ca))
    async with serving(await made(http)) as port:
        command = ["curl", "-sS", "--cacert", str(ca), f"https://localhost:{port}/", f"https://localhost:{port}/"]
        done = await anyio.run_process([*command, "--resolve", f"localhost:{port}:127.0.0.1"])
    assert done.stdout == b"httpshttps"


@pytest.mark.parametrize("kind", [trustme.KeyType.ECDSA, trustme.KeyType.RSA])
@pytest.mark.parametrize("name", ["localhost", None])
async def test_a_renewed_certificate_is_shown_to_whoever_connects_next(kind: trustme.KeyType, name: str | None) -> None:
    context = trusting()
    if name is None:
        # So that the client names no server.
        context.check_hostname = False
    first, old = shown()
    tls = await made(first)
    async with serving(tls) as port:
        assert (await ask(port, context, name))[1] == old
        second, new = shown(kind)
        await asyncio.to_thread(tls.renew, second)
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.minimum_version = context.maximum_version = version
            assert (await ask(port, context, name))[1] == new


async def test_one_that_cannot_be_used_leaves_the_old_one_in_place() -> None:
    http, number = shown()
    tls = await made(http)
    async with serving(tls) as port:
        with pytest.raises(StartError, match="do not belong together"):
            await asyncio.to_thread(tls.renew, Http(certificate=http.certificate, private_key=Secret(pki.key())))
        assert (await ask(port, trusting()))[1] == number


async def test_what_a_reload_brings_is_taken_up_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    monkeypatch.setattr("mqttbridge.control.tls.log", told)
    (first, _), (second, number) = shown(), shown()
    tls = await made(first)
    running = asyncio.create_task(tls.run())
    async with serving(tls) as port, asyncio.timeout(10):
        for http in (first, Http(certificate="x", private_key=Secret("y")), second, second, Http()):
            tls.take_up(http)
            await asyncio.sleep(0)
            while (await ask(port, trusting()))[1] != number and http is second:
                pass

        async def renewed() -> bool:
            return "http.renewed" in told.events()

        await until(renewed, "a line in the log")
    running.cancel()
    assert told.events("info") == ["http.renewed"]


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_nothing_older_than_tls_1_2_is_spoken() -> None:
    context = trusting()
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1
    async with serving(await made()) as port:
        with pytest.raises((ssl.SSLError, ConnectionError)) as refused:
            await ask(port, context)
    assert "NO_PROTOCOLS_AVAILABLE" not in str(refused.value), "it is the server that refuses"


async def test_who_speaks_no_tls_or_breaks_off_does_no_harm(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(await made()) as port:
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02", b"\x00" * 70_000):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(garbage)
            if len(garbage) > 4:
                with contextlib.suppress(ConnectionError):
                    await reader.read()
            writer.close()
        assert (await ask(port, trusting()))[0] == b"https"
    assert not caplog.records


async def test_a_head_that_does_not_come_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_WITHIN", 0.1)
    async with serving(await made()) as port, asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname="localhost")
        assert b" 408 " in await reader.readline()
        writer.close()


async def test_clients_that_stay_do_not_hold_up_the_end() -> None:
    async with asyncio.timeout(10):
        async with serving(await made()) as port:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting(), server_hostname="localhost")
            _, deaf = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
        deaf.close()
