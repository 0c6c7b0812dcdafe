"""The command itself: arguments, output, exit codes, secrets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.brokers.certs import Certificates
from tests.doctor.helpers import write
from tests.support.bridge import NOBODY, run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto

    Start = Callable[..., Awaitable[Mosquitto]]

PASSWORD = "Korrekt-Pferd-Batterie"


async def test_all_well_exits_with_0_and_a_failure_with_1_and_no_secret_is_ever_shown(
    tmp_path: Path, start_mosquitto: Start
) -> None:
    certificates = Certificates()
    broker = await start_mosquitto(
        listeners={"tls": certificates.listener(tmp_path, demand=True)}, users={"bob": PASSWORD}
    )
    (tmp_path / "pw").write_text(PASSWORD)
    good = {
        "hostName": f"localhost:{broker.port}",
        "username": "bob",
        "password": PASSWORD,
        "trustedCaCertificate": certificates.ca,
        "certificate": certificates.client.certificate,
        "privateKey": certificates.client.key,
        "downlinkTopicPattern": "d/{DevEUI}",
    }
    bad = {**good, "password": "Falsch-Pferd"}
    config = ["--config", str(write(tmp_path, {"good": good, "bad": bad, "dead": {"hostName": f"127.0.0.1:{NOBODY}"}}))]
    done = await run("doctor", *config, "good", "--publish")
    assert done.process is not None
    assert (done.process.returncode, done.stderr) == (0, []), done.text
    assert done.stdout[0].startswith(f"connection good: localhost:{broker.port} (SSL, MQTT 3.1.1)")
    assert done.stdout[-1].startswith("all well")
    assert done.stdout[-1].endswith("one test uplink was published")
    assert max(map(len, done.stdout)) < 80

    failed = await run("doctor", *config, "bad", "--json")
    assert failed.process is not None
    assert failed.process.returncode == 1
    whole = json.loads("\n".join(failed.stdout))
    assert [step["step"] for step in whole["steps"] if step["state"] == "failed"] == ["CONNACK"]

    dead = await run("doctor", *config, "dead")
    assert dead.process is not None
    assert dead.process.returncode == 1
    assert dead.stdout[-1] == "failed: TCP; nothing was published"
    key = certificates.client.key.splitlines()[1]
    for output in (done.text, failed.text, dead.text):
        for secret in (PASSWORD, "Falsch-Pferd", key):
            assert secret not in output
        assert "\x1b" not in output


@pytest.mark.parametrize("arguments", [[], ["acme", "--source", "ns"]])
async def test_it_takes_a_connection_or_a_source(tmp_path: Path, arguments: list[str]) -> None:
    done = await run("doctor", "--config", str(write(tmp_path, {})), *arguments)
    assert done.process is not None
    assert done.process.returncode == 2
    assert "give the id of a connection, or --source ID" in done.text.replace("│", "")


async def test_a_connection_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    done = await run("doctor", "--config", str(write(tmp_path, {"acme": {"hostName": "a.example"}})), "acne")
    assert done.process is not None
    assert done.process.returncode == 1
    assert done.stderr == ["there is no connection 'acne' in the configuration; did you mean 'acme'?"]
