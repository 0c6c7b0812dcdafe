"""Secrets are planted everywhere, everything fails that can fail, and none of them may be seen anywhere."""

from __future__ import annotations

import asyncio
import base64
import json
import urllib.parse
from typing import TYPE_CHECKING, Any

from mqttbridge.formats.token import sign
from tests.brokers.certs import Certificates
from tests.brokers.fake import fake_broker
from tests.support.bridge import NOBODY, bridge, names, run, uplink
from tests.support.inside import request, wire

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto

PLANTED = {
    "password": 'pw-Zw3%41 "quoted"\\ü',
    "credential": "cred-0yHq8vNnT",
    "username": "user-kLm71xPq",
    "as-key": "5ec2e7000011112222333344445555ff",
    "source-password": "source-pw-Yh2jQ",
    "downlink-as-key": "5ec2e70000aaaabbbbccccddddeeee11",
    "client-id": "client-Gf5tRv",
}


def config(broker: int, tls: int, keys: Certificates) -> str:
    """Give a configuration that holds all of them, in every way in which one may stand there."""
    dead = NOBODY
    key = json.dumps(keys.client.key)
    return f"""
http: {{listen: "127.0.0.1:0"}}
sources:
  lrc: {{transport: http, asKey: {PLANTED["as-key"]}}}
  ns:
    transport: mqtt
    hostName: 127.0.0.1:{broker}
    protocol: TCP
    username: someone
    password: {PLANTED["source-password"]}
    topics: [ns]
connections:
  refused:
    configuration:
      hostName: 127.0.0.1:{broker}
      protocol: TCP
      username: !env BROKER_USER
      password: {json.dumps(PLANTED["password"])}
      downlinkAsKey: {PLANTED["downlink-as-key"]}
  dead: {{configuration: {{hostName: "127.0.0.1:{dead}", protocol: TCP, username: x, password: !credential broker}}}}
  tls:
    configuration:
      hostName: 127.0.0.1:{tls}
      certificate: {json.dumps(keys.client.certificate)}
      privateKey: {key}
      clientId: !file client.id
"""


def forms() -> list[str]:
    """Give each secret as it is, and as it may travel."""
    found: list[str] = []
    for secret in PLANTED.values():
        raw = secret.encode()
        found += [secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], urllib.parse.quote(secret), raw.hex()]
        found += [base64.b64encode(raw).decode().rstrip("="), base64.b64encode(b"xx:" + raw).decode()[8:-4]]
    return [form for form in found if len(form) > 5]


def key_lines(keys: Certificates) -> list[str]:
    """Give the lines of a private key that tell something."""
    return [line for line in keys.client.key.splitlines() if "-----" not in line]


def search(where: str, text: str, wanted: list[str]) -> None:
    for secret in wanted:
        assert secret not in text, f"{secret!r} in {where}: …{text[max(0, text.index(secret) - 200) :][:400]}…"


async def test_no_secret_is_seen_anywhere(tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]) -> None:
    keys, others = Certificates(), Certificates()
    refusing = await start_mosquitto(users={"nobody": "else"})
    tls = await start_mosquitto(listeners={"tls": others.listener(tmp_path / "tls")})
    directory = tmp_path / "bridge"
    await asyncio.to_thread(_plant, directory)
    env = {"BROKER_USER": PLANTED["username"], "CREDENTIALS_DIRECTORY": str(directory / "credentials")}
    answers: list[str] = []
    wanted = forms() + key_lines(keys)
    async with bridge(directory, config(refusing.port, tls.port, keys), level="debug", env=env) as daemon:
        await daemon.until_said("connection.authentication_failed", connection="refused")
        await daemon.until_said("connection.failed", connection="dead")
        await daemon.until_said("connection.failed", connection="tls")
        await daemon.until_said("source.failed", source="ns")
        document = uplink(1)
        good = sign(document, PLANTED["as-key"], as_id="TWA_1.2.AS", time="2026-01-02T03:04:05.678+01:00")
        expected = good.rpartition("Token=")[2]
        assert (await daemon.post("lrc", document, f"?{good}")).status_code == 200
        async with wire(daemon.url) as line:
            for target, body in (
                ("/uplink/lrc", document),
                (f"/uplink/lrc?{good.replace(expected, '0' * 64)}", document),
                (f"/uplink/lrc?{good.replace(expected, PLANTED['as-key'])}", document),
                (f"/uplink/lrc?{good}&Token={PLANTED['as-key']}", document),
                (f"/uplink/{PLANTED['source-password']}", document),
                (f"/{PLANTED['as-key']}", document),
                ("/uplink/lrc", PLANTED["as-key"].encode()),
            ):
                await line.send(request("POST", target, body))
                answer = await line.answer()
                assert answer.status in {401, 404}
                # A 404 names the path that the client itself has just said: no news to it.
                if answer.status == 401:
                    answers.append(f"{answer.headers} {answer.body.decode()}")
        answers += [(await daemon.get(path)).text for path in ("/metrics", "/health")]
        answers += [(await run("status", "--config", str(daemon.path), *more)).text for more in ([], ["--json"])]
        assert "connection refused" in answers[-1]
        assert len(answers) == 9
        assert await daemon.stop() == 0
        search("an answer", "\n".join(answers), [*wanted, expected])
        search("the log", daemon.text, [*wanted, expected])
        assert len(daemon.events) > 10
        for name in names(daemon.state):
            raw = await asyncio.to_thread((daemon.state / name).read_bytes)
            search(name, raw.decode("latin-1"), wanted)


