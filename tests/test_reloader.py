"""The reloader by itself, with parts and stores that the test plays: what a daemon's disk and size make hard to try."""

from __future__ import annotations

import functools
import itertools
import threading
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest
import structlog

from mqttbridge import reload
from mqttbridge.clock import SystemClock
from mqttbridge.crew import SLICE, Crew
from mqttbridge.errors import JournalFailed
from mqttbridge.observe.notify import Notifier
from mqttbridge.observe.redact import MASK, Redactor
from mqttbridge.parts import Parts
from mqttbridge.reload import Reloader
from mqttbridge.settings.loader import load
from mqttbridge.vitals import Vitals
from tests.brokers.certs import Certificates
from tests.settings.helpers import write

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from mqttbridge.model import Counts
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Connection

ONE = "connections: {{acme: {{configuration: {{hostName: h, protocol: TCP, keepAlive: {}s}}}}}}\nwatch: {}\n"


class Journal:
    """One whose disk fails when it is told to."""

    def __init__(self) -> None:
        self.fails = False
        self.asked = 0

    async def declare(self, _: object) -> None:
        self.asked += 1
        if self.fails:
            raise JournalFailed("the disk fails")

    def counts(self) -> dict[str, Counts]:
        return {}


class Session:
    """One that notes when it is told what, by the turns of the loop."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._stop = anyio.Event()

    def reconfigure(self, _: Connection) -> None:
        self._turns.note()

    async def run(self) -> None:
        self._turns.note()
        await self._stop.wait()

    def stop(self) -> None:
        self._turns.note()
        self._stop.set()


class Turns:
    """Counts what is done in one turn of the loop."""

    def __init__(self) -> None:
        self.done: list[int] = [0]

    def note(self) -> None:
        self.done[-1] += 1

    async def run(self) -> None:
        while True:
            await anyio.lowlevel.checkpoint()
            self.done.append(0)


class PlayedParts(Parts):
    """The real bookkeeping, with played sessions and nothing else."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self.connections, self.configured, self.networks = {}, {}, {}
        self.sessions = cast("Any", Crew[Session]())
        self.dispatchers, self.sources = Crew(), Crew()
        self._intake = self._inbox = cast("Any", SimpleNamespace(use=lambda _: None))

    def add_session(self, name: str) -> None:
        self.sessions.add(name, cast("Any", Session(self._turns)))


class World:
    """A reloader and what it works with."""

    def __init__(self, path: Path, loaded: Loaded) -> None:
        self.journal = Journal()
        self.turns = Turns()
        self.parts = PlayedParts(self.turns)
        self.learnt_in: list[int] = []
        read = functools.partial(load, path, environ={})
        self.parts.connections |= loaded.settings.connections
        self.parts.configured |= loaded.settings.sources
        for name in loaded.settings.connections:
            self.parts.add_session(name)
        stores = SimpleNamespace(journal=self.journal, downlinks=SimpleNamespace(devices=_none, sources=_none))
        self.reloader = Reloader(
            loaded, self.parts, cast("Any", stores), read=read,
            metrics=cast("Any", SimpleNamespace(reloaded=lambda **_: None)),
            notifier=Notifier({}), learn_secrets=self._learn,
            clock=SystemClock(),
        )  # fmt: skip

    def _learn(self, *_: str) -> Callable[[], None]:
        self.learnt_in.append(threading.get_ident())
        return lambda: None

    @property
    def configuration(self) -> Any:  # noqa: ANN401 (of a connection)
        return self.reloader.loaded.settings.connections["acme"].configuration


async def began(directory: Path, text: str) -> World:
    """Begin with a configuration."""
    path = write(directory, text)
    return World(path, await anyio.to_thread.run_sync(functools.partial(load, path, environ={})))


async def _none(*_: object) -> list[str]:
    return []


async def until(holds: Callable[[], object]) -> None:
    with anyio.fail_after(10):
        while not holds():  # noqa: ASYNC110 (played parts tell nobody)
            await anyio.sleep(0.01)


@asynccontextmanager
async def running(world: World) -> AsyncIterator[World]:
    async with world.parts.sessions.working(), anyio.create_task_group() as group:
        group.start_soon(world.reloader.run)
        yield world
        group.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reload, "LOOK_EVERY", 0.02)
    monkeypatch.setattr(reload, "RETRY", 0.1)


