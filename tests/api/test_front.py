"""The daemon itself, from outside: who gets in with TLS, tokens, and without."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import trustme
from cryptography import x509

from tests.support.bridge import NOBODY, bridge, run, to, until, uplink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.bridge import Bridge

ADMIN, READER, WRONG = "the-token-of-an-admin", "the-token-of-a-reader", "a-token-of-nobody-here"
API = {"adminTokens": [ADMIN], "readOnlyTokens": [READER]}
AUTHORITY = trustme.CA()


def renew(directory: Path) -> int:
    """Write a new certificate with its key; gives its number."""
    leaf = AUTHORITY.issue_cert("127.0.0.1", "localhost")
    (directory / "http.key").write_bytes(leaf.private_key_pem.bytes())
    (directory / "http.crt").write_bytes(b"".join(one.bytes() for one in leaf.cert_chain_pems))
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def shown(daemon: Bridge) -> int:
    """Give the number of the certificate that a new connection sees."""
    host, _, port = daemon.url.removeprefix("https://").rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=trusting(), server_hostname="localhost")
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return x509.load_der_x509_certificate(certificate).serial_number


async def test_without_a_token_in_the_configuration_there_is_no_api_until_a_reload_brings_one(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        for path in ("/", "/connections", "/page/index.html"):
            assert (await daemon.get(path)).status_code == 404
        daemon.write({"sources": {"lrc": {"transport": "http"}}, "connections": {"acme": to(NOBODY)}, "api": API})
        daemon.signal(1)
        await daemon.until_said("config.reloaded")
        assert (await daemon.get("/connections")).status_code == 401
        assert (await daemon.get("/")).status_code == 200
        answer = await daemon.client.get(f"{daemon.url}/connections", headers=bearer(READER))
        assert [one["id"] for one in answer.json()["connections"]] == ["acme"]
        assert ADMIN not in daemon.text
        assert READER not in daemon.text


async def test_who_may_what_over_the_network_and_what_the_log_tells(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}, api=API) as daemon:

        async def ask(method: str, path: str, token: str = "", body: Any = None, **headers: str) -> httpx.Response:  # noqa: ANN401 (JSON)
            given = {**(bearer(token) if token else {}), **headers}
            return await daemon.client.request(method, daemon.url + path, headers=given, json=body)

        document = {"id": "beta", **to(NOBODY)}
        assert (await ask("POST", "/connections", body=document)).status_code == 401
        assert (await ask("POST", "/connections", WRONG, document)).status_code == 401
        assert (await ask("POST", "/connections", READER, document)).status_code == 403
        assert (await ask("POST", "/connections", ADMIN, document, Origin="http://evil")).status_code == 403
        made = await ask("POST", "/connections", ADMIN, document, Origin=daemon.url)
        assert made.status_code == 201, made.text
        (line,) = await daemon.until_said("api.edited")
        told = [line[name] for name in ("what", "connection", "role", "client")]
        assert told == ["created", "beta", "admin", "127.0.0.1"]
        (line,) = daemon.said("api.unauthorised")
        assert line["client"] == "127.0.0.1"
        assert (await ask("GET", "/session", READER)).json() == {"role": "read-only"}
        await daemon.accept("lrc", uplink(1))
        astray = await ask("POST", "/uplinks/lrc", body={})
        assert (astray.status_code, "did you mean" in astray.json()["detail"]) == (404, True)
        for token in (ADMIN, READER, WRONG):
            assert token not in daemon.text


async def test_the_daemon_speaks_https_and_a_renewed_certificate_is_taken_up_by_itself(tmp_path: Path) -> None:
    first = await asyncio.to_thread(renew, tmp_path)
    config = {
        "http": {"listen": "0.0.0.0:0"},
        "api": API,
        "sources": {"lrc": {"transport": "http"}},
        "connections": {"acme": to(NOBODY)},
    }
    text = json.dumps(config).replace(
        '"listen": "0.0.0.0:0"', '"listen": "0.0.0.0:0", "certificate": !file http.crt, "privateKey": !file http.key'
    )
    async with bridge(tmp_path, text) as daemon:
        daemon.url = daemon.url.replace("http://0.0.0.0", "https://127.0.0.1")
        daemon.client = httpx.AsyncClient(verify=trusting(), trust_env=False)
        assert await shown(daemon) == first
        answer = await daemon.client.get(f"{daemon.url}/connections", headers=bearer(ADMIN))
        assert answer.status_code == 200
        await daemon.accept("lrc", uplink(1))
        port = daemon.url.rpartition(":")[2]
        (tmp_path / "known").mkdir()
        listening = text.replace("0.0.0.0:0", f"0.0.0.0:{port}").replace("!file ", "!file ../")
        (tmp_path / "known" / "mqttbridge.yaml").write_text(listening)
        sent = await run("send", "--config", str(tmp_path / "known" / "mqttbridge.yaml"), "--source", "lrc")
        assert sent.process is not None
        assert sent.process.returncode == 0, sent.text
        second = await asyncio.to_thread(renew, tmp_path)

        async def taken() -> bool:
            return await shown(daemon) == second

        await until(taken, "the renewed certificate", more=lambda: daemon.text[-2000:])
        await daemon.until_said("http.renewed")
        assert await daemon.stop() == 0
        assert "PRIVATE KEY" not in daemon.text


async def test_tokens_without_tls_on_the_network_are_no_configuration(tmp_path: Path) -> None:
    text = json.dumps({"http": {"listen": "0.0.0.0:0"}, "api": API})
    async with bridge(tmp_path, text, start=False) as daemon:
        await daemon.start(wait=False)
        assert await daemon.wait() == 1
        assert "http.certificate" in daemon.text
        assert ADMIN not in daemon.text


async def test_the_socket_needs_no_token_and_makes_an_admin(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        socket = str(daemon.state / "mqttbridge.sock")
        assert await anyio.Path(socket).exists()
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=socket), base_url="http://any") as client:
            assert (await client.get("/session")).json() == {"role": "admin"}
            assert (await client.get("/nowhere")).status_code == 404
            elsewhere = {"Mqttbridge-Config": "/etc/other.yaml"}
            assert (await client.get("/connections", headers=elsewhere)).status_code == 421
            assert (await client.delete("/connections/nobody")).status_code == 404
