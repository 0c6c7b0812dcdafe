"""The log: its format, its levels, what libraries say in it, and that it never hurts who logs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import re
import subprocess
import sys
import textwrap
import threading
import timeit
import traceback
import warnings
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import structlog

from mqttbridge.observe.log import Redactor, configure, get_logger, install_excepthook, keep
from mqttbridge.settings.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


log = get_logger()


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give the process its logging back."""
    root = logging.getLogger()
    handlers, level, raising = list(root.handlers), root.level, logging.raiseExceptions
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raising
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    configure(io.StringIO(), redactor=Redactor())
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[io.TextIOWrapper]:
    """Give a file to log to."""
    with (tmp_path / "log").open("w", encoding="utf-8") as file:
        yield file


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def logged(level: str = "info", *secrets: str) -> io.StringIO:
    """Configure JSON lines into the stream that is returned."""
    stream = io.StringIO()
    redactor = Redactor()
    redactor.add(*secrets)
    configure(stream, level=level, redactor=redactor)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Read the JSON lines."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_stream_that_is_no_terminal_gets_one_json_object_a_line() -> None:
    stream = logged()
    before = datetime.now(UTC)
    log.info("connection.opened", connection="acme", attempts=3, text="two\nlines ü")
    (line,) = lines(stream)
    stamp = line.pop("timestamp")
    assert line == {
        "event": "connection.opened",
        "level": "info",
        "connection": "acme",
        "attempts": 3,
        "text": "two\nlines ü",
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", stamp)
    assert abs((datetime.fromisoformat(stamp) - before).total_seconds()) < 5


def test_a_terminal_gets_readable_lines_in_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    stream = Terminal()
    configure(stream, redactor=Redactor())
    log.warning("connection.failed", connection="acme")
    assert "\x1b[" in stream.getvalue()
    assert "connection.failed" in stream.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    stream = Terminal()
    configure(stream, redactor=Redactor())
    log.warning("connection.failed", connection="acme")
    assert "\x1b" not in stream.getvalue()
    assert "connection=acme" in stream.getvalue()


def test_the_format_can_be_chosen_and_a_pipe_never_gets_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    readable, terminal = io.StringIO(), Terminal()
    configure(readable, json=False, redactor=Redactor())
    log.info("daemon.started")
    configure(terminal, json=True, redactor=Redactor())
    log.info("daemon.started")
    assert "\x1b" not in readable.getvalue()
    assert "[info" in readable.getvalue()
    assert json.loads(terminal.getvalue())["event"] == "daemon.started"


def test_a_foreign_text_cannot_steer_the_terminal_or_forge_a_line() -> None:
    stream = io.StringIO()
    configure(stream, json=False, redactor=Redactor())
    log.info("uplink.parked", topic="a\x1b[2Jb\nforged line\r\x9b", **{"key\x1b": 1})
    assert stream.getvalue().count("\n") == 1
    assert not set("\x1b\x9b\r") & set(stream.getvalue())


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_only_events_from_the_level_on_are_written(level: str) -> None:
    stream = logged(level)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(log, name)("some.event")
    order = ["debug", "info", "warning", "error", "critical"]
    assert [line["level"] for line in lines(stream)] == order[order.index(level) :]


def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(ValueError, match="'loud' is none of debug, info, warning, error"):
        configure(io.StringIO(), level="loud", redactor=Redactor())


def test_a_logger_taken_before_follows_each_configuration() -> None:
    early = get_logger()
    first = logged()
    early.info("one.event")
    second = logged("error")
    early.info("two.event")
    early.error("three.event")
    assert [line["event"] for line in lines(first)] == ["one.event"]
    assert [line["event"] for line in lines(second)] == ["three.event"]


def test_secrets_are_masked_and_our_own_names_stay_readable() -> None:
    stream = logged("info", "swordfish", "connection", "uplink.parked", "info", "timestamp")
    log.info("uplink.parked", connection="connection", reason="the swordfish", swordfish=Secret("other"))
    (line,) = lines(stream)
    assert {**line, "timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "uplink.parked",
        "connection": "*****",
        "reason": "the *****",
        "*****": "*****",
    }


def crash() -> None:
    """Raise with a secret in the message and in the source line."""
    raise ConnectionError("login swordfish failed")


def test_an_exception_is_one_sentence_at_info() -> None:
    stream = logged("info", "swordfish")
    try:
        crash()
    except ConnectionError as error:
        log.exception("connection.failed")
        log.warning("connection.failed", exc_info=error)
    for line in lines(stream):
        assert line["error"] == "ConnectionError: login ***** failed"
        assert "exception" not in line
    assert "Traceback" not in stream.getvalue()


def test_an_exception_comes_with_its_traceback_at_debug_without_the_secret() -> None:
    stream = logged("debug", "swordfish")
    try:
        crash()
    except ConnectionError:
        log.exception("connection.failed")
    (line,) = lines(stream)
    assert line["exception"].startswith("Traceback (most recent call last)")
    assert "in crash" in line["exception"]
    assert "swordfish" not in stream.getvalue()


def test_a_traceback_keeps_its_lines_on_a_terminal() -> None:
    stream = io.StringIO()
    configure(stream, json=False, level="debug", redactor=Redactor())
    try:
        crash()
    except ConnectionError:
        log.exception("connection.failed")
    assert "\nTraceback (most recent call last)" in stream.getvalue()


def test_exc_info_without_an_exception_adds_nothing() -> None:
    stream = logged("debug")
    for nothing in (None, False, True, (None, None, None), (), "odd"):
        log.info("some.event", exc_info=nothing)
    assert [set(line) for line in lines(stream)] == [{"timestamp", "level", "event"}] * 6


def test_libraries_are_heard_from_warning_on_whatever_our_level() -> None:
    stream = logged("debug", "swordfish")
    library = logging.getLogger("paho.mqtt.client")
    library.debug("never")
    library.info("never")
    library.warning("password %s", "swordfish")
    library.critical("worse")
    library.log(35, "between")
    assert [(line["level"], line["event"], line["logger"], line["message"]) for line in lines(stream)] == [
        ("warning", "library.message", "paho.mqtt.client", "password *****"),
        ("critical", "library.message", "paho.mqtt.client", "worse"),
        ("warning", "library.message", "paho.mqtt.client", "between"),
    ]


def test_a_library_with_a_wrong_format_string_is_heard_all_the_same() -> None:
    stream = logged()
    logging.getLogger("amqtt").error("%d uplinks", "many")
    assert lines(stream)[0]["message"] == "%d uplinks"


def test_a_library_that_would_print_by_itself_is_silenced(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    root.addHandler(logging.StreamHandler(sys.stderr))
    uvicorn = logging.getLogger("uvicorn.error")
    uvicorn.addHandler(logging.StreamHandler(sys.stderr))
    stream = logged()
    uvicorn.error("bind failed")
    logging.getLogger("mqtt").error("boom")
    assert [line["message"] for line in lines(stream)] == ["bind failed", "boom"]
    assert capsys.readouterr().err == ""


def test_configuring_twice_does_not_say_things_twice() -> None:
    logged()
    stream = logged()
    logging.getLogger("mqtt").error("once")
    assert len(lines(stream)) == 1


def test_python_warnings_are_events() -> None:
    stream = logged("info", "swordfish")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)
        warnings.warn("old swordfish", ResourceWarning, stacklevel=1)
    (line,) = lines(stream)
    assert (line["event"], line["logger"]) == ("library.message", "py.warnings")
    assert "ResourceWarning" in line["message"]
    assert "swordfish" not in stream.getvalue()


def test_what_a_forgotten_task_raised_is_an_event() -> None:
    stream = logged("info", "swordfish")

    async def forgotten() -> None:
        crash()

    async def main() -> None:
        task = asyncio.create_task(forgotten())
        await asyncio.wait([task])
        del task
        gc.collect()

    asyncio.run(main())
    (line,) = lines(stream)
    assert line["event"] == "library.message"
    assert line["logger"] == "asyncio"
    assert line["error"] == "ConnectionError: login ***** failed"
    assert "swordfish" not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()


class Hostile:
    """Raises at every turn."""

    def __repr__(self) -> str:
        """Misbehave."""
        raise RecursionError

    def __str__(self) -> str:
        """Misbehave."""
        raise ValueError("no")

    def __eq__(self, other: object) -> bool:
        """Misbehave."""
        raise ValueError("no")

    def __hash__(self) -> int:
        """Misbehave."""
        return 1


class HostileError(Exception):
    """An exception that cannot be shown."""

    def __str__(self) -> str:
        """Misbehave."""
        raise ValueError("no")


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize("level", ["info", "debug"])
def test_odd_values_never_raise_into_the_code_that_logs(level: str, *, as_json: bool) -> None:
    stream = io.StringIO()
    configure(stream, json=as_json, level=level, redactor=Redactor())
    cycle: list[object] = []
    cycle.append(cycle)
    odd: list[object] = [Hostile(), cycle, b"\xff", "\udcff", 10**400, {Hostile(): Hostile()}, HostileError(), object]
    for value in odd:
        log.error("some.event", value=value, exc_info=value if isinstance(value, BaseException) else None)
        log.error(value)  # type: ignore[arg-type]
    log.error("some.event", level="mine", timestamp="mine", exc_info=HostileError())
    written = stream.getvalue()
    assert len(written.splitlines()) >= 2 * len(odd) + 1
    if as_json:
        last = lines(stream)[-1]
        assert last["level"] == "error"
        assert last["timestamp"] != "mine"


class Failing(io.StringIO):
    """A stream that fails in one way."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def write(self, _text: str) -> int:
        """Fail."""
        raise self.error


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left"), ValueError("closed"), BlockingIOError()]
)
def test_a_stream_that_fails_never_hurts_the_daemon(error: Exception) -> None:
    configure(Failing(error), redactor=Redactor())
    log.error("some.event")
    logging.getLogger("mqtt").error("boom")


def test_a_closed_pipe_and_a_closed_file_are_survived(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    pipe = os.fdopen(writer, "w", encoding="utf-8")
    configure(pipe, redactor=Redactor())
    for _ in range(1000):
        log.error("some.event", text="x" * 1000)
    with contextlib.suppress(BrokenPipeError):
        pipe.close()
    log.error("some.event")
    with (tmp_path / "log").open("w") as file:
        configure(file, redactor=Redactor())
    log.error("some.event")


@pytest.mark.parametrize("as_json", [True, False])
def test_a_stream_of_another_encoding_gets_ascii(*, as_json: bool) -> None:
    raw = io.BytesIO()
    configure(io.TextIOWrapper(raw, encoding="ascii"), json=as_json, redactor=Redactor())
    log.info("some.event", name="Zoë 🚜")
    text = raw.getvalue().decode("ascii")
    if as_json:
        assert json.loads(text)["name"] == "Zoë 🚜"
    else:
        assert "Zo\\xeb" in text


def test_lines_of_threads_do_not_mix() -> None:
    stream = logged()

    def work(number: int) -> None:
        for _ in range(200):
            log.info("some.event", number=number, text="x" * 100)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(lines(stream)) == 800


def test_a_call_below_the_level_costs_less_than_a_microsecond() -> None:
    logged()
    own = get_logger()
    # Many short rounds, and the best of them: the machine may be busy with other things.
    rounds = 500
    best = min(timeit.repeat(lambda: own.debug("uplink.delivered", connection="acme"), number=rounds, repeat=500))
    assert best / rounds < 1e-6


def told_by_a_program(tmp_path: Path, level: str, body: str) -> str:
    """Run a program that fails, and give what it said on stderr."""
    program = tmp_path / "program.py"
    program.write_text(
        "import io, sys, threading\n"
        "from mqttbridge.observe.log import Redactor, configure, install_excepthook\n"
        "redactor = Redactor()\nredactor.add('swordfish')\n"
        f"configure(io.StringIO(), level={level!r}, redactor=redactor)\ninstall_excepthook(redactor)\n"
        + textwrap.dedent(body),
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=30, env=environment, check=False
    )
    return done.stderr


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ("raise RuntimeError('the swordfish is off')", ""),
        (
            """
            def work():
                raise RuntimeError('the swordfish is off')
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            """,
            " in a thread",
        ),
        (
            "class Odd:\n    def __del__(self): raise RuntimeError('the swordfish is off')\nodd = Odd()\ndel odd",
            " while cleaning up",
        ),
    ],
    ids=["main", "thread", "finaliser"],
)
def test_what_nobody_caught_is_one_sentence(tmp_path: Path, body: str, where: str) -> None:
    sentence = f"mqttbridge: internal error{where}: RuntimeError: the ***** is off\n"
    assert told_by_a_program(tmp_path, "info", body) == sentence
    debug = told_by_a_program(tmp_path, "debug", body)
    assert debug.startswith(sentence + "Traceback (most recent call last)")
    assert "swordfish" not in debug


def test_ctrl_c_is_not_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    install_excepthook(Redactor())
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    assert capsys.readouterr().err == ""


def test_the_hook_survives_an_exception_that_cannot_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    install_excepthook(Redactor())
    error = HostileError()
    sys.excepthook(HostileError, error, None)
    assert capsys.readouterr().err == "mqttbridge: internal error: HostileError: (its message cannot be shown)\n"
    assert traceback.format_exception(error)


async def test_logging_in_the_event_loop_is_not_taken_for_a_blocking_call(log_file: io.TextIOWrapper) -> None:
    for stream in (log_file, sys.stderr, io.StringIO()):
        configure(stream, level="debug", redactor=Redactor())
        try:
            crash()
        except ConnectionError:
            log.exception("connection.failed")
        log.info("connection.opened")
    assert log_file.tell() > 500


class Keeper:
    """Keeps events."""

    def __init__(self) -> None:
        self.kept: list[tuple[int, str, str, dict[str, object]]] = []

    def __call__(self, at: int, level: str, name: str, fields: dict[str, object]) -> None:
        """Keep one."""
        self.kept.append((at, level, name, fields))

    def names(self) -> list[str]:
        """Give what was kept."""
        return [name for _, _, name, _ in self.kept]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """Have events kept."""
    one = Keeper()
    keep(one)
    yield one
    keep(None)


def test_an_event_is_kept_as_it_is_written(keeper: Keeper) -> None:
    stream = logged("info", "swordfish")
    log.warning("connection.lost", connection="acme", reason="swordfish is wrong", retry_in=5)
    (line,) = lines(stream)
    ((at, level, name, fields),) = keeper.kept
    assert (level, name) == ("warning", "connection.lost")
    assert fields == {"connection": "acme", "reason": "***** is wrong", "retry_in": 5}
    assert datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds")[:-6] + "Z" == line["timestamp"]
    assert "at_ms" not in line


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_level_of_the_log_decides_on_what_is_written_alone(level: str, keeper: Keeper) -> None:
    stream = logged(level)
    fresh = get_logger()
    fresh.debug("uplink.accepted")
    fresh.info("connection.opened")
    fresh.warning("connection.lost")
    fresh.error("journal.failed")
    assert keeper.names() == ["connection.opened", "connection.lost", "journal.failed"]
    written = ["uplink.accepted", "connection.opened", "connection.lost", "journal.failed"]
    assert [line["event"] for line in lines(stream)] == written[("debug", "info", "warning", "error").index(level) :]


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_a_line_per_uplink_and_what_is_no_event_is_not_kept(level: str, keeper: Keeper) -> None:
    stream = logged(level)
    log.info("uplink.delivered", connection="acme")
    log.info("uplink.published", connection="acme")
    log.info("some.event")
    log.error(["connection.lost"])  # type: ignore[arg-type]
    assert keeper.kept == []
    assert len(lines(stream)) == (1 if level == "warning" else 4)


def test_a_library_and_an_exception_are_kept_without_a_traceback(keeper: Keeper) -> None:
    logged("debug")
    logging.getLogger("mqtt").critical("boom")
    try:
        raise ConnectionError("gone")  # noqa: TRY301 (a traceback is wanted)
    except ConnectionError:
        log.exception("session.crashed", connection="acme")
    (_, first, _, _), (_, second, _, fields) = keeper.kept
    assert (first, second) == ("error", "error")
    assert fields == {"connection": "acme", "error": "ConnectionError: gone"}


@pytest.mark.parametrize("level", ["info", "error"])
def test_a_keeper_that_fails_or_logs_hurts_nobody(level: str) -> None:
    stream = logged(level)
    calls = 0

    def bad(_at: int, _level: str, _name: str, _fields: dict[str, object]) -> None:
        nonlocal calls
        calls += 1
        log.error("journal.failed", reason="within")
        raise RuntimeError("the keeper is broken")

    keep(bad)
    try:
        log.error("connection.closed")
        log.error("connection.closed")
    finally:
        keep(None)
    log.error("connection.closed")
    assert calls == 2
    assert [line["event"] for line in lines(stream)] == [
        *("journal.failed", "connection.closed") * 2,
        "connection.closed",
    ]


def test_events_of_threads_are_kept_each_by_itself(keeper: Keeper) -> None:
    logged("error")
    threads = [threading.Thread(target=lambda: [log.info("config.unchanged") for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert keeper.names() == ["config.unchanged"] * 400


def test_what_is_neither_written_nor_kept_costs_little() -> None:
    logged("warning")
    own = get_logger()
    keep(Keeper())
    try:
        best = min(timeit.repeat(lambda: own.info("uplink.delivered", connection="acme"), number=200, repeat=100))
    finally:
        keep(None)
    assert best / 200 < 10e-6
