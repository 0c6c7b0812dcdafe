"""Edits through the API of a real daemon: many at once, and killed in the middle."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import httpx
import pytest

from mqttbridge.settings.loader import load
from tests.support.bridge import NOBODY, bridge, to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.bridge import Bridge

WRITERS, EDITS = 10, 5
LARGE = 50_000


@asynccontextmanager
async def api(daemon: Bridge) -> AsyncIterator[httpx.AsyncClient]:
    """Ask over the Unix socket, where no token is needed."""
    transport = httpx.AsyncHTTPTransport(uds=str(daemon.state / "mqttbridge.sock"))
    async with httpx.AsyncClient(transport=transport, base_url="http://daemon", timeout=60.0) as client:
        yield client


def document(name: str, **configuration: Any) -> dict[str, Any]:  # noqa: ANN401 (properties)
    return {"name": name, "active": False, **to(NOBODY, **configuration)}


@pytest.mark.timeout(60)
async def test_clients_of_a_daemon_who_say_what_they_saw_lose_no_edit(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={}) as daemon, api(daemon) as client:
        made = await client.post("/connections", json=document("0"))
        assert (made.status_code, made.headers["location"]) == (201, "/connections/0")

        async def add() -> None:
            done = 0
            while done < EDITS:
                seen = await client.get("/connections/0")
                wanted = document(str(int(seen.json()["name"]) + 1))
                answer = await client.put("/connections/0", json=wanted, headers={"If-Match": seen.headers["etag"]})
                assert answer.status_code in {200, 412}, answer.text
                done += answer.status_code == 200

        async with anyio.create_task_group() as group:
            for _ in range(WRITERS):
                group.start_soon(add)
        assert (await client.get("/connections/0")).json()["name"] == str(WRITERS * EDITS)
        file = tmp_path / "connections.d" / "0.yaml"
        assert f"name: '{WRITERS * EDITS}'\n" in file.read_text()
        # What a person writes into the same file counts as well.
        known = (await client.get("/connections/0")).headers["etag"]
        file.write_text("# mine\n" + file.read_text())
        answer = await client.put("/connections/0", json=document("x"), headers={"If-Match": known})
        assert answer.status_code == 412
        assert file.read_text().startswith("# mine\n")


@pytest.mark.timeout(60)
async def test_a_daemon_that_is_killed_during_edits_starts_again_with_the_old_or_the_new(tmp_path: Path) -> None:
    chance = random.Random(7)  # noqa: S311 (moments, no keys)
    async with bridge(tmp_path, connections={}) as daemon:
        async with api(daemon) as client:
            assert (await client.post("/connections", json=document("acme", description="-"))).status_code == 201
        for _ in range(3):
            async with api(daemon) as client:
                editing = asyncio.create_task(_edit_for_ever(client))
                await asyncio.sleep(chance.uniform(0.05, 0.5))  # the moment is the matter
                await daemon.kill()
                await asyncio.gather(editing, return_exceptions=True)
            loaded = await anyio.to_thread.run_sync(lambda: load(daemon.path, environ={}))
            on_disk = loaded.settings.connections["acme"].configuration.description
            assert on_disk in {"-", "a" * LARGE, "b" * LARGE}
            await daemon.restart()
            async with api(daemon) as client:
                seen = (await client.get("/connections/acme")).json()
                assert seen["configuration"]["description"] == on_disk
                assert (await client.put("/connections/acme", json=document("acme", description="-"))).is_success
            assert [one.name for one in (tmp_path / "connections.d").iterdir()] == ["acme.yaml"]


async def _edit_for_ever(client: httpx.AsyncClient) -> None:
    while True:
        for letter in "ab":
            await client.put("/connections/acme", json=document("acme", description=letter * LARGE))
