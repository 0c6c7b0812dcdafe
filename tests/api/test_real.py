"""The API of a real daemon, in front of a real broker."""

from __future__ import annotations

import asyncio
import json
import stat
from typing import TYPE_CHECKING, Any

import httpx
import trustme

from mqttbridge.api.operations import EXAMPLE
from mqttbridge.settings.reader import etag
from tests.brokers.certs import Certificates
from tests.support.bridge import DEADLINE, NOBODY, bridge, names, to, until, uplink

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.support.bridge import Bridge

TOKEN = "an-admin-token-of-the-tests"
READER = "a-token-that-only-reads"
API = {"adminTokens": [TOKEN], "readOnlyTokens": [READER]}
WRITERS = 100


def client(daemon: Bridge, token: str = TOKEN) -> httpx.AsyncClient:
    headers = {"authorization": f"Bearer {token}"}
    limits = httpx.Limits(max_connections=WRITERS)
    return httpx.AsyncClient(base_url=daemon.url, headers=headers, trust_env=False, timeout=DEADLINE, limits=limits)


async def until_open(api: httpx.AsyncClient, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def holds() -> bool:
        found.update((await api.get(f"/connections/{id_}")).json())
        return found["state"] == "OPENED"

    await until(holds, f"{id_} OPENED", DEADLINE, lambda: str(found))
    return found


async def patiently(ask: Callable[[], Awaitable[httpx.Response]]) -> httpx.Response:
    """Ask again when too many ask at once."""
    while (response := await ask()).status_code == 503:  # noqa: ASYNC110 (another process says when)
        await asyncio.sleep(float(response.headers["retry-after"]) / 20)
    return response


async def test_the_documented_example_opens_with_real_values(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    certificates = await asyncio.to_thread(Certificates, trustme.KeyType.RSA)
    lines = await asyncio.to_thread(certificates.listener, tmp_path, demand=True)
    broker = await start_mosquitto(listeners={"tls": lines}, users={"mycompany": "bar"})
    pair = certificates.client
    real = {
        "hostName": f"localhost:{broker.port}",
        "certificate": pair.certificate,
        "privateKey": await asyncio.to_thread(pair.pkcs1),
        "trustedCaCertficate": certificates.ca,
        "createDevices": True,
    }
    document = {**EXAMPLE, "configuration": {**EXAMPLE["configuration"], **real}}
    async with bridge(tmp_path / "daemon", api=API) as daemon, client(daemon) as api:
        tried = (await api.post("/connections?dryRun=true", json=document)).json()
        assert tried["ok"], tried
        assert (await api.get("/connections")).json() == {"connections": []}
        made = await api.post("/connections", json=document)
        assert made.status_code == 201, made.text
        assert any("createDevices" in text for text in made.json()["warnings"])
        id_ = made.json()["id"]
        assert made.headers["location"] == f"/connections/{id_}"
        shown = await until_open(api, id_)
        assert shown["configuration"]["password"] == shown["configuration"]["privateKey"] == "*****"
        file = daemon.path.parent / "connections.d" / f"{id_}.yaml"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        # Nor can the password be guessed from the hash of what is around it.
        assert shown["etag"] == made.headers["etag"].strip('"') != etag(file.read_bytes())
        assert shown["configuration"]["protocol"] == "SSL"
        # What GET gave is edited and put: the secrets stay, and it opens again.
        put = await api.put(
            f"/connections/{id_}", json={**shown, "name": "Renamed"}, headers={"If-Match": shown["etag"]}
        )
        assert (put.status_code, put.json()["name"]) == (200, "Renamed"), put.text
        await until_open(api, id_)
        await daemon.accept("lrc", uplink(1))
        await daemon.until_account(id_, delivered=1)
        uplinks = (await api.get(f"/connections/{id_}/uplinks")).json()["uplinks"]
        assert [one["topic"] for one in uplinks] == ["mqtt/things/0018B20000000B20/uplink"]
        assert (await api.delete(f"/connections/{id_}")).status_code == 204
        assert (await api.get(f"/connections/{id_}")).status_code == 404
        assert names(daemon.path.parent / "connections.d") == []


async def test_a_hundred_writers_lose_no_update(tmp_path: Path) -> None:
    off = {**to(NOBODY), "active": False}
    async with bridge(tmp_path, api=API) as daemon, client(daemon) as api:
        first = await api.post("/connections", json={"id": "one", **off})
        etag = first.headers["etag"]

        def put(number: int) -> Awaitable[httpx.Response]:
            return api.put("/connections/one", json={**off, "name": f"n{number}"}, headers={"If-Match": etag})

        answers = await asyncio.gather(*(patiently(lambda n=n: put(n)) for n in range(WRITERS)))
        assert sorted(one.status_code for one in answers) == [200] + [412] * (WRITERS - 1)
        (winner,) = (one.json()["name"] for one in answers if one.status_code == 200)
        assert (await api.get("/connections/one")).json()["name"] == winner
        made = await asyncio.gather(
            *(patiently(lambda: api.post("/connections", json={"name": "Same", **off})) for _ in range(WRITERS))
        )
        assert {one.status_code for one in made} == {201}, {one.text for one in made if one.status_code != 201}
        ids = {one.json()["id"] for one in made}
        assert len(ids) == WRITERS
        assert set(names(tmp_path / "connections.d")) == {f"{id_}.yaml" for id_ in ids} | {"one.yaml"}


async def test_a_reader_reads_and_the_socket_asks_for_no_token(tmp_path: Path) -> None:
    async with bridge(tmp_path, api=API, connections={"acme": {**to(NOBODY), "active": False}}) as daemon:
        async with client(daemon, READER) as api:
            assert (await api.get("/session")).json() == {"role": "read-only"}
            assert (await api.get("/connections/acme")).json()["owner"] == "main"
            assert (await api.post("/connections/acme/start")).status_code == 403
        socket = httpx.AsyncHTTPTransport(uds=str(daemon.state / "mqttbridge.sock"))
        async with httpx.AsyncClient(transport=socket, base_url="http://localhost") as api:
            assert (await api.get("/session")).json() == {"role": "admin"}
            assert (await api.get("/connections/acme")).status_code == 200
            refused = await api.post("/connections/acme/start")
            assert refused.status_code == 409
            assert json.loads(refused.content)["detail"]
