"""A server and a browser for the tests of the page; what it complains about fails the test that asked for it."""

from __future__ import annotations

import shutil
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
REFUSALS = tuple(f"Failed to load resource: the server responded with a status of {one}" for one in ("4", "503"))
"""The browser says so of every refusal, and most tests want one."""


@contextmanager
def tab(browser: Browser, url: str, **options: Any) -> Iterator[Page]:  # noqa: ANN401
    """Open a page in a session of its own; at the end it must not have complained about anything."""
    complaints: list[str] = []

    def said(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not message.text.startswith(REFUSALS):
            complaints.append(message.text)

    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, "base_url": url} | options)
    try:
        page = context.new_page()
        page.set_default_timeout(8000)
        page.on("console", said)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(url) else complaints.append(request.url))
        yield page
    finally:
        context.close()
    assert not complaints


def sign_in(page: Page, token: str, where: str = "/") -> None:
    page.goto(where)
    page.get_by_label("Token").fill(token)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("navigation", name="Main").wait_for()


def button(page: Page, name: str) -> Locator:
    return page.get_by_role("button", name=name, exact=True)


def look_again(page: Page) -> None:
    """Have the page ask now what it would ask within two seconds, as when it is shown again."""
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")


@contextmanager
def served(app: Callable[..., Awaitable[None]]) -> Iterator[str]:
    """Serve an application on a free port, in a thread; give its address."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", lifespan="off", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 10
    while not server.started:
        assert time.monotonic() < until, "the server does not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(10)


AUDIT = (Path(__file__).parent / "audit.js").read_text(encoding="utf-8")
"""What is wrong for eyes and screen readers, as far as a script can tell: gives a list of sentences."""
