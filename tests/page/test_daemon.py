"""The page in a real browser, against the daemon and a mosquitto that asks for a client certificate."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
import trustme

from tests.brokers.recorder import recorder
from tests.page.browser import AUDIT, CHROMIUM, REFUSALS
from tests.support.bridge import bridge, uplink

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed")
expect = playwright.expect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from playwright.async_api import Page

    from tests.brokers.mosquitto import Mosquitto

pytestmark = pytest.mark.skipif(not CHROMIUM, reason="chromium is not installed")

TOKEN = "a-token-of-this-test-alone"


@pytest.fixture
async def page() -> AsyncIterator[Page]:
    """Give a page that must not complain of anything but refusals."""
    complaints: list[str] = []
    async with playwright.async_playwright() as running:
        browser = await running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        opened = await browser.new_page(viewport={"width": 1280, "height": 900})
        opened.set_default_timeout(10_000)
        opened.on("pageerror", lambda error: complaints.append(str(error)))
        opened.on("console", lambda one: complaints.append(one.text) if one.type in ("error", "warning") else None)
        yield opened
        await browser.close()
    assert [one for one in complaints if not one.startswith(REFUSALS)] == []


async def broker_with_certificates(
    tmp_path: Path, start: Callable[..., Awaitable[Mosquitto]], authority: trustme.CA
) -> Mosquitto:
    own = authority.issue_cert("127.0.0.1", "localhost")
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "own.pem"))
    own.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    lines = [f"cafile {tmp_path}/ca.pem", f"certfile {tmp_path}/own.pem", f"keyfile {tmp_path}/own.key"]
    return await start(listeners={"tls": [*lines, "require_certificate true"], "plain": []})


async def fill_in(page: Page, broker: Mosquitto, authority: trustme.CA) -> None:
    client = authority.issue_cert("acme@example.org")
    files = {
        "CA certificate": authority.cert_pem.bytes(),
        "Client certificate": client.cert_chain_pems[0].bytes(),
        "Private key": client.private_key_pem.bytes(),
    }
    await page.get_by_label("Name *", exact=True).fill("ACME broker")
    await page.get_by_label("Id", exact=True).fill("acme")
    await page.get_by_label("Host *").fill(f"127.0.0.1:{broker.listeners['tls']}")
    for label, content in files.items():
        name = f"{label}.pem"
        await page.get_by_label(label).set_input_files({"name": name, "mimeType": "", "buffer": content})
        await expect(page.get_by_text(re.compile(f"{name}: (one certificate|a private key)"))).to_be_visible()


async def test_a_connection_lives_its_whole_life_on_the_page(
    tmp_path: Path, page: Page, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    authority = trustme.CA()
    broker = await broker_with_certificates(tmp_path, start_mosquitto, authority)
    plain = SimpleNamespace(host="127.0.0.1", port=broker.listeners["plain"])
    button = lambda name: page.get_by_role("button", name=name, exact=True)  # noqa: E731
    async with bridge(tmp_path / "daemon", api={"adminTokens": [TOKEN]}) as daemon, recorder(plain) as record:
        file = daemon.path.parent / "connections.d" / "acme.yaml"
        await page.goto(f"{daemon.url}/#/connections/new")
        await page.get_by_label("Token").fill(TOKEN)
        await button("Sign in").click()
        await fill_in(page, broker, authority)
        await button("Test").click()
        await expect(page.get_by_text("The test went well")).to_be_visible()
        assert not file.exists()

        await button("Create").click()
        await expect(page.locator("#notices")).to_contain_text("The connection ACME broker was created.")
        await expect(page.locator(".head .state")).to_have_text("OPENED")
        assert (file.stat().st_mode & 0o777, "PRIVATE KEY" in file.read_text()) == (0o600, True)
        await daemon.accept("lrc", uplink(7))
        (message,) = await record.wait_for(1)
        assert message.topic == "mqtt/things/0018B20000000B20/uplink"
        line = page.get_by_role("row", name=re.compile("0018B20000000B20"))
        await expect(line).to_contain_text("delivered")
        await expect(line).to_contain_text(message.topic)
        await expect(page.get_by_text("1 active device since the daemon started")).to_be_visible(timeout=15_000)
        assert await page.evaluate(AUDIT) == []

        await page.get_by_role("link", name="Edit").click()
        topic = page.get_by_label("Uplink topic *")
        await topic.fill("wrong/#/{DevEUI}")
        await button("Save").click()
        await expect(topic).to_be_focused()
        await expect(topic).to_have_attribute("aria-invalid", "true")
        await topic.fill("changed/{DevEUI}")
        await button("Save").click()
        await expect(page.locator("#notices")).to_contain_text("ACME broker is saved and in force.")
        await daemon.accept("lrc", uplink(8))
        assert (await record.wait_for(2))[1].topic == "changed/0018B20000000B20"
        await expect(page.get_by_text("changed/0018B20000000B20")).to_be_visible()

        await button("Stop").click()
        await expect(page.locator(".head .state")).to_have_text("DEACTIVATED")
        await button("Start").click()
        await expect(page.locator(".head .state")).to_have_text("OPENED")
        await page.get_by_role("link", name="Events").click()
        await expect(page.get_by_text("connection.opened").first).to_be_visible()
        await page.go_back()
        await button("Delete").click()
        await page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        await expect(page.get_by_text("There are no connections yet.")).to_be_visible()
        assert not file.exists()
