"""What the API sees of a running daemon, and the little that it may do there beside editing files."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mqttbridge.api.seam import Refused
from mqttbridge.clock import SystemClock
from mqttbridge.control.tallies import Tallies
from mqttbridge.downlinks import intake
from mqttbridge.errors import HistoryFailed, JournalFailed
from mqttbridge.model import Counts
from mqttbridge.overview import Remarks
from mqttbridge.settings.reader import etag
from mqttbridge.views import MOST_UPLINKS, DaemonViews
from tests.brokers.recorder import recorder
from tests.networks import lrc
from tests.support.bridge import DEV_EUI, NOBODY, to, until, uplink
from tests.support.inside import inside

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from mqttbridge.api.seam import RecentUplink, Views
    from tests.brokers.mosquitto import Mosquitto
    from tests.support.inside import Inside

    Found = Callable[[Views], Awaitable[Any]]

SECRET = "correct-horse-battery"


class Looking(DaemonViews):
    """The views of a daemon in this loop, and the daemon."""

    daemon: Inside

    async def until_state(self, id_: str, state: str) -> None:
        async def holds() -> bool:
            return self.connection(id_).state == state

        await until(holds, f"{id_} {state}", more=lambda: str(self.connection(id_)))

    async def until_queued(self, id_: str, number: int) -> None:
        async def holds() -> bool:
            return self.connection(id_).queued == number

        await until(holds, f"{number} queued", more=lambda: str(self.connection(id_)))


@asynccontextmanager
async def looking(directory: Path, **sections: Any) -> AsyncIterator[Looking]:  # noqa: ANN401 (sections of the file)
    async with inside(directory, **sections) as daemon:
        running = daemon.daemon._running
        clock = SystemClock()
        tallies = Tallies(running.stores.journal.counts, clock)
        witness = running.stores.journal.witness
        assert witness is not None
        stored = witness.stored

        def both(queued: Any) -> None:  # noqa: ANN401 (as the witness is told)
            stored(queued)
            tallies.stored(queued)

        witness.stored = both  # type: ignore[method-assign]
        views = Looking(
            running.parts,
            running.stores,
            running.reloader,
            overview=running.overview,
            remarks=lambda: Remarks(parked=running.stores.journal.parked_kept()),
            tallies=tallies,
            clock=clock,
        )
        views.daemon = daemon
        yield views


async def refused(doing: Awaitable[Any]) -> Refused:
    with pytest.raises(Refused) as caught:
        await doing
    return caught.value


def beside(directory: Path, section: str, id_: str, document: dict[str, Any]) -> bytes:
    """Write a file of its own; JSON is YAML."""
    data = json.dumps(document).encode()
    path = directory / section / f"{id_}.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return data


# -- what is configured, and how it is ---------------------------------------------------------------------------


async def test_a_connection_is_shown_as_in_its_file_with_secrets_masked_and_as_it_is(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    alarms = [{"uplinkRateMinPerHour": 5}]
    acme = {"name": "ACME", **to(plain_mosquitto, username="u", password=SECRET, maxInflight=7), "alarms": alarms}
    began = datetime.now(UTC)
    async with looking(tmp_path, connections={"acme": acme, "off": {"active": False, **to(NOBODY)}}) as views:
        await views.until_state("acme", "OPENED")
        one = views.connection("acme")
        assert (one.id, one.name, one.connector_id, one.active) == ("acme", "ACME", "actility-mqtt-iot", True)
        assert one.configuration == {
            "hostName": f"127.0.0.1:{plain_mosquitto.port}",
            "protocol": "TCP",
            "username": "u",
            "password": "*****",
            "maxInflight": 7,
        }
        assert one.alarms[0]["uplinkRateMinPerHour"] == 5
        assert one.startup_time is not None
        assert one.since is not None
        assert began.timestamp() - 1 < one.startup_time.timestamp() <= datetime.now(UTC).timestamp()
        assert abs((one.startup_time - one.since).total_seconds()) < 0.1
        assert (one.owner, one.file, len(one.etag)) == ("main", "mqttbridge.yaml", 32)
        assert (one.why, one.retry_at, one.queued, one.parked, one.totals) == ("", None, 0, 0, Counts())
        off = views.connection("off")
        assert (off.state, off.active, off.startup_time, off.why) == ("DEACTIVATED", False, None, "active is false")
        assert [each.id for each in views.connections()] == ["acme", "off"]
        assert views.connections()[0].etag == one.etag
        assert SECRET not in msgspec.json.encode(views.connections()).decode()
        assert views.status().connections[0].id == "acme"


async def test_one_that_was_never_open_has_no_startup_time_and_says_why_and_when_it_tries_again(tmp_path: Path) -> None:
    async with looking(tmp_path, connections={"acme": to(NOBODY)}) as views:
        await views.until_state("acme", "UNREACHABLE")
        one = views.connection("acme")
        assert one.startup_time is None
        assert "refused" in one.why
        assert one.retry_at is not None


async def test_the_startup_time_stays_when_the_broker_is_gone(
    tmp_path: Path, start_mosquitto: Callable[..., Awaitable[Mosquitto]]
) -> None:
    broker = await start_mosquitto()
    async with looking(tmp_path, connections={"acme": to(broker)}) as views:
        await views.until_state("acme", "OPENED")
        opened = views.connection("acme").startup_time
        assert opened is not None
        await broker.kill()
        await views.until_state("acme", "UNREACHABLE")
        later = views.connection("acme").startup_time
        assert later is not None
        assert abs((later - opened).total_seconds()) < 0.1


async def test_what_has_a_file_of_its_own_belongs_to_the_api_with_the_tag_of_its_bytes(tmp_path: Path) -> None:
    mine = await asyncio.to_thread(beside, tmp_path, "connections.d", "mine", to(NOBODY))
    matchers = [{"type": "thing", "tags": ["a", "b"]}]
    flow = {"name": "Warm", "matchers": matchers, "connections": ["mine"]}
    warm = await asyncio.to_thread(beside, tmp_path, "flows.d", "warm", flow)
    flows = {"all": {"connections": ["acme"]}}
    async with looking(tmp_path, connections={"acme": to(NOBODY)}, flows=flows) as views:
        one = views.connection("mine")
        assert (one.owner, one.file, one.etag) == ("api", "mine.yaml", etag(mine))
        shown = views.flow("warm")
        assert (shown.name, shown.matchers, shown.connections) == ("Warm", matchers, ["mine"])
        assert (shown.owner, shown.file, shown.etag) == ("api", "warm.yaml", etag(warm))
        assert [(each.id, each.owner, each.file) for each in views.flows()] == [
            ("all", "main", "mqttbridge.yaml"),
            ("warm", "api", "warm.yaml"),
        ]


@pytest.mark.parametrize(
    "asks",
    [
        lambda views: asyncio.to_thread(views.connection, "nobody"),
        lambda views: asyncio.to_thread(views.flow, "nobody"),
        lambda views: asyncio.to_thread(views.counters, "nobody"),
        lambda views: views.uplinks("nobody", limit=5),
        lambda views: views.submit_downlink("nobody", b"{}"),
        lambda views: views.restart("nobody\n\x00" + "x" * 1000),
    ],
)
async def test_what_is_not_there_is_404(tmp_path: Path, asks: Found) -> None:
    async with looking(tmp_path, connections={}) as views:
        error = await refused(asks(views))
        assert error.status == 404
        assert error.detail.isprintable()
        assert len(error.detail) < 200


async def test_a_reload_is_seen_at_once_and_what_it_removed_is_gone(tmp_path: Path) -> None:
    async with looking(tmp_path, connections={"a": to(NOBODY), "b": to(NOBODY, description="old")}) as views:
        before = views.connection("b").etag
        assert len(views.connections()) == 2
        sections = {"sources": {"lrc": {"transport": "http"}}, "connections": {"b": to(NOBODY, description="new")}}
        await asyncio.to_thread(views.daemon.write, sections)
        report = await views.daemon.daemon._running.reloader.reload()
        assert not report.problems
        (one,) = views.connections()
        assert one.configuration["description"] == "new"
        assert one.etag != before
        assert list(views._documents._made) == [("connection", "b")]


# -- what passed ---------------------------------------------------------------------------


def brief(found: list[RecentUplink]) -> list[tuple[int | None, str, str]]:
    return [(one.fcnt, one.outcome, one.topic) for one in found]


async def test_recent_uplinks_are_the_newest_first_with_how_each_ended(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {
        "acme": to(plain_mosquitto, uplinkTopicPattern="a/{DevEUI}"),
        "odd": to(plain_mosquitto, uplinkTopicPattern="a/{CustomerData.nothing}"),
        "down": to(NOBODY),
    }
    async with looking(tmp_path, connections=connections) as views, recorder(plain_mosquitto) as record:
        document = uplink(1)
        await views.daemon.accept("lrc", document, uplink(2))
        await record.wait_for(2)
        await views.until_queued("acme", 0)
        await views.until_queued("odd", 0)
        found = await views.uplinks("acme", limit=10)
        assert brief(found) == [(2, "delivered", f"a/{DEV_EUI}"), (1, "delivered", f"a/{DEV_EUI}")]
        one = found[1]
        assert (one.source, one.kind, one.dev_eui, one.size) == ("lrc", "DevEUI_uplink", DEV_EUI, len(document))
        assert one.ended is not None
        assert one.received <= one.ended
        assert (one.document, one.reason) == (None, "")
        assert brief(await views.uplinks("down", limit=10)) == [(2, "queued", ""), (1, "queued", "")]
        parked = await views.uplinks("odd", limit=1)
        assert (len(parked), parked[0].outcome) == (1, "parked")
        assert parked[0].reason
        assert views.connection("odd").parked == 2
        assert await views.uplinks("acme", limit=10, after=found[0].id) == []
        await views.daemon.accept("lrc", uplink(3))
        assert [one.fcnt for one in await views.uplinks("acme", limit=10, after=found[0].id)] == [3]
        assert views.connection("acme").totals.routed == 3


async def test_documents_come_only_when_asked_for_and_stand_as_they_were(tmp_path: Path) -> None:
    async with looking(tmp_path, connections={"acme": to(NOBODY)}) as views:
        document = json.loads(uplink(1))
        document["DevEUI_uplink"]["large"] = 2**70
        await views.daemon.accept("lrc", json.dumps(document).encode())
        (bare,) = json.loads(msgspec.json.encode(await views.uplinks("acme", limit=10)))
        assert bare["document"] is None
        (whole,) = json.loads(msgspec.json.encode(await views.uplinks("acme", limit=10, documents=True)))
        assert whole["document"] == document
        assert whole["devEui"] == DEV_EUI


async def test_an_answer_is_bounded(tmp_path: Path) -> None:
    async with looking(tmp_path, connections={"acme": to(NOBODY)}) as views:
        await views.daemon.accept("lrc", *map(uplink, range(MOST_UPLINKS + 10)))
        assert len(await views.uplinks("acme", limit=10**9)) == MOST_UPLINKS
        assert len(await views.uplinks("acme", limit=-1)) == 1


async def test_events_come_as_the_history_keeps_them(tmp_path: Path, plain_mosquitto: Mosquitto) -> None:
    async with looking(tmp_path, connections={"acme": to(plain_mosquitto)}) as views:
        await views.until_state("acme", "OPENED")
        history = views._stores.history
        for number in range(3):
            history.event(1000 + number, "warning", "connection.lost", {"connection": "acme", "number": number})
        found = await views.events(limit=2, name="connection.lost", connection="acme")
        assert [one.fields["number"] for one in found] == [1, 2]
        (after,) = await views.events(limit=10, name="connection.*", connection="acme", after=found[0].id)
        assert after.fields["number"] == 2
        assert await views.events(limit=10, level="error", name="connection.lost") == []


async def test_a_history_that_cannot_be_read_is_503(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fails(*_: object, **__: object) -> None:
        raise HistoryFailed("The history cannot be read: I/O error. Check the disk.")

    async with looking(tmp_path, connections={"acme": to(NOBODY)}) as views:
        monkeypatch.setattr(views._stores.history, "latest", fails)
        monkeypatch.setattr(views._stores.history, "events", fails)
        for asked in (views.uplinks("acme", limit=1), views.events(limit=1)):
            error = await refused(asked)
            assert (error.status, "Check the disk" in error.detail) == (503, True)


async def test_counters_tell_of_this_minute_and_hour_and_of_active_devices(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {"acme": to(plain_mosquitto), "down": to(NOBODY)}
    async with looking(tmp_path, connections=connections) as views:
        await views.daemon.accept("lrc", uplink(1), uplink(2), uplink(1, "70B3D5E75E000001"))
        await views.until_queued("acme", 0)
        acme, down = views.counters("acme"), views.counters("down")
        assert (acme.day[-1].routed, acme.day[-1].delivered) == (3, 3)
        assert sum(span.routed for span in acme.hour) == 3
        assert (down.day[-1].routed, down.day[-1].delivered) == (3, 0)
        assert (acme.active_devices, down.active_devices) == (2, 2)
        assert acme.hour[-1].start.second == 0
        assert acme.day[-1].start.minute == 0


# -- what may be done ---------------------------------------------------------------------------


async def test_a_restart_ends_one_session_and_begins_another_and_touches_no_other(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    connections = {name: to(plain_mosquitto) for name in ("one", "two")}
    async with looking(tmp_path, connections=connections) as views:
        for name in connections:
            await views.until_state(name, "OPENED")
        session, other = (views._parts.sessions.get(name) for name in connections)
        await views.restart("one")
        assert views._parts.sessions.get("one") is not session
        assert views._parts.sessions.get("two") is other
        await views.until_state("one", "OPENED")
        log = await plain_mosquitto.read_log()
        assert (log.count(" as mqttbridge-one "), log.count(" as mqttbridge-two ")) == (2, 1)


async def test_restarts_and_reloads_at_once_leave_one_session_each_and_lose_nothing(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with looking(tmp_path, connections={"acme": to(plain_mosquitto)}) as views:
        reloader = views.daemon.daemon._running.reloader

        async def reloads() -> None:
            for number in range(5):
                client = {"clientId": f"client-{number}"}
                sections = {
                    "sources": {"lrc": {"transport": "http"}},
                    "connections": {"acme": to(plain_mosquitto, **client)},
                }
                await asyncio.to_thread(views.daemon.write, sections)
                assert not (await reloader.reload()).problems

        async with asyncio.TaskGroup() as group:
            group.create_task(reloads())
            for number in range(5):
                group.create_task(views.restart("acme"))
                await views.daemon.accept("lrc", uplink(number))
        assert list(views._parts.sessions) == ["acme"]
        await views.until_state("acme", "OPENED")
        await views.until_queued("acme", 0)
        assert views.connection("acme").totals.delivered == 5
        assert views.connection("acme").configuration["clientId"] == "client-4"


async def test_a_client_that_goes_away_leaves_no_connection_without_a_session(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    async with looking(tmp_path, connections={"acme": to(plain_mosquitto)}) as views:
        await views.until_state("acme", "OPENED")
        task = asyncio.create_task(views.restart("acme"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert list(views._parts.sessions) == ["acme"]
        await views.until_state("acme", "OPENED")


async def test_what_is_not_active_is_not_restarted(tmp_path: Path) -> None:
    async with looking(tmp_path, connections={"off": {"active": False, **to(NOBODY)}}) as views:
        assert (await refused(views.restart("off"))).status == 409


def downlink(**fields: Any) -> bytes:  # noqa: ANN401 (fields of any kind)
    whole = {"DevEUI": DEV_EUI, "FPort": 2, "payload_hex": "0103", **fields}
    return json.dumps({"DevEUI_downlink": whole}).encode()


async def test_a_downlink_by_hand_goes_to_the_network_server_and_its_receipt_to_the_broker(
    tmp_path: Path, plain_mosquitto: Mosquitto
) -> None:
    topics = {"downlinkTopicPattern": "d/{DevEUI}", "downlinkReceiptTopicPattern": "r/{DevEUI}"}
    async with (
        lrc.FakeLrc() as server,
        recorder(plain_mosquitto, "r/#") as record,
        looking(
            tmp_path,
            sources={"lrc": {"transport": "http", "apiUrl": server.url}},
            connections={"acme": to(plain_mosquitto, **topics)},
        ) as views,
    ):
        await views.until_state("acme", "OPENED")
        given = await views.submit_downlink("acme", downlink(CorrelationID="00000000000000AA"))
        assert (given.outcome, given.dev_eui, given.reason) == ("accepted", DEV_EUI, "")
        assert given.correlation_id.upper() == "00000000000000AA"
        (told,) = await record.wait_for(1)
        assert (json.loads(told.payload)["outcome"], json.loads(told.payload)["key"]) == ("queued", given.key)
        (taken,) = server.queued
        assert (taken["Payload"], taken["FPort"]) == ("0103", "2")

        wrong = await views.submit_downlink("acme", downlink(FPort=0))
        assert (wrong.outcome, wrong.field) == ("rejected", "DevEUI_downlink.FPort")
        assert wrong.reason
        late = await views.submit_downlink("acme", downlink(ValidityTime="2020-01-01T00:00:00Z"))
        assert late.outcome == "expired"
        assert [json.loads(one.payload)["outcome"] for one in (await record.wait_for(3))[1:]] == ["rejected", "expired"]


async def test_who_takes_no_downlinks_is_409_and_a_full_queue_or_a_failing_disk_is_503(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topics = {"downlinkTopicPattern": "d/{DevEUI}"}
    connections = {
        "acme": to(NOBODY, **topics),
        "none": to(NOBODY),
        "not": to(NOBODY, downlinkEnabled=False, **topics),
        "off": {"active": False, **to(NOBODY, **topics)},
    }
    sources = {"lrc": {"transport": "http", "apiUrl": f"http://127.0.0.1:{NOBODY}/x"}}
    async with looking(tmp_path, connections=connections, sources=sources) as views:
        for name in ("none", "not", "off"):
            error = await refused(views.submit_downlink(name, downlink()))
            assert (error.status, "takes no downlinks" in error.detail) == (409, True)
        monkeypatch.setattr(intake, "ROOM", 1)
        assert (await views.submit_downlink("acme", downlink())).outcome == "accepted"
        error = await refused(views.submit_downlink("acme", downlink()))
        assert (error.status, "try again in" in error.detail) == (503, True)
        monkeypatch.undo()

        async def fails(*_: object) -> None:
            raise JournalFailed("The disk is full.")

        monkeypatch.setattr(views._stores.downlinks, "accept", fails)
        error = await refused(views.submit_downlink("acme", downlink()))
        assert (error.status, "The disk is full" in error.detail) == (503, True)


# -- what it costs ---------------------------------------------------------------------------


async def test_many_connections_are_shown_in_little_time(tmp_path: Path) -> None:
    connections = {f"c{number}": {"active": False, **to(NOBODY)} for number in range(200)}
    async with looking(tmp_path, connections=connections) as views:
        assert len(views.connections()) == 200
        began = time.perf_counter()
        assert len(views.connections()) == 200
        assert time.perf_counter() - began < 0.1
