"""A fake of The Things Stack v3: the downlink queue operations of its webhooks, and those at its MQTT server.

    python -m tests.networks.tts --port 9003 --api-key NNSXS.secret --application app --webhook hook
    python -m tests.networks.tts --broker 127.0.0.1:1883 --username app@ttn

Nothing of mqttbridge is used here.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import json
import re
from typing import TYPE_CHECKING, Any

from tests.networks.commands import watch
from tests.networks.server import Answer, Request, Server, add_arguments, run

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager

    from tests.networks.commands import Watcher

IDENTITY = r"([a-z0-9](?:-?[a-z0-9]){2,35})"
PATH = re.compile(
    rf"/api/v3/as/applications/{IDENTITY}/webhooks/{IDENTITY}/devices/{IDENTITY}/down/(push|replace)"
).fullmatch
TOPIC = re.compile(rf"v3/([^/]+)/devices/{IDENTITY}/down/(push|replace)").fullmatch
PRIORITIES = {"LOWEST", "LOW", "BELOW_NORMAL", "NORMAL", "ABOVE_NORMAL", "HIGH", "HIGHEST"}
STATUS = {3: 400, 5: 404, 7: 403, 8: 429, 14: 503, 16: 401}
"""HTTP status by gRPC code."""


class Wrong(Exception):
    """What is wrong with a request: gRPC code, namespace and name of the error, its message."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.name = name


class Queue:
    """The queues of all devices, by device id. `devices`: those that exist; None: every one."""

    def __init__(self, devices: set[str] | None = None) -> None:
        self.devices = devices
        self.items: dict[str, list[dict[str, Any]]] = {}

    def take(self, device: str, body: bytes, operation: str) -> None:
        """Check the body of a push or a replace, and do it. Raises `Wrong`."""
        if self.devices is not None and device not in self.devices:
            raise Wrong(5, "pkg/errors/redis:not_found", "entity not found")
        try:
            document = json.loads(body)
        except ValueError as error:
            raise Wrong(3, "pkg/applicationserver/io/web:json", str(error)) from None
        if (
            not isinstance(document, dict)
            or set(document) != {"downlinks"}
            or not isinstance(document["downlinks"], list)
        ):
            raise Wrong(3, "pkg/applicationserver/io/web:json", "a body must be an object with downlinks alone")
        for item in document["downlinks"]:
            _check(item)
        if operation == "replace":
            self.items[device] = []
        self.items.setdefault(device, []).extend(document["downlinks"])


def _check(item: Any) -> None:  # noqa: ANN401 - any JSON
    wrong = ""
    if not isinstance(item, dict):
        raise Wrong(3, "pkg/ttnpb:validation", "a downlink must be an object")
    known = {"f_port", "frm_payload", "decoded_payload", "confirmed", "priority", "correlation_ids", "class_b_c"}
    ids = item.get("correlation_ids", [])
    if unknown := set(item) - known:
        wrong = f"unknown field {min(unknown)!r}"
    elif type(item.get("f_port")) is not int or not 1 <= item["f_port"] <= 233:
        wrong = "invalid f_port: must be between 1 and 233"
    elif ("decoded_payload" in item) and ("frm_payload" in item or not isinstance(item["decoded_payload"], dict)):
        wrong = "decoded_payload must be an object, without frm_payload"
    elif type(item.get("confirmed", False)) is not bool or item.get("priority", "NORMAL") not in PRIORITIES:
        wrong = "invalid confirmed or priority"
    elif not isinstance(ids, list) or not all(type(one) is str and len(one) <= 100 for one in ids):
        wrong = "invalid correlation_ids: at most 100 characters each"
    if wrong:
        raise Wrong(3, "pkg/ttnpb:validation", wrong)
    try:
        base64.b64decode(item.get("frm_payload", ""), validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise Wrong(3, "pkg/ttnpb:validation", "invalid frm_payload: not base64") from None


class FakeThingsStack(Server):
    """The webhook API of one application."""

    def __init__(
        self,
        api_key: str,
        application: str,
        webhook: str,
        queue: Queue | None = None,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(port=port, host=host, tls=tls)
        self.queue = queue or Queue()
        self._key = api_key
        self._application = application
        self._webhook = webhook

    def handle(self, request: Request) -> Answer:
        found = PATH(request.path)
        if found is None or request.query or request.method != "POST":
            return Answer(404, b"404 page not found\n", "text/plain", why="no such route")
        application, webhook, device, operation = found.groups()
        try:
            self._authorise(request.headers.get("authorization", ""), application, webhook)
            self.queue.take(device, request.body, operation)
        except Wrong as error:
            return _error(error)
        return Answer(200, why=operation)

    def _authorise(self, given: str, application: str, webhook: str) -> None:
        if not given.startswith("Bearer "):
            raise Wrong(16, "pkg/auth:unauthenticated", "unauthenticated")
        if given != f"Bearer {self._key}":
            raise Wrong(7, "pkg/auth/rights:no_application_rights", f"no rights for application `{application}`")
        if (application, webhook) != (self._application, self._webhook):
            raise Wrong(5, "pkg/applicationserver/io/web:webhook_not_found", "webhook not found")


def _error(error: Wrong) -> Answer:
    namespace, _, name = error.name.partition(":")
    details = {
        "@type": "type.googleapis.com/ttn.lorawan.v3.ErrorDetails",
        "namespace": namespace,
        "name": name,
        "message_format": str(error),
        "code": error.code,
    }
    message = f"error:{error.name} ({error})"
    return Answer.json(STATUS[error.code], {"code": error.code, "message": message, "details": [details]}, message)


def watch_commands(
    host: str, port: int, username: str, queue: Queue, *, password: str | None = None
) -> AbstractAsyncContextManager[Watcher]:
    """Take the pushes and replaces for one application at a broker."""

    def judge(topic: str, payload: bytes) -> str:
        found = TOPIC(topic)
        if found is None or found[1] != username:
            return "no such topic"
        try:
            queue.take(found[2], payload, found[3])
        except Wrong as error:
            return str(error)
        return ""

    user = None if password is None else (username, password)
    return watch(judge, ["v3/+/devices/+/down/push", "v3/+/devices/+/down/replace"], host=host, port=port, user=user)


async def _watch(broker: str, username: str) -> None:
    host, _, port = broker.rpartition(":")
    async with watch_commands(host, int(port), username, Queue()) as watcher:
        watcher.told = lambda text: print(text, flush=True)  # noqa: T201 - a command
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="a fake Things Stack")
    add_arguments(parser)
    parser.add_argument("--api-key", default="secret")
    parser.add_argument("--application", default="app")
    parser.add_argument("--webhook", default="hook")
    parser.add_argument("--broker", metavar="HOST:PORT", help="take pushes there instead of serving the webhook API")
    parser.add_argument("--username", default="app@ttn")
    arguments = parser.parse_args()
    if arguments.broker:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(arguments.broker, arguments.username))
        return
    fake = FakeThingsStack(
        arguments.api_key, arguments.application, arguments.webhook, host=arguments.host, port=arguments.port
    )
    run(fake, arguments)


if __name__ == "__main__":
    main()
