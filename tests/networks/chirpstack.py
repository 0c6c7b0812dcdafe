"""A fake of ChirpStack v4: its REST API for the device queue, and what it makes of commands at its broker.

    python -m tests.networks.chirpstack --port 9002 --api-key secret
    python -m tests.networks.chirpstack --broker 127.0.0.1:1883

Errors are those of the grpc-gateway in front of the API. Nothing of mqttbridge is used here.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import contextlib
import json
import re
import uuid
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.networks.commands import watch
from tests.networks.server import Answer, Request, Server, add_arguments, run

if TYPE_CHECKING:
    import ssl
    from contextlib import AbstractAsyncContextManager

    from tests.networks.commands import Watcher

PATH = re.compile(r"/api/devices/([^/]+)/queue").fullmatch
TOPIC = re.compile(r"application/([^/]+)/device/([^/]+)/command/down").fullmatch
EUI = re.compile(r"[0-9a-f]{16}").fullmatch
FILTER = "application/+/device/+/command/+"
STATUS = {3: 400, 5: 404, 6: 409, 8: 429, 12: 501, 13: 500, 14: 503, 16: 401}
"""HTTP status by gRPC code."""


class Wrong(Exception):
    """What is wrong with an item, and its gRPC code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Queue:
    """The queues of all devices: items by DevEUI, in their order. `devices`: those that exist; None: every one."""

    def __init__(self, devices: set[str] | None = None, *, codec_fails: bool = False) -> None:
        self.devices = devices
        self.codec_fails = codec_fails
        self.items: dict[str, list[dict[str, Any]]] = {}
        self._ids: set[str] = set()

    def add(self, dev_eui: str, item: Any, *, flush: bool = False) -> str:  # noqa: ANN401 - any JSON
        """Check and enqueue an item; gives its id. Raises `Wrong`."""
        if not isinstance(item, dict):
            raise Wrong(3, "queue_item is missing")
        if item.get("devEui") != dev_eui:
            raise Wrong(3, "Payload dev_eui does not match topic dev_eui")
        if not EUI(dev_eui):
            raise Wrong(3, "EUI64 must be 16 lower-case hex digits")
        if self.devices is not None and dev_eui not in self.devices:
            raise Wrong(5, f"Object does not exist (id: {dev_eui})")
        identity = self._checked(item)
        if identity in self._ids:
            raise Wrong(6, f"Object already exists (id: {identity})")
        if flush:
            self.items[dev_eui] = []
        self._ids.add(identity)
        self.items.setdefault(dev_eui, []).append(item)
        return identity

    def _checked(self, item: dict[str, Any]) -> str:
        known = {"id", "devEui", "confirmed", "fPort", "data", "object", "expiresAt", "fCntDown", "isPending"}
        if unknown := set(item) - known:
            raise Wrong(3, f"unknown field {min(unknown)!r}")
        port = item.get("fPort", 0)
        if type(port) is not int or not 0 < port < 256:
            raise Wrong(3, "Validation error: FPort must be between 1 - 255")
        if type(item.get("confirmed", False)) is not bool:
            raise Wrong(3, "invalid value for confirmed")
        if _has_no_offset(item):
            raise Wrong(3, "expiresAt has no offset")
        try:
            base64.b64decode(item.get("data", ""), validate=True)
            identity = str(uuid.UUID(item["id"])) if item.get("id") else str(uuid.uuid4())
        except (binascii.Error, ValueError, TypeError) as error:
            raise Wrong(3, f"invalid value: {error}") from None
        if "object" in item and (not isinstance(item["object"], dict) or item.get("data")):
            raise Wrong(3, "object must be an object, without data")
        if "object" in item and self.codec_fails:
            raise Wrong(13, "encodeDownlink returned errors: unknown command")
        return identity


def _has_no_offset(item: dict[str, Any]) -> bool:
    try:
        return "expiresAt" in item and datetime.fromisoformat(item["expiresAt"]).tzinfo is None
    except (ValueError, TypeError):
        return True


class FakeChirpStack(Server):
    """The REST API. `own_ids`: it makes ids of its own, as some versions do; then nothing is a duplicate.

    `database_errors`: it says that an item is there already as an internal error, as the real one's database does.
    """

    def __init__(
        self,
        api_key: str,
        queue: Queue | None = None,
        *,
        own_ids: bool = False,
        database_errors: bool = False,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(port=port, host=host, tls=tls)
        self.queue = queue or Queue()
        self._key = api_key
        self._own_ids = own_ids
        self._database_errors = database_errors

    def handle(self, request: Request) -> Answer:
        try:
            return Answer.json(200, {"id": self._taken(request)}, "enqueued")
        except (ValueError, AttributeError) as error:
            return _error(3, f"invalid JSON: {error}")
        except Wrong as error:
            if error.code == 6 and self._database_errors:
                return _error(13, 'duplicate key value violates unique constraint "device_queue_item_pkey"')
            return _error(error.code, str(error))

    def _taken(self, request: Request) -> str:
        """Give the id of what was enqueued. Raises `Wrong`, and whatever bad JSON raises."""
        found = PATH(request.path)
        if found is None or request.query:
            raise Wrong(5, "Not Found")
        if request.method != "POST":
            raise Wrong(12, "Method Not Allowed")
        if request.headers.get("grpc-metadata-authorization") != f"Bearer {self._key}":
            raise Wrong(16, "authentication failed: invalid token")
        body = json.loads(request.body)
        item = body.get("queueItem")
        if self._own_ids and isinstance(item, dict):
            item = {name: value for name, value in item.items() if name != "id"}
        if set(body) - {"queueItem", "flushQueue"} or type(body.get("flushQueue", False)) is not bool:
            raise Wrong(3, "unknown or invalid field")
        return self.queue.add(found[1], item, flush=body.get("flushQueue", False))


def _error(code: int, message: str) -> Answer:
    return Answer.json(STATUS[code], {"code": code, "message": message, "details": []}, message)


def watch_commands(
    host: str, port: int, queue: Queue, *, user: tuple[str, str] | None = None
) -> AbstractAsyncContextManager[Watcher]:
    """Take the commands at a broker."""

    def judge(topic: str, payload: bytes) -> str:
        found = TOPIC(topic)
        if found is None:
            return "unknown command"
        try:
            queue.add(found[2], json.loads(payload))
        except (ValueError, Wrong) as error:
            return str(error)
        return ""

    return watch(judge, [FILTER], host=host, port=port, user=user)


async def _watch(broker: str) -> None:
    host, _, port = broker.rpartition(":")
    async with watch_commands(host, int(port), Queue()) as watcher:
        watcher.told = lambda text: print(text, flush=True)  # noqa: T201 - a command
        await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description="a fake ChirpStack")
    add_arguments(parser)
    parser.add_argument("--api-key", default="secret")
    parser.add_argument("--broker", metavar="HOST:PORT", help="take commands there instead of serving the REST API")
    arguments = parser.parse_args()
    if arguments.broker:
        with contextlib.suppress(KeyboardInterrupt):
            asyncio.run(_watch(arguments.broker))
        return
    run(FakeChirpStack(arguments.api_key, host=arguments.host, port=arguments.port), arguments)


if __name__ == "__main__":
    main()
