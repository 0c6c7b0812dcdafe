"""A reload of the whole daemon: what it changes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.brokers.certs import Certificates
from tests.brokers.mosquitto import mosquitto
from tests.brokers.recorder import recorder
from tests.support.bridge import NOBODY, bridge, fcnts, publish_lines, run, subscribed, to, until, uplink

if TYPE_CHECKING:
    from tests.brokers.mosquitto import Mosquitto
    from tests.support.bridge import Bridge, Command

MUTUAL = """
http: {{listen: 127.0.0.1:0}}
sources: {{lrc: {{transport: http}}}}
connections:
  acme:
    configuration:
      hostName: localhost:{port}
      trustedCaCertificate: !file ca.crt
      certificate: !file acme.crt
      privateKey: !file acme.key
      downlinkTopicPattern: down/{{DevEUI}}
      reconnectStrategy: {strategy}
"""
HTTP: dict[str, Any] = {"lrc": {"transport": "http"}}


def config(**sections: Any) -> dict[str, Any]:  # noqa: ANN401 (sections of the file)
    return {"sources": HTTP, **sections}


async def reloaded(daemon: Bridge, **sections: Any) -> None:  # noqa: ANN401 (sections of the file)
    """Write another configuration, ask for it by the signal, and wait until it is in force."""
    daemon.write(config(**sections))
    before = len(daemon.said("config.reloaded"))
    daemon.signal(signal.SIGHUP)
    await daemon.until_said("config.reloaded", before + 1)


async def command(daemon: Bridge, *arguments: str) -> Command:
    return await run(*arguments, "--config", str(daemon.path))


async def connects(broker: Mosquitto, client: str) -> int:
    """Give how often a client connected, as the broker's own log tells."""
    return (await broker.read_log()).count(f" as {client} ")


async def test_a_topic_pattern_changes_in_place_and_the_link_stays(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path) as broker,
        recorder(broker) as record,
        bridge(tmp_path, connections={"acme": to(broker, uplinkTopicPattern="a/{DevEUI}")}) as daemon,
    ):
        await daemon.accept("lrc", uplink(1))
        await record.wait_for(1)
        await reloaded(daemon, connections={"acme": to(broker, uplinkTopicPattern="b/{DevEUI}", maxInflight=7)})
        await daemon.accept("lrc", uplink(2))
        await record.wait_for(2)
        assert record.topics == ["a/0018B20000000B20", "b/0018B20000000B20"]
        assert await connects(broker, "mqttbridge-acme") == 1
        (told,) = daemon.said("config.applied")
        assert told["connection"] == "acme"
        assert told["change"].startswith("change")
        assert told["properties"] == ["configuration.uplinkTopicPattern", "configuration.maxInflight"]


async def test_what_the_broker_sees_restarts_its_session_alone_and_loses_nothing(tmp_path: Path) -> None:
    async with mosquitto(tmp_path) as broker, recorder(broker) as record:
        connections = {name: to(broker, uplinkTopicPattern=name + "/{DevEUI}") for name in ("one", "two")}
        async with bridge(tmp_path, connections=connections) as daemon:
            await daemon.until_state("one", "OPENED")
            await daemon.until_state("two", "OPENED")
            sending = asyncio.create_task(_send(daemon, range(200)))
            connections["two"]["configuration"]["clientId"] = "another"
            await reloaded(daemon, connections=connections)
            await sending
            await record.wait_for(400)
            for name in ("one", "two"):
                assert fcnts([m.payload for m in record.messages if m.topic.startswith(name)]) == list(range(200))
            assert await connects(broker, "mqttbridge-one") == 1
            assert await connects(broker, "mqttbridge-two") == 1
            assert await connects(broker, "another") == 1


async def _send(daemon: Bridge, numbers: range) -> None:
    for number in numbers:
        await daemon.accept("lrc", uplink(number))


