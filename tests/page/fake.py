"""A daemon's API in memory, for the page alone: JSON as docs/api.md has it, with as many rules as the page shows."""

from __future__ import annotations

import json
import re
import urllib.parse
from datetime import UTC, datetime, timedelta
from typing import Any

from mqttbridge.api.origin import foreign
from mqttbridge.api.page import Page, is_public, read_files
from mqttbridge.settings.jsonschema import connection_schema

ADMIN = "an-admin-token-for-tests"
READER = "a-reading-token-for-tests"
Json = Any
SECRETS = ("password", "privateKey", "downlinkAsKey")
HIDDEN = "*****"
FILES = read_files()
COUNTS = {"routed": 0, "delivered": 0, "expired": 0, "parked": 0, "dropped": 0}


def iso(ago: float = 0.0) -> str:
    return (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()


class Refusal(Exception):
    """Answer with this status and body."""

    def __init__(self, status: int, detail: str, errors: list[dict[str, str]] | None = None, **body: object) -> None:
        super().__init__(detail)
        self.status = status
        self.body = body or {"title": "", "status": status, "detail": detail, "errors": errors or []}


class FakeDaemon:
    """The ASGI application, and what a test may turn."""

    def __init__(self) -> None:
        self.page = Page(FILES)
        self.schema = connection_schema()
        self.connections: dict[str, dict[str, Any]] = {}
        self.flows: dict[str, dict[str, Any]] = {}
        self.uplinks: dict[str, list[dict[str, Any]]] = {}
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.down = False
        self._seq = 0

    def etag(self) -> str:
        self._seq += 1
        return f"etag{self._seq}"

    def add(
        self, id_: str, document: dict[str, Any], *, owner: str = "api", state: str = "OPENED", **more: object
    ) -> None:
        file = "mqttbridge.yaml" if owner == "main" else f"{id_}.yaml"
        view = {"id": id_, "name": "", "connectorId": "actility-mqtt-iot", "active": True, "alarms": [], **document}
        how = {"state": state, "startupTime": iso(86400), "since": iso(4000), "why": "", "retryAt": None, "queued": 0}
        rest = {"oldest": None, "parked": 0, "totals": COUNTS, "deliveredRate": 0.0}
        self.connections[id_] = {**view, **how, **rest, "owner": owner, "file": file, "etag": self.etag(), **more}

    def uplink(self, id_: str, dev_eui: str, outcome: str = "delivered", reason: str = "") -> int:
        found = self.uplinks.setdefault(id_, [])
        self._seq += 1
        topic = f"mqtt/things/{dev_eui}/uplink" if outcome != "parked" else ""
        document = {"DevEUI_uplink": {"DevEUI": dev_eui, "FPort": 1, "payload_hex": "0102"}}
        one = {"id": self._seq, "received": iso(), "source": "lrc", "kind": "DevEUI_uplink", "devEui": dev_eui}
        rest = {"fcnt": self._seq, "outcome": outcome, "topic": topic, "ended": iso(), "reason": reason, "size": 412}
        found.append({**one, **rest, "document": document})
        return self._seq

    def event(self, level: str, name: str, **fields: object) -> None:
        self.events.append({"id": len(self.events) + 1, "at": iso(), "level": level, "event": name, **fields})

    async def __call__(self, scope: Json, receive: Json, send: Json) -> None:
        if scope["type"] != "http":
            return
        if is_public(scope["path"]):
            await self.page(scope, receive, send)
            return
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        query = dict(urllib.parse.parse_qsl(scope["query_string"].decode()))
        try:
            self.let_in(scope)
            status, answer = self.route(scope["method"], scope["path"], query, headers, json.loads(body or b"null"))
        except Refusal as refusal:
            status, answer = refusal.status, refusal.body
        kind = b"application/json" if status < 400 else b"application/problem+json"
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]})
        await send({"type": "http.response.body", "body": b"" if answer is None else json.dumps(answer).encode()})

    def let_in(self, scope: Json) -> None:
        if self.down:
            raise Refusal(503, "the daemon is not itself")
        if why := foreign(scope["method"], scope["scheme"], scope["headers"]):
            raise Refusal(403, why)

    def route(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], body: Json
    ) -> tuple[int, Any]:
        role = {f"Bearer {ADMIN}": "admin", f"Bearer {READER}": "read-only"}.get(headers.get("authorization", ""))
        if role is None:
            raise Refusal(401, "a token is needed")
        if method != "GET":
            self.asked.append((method, path, body))
            if role != "admin":
                raise Refusal(403, "this token may only read")
        parts = path.strip("/").split("/")
        if parts[0] == "connections":
            return self.connection(method, parts[1:], query, headers, body)
        if parts[0] == "flows":
            return self.flow(method, parts[1:], headers, body)
        if parts[0] == "downlinkMessages":
            return self.downlink(body["DevEUI_downlink"])
        simple = {"session": lambda: {"role": role}, "status": self.status, "connectors": self.connectors}
        if parts[0] == "events":
            return 200, {"events": self.found(query)}
        if parts[0] not in simple:
            raise Refusal(404, "there is nothing here")
        return 200, simple[parts[0]]()

    def status(self) -> dict[str, Any]:
        names = ("id", "state", "why", "queued", "parked")
        return {
            "connections": [
                {name: one[name] for name in names} | {"rates": {"delivered": one["deliveredRate"]}}
                for one in self.connections.values()
            ]
        }

    def connectors(self) -> dict[str, Any]:
        return {"connectors": [{"id": "actility-mqtt-iot", "name": "MQTT", "configurationSchema": self.schema}]}

    def found(self, query: dict[str, str]) -> list[dict[str, Any]]:
        levels = ("info", "warning", "error")
        wanted = levels[levels.index(query.get("level", "info")) :]
        after, connection = int(query.get("after", "0")), query.get("connection", "")
        found = [one for one in self.events if one["level"] in wanted and one["id"] > after]
        return [one for one in found if connection in ("", one.get("connection"))]

    def hidden(self, view: dict[str, Any]) -> dict[str, Any]:
        configuration = {name: HIDDEN if name in SECRETS else value for name, value in view["configuration"].items()}
        return {**view, "configuration": configuration}

    def one(self, kind: dict[str, dict[str, Any]], id_: str) -> dict[str, Any]:
        if id_ not in kind:
            raise Refusal(404, f"there is no {id_}")
        return kind[id_]

    def checked(self, there: dict[str, Any], headers: dict[str, str]) -> None:
        if there["owner"] == "main":
            raise Refusal(409, f"{there['file']} has it: change it there")
        if headers.get("if-match", f'"{there["etag"]}"') != f'"{there["etag"]}"':
            raise Refusal(412, "it was changed meanwhile")

    def connection(
        self, method: str, parts: list[str], query: dict[str, str], headers: dict[str, str], body: Json
    ) -> tuple[int, Json]:
        if method in ("POST", "PUT") and len(parts) < 2:
            self.valid(body)
            if query.get("dryRun") == "true":
                return 200, self.tested(body)
        if not parts:
            return self.all_connections(method, body)
        there = self.one(self.connections, parts[0])
        if parts[1:]:
            return 200, self.part(there, parts[1], query)
        if method != "GET":
            self.checked(there, headers)
        if method == "DELETE":
            del self.connections[parts[0]]
            return 204, None
        if method == "PUT":
            old = there["configuration"]
            kept = {name: old[name] if value == HIDDEN else value for name, value in body["configuration"].items()}
            there |= {**body, "configuration": kept, "etag": self.etag()}
        return 200, self.hidden(there) | {"warnings": []}

    def all_connections(self, method: str, body: Json) -> tuple[int, Json]:
        if method == "GET":
            return 200, {"connections": [self.hidden(one) for one in self.connections.values()]}
        id_ = body.pop("id", None) or re.sub(r"[^a-z0-9]+", "-", body["name"].lower()).strip("-")
        if id_ in self.connections:
            raise Refusal(409, f"there is a connection {id_} already", [{"property": "id", "detail": "is taken"}])
        self.add(id_, body)
        return 201, self.hidden(self.connections[id_]) | {"warnings": []}

    def part(self, there: dict[str, Any], name: str, query: dict[str, str]) -> Json:
        if name == "uplinks":
            after = int(query.get("after", "0"))
            found = [one for one in self.uplinks.get(there["id"], []) if one["id"] > after]
            return {"uplinks": found[::-1][: int(query["limit"])]}
        if name == "counters":
            return self.counters()
        active = name != "stop"
        there |= {"active": active, "etag": self.etag()}
        there |= {"state": "OPENED" if active else "DEACTIVATED", "why": "" if active else "active is false"}
        return self.hidden(there)

    def valid(self, body: dict[str, Any]) -> None:
        host = body["configuration"].get("hostName", "")
        if " " in host:
            errors = [{"property": "configuration.hostName", "detail": f"{host!r} is no host name: it has a space."}]
            raise Refusal(422, "the connection has an error", errors)

    def tested(self, body: dict[str, Any]) -> dict[str, Any]:
        ok = "unreachable" not in body["configuration"]["hostName"]
        steps = [
            {"name": "DNS", "outcome": "ok", "detail": "one address: 192.0.2.7", "advice": "", "milliseconds": 3.2}
        ]
        if ok:
            steps.append(
                {
                    "name": "TLS",
                    "outcome": "warning",
                    "detail": "the certificate ends in 6 days",
                    "advice": "have it renewed",
                    "milliseconds": 41.0,
                }
            )
            steps.append(
                {
                    "name": "CONNACK",
                    "outcome": "ok",
                    "detail": "the broker lets us in\nit shows:\n  mycompany: issued by Test CA",
                    "advice": "",
                    "milliseconds": 12.0,
                }
            )
        else:
            steps.append(
                {
                    "name": "TCP",
                    "outcome": "failed",
                    "detail": "nobody answers at 192.0.2.7:8883",
                    "advice": "check the port and the firewall",
                    "milliseconds": 5000.0,
                }
            )
            steps.append({"name": "TLS", "outcome": "skipped", "detail": "", "advice": "", "milliseconds": None})
        return {"ok": ok, "steps": steps, "warnings": []}

    def counters(self) -> dict[str, Any]:
        def spans(number: int, seconds: int) -> list[dict[str, Any]]:
            found = []
            for place in range(number):
                good, bad = (place * 7) % 23 + 5, 3 if place % 11 == 4 else 0
                counts = {"routed": good + bad, "delivered": good, "expired": bad, "parked": 0, "dropped": 0}
                found.append({"start": iso((number - place) * seconds), **counts})
            return found

        return {"hour": spans(60, 60), "day": spans(24, 3600), "activeDevices": 37}

    def downlink(self, document: dict[str, Any]) -> tuple[int, Any]:
        result = {
            "outcome": "accepted",
            "key": "k1",
            "devEui": document["DevEUI"],
            "correlationId": "0123456789abcdef",
            "field": "",
            "reason": "",
            "warnings": [],
        }
        if document["payload_hex"] == "ff" * 60:
            raise Refusal(
                422,
                "",
                **(
                    result
                    | {
                        "outcome": "rejected",
                        "field": "payload_hex",
                        "reason": "51 bytes are the most at this data rate",
                    }
                ),
            )
        return 202, result

    def flow(self, method: str, parts: list[str], headers: dict[str, str], body: Json) -> tuple[int, Any]:
        if not parts:
            if method == "GET":
                return 200, {"flows": list(self.flows.values())}
            id_ = body.get("id") or body["name"].lower().replace(" ", "-")
            self.flows[id_] = {
                "description": "",
                **body,
                "id": id_,
                "owner": "api",
                "file": f"{id_}.yaml",
                "etag": self.etag(),
            }
            return 201, self.flows[id_] | {"warnings": []}
        there = self.one(self.flows, parts[0])
        if method == "GET":
            return 200, there
        self.checked(there, headers)
        if method == "DELETE":
            del self.flows[parts[0]]
            return 204, None
        there |= {**body, "etag": self.etag()}
        return 200, there | {"warnings": []}


