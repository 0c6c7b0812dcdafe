"""A fake of ThingPark's LRC: takes downlinks as the real one does, and checks their Token likewise.

    python -m tests.networks.lrc --port 9001 --as-id TWA_1.2.AS --as-key 00112233445566778899aabbccddeeff

Written from the reference alone, with nothing of mqttbridge: what signs and what verifies must not share a mistake.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import re
import time
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.networks.server import Answer, Request, Server, add_arguments, run

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

PATH = "/thingpark/lrc/rest/downlink"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?([+-]\d\d:\d\d|Z)").fullmatch
SYNTAX: dict[str, Callable[[str], object]] = {
    "DevEUI": re.compile(r"[0-9A-Fa-f]{16}").fullmatch,
    "FPort": lambda text: re.fullmatch(r"\d{1,3}", text) and 1 <= int(text) <= 224,
    "Payload": re.compile(r"(?:[0-9A-Fa-f]{2}){0,242}").fullmatch,
    "Confirmed": re.compile(r"[01]").fullmatch,
    "FlushDownlinkQueue": re.compile(r"[01]").fullmatch,
    "ValidityTime": lambda text: TIME(text) or re.fullmatch(r"\d{1,9}", text),
    "AS_ID": lambda text: 0 < len(text) <= 64,
    "Time": TIME,
    "CorrelationID": re.compile(r"[0-9A-Fa-f]{16}").fullmatch,
    "Token": re.compile(r"[0-9a-f]{64}").fullmatch,
}
REQUIRED = ("DevEUI", "FPort", "Payload")
SIGNED = ("AS_ID", "Time", "Token")


class FakeLrc(Server):
    """`keys`: AS key by AS_ID; empty: nothing need be signed. `queued` has the parameters of what was taken."""

    def __init__(
        self,
        keys: dict[str, str] | None = None,
        *,
        tolerance: float = 60.0,
        now: Callable[[], float] = time.time,
        port: int = 0,
        host: str = "127.0.0.1",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(port=port, host=host, tls=tls)
        self.keys = keys or {}
        self.queued: list[dict[str, str]] = []
        self._tolerance = tolerance
        self._now = now

    @property
    def url(self) -> str:
        """The whole URL; without its path it is an apiUrl too."""
        return super().url + PATH

    def handle(self, request: Request) -> Answer:
        if request.path != PATH:
            return _page(404, "Not Found")
        if request.method != "POST":
            return _page(405, "Method Not Allowed")
        if request.body:
            return _page(400, "The body must be empty")
        pairs = [pair.partition("=")[::2] for pair in request.query.split("&")]
        decoded = [(name, unquote(value, errors="strict")) for name, value in pairs]
        if wrong := _syntax(decoded, request.query):
            return _page(400, wrong)
        if self.keys and (wrong := self._security(decoded)):
            return _page(403, f"Security Check. {wrong}")
        self.queued.append(dict(decoded))
        return _page(200, "Request queued by LRC")

    def _security(self, decoded: list[tuple[str, str]]) -> str:
        """Say what is wrong with the signature."""
        values = dict(decoded)
        missing = [name for name in SIGNED if name not in values]
        if missing:
            return f"{missing[0]} is missing"
        key = self.keys.get(values["AS_ID"])
        if key is None:
            return "bad AS_ID"
        if decoded[-1][0] != "Token":
            return "Token must be the last parameter"
        text = "&".join(f"{name}={value}" for name, value in decoded[:-1])
        if values["Token"] != hashlib.sha256((text + key.lower()).encode()).hexdigest():
            return "bad Token"
        sent = datetime.fromisoformat(values["Time"]).timestamp()
        if abs(sent - self._now()) > self._tolerance:
            return "Time is too far from the LRC's"
        return ""


def _syntax(decoded: list[tuple[str, str]], query: str) -> str:
    """Say what is wrong with the parameters."""
    names = [name for name, _ in decoded]
    if "+" in query or ":" in query:
        return "':' and '+' must be percent-encoded"
    for name in REQUIRED:
        if name not in names:
            return f"{name} is missing"
    if len(set(names)) < len(names):
        return "a parameter stands twice"
    for name, value in decoded:
        if name not in SYNTAX:
            return f"unknown parameter {name}"
        if not SYNTAX[name](value):
            return f"bad {name}"
    return ""


def _page(status: int, text: str) -> Answer:
    body = f"<html><head><title>LRC</title></head><body><p>{html.escape(text)}</p></body></html>"
    return Answer(status, body.encode(), "text/html", why=text)


def main() -> None:
    parser = argparse.ArgumentParser(description="a fake LRC")
    add_arguments(parser)
    parser.add_argument("--as-id", default="TWA_1.2.AS")
    parser.add_argument("--as-key", help="without it nothing need be signed")
    arguments = parser.parse_args()
    keys = {arguments.as_id: arguments.as_key} if arguments.as_key else {}
    run(FakeLrc(keys, host=arguments.host, port=arguments.port), arguments)


if __name__ == "__main__":
    main()