async def test_connections_and_flows_come_and_go(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with recorder(plain_mosquitto) as record, bridge(tmp_path, connections={}) as daemon:
        await reloaded(daemon, connections={"new": to(plain_mosquitto, uplinkTopicPattern="new/{DevEUI}")})
        await daemon.until_state("new", "OPENED")
        await daemon.accept("lrc", uplink(1))
        await record.wait_for(1)
        flows = {"none": {"matchers": [{"type": "thing", "tags": ["nothing"]}], "connections": ["new"]}}
        await reloaded(daemon, connections={"new": to(plain_mosquitto, uplinkTopicPattern="new/{DevEUI}")}, flows=flows)
        await daemon.accept("lrc", uplink(2))
        await daemon.until_said("uplink.unrouted")
        await reloaded(daemon, connections={})
        assert ("mqttbridge_connection_state", "new", "OPENED") not in await daemon.metrics()
        await daemon.accept("lrc", uplink(3))
        await daemon.until_said("uplink.unrouted", 2)
        assert fcnts([m.payload for m in record.messages]) == [1]


async def test_the_queue_of_a_removed_connection_is_named_and_waits_for_its_return(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with recorder(plain_mosquitto) as record, bridge(tmp_path, connections={"acme": to(NOBODY)}) as daemon:
        await daemon.accept("lrc", uplink(1), uplink(2))
        await reloaded(daemon, connections={})
        (told,) = await daemon.until_said("connection.orphaned")
        assert (told["connection"], told["queued"]) == ("acme", 2)
        page = await command(daemon, "status")
        assert "acme" in page.text
        assert "REMOVED" in page.text
        await daemon.stop()
        await daemon.restart()
        await reloaded(daemon, connections={"acme": to(plain_mosquitto)})
        await record.wait_for(2)
        await daemon.until_account("acme", delivered=2, queued=0)


async def test_a_wrong_file_changes_nothing_and_health_and_log_say_why_until_it_is_right(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon,
    ):
        daemon.write(config(connections={"acme": to(plain_mosquitto, uplinkTopicPatern="x/{DevEUI}")}))
        daemon.signal(signal.SIGHUP)
        (told,) = await daemon.until_said("config.rejected")
        assert "uplinkTopicPatern" in told["reason"]
        assert "did you mean" in told["reason"]
        health = await daemon.get("/health")
        assert health.status_code == 200
        assert "uplinkTopicPatern" in health.json()["config"]
        metrics = await daemon.metrics()
        assert metrics["mqttbridge_config_last_reload_successful",] == 0
        await daemon.accept("lrc", uplink(1))
        await record.wait_for(1)
        await reloaded(daemon, connections={"acme": to(plain_mosquitto, uplinkTimeValidity="1h")})
        assert "config" not in (await daemon.get("/health")).json()
        assert (await daemon.metrics())["mqttbridge_config_last_reload_successful",] == 1


async def test_a_broken_password_is_seen_mended_and_the_queue_drains(tmp_path: Path) -> None:
    users = {"acme": "right"}
    async with (
        mosquitto(tmp_path, users=users) as broker,
        recorder(broker, args=("-u", "acme", "-P", "right")) as record,
    ):
        good = {"acme": to(broker, username="acme", password="right")}
        bad = {"acme": to(broker, username="acme", password="wrong")}
        async with bridge(tmp_path, connections=good) as daemon:
            await daemon.until_state("acme", "OPENED")
            await reloaded(daemon, connections=bad)
            await daemon.until_said("connection.authentication_failed")
            await daemon.accept("lrc", *map(uplink, range(10)))
            page = await command(daemon, "status")
            assert page.process is not None
            assert page.process.returncode == 2
            assert "AUTHENTICATION_FAILED" in page.text
            await reloaded(daemon, connections=good)
            await record.wait_for(10)
            await daemon.until_account("acme", delivered=10, queued=0)
            assert "wrong" not in daemon.text


async def test_the_command_reloads_and_answers_by_its_exit_code(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon:
        nothing = await command(daemon, "plan")
        assert nothing.process is not None
        assert nothing.process.returncode == 0, nothing.text
        daemon.write(config(connections={"acme": to(plain_mosquitto, uplinkTopicPattern="x/{DevEUI}")}))
        planned = await command(daemon, "plan")
        assert planned.process is not None
        assert planned.process.returncode == 2, planned.text
        assert "uplinkTopicPattern" in planned.text
        done = await command(daemon, "reload")
        assert done.process is not None
        assert done.process.returncode == 0, done.text
        again = await command(daemon, "plan")
        assert again.process is not None
        assert again.process.returncode == 0, again.text
        daemon.write("connections: [")
        for name in ("plan", "reload"):
            wrong = await command(daemon, name)
            assert wrong.process is not None
            assert wrong.process.returncode == 1
            assert "mqttbridge.yaml:2:1:" in "\n".join(wrong.stderr)


async def test_what_needs_a_restart_is_told_and_the_rest_is_in_force(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon:
        daemon.write({"http": {"listen": "127.0.0.1:1"}, **config(connections={"beta": to(plain_mosquitto)})})
        daemon.signal(signal.SIGHUP)
        (told,) = await daemon.until_said("config.needs_restart")
        assert "http.listen" in told["reason"]
        await daemon.until_state("beta", "OPENED")
        assert (await daemon.get("/health")).status_code == 200


async def test_a_watched_file_is_taken_up_by_itself(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto)}, watch=True) as daemon:
        daemon.write(config(connections={"acme": to(plain_mosquitto), "beta": to(plain_mosquitto)}, watch=True))
        await daemon.until_said("config.reloaded")
        await daemon.until_state("beta", "OPENED")
        beside = tmp_path / "connections.d"
        beside.mkdir()
        (beside / "gamma.yaml").write_text(json.dumps(to(plain_mosquitto)))
        await daemon.until_said("config.reloaded", 2)
        await daemon.until_state("gamma", "OPENED")


async def test_an_mqtt_source_comes_changes_and_goes(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    sources = {**HTTP, "ns": subscribed(plain_mosquitto, "ns/+/up")}
    async with (
        recorder(plain_mosquitto, "out/#") as record,
        bridge(tmp_path, connections={"acme": to(plain_mosquitto, uplinkTopicPattern="out/{DevEUI}")}) as daemon,
    ):
        connections = {"acme": to(plain_mosquitto, uplinkTopicPattern="out/{DevEUI}")}
        daemon.write({"sources": sources, "connections": connections})
        daemon.signal(signal.SIGHUP)
        await daemon.until_said("source.opened", source="ns")
        await publish_lines(plain_mosquitto, "ns/1/up", [uplink(1)])
        await record.wait_for(1)
        sources["ns"] = subscribed(plain_mosquitto, "other/+/up")
        daemon.write({"sources": sources, "connections": connections})
        daemon.signal(signal.SIGHUP)
        await daemon.until_said("source.opened", 2, source="ns")
        await publish_lines(plain_mosquitto, "other/1/up", [uplink(2)])
        await record.wait_for(2)
        daemon.write({"sources": HTTP, "connections": connections})
        daemon.signal(signal.SIGHUP)
        await daemon.until_said("config.applied", source="ns", change="stop: removed")
        assert fcnts([m.payload for m in record.messages]) == [1, 2]


async def test_a_full_journal_is_relieved_by_a_larger_max_size_without_a_restart(tmp_path: Path) -> None:
    async with bridge(tmp_path, connections={"acme": to(NOBODY)}, journal={"maxSize": "256KiB"}) as daemon:
        number = 0
        while (await daemon.post("lrc", uplink(number))).status_code == 200:
            number += 1
        daemon.write(config(connections={"acme": to(NOBODY)}, journal={"maxSize": "16MiB"}))
        daemon.signal(signal.SIGHUP)
        await daemon.until_said("config.reloaded")
        (applied,) = daemon.said("config.applied")
        assert (applied["change"], applied["properties"]) == ("change", ["journal.maxSize"])

        async def taken() -> bool:
            return (await daemon.post("lrc", uplink(number))).status_code == 200

        await until(taken, "uplinks are taken again")
        assert (await daemon.get("/health")).status_code == 200


async def test_a_hangup_while_the_program_is_only_loading_does_not_end_it(tmp_path: Path) -> None:
    async with bridge(tmp_path, start=False, connections={}) as daemon:
        await daemon.start(wait=False)
        status = Path(f"/proc/{daemon.pid}/status")

        async def ignores() -> bool:
            text = await asyncio.to_thread(status.read_text)
            return bool(int(text.partition("SigIgn:")[2].split()[0], 16) & 1 << signal.SIGHUP - 1)

        await until(ignores, "hangups are passed by")
        daemon.signal(signal.SIGHUP)
        await daemon.until_said("daemon.started")


async def test_a_hangup_before_everything_runs_and_many_at_once_are_one_reload(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon:
        for _ in range(20):
            daemon.signal(signal.SIGHUP)
        await daemon.until_said("config.unchanged")
        assert daemon.process is not None
        assert daemon.process.returncode is None
        assert len(daemon.said("config.unchanged")) <= 2


async def test_a_renewed_certificate_is_taken_up_without_an_edit_and_an_edit_beside_it_is_not(tmp_path: Path) -> None:
    certs = await asyncio.to_thread(Certificates)
    lines = await asyncio.to_thread(certs.listener, tmp_path / "certs", demand=True)
    await asyncio.to_thread(_renew, certs, tmp_path)
    (tmp_path / "ca.crt").write_text(certs.ca)
    async with mosquitto(tmp_path / "broker", listeners={"plain": [], "tls": lines}) as broker:
        text = MUTUAL.format(port=broker.listeners["tls"], strategy="NORMAL")
        async with bridge(tmp_path, text) as daemon:
            await daemon.until_state("acme", "OPENED")
            assert len(daemon.said("config.warning")) == 1
            daemon.write(MUTUAL.format(port=broker.listeners["tls"], strategy="CALM"))
            await asyncio.to_thread(_renew, certs, tmp_path)
            (told,) = await daemon.until_said("config.renewed")
            assert told["connection"] == "acme"
            await daemon.until_said("connection.opened", 2)
            assert await connects(broker, "mqttbridge-acme") == 2
            (applied,) = daemon.said("config.applied")
            assert set(applied["properties"]) == {"configuration.certificate", "configuration.privateKey"}
            assert len(daemon.said("config.warning")) == 1, "what was warned of before is not told as if it were new"
            planned = await command(daemon, "plan")
            assert planned.process is not None
            assert planned.process.returncode == 2
            assert "reconnectStrategy" in planned.text


def _renew(certs: Certificates, directory: Path) -> None:
    pair = certs.issue("client")
    for name, text in (("acme.crt", pair.certificate), ("acme.key", pair.key)):
        (directory / f"{name}.new").write_text(text)
        (directory / f"{name}.new").replace(directory / name)


async def test_a_session_that_ends_slowly_holds_up_no_other_that_restarts(tmp_path: Path) -> None:
    async with mosquitto(tmp_path / "slow") as slow, mosquitto(tmp_path / "quick") as quick:
        connections = {"slow": to(slow, actionTimeout="10s"), "quick": to(quick)}
        async with bridge(tmp_path, connections=connections) as daemon:
            await daemon.until_state("slow", "OPENED")
            await daemon.until_state("quick", "OPENED")
            slow.freeze()
            await daemon.accept("lrc", uplink(1))
            await daemon.until_account("quick", delivered=1)
            for connection in connections.values():
                connection["configuration"]["keepAlive"] = "30s"
            daemon.write(config(connections=connections))
            daemon.signal(signal.SIGHUP)
            await daemon.until_said("connection.opened", 2, connection="quick")
            # The one at the frozen broker still waits for its acknowledgement.
            assert not daemon.said("config.reloaded")
            slow.thaw()
            await daemon.until_said("config.reloaded")


async def test_a_warning_that_stands_since_the_start_is_told_once(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    flows = {"off": {"connections": ["asleep"]}}
    asleep = {**to(plain_mosquitto), "active": False}
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto), "asleep": asleep}, flows=flows) as daemon:
        warned = len(daemon.said("config.warning"))
        assert warned
        for validity in ("1h", "2h"):
            acme = to(plain_mosquitto, uplinkTimeValidity=validity)
            await reloaded(daemon, connections={"acme": acme, "asleep": asleep}, flows=flows)
        assert len(daemon.said("config.warning")) == warned
