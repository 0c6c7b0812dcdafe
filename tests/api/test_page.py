"""What serves the page, and what the page's files must not hold."""

from __future__ import annotations

import re
from typing import Any

import pytest

from mqttbridge.api.page import Page, is_public, read_files

FILES = read_files()
SCRIPTS = {name: body.decode() for name, body in FILES.items() if name.endswith(".js")}


async def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    sent: list[Any] = []

    async def send(message: Any) -> None:  # noqa: ANN401
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    await Page(FILES)({"type": "http", "path": path, "method": method, "headers": given}, receive, send)
    body = b"".join(message["body"] for message in sent[1:])
    return sent[0]["status"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}, body


async def test_the_page_is_at_the_root_and_its_files_beside_it() -> None:
    status, headers, body = await ask("/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert body == FILES["index.html"]
    for name, content in FILES.items():
        assert (await ask(f"/page/{name}"))[2] == content


@pytest.mark.parametrize("path", ["/", "/page/main.js", "/page/nothing.js"])
async def test_every_answer_has_the_strict_headers(path: str) -> None:
    _, headers, _ = await ask(path)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    assert "unsafe" not in policy
    for directive in ("frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'", "connect-src 'self'"):
        assert directive in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["cache-control"] == "no-cache"


async def test_what_the_browser_has_is_not_sent_again() -> None:
    _, headers, _ = await ask("/page/main.js")
    for tag in (headers["etag"], f"W/{headers['etag']}", f'"other", {headers["etag"]}', "*"):
        status, again, body = await ask("/page/main.js", if_none_match=tag)
        assert (status, body, again["etag"]) == (304, b"", headers["etag"])
    assert (await ask("/page/main.js", if_none_match='"other"'))[0] == 200


async def test_head_has_the_headers_alone() -> None:
    _, headers, body = await ask("/", "HEAD")
    assert body == b""
    assert int(headers["content-length"]) == len(FILES["index.html"])


@pytest.mark.parametrize(
    "path", ["/page/", "/page/../api/page.py", "/page/%2e%2e/", "/page//etc/passwd", "/main.js", "/page/__init__.py"]
)
async def test_what_is_no_file_of_the_page_is_not_found(path: str) -> None:
    assert (await ask(path))[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_only_get_and_head_are_answered(method: str) -> None:
    status, headers, _ = await ask("/", method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_the_root_and_the_files_are_public_and_nothing_else() -> None:
    assert [path for path in ("/", "/page/main.js", "/pages", "/page", "/connections") if is_public(path)] == [
        "/",
        "/page/main.js",
    ]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_or_code_of_text(name: str) -> None:
    forbidden = r"(inner|outer|Adjacent|UnsafeH?)HTML|document\.write|eval\(|new Function|\.style\b|DOMParser|srcdoc"
    assert not re.search(forbidden, SCRIPTS[name])


def test_nothing_comes_from_elsewhere_and_nothing_is_inline() -> None:
    for name, body in FILES.items():
        text = body.decode().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(src|href|url|from|import)\W{1,3}(https?:)?//", text), name
    html = FILES["index.html"].decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]* src=)", html)


def test_every_file_that_is_named_is_there_and_every_module_is_preloaded() -> None:
    html = FILES["index.html"].decode()
    named = set(re.findall(r'/page/([\w.-]+)"', html))
    imported = {one for text in SCRIPTS.values() for one in re.findall(r'from "\./([\w.-]+)"', text)}
    assert (named | imported) <= FILES.keys()
    assert set(SCRIPTS) <= named