def _plant(directory: Path) -> None:
    (directory / "credentials").mkdir(parents=True)
    (directory / "credentials/broker").write_text(PLANTED["credential"])
    (directory / "client.id").write_text(PLANTED["client-id"])


async def test_a_lost_link_and_a_traceback_show_no_secret(tmp_path: Path) -> None:
    async with fake_broker() as broker:
        section: dict[str, Any] = {"hostName": f"127.0.0.1:{broker.port}", "protocol": "TCP", "mqttVersion": "5"}
        section |= {"username": "u", "password": PLANTED["password"]}
        connections = {"acme": {"configuration": section}}
        async with bridge(tmp_path, connections=connections, level="debug") as daemon:
            await daemon.until_state("acme", "OPENED")
            # A broker that says back what it was told.
            assert broker.client.password == PLANTED["password"].encode()
            broker.client.disconnect(0x87, f"bad password {PLANTED['password']}")
            (told,) = await daemon.until_said("connection.lost")
            assert "*****" in told["reason"]
            answers = [(await daemon.get(path)).text for path in ("/health", "/metrics")]
            search("the log", daemon.text, forms())
            search("an answer", "\n".join(answers), forms())


async def test_the_commands_show_no_secret(tmp_path: Path) -> None:
    keys = Certificates()
    directory = tmp_path / "bridge"
    await asyncio.to_thread(_plant, directory)
    path = directory / "mqttbridge.yaml"
    env = {"BROKER_USER": PLANTED["username"], "CREDENTIALS_DIRECTORY": str(directory / "credentials")}
    wanted = forms() + key_lines(keys)
    good = config(NOBODY, NOBODY, keys)
    bad = {
        "good": good,
        "key of a wrong length": good.replace(PLANTED["as-key"], PLANTED["as-key"] + "0"),
        "password in the wrong place": good.replace("topics: [ns]", f"topics: [ns, {PLANTED['credential']}/#/x]"),
        "unknown key": good.replace("username: !env", "user: !env"),
        "secret host": good.replace("hostName: 127.0.0.1:", "hostName: !env BROKER_USER #", 2),
        "secret as a number": good.replace("topics: [ns]", "topics: [ns]\n    keepAlive: !env BROKER_USER"),
        "broken key": good.replace(key_lines(keys)[0][:20], "AAAA" * 5),
        "no yaml": good + "\n  - : : {\n",
    }
    commands = [["schema"]]
    for name, text in bad.items():
        (directory / f"{name}.yaml").write_text(text)
        commands += [["check", "--config", str(directory / f"{name}.yaml")]]
    commands += [["run", "--config", str(directory / f"{name}.yaml")] for name in ("broken key", "no yaml")]
    path.write_text(good)
    commands += [["send", "--config", str(path), "--source", source] for source in ("lrc", "ns")]
    commands += [["send", "--config", str(directory / "secret host.yaml"), "--source", "ns"]]
    for arguments in commands:
        done = await run(*arguments, env=env)
        assert done.process is not None
        assert done.process.returncode in {0, 1}, done.text
        # A password in a place for something else is no secret to us: only its place is told.
        shown = [form for form in wanted if form != PLANTED["credential"]]
        search(" ".join(arguments), done.text, shown)
