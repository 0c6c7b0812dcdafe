"""Every route that there is, and who may use it. The list is the router's."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import pytest

from mqttbridge.api.app import make_api, routes_of
from mqttbridge.api.auth import Guarded, public
from mqttbridge.api.page import is_public
from mqttbridge.clock import SystemClock
from mqttbridge.control.app import API_SECTIONS, for_api
from mqttbridge.observe.throttle import Throttle
from mqttbridge.settings.schema import Api
from mqttbridge.settings.secret import Secret
from tests.api.fakes import Daemon

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN, READER = "the-token-of-an-admin", "the-token-of-a-reader"


def _routes() -> list[tuple[str, str]]:
    """Give each method and path, with an id in it."""
    daemon = Daemon()
    found = {
        (str(method), path.replace("{id_:str}", "acme").replace("{id:str}", "acme"))
        for route in routes_of(daemon, daemon)
        for path in route.paths
        for method in route.http_methods
    }
    return sorted((method, path if path.startswith("/") else f"/{path}") for method, path in found)


ROUTES = _routes()
every = pytest.mark.parametrize(("method", "path"), ROUTES)


async def at_once(_seconds: float) -> None:
    """Wait for nothing."""


@functools.cache
def guarded() -> Guarded:
    """Give the API behind its guard."""
    daemon = Daemon()
    settings = Api(admin_tokens=(Secret(ADMIN),), read_only_tokens=(Secret(READER),))
    clock = SystemClock()
    return Guarded(make_api(daemon, daemon), lambda: settings, clock, Throttle(clock), sleep=at_once)


async def ask(method: str, path: str, token: str | None = None, **headers: str) -> tuple[int, Mapping[str, str]]:
    """Ask the API behind its guard; give the status and the headers."""
    return (await answered(method, path, token, **headers))[:2]


async def answered(
    method: str, path: str, token: str | None = None, **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    """Ask, and give the body as well."""
    app = guarded()
    given = {"host": "h", **{name.replace("_", "-"): value for name, value in headers.items()}}
    if token:
        given["authorization"] = f"Bearer {token}"
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        "client": ("192.0.2.1", 1),
        "server": ("h", 80),
        "state": {},
    }
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:  # noqa: ANN401 (ASGI)
        sent.append(message)

    await app(scope, receive, send)
    names = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], names, b"".join(one.get("body", b"") for one in sent[1:])


def test_the_router_has_what_the_page_of_the_api_lists() -> None:
    assert len(ROUTES) >= 20
    assert {("GET", "/connections"), ("POST", "/connections"), ("GET", "/session"), ("GET", "/openapi.json")} <= {
        *ROUTES
    }
    assert not [path for _, path in ROUTES if "{" in path], "each has its id"


@every
async def test_without_a_token_there_is_no_answer(method: str, path: str) -> None:
    for each in {method, "HEAD", "OPTIONS"}:
        status, headers = await ask(each, path)
        assert (status, headers["www-authenticate"]) == (401, 'Bearer realm="mqttbridge"')
        assert (await ask(each, path, "a-wrong-token-of-16"))[0] == 401


@every
async def test_no_other_spelling_of_a_path_gets_around_it(method: str, path: str) -> None:
    for other in (
        f"/{path}",
        f"{path}/",
        f"/page/..{path}",
        f"/page/%2e%2e{path}",
        f"/.{path}",
        path.upper(),
        f"{path};/page/",
    ):
        assert (await ask(method, other))[0] == 401, other


@every
async def test_a_read_only_token_reads_and_no_more(method: str, path: str) -> None:
    status, _ = await ask(method, path, READER)
    assert (status == 403) is (method != "GET")
    assert status != 401


@every
async def test_an_admins_token_is_enough_for_all(method: str, path: str) -> None:
    status, headers = await ask(method, path, ADMIN)
    assert status not in (401, 403)
    assert not [name for name in headers if name.startswith("access-control")]


@every
async def test_another_web_site_gets_nothing_even_with_a_token(method: str, path: str) -> None:
    assert (await ask(method, path, ADMIN, origin="http://evil"))[0] == 403
    preflight = {"origin": "http://evil", "access_control_request_method": method}
    status, headers = await ask("OPTIONS", path, **preflight)
    assert status == 403
    assert not [name for name in headers if name.startswith("access-control")]


async def test_what_is_not_there_is_not_told_to_strangers() -> None:
    assert (await ask("GET", "/nowhere"))[0] == 401
    assert (await ask("GET", "/nowhere", READER))[0] == 404


@pytest.mark.parametrize("path", ["/", "/page/index.html", "/page/app.js", "/connections", "/page", "/pages/x"])
def test_what_is_public_here_is_what_the_page_serves(path: str) -> None:
    assert public(path) is is_public(path)


def test_the_sections_are_those_of_the_router_and_of_the_page() -> None:
    assert {path.split("/")[1] for _, path in ROUTES} | {"", "page", "favicon.ico"} == API_SECTIONS
    assert all(for_api(path) for _, path in ROUTES)
    for path in ("/uplinks/lrc", "/uplink", "/connection", "/lrc", "", "x", "*", "//connections/x/y"):
        assert for_api(path) is (path == "//connections/x/y"), path


async def test_the_session_tells_the_role() -> None:
    for token, role in ((ADMIN, "admin"), (READER, "read-only")):
        assert json.loads((await answered("GET", "/session", token))[2]) == {"role": role}
