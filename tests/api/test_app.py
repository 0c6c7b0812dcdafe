"""The API over its fakes: every route, every error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import httpx
import msgspec
import pytest
from litestar import get
from structlog.testing import capture_logs

from mqttbridge.api.app import MAX_BODY, MAX_UNDER_WAY, make_api, routes_of
from mqttbridge.api.operations import EXAMPLE
from mqttbridge.api.seam import Problem, Refused
from mqttbridge.control.local import ROLE
from mqttbridge.errors import HistoryFailed
from tests.api.fakes import BASE, MAIN, Daemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mqttbridge.sources.asgi import Message, Receive, Scope, Send

JSON = {"content-type": "application/json"}


class AsAdmin:
    """What stands around the API: it says who asks."""

    def __init__(self, app: Any) -> None:  # noqa: ANN401
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app({**scope, ROLE: "admin"}, receive, send)


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
async def client(daemon: Daemon) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(AsAdmin(make_api(daemon, daemon)))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


def problem_of(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["status"] == status
    assert body["detail"]
    return body


async def test_the_documented_example_makes_a_connection(client: httpx.AsyncClient) -> None:
    response = await client.post("/connections", json=EXAMPLE)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == "/connections/actility-mqtt-ssl-connection"
    body = response.json()
    assert response.headers["etag"] == f'"{body["etag"]}"'
    assert response.headers["cache-control"] == "no-store"
    assert body["configuration"]["password"] == "*****"
    assert body["startupTime"] is None
    assert body["warnings"] == []
    shown = (await client.get(response.headers["location"])).json()
    assert shown == {name: value for name, value in body.items() if name != "warnings"}


async def test_properties_of_thingpark_are_left_out_with_a_warning(client: httpx.AsyncClient, daemon: Daemon) -> None:
    document = {**EXAMPLE, "brand": "WMW", "configuration": {**EXAMPLE["configuration"], "createDevices": True}}
    response = await client.post("/connections", json=document)
    assert response.status_code == 201
    assert {text.split()[0] for text in response.json()["warnings"]} == {"brand", "configuration.createDevices"}
    kept = daemon.kept["connection", response.json()["id"]].document
    assert kept == EXAMPLE


async def test_what_get_gave_can_be_put_again_and_keeps_the_secret(client: httpx.AsyncClient, daemon: Daemon) -> None:
    before = daemon.kept["connection", "acme"].document
    shown = await client.get("/connections/acme")
    body = {**shown.json(), "name": "Acme Ltd"}
    response = await client.put("/connections/acme", json=body, headers={"If-Match": shown.headers["etag"]})
    assert response.status_code == 200, response.text
    assert response.headers["etag"] != shown.headers["etag"]
    assert daemon.kept["connection", "acme"].document == {**before, "name": "Acme Ltd", **_defaults(body)}
    again = await client.put("/connections/acme", json=body, headers={"If-Match": shown.headers["etag"]})
    problem_of(again, 412)


def _defaults(body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in ("connectorId", "active", "alarms")}


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("*", 200),
        ('"no", {}', 200),
        ("W/{}", 200),
        ("bare", 200),
        ('"no"', 412),
        ('"*"', 412),
        ('"no","neither"', 412),
        ('"', 400),
    ],
)
async def test_if_match_takes_what_rfc_9110_allows(client: httpx.AsyncClient, header: str, status: int) -> None:
    etag = (await client.get("/connections/acme")).headers["etag"]
    sent = etag.strip('"') if header == "bare" else header.format(etag)
    response = await client.put("/connections/acme", json=BASE, headers={"If-Match": sent})
    assert response.status_code == status, response.text


@pytest.mark.parametrize(
    "body",
    [
        '{"configuration": {"hostName": "a"}, "configuration": {"hostName": "b"}}',
        '{"configuration": {"hostName": "a", "password": "one", "pass\\u0077ord": "two"}}',
    ],
)
async def test_a_name_that_stands_twice_is_refused_as_in_a_file(
    client: httpx.AsyncClient, daemon: Daemon, body: str
) -> None:
    kept = dict(daemon.kept)
    answer = await client.post("/connections", content=body, headers={"Content-Type": "application/json"})
    assert "twice" in problem_of(answer, 400)["detail"]
    assert daemon.kept == kept


async def test_a_wrong_document_is_answered_with_every_property(client: httpx.AsyncClient, daemon: Daemon) -> None:
    kept = dict(daemon.kept)
    wrong = {"configuration": {"hostNam": "x", "qos": [1], "password": True}, "nonsense": 1}
    body = problem_of(await client.post("/connections", json=wrong), 422)
    assert body["title"] == "Unprocessable Content"
    errors = {one["property"]: one["detail"] for one in body["errors"]}
    assert errors["configuration.hostNam"] == "is not a known property; did you mean hostName?"
    assert errors["configuration.qos"] == "must be an integer, not a list"
    assert errors["configuration.password"] == "must be text, not true or false"
    assert errors["configuration.hostName"].startswith("is missing")
    assert errors["nonsense"].startswith("is not a known property; known here: ")
    assert daemon.kept == kept


async def test_what_the_loader_refuses_is_told_by_property(client: httpx.AsyncClient) -> None:
    wrong = {"configuration": {"hostName": "http://broker.example.com", "qos": 7}}
    body = problem_of(await client.post("/connections", json=wrong), 422)
    assert {one["property"] for one in body["errors"]} == {"configuration.hostName", "configuration.qos"}


async def test_hundreds_of_errors_are_not_all_told(client: httpx.AsyncClient) -> None:
    wrong = {f"x{number}": 1 for number in range(500)}
    assert len(problem_of(await client.post("/connections", json=wrong), 422)["errors"]) == 50


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "truncated"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": 1e999}', "not JSON"),
        (b'"\xff"', "not JSON"),
        (b"[" * 200_000, "nested too deep"),
    ],
)
@pytest.mark.parametrize("path", ["/connections", "/flows", "/downlinkMessages/acme"])
async def test_what_is_not_json_is_400(client: httpx.AsyncClient, path: str, body: bytes, told: str) -> None:
    assert told in problem_of(await client.post(path, content=body, headers=JSON), 400)["detail"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=x"])
async def test_what_does_not_say_json_is_415(client: httpx.AsyncClient, kind: str) -> None:
    headers = {"content-type": kind} if kind else {}
    problem_of(await client.post("/connections", content=b"{}", headers=headers), 415)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "Application/JSON", "application/vnd.x+json"])
async def test_json_may_be_called_by_its_other_names(client: httpx.AsyncClient, kind: str) -> None:
    problem_of(await client.post("/connections", content=b"{}", headers={"content-type": kind}), 422)


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_413(client: httpx.AsyncClient, *, chunked: bool) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(33):
            yield b" " * (MAX_BODY // 32)

    content = chunks() if chunked else b" " * (MAX_BODY + 1)
    problem_of(await client.post("/connections", content=content, headers=JSON), 413)


@pytest.mark.parametrize("path", ["/nothing", "/connections/acme/nothing", "/connections/../x", "/flows/a/b", "//"])
async def test_no_such_route_is_404(client: httpx.AsyncClient, path: str) -> None:
    assert "openapi.json" in problem_of(await client.get(path), 404)["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/connections/no"), ("PUT", "/connections/no"), ("DELETE", "/connections/no"),
        ("POST", "/connections/no/start"), ("POST", "/connections/no/stop"), ("POST", "/connections/no/restart"),
        ("GET", "/connections/no/uplinks"), ("GET", "/connections/no/counters"), ("GET", "/flows/no"),
        ("PUT", "/flows/no"), ("DELETE", "/flows/no"), ("POST", "/downlinkMessages/no"),
    ],
)  # fmt: skip
async def test_no_such_connection_or_flow_is_404(client: httpx.AsyncClient, method: str, path: str) -> None:
    body = {"json": BASE} if method == "PUT" or "downlink" in path else {}
    assert "'no'" in problem_of(await client.request(method, path, **body), 404)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("PATCH", "/connections", "GET, HEAD, POST"),
        ("POST", "/connections/acme", "DELETE, GET, HEAD, PUT"),
        ("GET", "/connections/acme/start", "POST"),
        ("TRACE", "/events", "GET, HEAD"),
        ("NONSENSE", "/events", "GET, HEAD"),
        ("OPTIONS", "/events", "GET, HEAD"),
    ],
)
async def test_another_method_is_405_with_allow(client: httpx.AsyncClient, method: str, path: str, allow: str) -> None:
    response = await client.request(method, path)
    problem_of(response, 405)
    assert response.headers["allow"] == allow


async def test_what_the_main_file_owns_is_409(client: httpx.AsyncClient) -> None:
    for method, path in (("PUT", ""), ("DELETE", ""), ("POST", "/stop")):
        body = {"json": BASE} if method == "PUT" else {}
        problem_of(await client.request(method, f"/connections/{MAIN}{path}", **body), 409)


async def test_an_id_that_exists_is_409(client: httpx.AsyncClient) -> None:
    problem_of(await client.post("/connections", json={"id": "acme", **BASE}), 409)
    assert (await client.post("/connections", json={"id": "other", **BASE})).json()["id"] == "other"


async def test_a_connection_is_deleted_unless_a_flow_names_it(client: httpx.AsyncClient, daemon: Daemon) -> None:
    problem_of(await client.delete("/connections/acme"), 409)
    problem_of(await client.delete("/flows/temperature", headers={"If-Match": '"no"'}), 412)
    response = await client.delete("/flows/temperature")
    assert (response.status_code, response.content) == (204, b"")
    assert (await client.delete("/connections/acme")).status_code == 204
    assert ("connection", "acme") not in daemon.kept


async def test_start_and_stop_change_active_and_nothing_twice(client: httpx.AsyncClient, daemon: Daemon) -> None:
    stopped = await client.post("/connections/acme/stop")
    assert (stopped.status_code, stopped.json()["state"]) == (200, "DEACTIVATED")
    assert (await client.post("/connections/acme/stop")).headers["etag"] == stopped.headers["etag"]
    problem_of(await client.post("/connections/acme/restart"), 409)
    assert (await client.post("/connections/acme/start")).json()["active"] is True
    assert (await client.post("/connections/acme/restart")).status_code == 200
    # It stands in the main file, and yet nothing has to be changed.
    assert (await client.post(f"/connections/{MAIN}/start")).status_code == 200
    assert [call for call in daemon.calls if call[0] == "restart"] == [("restart", "acme")] * 2


async def test_start_wakes_one_that_has_given_up(client: httpx.AsyncClient, daemon: Daemon) -> None:
    daemon.state["acme"] = "CLOSED"
    assert (await client.post("/connections/acme/start")).json()["state"] == "OPENING"


@pytest.mark.parametrize(("method", "path", "id_"), [("POST", "", None), ("PUT", "/acme", "acme")])
async def test_a_dry_run_keeps_nothing(
    client: httpx.AsyncClient, daemon: Daemon, method: str, path: str, id_: str | None
) -> None:
    kept = dict(daemon.kept)
    document = {"brand": "x", **BASE}
    response = await client.request(method, f"/connections{path}?dryRun=true", json=document)
    assert response.status_code == 200
    assert response.json()["ok"] is True
    assert response.json()["steps"][0]["milliseconds"] == 1.5
    assert response.json()["warnings"] == ["brand means nothing to mqttbridge, and was left out"]
    assert daemon.calls == [("try_out", id_)]
    assert daemon.kept == kept
    wrong = await client.request(method, f"/connections{path}?dryRun=true", json={"configuration": {}})
    problem_of(wrong, 422)


@pytest.mark.parametrize(
    "path",
    [
        "/connections?dryRun=1", "/connections?x=1", "/connections/acme/uplinks?limit=0",
        "/connections/acme/uplinks?limit=201", "/connections/acme/uplinks?after=-1",
        "/connections/acme/uplinks?documents=perhaps", "/events?level=loud", "/events?limit=1001",
        "/events?name=conection.opened", "/events?since=yesterday", "/events?since=2026-11-22T19:30:00",
        "/events?after=x", "/events?limit=1&limit=2", "/status?x", "/events?limit=%D9%A1",
    ],
)  # fmt: skip
async def test_a_wrong_query_is_400(client: httpx.AsyncClient, path: str) -> None:
    problem_of(await client.get(path), 400)


async def test_uplinks_counters_and_events_are_asked_for_as_the_query_says(
    client: httpx.AsyncClient, daemon: Daemon
) -> None:
    uplinks = (await client.get("/connections/acme/uplinks?limit=7&after=3&documents=true")).json()["uplinks"]
    assert uplinks[0]["devEui"] == "0018B20000000B20"
    assert uplinks[0]["document"] == {"DevEUI_uplink": {}}
    counters = (await client.get("/connections/acme/counters")).json()
    assert counters["hour"][0]["delivered"] == 2
    assert counters["activeDevices"] is None
    query = "limit=5&level=warning&name=connection.*&connection=acme&since=2026-11-22T19:30:00%2B00:00&after=4"
    events = (await client.get(f"/events?{query}")).json()["events"]
    assert events == [
        {"id": 9, "at": "1970-01-01T00:00:01Z", "level": "info", "event": "connection.opened", "connection": "acme"}
    ]
    assert daemon.calls == [
        ("uplinks", 7, 3, True),
        ("events", 5, "warning", "connection.*", "acme", 1795375800000, 4),
    ]


async def test_a_downlink_is_202_or_422_with_the_reason(client: httpx.AsyncClient, daemon: Daemon) -> None:
    body = b'{"DevEUI_downlink": {"DevEUI": "0018B20000000B20", "payload_hex": "01"}}'
    response = await client.post("/downlinkMessages/acme", content=body, headers=JSON)
    assert (response.status_code, response.json()["outcome"]) == (202, "accepted")
    assert daemon.calls == [("downlink", "acme", body)]
    response = await client.post("/downlinkMessages/acme", json={"DevEUI_downlink": {"payload_hex": "01"}})
    assert (response.status_code, response.json()["outcome"]) == (422, "rejected")
    assert response.json()["field"] == "DevEUI_downlink.DevEUI"


async def test_flows_are_made_from_connectors_too(client: httpx.AsyncClient, daemon: Daemon) -> None:
    document = {
        "name": "Test Flow",
        "driver": {"id": "actility:auto:1"},
        "matchers": [{"type": "key", "key": "lora:0018b20000000b20"}, {"type": "thing", "tags": ["a"]}],
        "connectors": [{"id": "actility-mqtt-iot", "connectionId": "acme", "uplinkTimeValidity": "72h"}],
    }
    response = await client.post("/flows", json=document)
    assert response.status_code == 201, response.text
    assert response.headers["location"] == "/flows/test-flow"
    assert [text.split()[0] for text in response.json()["warnings"]] == ["connectors[0].uplinkTimeValidity", "driver"]
    assert daemon.kept["flow", "test-flow"].document["connections"] == ["acme"]
    shown = await client.get("/flows/test-flow")
    body = {**shown.json(), "description": "new"}
    response = await client.put("/flows/test-flow", json=body, headers={"If-Match": shown.headers["etag"]})
    assert response.json()["description"] == "new"
    assert len((await client.get("/flows")).json()["flows"]) == 2


async def test_a_flow_that_names_no_connection_is_422(client: httpx.AsyncClient) -> None:
    body = problem_of(await client.post("/flows", json={"connections": ["acm"]}), 422)
    assert "did you mean" in body["errors"][0]["detail"]


async def test_connectors_have_the_schema_of_configuration(client: httpx.AsyncClient) -> None:
    (connector,) = (await client.get("/connectors")).json()["connectors"]
    assert connector["id"] == "actility-mqtt-iot"
    schema = connector["configurationSchema"]
    assert schema["required"] == ["hostName"]
    assert all(one.get("description") for one in schema["properties"].values())
    assert "$ref" not in msgspec.json.encode(schema).decode()


async def test_head_is_get_without_the_body(client: httpx.AsyncClient) -> None:
    for path in ("/connections", "/connections/acme", "/nothing"):
        given, head = await client.get(path), await client.head(path)
        assert (head.status_code, head.content) == (given.status_code, b"")
        assert head.headers["content-length"] == given.headers["content-length"]
        assert head.headers.get("etag") == given.headers.get("etag")


async def test_session_says_who_asks(daemon: Daemon) -> None:
    async def reader(scope: Scope, receive: Receive, send: Send) -> None:
        await make_api(daemon, daemon)({**scope, ROLE: "read-only"}, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(reader), base_url="http://api") as client:
        assert (await client.get("/session")).json() == {"role": "read-only"}


async def test_what_cannot_be_answered_now_is_503_with_retry_after(client: httpx.AsyncClient, daemon: Daemon) -> None:
    for error in (HistoryFailed("the disk fails"), Refused(503, "the disk fails")):
        daemon.broken = error
        response = await client.get("/events")
        assert problem_of(response, 503)["detail"] == "the disk fails"
        assert response.headers["retry-after"]


async def test_what_the_editor_refuses_is_told_whole(client: httpx.AsyncClient, daemon: Daemon) -> None:
    daemon.broken = Refused(409, "an error elsewhere", [Problem("sources.lrc", "is wrong")])
    body = problem_of(await client.get("/connections"), 409)
    assert body["errors"] == [{"property": "sources.lrc", "detail": "is wrong"}]


async def test_a_bug_is_500_and_one_line_in_the_log(
    client: httpx.AsyncClient, daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.broken = RuntimeError("hunter2")
    with capture_logs() as logs:
        body = problem_of(await client.get("/connections"), 500)
    assert "hunter2" not in body["detail"]
    assert [one["event"] for one in logs] == ["http.crashed"]
    assert capsys.readouterr().err == ""


async def test_too_many_requests_are_503(daemon: Daemon) -> None:
    api = make_api(daemon, daemon)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    api._under_way = MAX_UNDER_WAY  # type: ignore[attr-defined]
    await api({"type": "http", "method": "GET", "path": "/status", "headers": [], "query_string": b""}, receive, send)
    assert sent[0]["status"] == 503
    assert api._under_way == MAX_UNDER_WAY  # type: ignore[attr-defined]


async def test_what_is_no_http_is_left_alone(daemon: Daemon) -> None:
    await make_api(daemon, daemon)({"type": "websocket"}, None, None)  # type: ignore[arg-type]


async def test_further_routes_may_be_mounted(daemon: Daemon) -> None:
    @get("/more")
    async def more() -> str:
        return "more"

    transport = httpx.ASGITransport(make_api(daemon, daemon, more=[more]))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        assert (await client.get("/more")).text == "more"


async def test_the_openapi_document_has_every_route_of_the_router(client: httpx.AsyncClient, daemon: Daemon) -> None:
    document = (await client.get("/openapi.json")).json()
    told = {
        (path, method, operation["operationId"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    routed = {
        (path.replace(":str}", "}"), str(method).lower(), handler.operation_id)
        for handler in routes_of(daemon, daemon)
        for path in handler.paths
        for method in handler.http_methods
    }
    assert told == routed


async def test_who_goes_away_in_the_middle_of_a_body_has_asked_for_nothing(daemon: Daemon) -> None:
    waiting: list[Message] = [{"type": "http.request", "body": b"{}", "more_body": True}, {"type": "http.disconnect"}]
    sent: list[Message] = []

    async def receive() -> Message:
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/connections", "query_string": b"", "headers": []}
    with capture_logs() as logs:
        await make_api(daemon, daemon)(scope, receive, send)
    assert (sent, logs) == ([], [])