async def test_an_edit_that_a_failing_disk_kept_from_coming_into_force_is_taken_up_when_it_is_well_again(
    tmp_path: Path,
) -> None:
    world = await began(tmp_path, ONE.format(20, "true"))
    async with running(world):
        world.journal.fails = True
        write(tmp_path, ONE.format(30, "true"))
        await until(lambda: world.reloader.problem)
        assert "the disk fails" in world.reloader.problem
        assert world.configuration.keep_alive == 20_000
        await until(lambda: world.journal.asked > 2)
        world.journal.fails = False
        await until(lambda: world.configuration.keep_alive == 30_000 and not world.reloader.problem)


async def test_a_certificate_that_is_renewed_while_the_disk_fails_is_taken_up_later(tmp_path: Path) -> None:
    certs = await anyio.to_thread.run_sync(Certificates)
    (tmp_path / "ca.crt").write_text(certs.ca)
    text = "connections: {acme: {configuration: {hostName: h, trustedCaCertificate: !file ca.crt}}}\n"
    world = await began(tmp_path, text)
    other = await anyio.to_thread.run_sync(Certificates)
    async with running(world):
        await until(lambda: world.reloader._files._seen)  # what it begins with has been seen
        world.journal.fails = True
        (tmp_path / "ca.crt").write_text(other.ca)
        await until(lambda: world.journal.asked)
        world.journal.fails = False
        await until(lambda: world.configuration.trusted_ca_certificate == other.ca.rstrip("\n"))


async def test_a_renewed_certificate_that_cannot_be_used_is_told_once_when_it_rests_and_shown_until_it_is_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certs = await anyio.to_thread.run_sync(Certificates)
    first, second = [await anyio.to_thread.run_sync(certs.issue, "client") for _ in range(2)]
    (tmp_path / "a.crt").write_text(first.certificate)
    (tmp_path / "a.key").write_text(first.key)
    text = "connections: {acme: {configuration: {hostName: h, certificate: !file a.crt, privateKey: !file a.key}}}\n"
    world = await began(tmp_path, text)
    renewal, now = world.reloader.renewal, world.configuration
    with structlog.testing.capture_logs() as said:
        async with running(world):
            await until(lambda: world.reloader._files._seen)
            (tmp_path / "a.crt").write_text(second.certificate)
            await until(lambda: renewal.wrong)
            assert not renewal.problem, "the other file may still come"
            monkeypatch.setattr("mqttbridge.renewal.PATIENCE", 0.1)
            await until(lambda: renewal.problem)
            assert "does not" in renewal.problem
            vitals = Vitals(cast("Any", SimpleNamespace(history=SimpleNamespace(problem=str))))
            vitals.reloader = world.reloader
            assert vitals.attention() == (renewal.problem,), "the status shows it"
            assert "a.crt" in renewal.problem or "certificate" in renewal.problem
            (tmp_path / "a.crt").write_text("garbage")
            await until(lambda: "PEM" in renewal.problem)
            assert world.configuration == now, "what is in force goes on"
            await anyio.sleep(0.2)  # nothing more is to be said, however long it lasts
            assert [one["event"] for one in said].count("certificate.rejected") == 2
            (tmp_path / "a.crt").write_text(second.certificate)
            (tmp_path / "a.key").write_text(second.key)
            await until(lambda: not renewal.problem)
            assert world.configuration.certificate == second.certificate.rstrip("\n")


async def test_a_file_that_was_rejected_for_its_certificate_is_in_force_when_that_is_right(tmp_path: Path) -> None:
    certs = await anyio.to_thread.run_sync(Certificates)
    (tmp_path / "ca.crt").write_text(certs.ca)
    text = "connections: {acme: {configuration: {hostName: h, trustedCaCertificate: !file ca.crt}}}\n"
    world = await began(tmp_path, text)
    async with running(world):
        (tmp_path / "ca.crt").write_text("garbage")
        await world.reloader.reload()
        assert world.reloader.problem
        assert not world.reloader.renewal.wrong, "it is told"
        (tmp_path / "ca.crt").write_text(certs.ca)
        await until(lambda: not world.reloader.problem)


async def test_a_key_that_may_be_read_again_is_taken_up_though_nobody_wrote_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "password").write_text("swordfish")
    text = ONE.format(20, "true").replace("keepAlive: 20s", "username: u, password: !file password")
    world = await began(tmp_path, ONE.format(20, "true"))
    async with running(world):
        with monkeypatch.context() as patch:
            # Whoever runs the tests may be root, who may read everything.
            patch.setattr("mqttbridge.settings.references.read_file", _refused)
            write(tmp_path, text)
            await until(lambda: "ermission denied" in world.reloader.problem)
        (tmp_path / "password").chmod(0o640)
        await until(lambda: world.configuration.username == "u" and not world.reloader.problem)


