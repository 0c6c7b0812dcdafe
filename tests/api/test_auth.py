"""Who is heard, what he may do, and how long a wrong token waits."""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from mqttbridge.api import auth
from mqttbridge.api.auth import Guarded, edited, public, role_of
from mqttbridge.api.slowing import PER_CLIENT
from mqttbridge.clock import SystemClock
from mqttbridge.observe import throttle as throttling
from mqttbridge.observe.throttle import Throttle
from mqttbridge.settings.schema import Api
from mqttbridge.settings.secret import Secret
from tests.support.inside import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ADMIN, READER = "the-token-of-an-admin", "the-token-of-a-reader"
WRONG = "a-token-of-nobody-here"


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        problem: dict[str, Any] = json.loads(self.body)
        assert problem["status"] == self.status
        return problem


class Waits:
    """Stands in for sleeping: notes how long, and ends when it is told to."""

    def __init__(self) -> None:
        self.asked: list[float] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, seconds: float) -> None:
        self.asked.append(seconds)
        await self.go_on.wait()


class Front:
    """An application behind its guard."""

    def __init__(self) -> None:
        self.settings = Api(admin_tokens=(Secret(ADMIN),), read_only_tokens=(Secret(READER),))
        self.waits = Waits()
        self.throttle = Throttle(SystemClock())
        self.guarded = Guarded(self._app, lambda: self.settings, SystemClock(), self.throttle, sleep=self.waits)
        self.seen: list[str] = []
        self.hold: asyncio.Event | None = None

    async def _app(self, scope: Any, _receive: object, send: Any) -> None:  # noqa: ANN401 (ASGI)
        self.seen.append(role_of(scope))
        if self.hold is not None:
            await self.hold.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"fine"})

    async def ask(
        self,
        method: str = "GET",
        path: str = "/connections",
        *,
        token: str | None = None,
        client: str = "192.0.2.1",
        headers: list[tuple[bytes, bytes]] | None = None,
        raw: str | None = None,
    ) -> Answer:
        given = [(b"host", b"h"), *(headers or [])]
        if token is not None:
            given.append((b"authorization", f"Bearer {token}".encode()))
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": (raw or path).encode(),
            "scheme": "http",
            "headers": given,
            "client": (client, 1234),
            "mqttbridge.role": "admin",
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:  # noqa: ANN401 (ASGI)
            sent.append(message)

        await self.guarded(scope, receive, send)
        start, *rest = sent
        names = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], names, b"".join(one["body"] for one in rest))


