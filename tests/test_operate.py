"""The commands in front of a real daemon, as an operator uses them: trace, replay, parked, tap, events."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.brokers.mosquitto import mosquitto
from tests.brokers.recorder import recorder
from tests.support.bridge import DEV_EUI, NOBODY, bridge, command, fcnts, run, to, uplink

if TYPE_CHECKING:
    from pathlib import Path

    from tests.brokers.mosquitto import Mosquitto
    from tests.support.bridge import Bridge

OTHER = "0018B20000000C31"


async def ask(daemon: Bridge, *arguments: str, code: int = 0) -> str:
    """Run a command, and give what it printed."""
    done = await run(*arguments, "--config", str(daemon.path))
    assert done.process is not None
    assert done.process.returncode == code, done.text
    assert "Traceback" not in done.text
    return "\n".join(done.stdout)


async def ask_json(daemon: Bridge, *arguments: str, code: int = 0) -> Any:  # noqa: ANN401 (an answer)
    return json.loads(await ask(daemon, *arguments, "--json", code=code))


async def test_trace_shows_where_an_uplink_went_and_where_it_waits(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    connections = {"acme": to(plain_mosquitto), "dead": to(NOBODY)}
    flows = {
        "all": {"connections": ["acme", "dead"]},
        "roof": {"matchers": [{"type": "thing", "tags": ["roof"]}], "connections": ["acme"]},
    }
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections=connections, flows=flows) as daemon,
    ):
        await daemon.accept("lrc", uplink(7))
        await record.wait_for(1)
        await daemon.until_account("acme", delivered=1)
        page = await ask(daemon, "trace", "00-18-b2-00-00-00-0b-20")
        assert all(len(line) <= 80 for line in page.splitlines())
        for part in ("FCntUp 7", "received by lrc", "127.0.0.1", f"mqtt/things/{DEV_EUI}/uplink", "dead", "roof"):
            assert part in page, page
        (passage,) = (await ask_json(daemon, "trace", DEV_EUI))["uplinks"]
        ends = {one["connection"]: one for one in passage["connections"]}
        assert ends["acme"]["outcome"] == "delivered"
        assert ends["dead"]["outcome"] == "queued"
        assert await ask(daemon, "trace", OTHER, code=2) is not None
        # What was known is known after a restart.
        await daemon.stop()
        await daemon.restart()
        (passage,) = (await ask_json(daemon, "trace", DEV_EUI))["uplinks"]
        assert {one["connection"]: one["outcome"] for one in passage["connections"]} == {
            "acme": "delivered",
            "dead": "queued",
        }


async def test_replay_sends_the_past_of_one_device_again_marked_and_once(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon,
    ):
        await daemon.accept("lrc", uplink(1), uplink(2, OTHER), uplink(3))
        await daemon.until_account("acme", delivered=3)
        wish = ("replay", "--connection", "acme", "--from", "1h", "--device", DEV_EUI)
        tried = await ask_json(daemon, *wish, "--dry-run")
        assert (tried["found"], tried["queued"]) == (2, 0)
        done = await ask_json(daemon, *wish)
        assert done["queued"] == 2
        await record.wait_for(5)
        again = [json.loads(message.payload)["DevEUI_uplink"] for message in record.messages[3:]]
        assert [one["FCntUp"] for one in again] == [1, 3]
        assert all(one["Replayed"] is True for one in again)
        await daemon.until_account("acme", routed=5, delivered=5)
        # A replay is not replayed: the same wish finds the same two.
        assert (await ask_json(daemon, *wish, "--dry-run"))["found"] == 2
        assert "replay of" in await ask(daemon, "trace", DEV_EUI)
        nobody = await run("replay", "--connection", "acne", "--from", "1h", "--config", str(daemon.path))
        assert "acme" in nobody.text, "a near miss is named"


async def test_what_was_routed_nowhere_can_be_replayed_once_its_flow_is_right(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    flows = {"none": {"matchers": [{"type": "thing", "tags": ["nothing"]}], "connections": ["acme"]}}
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections={"acme": to(plain_mosquitto)}, flows=flows) as daemon,
    ):
        await daemon.accept("lrc", uplink(5))
        assert "no connection" in await ask(daemon, "trace", DEV_EUI)
        await ask(daemon, "replay", "--connection", "acme", "--from", "1h", code=2)
        await ask(daemon, "replay", "--connection", "acme", "--from", "1h", "--all")
        (message,) = await record.wait_for(1)
        assert json.loads(message.payload)["DevEUI_uplink"]["FCntUp"] == 5


async def test_parked_uplinks_are_listed_shown_retried_and_dropped(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    connections = {"acme": to(plain_mosquitto, uplinkTopicPattern="{payload.room}/{DevEUI}")}
    async with (
        recorder(plain_mosquitto) as record,
        bridge(tmp_path, connections=connections) as daemon,
    ):
        assert "no" in (await run("parked", "list", "--config", str(daemon.path))).text.lower()
        await daemon.accept("lrc", uplink(1), uplink(2), uplink(3))
        await daemon.until_account("acme", parked=3)
        page = await ask(daemon, "parked", "list")
        assert DEV_EUI in page
        listed = (await ask_json(daemon, "parked", "list", "--connection", "acme"))["parked"]
        assert [one["fcnt"] for one in listed] == [3, 2, 1]
        shown = await ask(daemon, "parked", "show", str(listed[0]["number"]))
        assert "FCntUp" in shown
        await ask(daemon, "parked", "drop", str(listed[0]["number"]))
        assert "2 parked uplinks" in (await run("status", "--config", str(daemon.path))).text
        connections["acme"] = to(plain_mosquitto, uplinkTopicPattern="fixed/{DevEUI}")
        daemon.write({"sources": {"lrc": {"transport": "http"}}, "connections": connections})
        await ask(daemon, "reload")
        await ask(daemon, "parked", "retry", "--connection", "acme", "--all")
        await record.wait_for(2)
        assert fcnts([message.payload for message in record.messages]) == [1, 2]
        await daemon.until_account("acme", routed=5, delivered=2, parked=3, queued=0)
        assert (await ask_json(daemon, "parked", "list"))["parked"] == []


async def test_tap_shows_what_goes_through_and_ends_after_a_count(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with bridge(tmp_path, connections={"acme": to(plain_mosquitto)}) as daemon:
        await daemon.until_state("acme", "OPENED")
        arguments = ("tap", "--device", DEV_EUI, "--count", "2", "--json", "--payload", "--config", str(daemon.path))
        async with command(*arguments) as tap:
            while not tap.stdout:
                # It begins when it begins: until then nothing of it is to be seen.
                await daemon.accept("lrc", uplink(1, OTHER), uplink(2))
            assert await tap.wait() == 0
        came, ended = (json.loads(line) for line in tap.stdout)
        assert {came["what"], ended["what"]} <= {"uplink", "delivered", "duplicate"}
        assert came["dev_eui"] == ended["dev_eui"] == DEV_EUI
        assert came["document"]["DevEUI_uplink"]["FCntUp"] == 2


async def test_events_are_kept_over_a_restart_and_found_by_name_and_connection(tmp_path: Path) -> None:
    async with (
        mosquitto(tmp_path / "broker") as broker,
        bridge(tmp_path, connections={"acme": to(broker), "dead": to(NOBODY)}) as daemon,
    ):
        await daemon.until_state("acme", "OPENED")
        await daemon.until_said("connection.failed", connection="dead")
        await daemon.stop()
        await daemon.restart()
        await daemon.until_said("connection.opened", connection="acme")
        found = await ask_json(daemon, "events", "--connection", "acme", "--name", "connection.opened")
        assert len(found) == 2
        page = await ask(daemon, "events", "--level", "warning", "--since", "1h")
        assert "dead" in page
        assert "connection.failed" in page
        stopped = await ask_json(daemon, "events", "--name", "daemon.*")
        assert [one["event"] for one in stopped][:2] == ["daemon.started", "daemon.stopping"]