def _refused(path: Path, _: int) -> bytes:
    raise ValueError(f"cannot be read: Permission denied ({path.name})")


async def test_the_secrets_of_another_configuration_are_learnt_beside_the_loop(tmp_path: Path) -> None:
    world = await began(tmp_path, ONE.format(20, "false"))
    async with running(world):
        write(tmp_path, ONE.format(30, "false"))
        await world.reloader.plan()
        await world.reloader.reload()
    # Those that are known already cost nothing: what is in force is held in the loop.
    first, second, *_ = world.learnt_in
    assert threading.get_ident() not in {first, second}


@pytest.mark.parametrize("change", ["maxInflight: 5", "clientId: other-{}"])
async def test_many_connections_change_restart_come_and_go_some_at_a_time(tmp_path: Path, change: str) -> None:
    def many(number: int, more: str) -> str:
        one = "  c{0}: {{configuration: {{hostName: h, protocol: TCP, {1}}}}}\n"
        return "connections: {}\n" + "".join(one.format(each, more.format(each)) for each in range(number))

    def file(number: int, more: str) -> str:
        return "sources: {lrc: {transport: http}}\n" + (many(number, more).replace("{}", "", 1) if number else "")

    world = await began(tmp_path, file(10 * SLICE, "maxInflight: 4"))
    async with running(world), anyio.create_task_group() as group:
        await anyio.wait_all_tasks_blocked()
        group.start_soon(world.turns.run)
        for number, more in ((10 * SLICE, change), (0, ""), (10 * SLICE, change)):
            world.turns.done[:] = [0]
            write(tmp_path, file(number, more))
            assert not (await world.reloader.reload()).problems
            assert sum(world.turns.done) >= 10 * SLICE
            # Those that are told to end may end while others are told.
            assert max(world.turns.done) <= 2 * SLICE
            assert len(world.parts.sessions) == number
        group.cancel_scope.cancel()


async def test_a_file_that_is_emptied_first_and_then_written_takes_nothing_away(tmp_path: Path) -> None:
    world = await began(tmp_path, ONE.format(20, "false"))
    async with running(world):
        write(tmp_path, "")
        for report in (await world.reloader.plan(), await world.reloader.reload()):
            assert "neither a source nor a connection" in report.problems[0]
        assert "acme" in world.parts.connections
        assert "acme" in world.parts.sessions
        write(tmp_path, ONE.format(30, "false"))
        assert not (await world.reloader.reload()).problems


async def test_what_is_written_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await began(tmp_path, ONE.format(20, "false"))
    writes = iter(["connections: {acme: {}}", ONE.format(25, "false")])
    reading = world.reloader._files._read

    def disturbed() -> Loaded:
        if text := next(writes, ""):
            write(tmp_path, text)
        return reading()

    monkeypatch.setattr(world.reloader._files, "_read", disturbed)
    async with running(world):
        assert not (await world.reloader.reload()).problems
        assert world.configuration.keep_alive == 25_000


async def test_files_that_never_rest_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = await began(tmp_path, ONE.format(20, "false"))
    monkeypatch.setattr("mqttbridge.files.PAUSE", 0.001)
    keep_alive = itertools.count(30)
    reading = world.reloader._files._read

    def disturbed() -> Loaded:
        write(tmp_path, ONE.format(next(keep_alive), "false"))
        return reading()

    monkeypatch.setattr(world.reloader._files, "_read", disturbed)
    async with running(world):
        assert "being written" in (await world.reloader.reload()).problems[0]
        assert world.configuration.keep_alive == 20_000


async def test_secrets_that_came_and_went_are_known_no_more_and_those_in_force_always_are(tmp_path: Path) -> None:
    redactor = Redactor()
    text = ONE.format(20, "false").replace("keepAlive: 20s", "username: u, password: swordfish-NUMBER")
    world = await began(tmp_path, text.replace("NUMBER", "0"))
    world.reloader._secrets._learn = redactor.add
    async with running(world):
        for number in range(1, 30):
            write(tmp_path, text.replace("NUMBER", str(number)))
            assert not (await world.reloader.reload()).problems
        size = len(redactor._whole)
        assert redactor.text("swordfish-1!") == "swordfish-1!"
        for number in range(30, 60):
            write(tmp_path, text.replace("NUMBER", str(number)))
            await world.reloader.plan()
            assert redactor.text(f"swordfish-{number}") == MASK
            assert redactor.text("swordfish-29") == MASK
        assert len(redactor._whole) < 2 * size