def furnished() -> FakeDaemon:
    """Give a daemon with something of everything."""
    fake = FakeDaemon()
    totals = {"routed": 18_442, "delivered": 18_400, "expired": 12, "parked": 3, "dropped": 0}
    broker = {
        "hostName": "broker.acme.example:8883",
        "protocol": "SSL",
        "username": "acme",
        "password": "geheim",
        "uplinkTopicPattern": "mqtt/things/{DevEUI}/uplink",
        "downlinkTopicPattern": "mqtt/things/{DevEUI}/downlink",
        "connectionTimeout": 5000,
    }
    fake.add(
        "acme",
        {"name": "ACME broker", "configuration": {"description": "Meters of the north", **broker}},
        deliveredRate=3.4,
        totals=totals,
    )
    fake.add(
        "north",
        {"name": "", "configuration": {"hostName": "10.1.2.3", "protocol": "TCP"}},
        state="UNREACHABLE",
        queued=5120,
        oldest=iso(9000),
        why="Connection refused by 10.1.2.3:1883.",
        retryAt=iso(-240),
    )
    fake.add(
        "plant",
        {
            "name": "Plant <b>7</b>",
            "configuration": {"hostName": "a1b2c3d4e5f6g7.iot.eu-central-1.amazonaws.example:8883"},
        },
        state="AUTHENTICATION_FAILED",
        why="The broker refuses the login: not authorised.",
        queued=3,
        parked=2,
    )
    fake.add(
        "fixed",
        {
            "name": "From the main file",
            "configuration": {"hostName": "main.example", "uplinkTopicPattern": "a/{DevEUI}"},
        },
        owner="main",
    )
    fake.add(
        "idle",
        {"name": "Resting", "active": False, "configuration": {"hostName": "rest.example"}},
        state="DEACTIVATED",
        why="active is false",
        startupTime=None,
    )
    fake.flows["temperature"] = {
        "id": "temperature",
        "name": "Temperature",
        "description": "Sensors of the best customer",
        "matchers": [
            {"type": "thing", "tags": ["TemperatureService", "MyBestCustomer"]},
            {"type": "key", "key": "lora:0018b20000000b20"},
        ],
        "connections": ["acme"],
        "owner": "api",
        "file": "temperature.yaml",
        "etag": fake.etag(),
    }
    fake.flows["all"] = {
        "id": "all",
        "name": "",
        "description": "",
        "matchers": [],
        "connections": ["fixed", "north"],
        "owner": "main",
        "file": "mqttbridge.yaml",
        "etag": fake.etag(),
    }
    fake.event("info", "connection.opened", connection="acme", attempts=1)
    fake.event(
        "warning", "connection.failed", connection="north", reason="Connection refused by 10.1.2.3:1883.", retry_in="5m"
    )
    fake.event("error", "connection.closed", connection="plant", reason="The schedule has ended.", attempts=300)
    for number in range(6):
        fake.uplink("acme", f"0018B2000000{number:04X}")
    fake.uplink("acme", "0018B20000000BAD", "parked", "The field CustomerID is not in the document.")
    return fake