async def until(condition: Callable[[], bool]) -> None:
    """Let the other tasks go on until something holds."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never held")


@pytest.fixture
def front() -> Front:
    return Front()


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[Told]:
    told = Told()
    monkeypatch.setattr(throttling, "log", told)
    monkeypatch.setattr(auth, "log", told)
    yield told
    assert not any(secret in repr(told.lines) for secret in (ADMIN, READER, WRONG)), "no token is ever logged"


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_without_a_token_nothing_is_answered(front: Front, method: str) -> None:
    answer = await front.ask(method)
    assert answer.status == 401
    assert answer.headers["www-authenticate"] == 'Bearer realm="mqttbridge"'
    assert answer.problem["title"] == "Unauthorized"
    assert front.seen == []
    assert front.waits.asked == [], "that was no guess"


@pytest.mark.parametrize(
    "authorization",
    [
        b"", b"Bearer", b"Bearer ", b"Bearer  ", f"Basic {ADMIN}".encode(), ADMIN.encode(), f"Bearer {ADMIN}x".encode(),
        f"Bearer {ADMIN[:-1]}".encode(), f"Bearer {ADMIN.upper()}".encode(), f"Bearer {ADMIN},{ADMIN}".encode(),
        b"Bearer *****", b"Bearer \xff\x00", f"Bearer{ADMIN}".encode(),
    ],
)  # fmt: skip
async def test_a_wrong_token_is_answered_as_a_missing_one_is(front: Front, told: Told, authorization: bytes) -> None:
    answer = await front.ask(headers=[(b"authorization", authorization)])
    missing = await front.ask()
    assert (answer.status, answer.body, answer.headers) == (401, missing.body, missing.headers)
    assert front.waits.asked == [0.1]
    assert told.lines == [("warning", "api.unauthorised", {"client": "192.0.2.1", "reason": "a wrong token"})]
    assert front.seen == []


async def test_an_admin_may_do_everything_and_a_reader_read(front: Front) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE"):
        assert (await front.ask(method, token=ADMIN)).status == 200
    for method in ("GET", "HEAD"):
        assert (await front.ask(method, token=READER)).status == 200
    assert front.seen == ["admin"] * 5 + ["read-only"] * 2
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get"):
        answer = await front.ask(method, token=READER)
        assert (answer.status, answer.problem["title"]) == (403, "Forbidden")
    assert len(front.seen) == 7
    scheme = [(b"authorization", f"bearer  {ADMIN} ".encode())]
    assert (await front.ask(headers=scheme)).status == 200


async def test_two_headers_are_no_token(front: Front) -> None:
    one = (b"authorization", f"Bearer {ADMIN}".encode())
    assert (await front.ask(headers=[one, one])).status == 401


async def test_tokens_count_as_they_stand_in_the_configuration_now(front: Front) -> None:
    front.settings = Api(read_only_tokens=(Secret(ADMIN),))
    assert (await front.ask(token=READER)).status == 401
    assert (await front.ask("POST", token=ADMIN)).status == 403
    front.settings = Api()
    assert (await front.ask(token=ADMIN)).status == 401


@pytest.mark.parametrize("path", ["/", "/favicon.ico", "/page/app.js", "/page/a/b.css"])
async def test_the_files_of_the_page_need_no_token_and_have_no_role(front: Front, path: str) -> None:
    for method in ("GET", "HEAD"):
        assert (await front.ask(method, path)).status == 200
    assert front.seen == ["", ""], "whatever the client claims"
    assert (await front.ask("POST", path)).status == 401


@pytest.mark.parametrize(
    "path",
    ["/page", "/page/../connections", "/page/./x", "/page//connections", "//", "/page/..", "/page/..\\x",
     "/connections", "/openapi.json", "/favicon.ico/x", "/index.html", ""],
)  # fmt: skip
async def test_nothing_else_is_public(front: Front, path: str) -> None:
    assert not public(path)
    assert (await front.ask(path=path)).status == 401


async def test_a_path_that_is_encoded_is_not_public(front: Front) -> None:
    assert (await front.ask(path="/page/a", raw="/page%2fa")).status == 401


async def test_another_web_site_is_refused_before_its_token_is_looked_at(front: Front) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = await front.ask(method, token=ADMIN, headers=[(b"origin", b"http://evil")])
        assert answer.status == 403
        assert not [name for name in answer.headers if name.startswith("access-control")]
    assert (await front.ask("POST", token=ADMIN, headers=[(b"sec-fetch-site", b"cross-site")])).status == 403
    assert (await front.ask("POST", token=ADMIN, headers=[(b"origin", b"http://h")])).status == 200


async def test_who_guesses_waits_longer_each_time_and_nobody_else_does(front: Front, told: Told) -> None:
    for _ in range(8):
        await front.ask(token=WRONG)
    assert front.waits.asked == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    await front.ask(token=WRONG, client="192.0.2.2")
    assert front.waits.asked[-1] == 0.1
    waited = len(front.waits.asked)
    assert (await front.ask(token=ADMIN)).status == 200, "at the same address the right token is right"
    assert (await front.ask(token=ADMIN, client="192.0.2.3")).status == 200
    assert len(front.waits.asked) == waited
    assert set(told.events()) == {"api.unauthorised"}


async def test_guesses_in_parallel_are_refused_unseen_and_other_addresses_are_not(front: Front) -> None:
    front.waits.go_on.clear()
    guesses = [asyncio.create_task(front.ask(token=WRONG)) for _ in range(PER_CLIENT)]
    await until(lambda: len(front.waits.asked) == PER_CLIENT)
    for token in (WRONG, ADMIN):
        answer = await front.ask(token=token)
        assert (answer.status, answer.problem["title"]) == (429, "Too Many Requests")
        assert int(answer.headers["retry-after"]) > 0
    assert (await front.ask(token=ADMIN, client="192.0.2.2")).status == 200
    assert (await front.ask(path="/")).status == 200
    front.waits.go_on.set()
    assert {one.status for one in await asyncio.gather(*guesses)} == {401}
    assert (await front.ask(token=ADMIN)).status == 200


async def test_a_guesser_who_hangs_up_waits_all_the_same_and_a_daemon_that_ends_does_not(front: Front) -> None:
    front.waits.go_on.clear()
    guess = asyncio.create_task(front.ask(token=WRONG))
    await until(lambda: len(front.waits.asked) == 1)
    assert front.guarded._slowing.waiting == 1
    guess.cancel()
    await asyncio.gather(guess, return_exceptions=True)
    assert front.guarded._slowing.waiting == 0


async def test_a_flood_of_guesses_is_a_few_lines(front: Front, told: Told) -> None:
    for number in range(300):
        await front.ask(token=WRONG, client=f"192.0.2.{number % 250}")
    assert len(told.events()) == 20
    front.throttle.end()
    assert told.lines[-1][2]["left_out"] == 280


async def test_so_many_requests_and_no_more_are_under_way(front: Front, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "MAX_UNDER_WAY", 2)
    front.hold = asyncio.Event()
    under_way = [asyncio.create_task(front.ask(path="/")) for _ in range(2)]
    under_way += [asyncio.create_task(front.ask(token=ADMIN)) for _ in range(2)]
    await until(lambda: len(front.seen) == 4)
    for answer in (await front.ask(path="/"), await front.ask(token=READER)):
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    front.hold.set()
    assert {one.status for one in await asyncio.gather(*under_way)} == {200}
    assert (await front.ask(token=ADMIN)).status == 200


async def test_the_wait_is_real(front: Front) -> None:
    guarded = Guarded(front._app, lambda: front.settings, SystemClock(), front.throttle)
    front.guarded = guarded
    began = time.monotonic()
    await front.ask(token=WRONG)
    assert time.monotonic() - began >= 0.09


def test_an_edit_is_logged_with_who_made_it(told: Told) -> None:
    edited({"mqttbridge.role": "admin", "client": ("192.0.2.1", 5)}, "created", "connection", "acme")
    edited({"mqttbridge.role": "admin", "client": None}, "deleted", "flow", "f")
    first, second = (fields for _, _, fields in told.lines)
    assert first == {"what": "created", "connection": "acme", "role": "admin", "client": "192.0.2.1"}
    assert second == {"what": "deleted", "flow": "f", "role": "admin", "client": "local"}
    assert told.events("info") == ["api.edited"] * 2
