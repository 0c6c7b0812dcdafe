"""Logging: structlog, one pipeline for our events and for what libraries say, with every secret masked.

`configure` is called once by the command line, before anything is logged; everyone else calls `get_logger()` at
module level and logs events by the names in `observe/events.py`: `log.info("connection.opened", connection=id)`.
The daemon has events kept by `keep`, those too that its level does not write.

Must never: raise into the code that logs, show a secret, print a traceback unless the level is debug.
Format: readable lines on a terminal, otherwise one JSON object a line.
"""

from __future__ import annotations

import codecs
import json as stdlib_json
import logging
import os
import sys
import threading
import time
import traceback
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec
import structlog

from mqttbridge.observe.redact import Redactor, describe

if TYPE_CHECKING:
    from collections.abc import Callable, MutableMapping
    from types import TracebackType

    from structlog.typing import FilteringBoundLogger, Processor

    Keeper = Callable[[int, str, str, dict[str, object]], None]
    """Gets the time (ms), the level, the name and the fields of an event."""

__all__ = ["Redactor", "configure", "get_logger", "install_excepthook", "keep"]

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
FIELDS = frozenset({"event", "connection", "source", "dev_eui", "fcnt", "topic", "reason", "logger", "error"})
"""Names that are ours: left as they are even if somebody's password is `topic`."""
FRAMES = 50
CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))} | {10: "\\n", 13: "\\r", 9: "\\t"}

NOT_KEPT = frozenset({"event", "level", "timestamp", "exception"})
"""A traceback is for the log alone."""

_loggers: weakref.WeakSet[Any] = weakref.WeakSet()
_state = {"debug": False}


class _Keeping(threading.local):
    """Whether this thread is in the keeper right now: what that logs is written, and not handed to it again."""

    busy = False


class _Kept:
    """Who keeps events."""

    keeper: Keeper | None = None


_keeping = _Keeping()


def get_logger() -> FilteringBoundLogger:
    """Give a logger. It may be taken before `configure`, and follows each later one."""
    logger = structlog.get_logger()
    _loggers.add(logger)
    return cast("FilteringBoundLogger", logger)


def configure(stream: TextIO, *, json: bool | None = None, level: str = "info", redactor: Redactor) -> None:
    """Log to this stream from now on, from this level (debug, info, warning, error).

    `json`: True for JSON lines, False for readable ones, None for what fits the stream. Colour: only on a terminal,
    and not with NO_COLOR. Raises ValueError for another level.
    """
    if level not in LEVELS:
        raise ValueError(f"the log level {level!r} is none of {', '.join(LEVELS)}")
    terminal = _is_terminal(stream)
    as_json = not terminal if json is None else json
    debug = level == "debug"
    least = LEVELS[level]
    structlog.configure(
        processors=[
            _wanted(least),
            _exception_to_text(debug=debug),
            _redact(redactor),
            _keep(least),
            *_render(as_json=as_json, terminal=terminal),
        ],
        # Events from info on may be kept, even if they are not written.
        wrapper_class=structlog.make_filtering_bound_logger(min(least, logging.INFO)),
        logger_factory=_Writers(stream, as_json=as_json),
        cache_logger_on_first_use=True,
    )
    for logger in _loggers:
        # What a logger cached at its first use is from the configuration before.
        logger.__dict__.pop("bind", None)
    _state["debug"] = debug
    _route_library_logs()


def keep(keeper: Keeper | None) -> None:
    """Have each event of the table handed to this from now on, without a secret; None: to nobody.

    From level info on, whatever the level of the log, but for lines per uplink (events that the table has at debug).
    It is called in the thread that logs. What it raises is nobody's business, and what it logs is not handed to it.
    """
    _Kept.keeper = keeper


def install_excepthook(redactor: Redactor) -> None:
    """Have what nobody caught, in any thread, told in one sentence on stderr; with a traceback only at debug."""

    def tell(where: str, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is None or isinstance(error, (KeyboardInterrupt, SystemExit)):
            return
        text = f"mqttbridge: internal error{where}: {describe(error)}"
        if _state["debug"]:
            text += "\n" + "".join(traceback.format_exception(type(error), error, trace))
        writer = _Writer(sys.stderr, as_json=False)
        writer.msg(redactor.text(text).rstrip())

    sys.excepthook = lambda _kind, error, trace: tell("", error, trace)
    threading.excepthook = lambda args: tell(" in a thread", args.exc_value, args.exc_traceback)
    sys.unraisablehook = lambda args: tell(" while cleaning up", args.exc_value, args.exc_traceback)


class _Writer:
    """Writes lines. A stream that fails loses lines, and never hurts the program."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._stream = stream
        self._as_json = as_json
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        """Write one line."""
        try:
            if not line.isascii() and not _is_utf8(self._stream):
                line = self._to_ascii(line)
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            # A closed pipe, a full disk, a closed file: there is nowhere to say so.
            return

    def _to_ascii(self, line: str) -> str:
        if self._as_json:
            return stdlib_json.dumps(stdlib_json.loads(line))
        return line.encode("ascii", "backslashreplace").decode("ascii")

    log = debug = info = warning = error = critical = msg


class _Writers:
    """What structlog asks for a writer; all loggers share one."""

    def __init__(self, stream: TextIO, *, as_json: bool) -> None:
        self._writer = _Writer(stream, as_json=as_json)

    def __call__(self, *_: object) -> _Writer:
        return self._writer


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _is_utf8(stream: TextIO) -> bool:
    encoding = getattr(stream, "encoding", None)
    try:
        return encoding is None or codecs.lookup(encoding).name == "utf-8"
    except LookupError:
        return False


def _is_kept(method: str, name: object) -> bool:
    """Tell whether a line is an event that is kept, and somebody keeps it."""
    from mqttbridge.observe.events import EVENTS

    if _Kept.keeper is None or _keeping.busy or method == "debug" or type(name) is not str:
        return False
    event = EVENTS.get(name)
    return event is not None and event.level != "debug"


def _wanted(least: int) -> Processor:
    """End here what is neither written nor kept, before anything is spent on it."""

    def process(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if LEVELS.get(method, logging.CRITICAL) < least and not _is_kept(method, event.get("event")):
            raise structlog.DropEvent
        return event

    return process


def _keep(least: int) -> Processor:
    """Hand over what is kept, and end here what is not written besides."""

    def process(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        at = event.pop("at_ms")
        name = event["event"]
        if _is_kept(method, name):
            level = method if method in LEVELS else "error"
            _hand_over(at, level, name, {key: value for key, value in event.items() if key not in NOT_KEPT})
        if LEVELS.get(method, logging.CRITICAL) < least:
            raise structlog.DropEvent
        return event

    return process


def _hand_over(at: int, level: str, name: str, fields: dict[str, object]) -> None:
    keeper = _Kept.keeper
    if keeper is None:
        return
    _keeping.busy = True
    try:
        keeper(at, level, name, fields)
    except Exception:  # noqa: BLE001 (keeping must never hurt who logs, and there is nowhere to say so)
        return
    finally:
        _keeping.busy = False


def _exception_to_text(*, debug: bool) -> Processor:
    """Turn `exc_info` into `error` (type and message) and, at debug alone, `exception` (the traceback)."""

    def process(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        given = event.pop("exc_info", None)
        if isinstance(given, tuple):
            given = given[1] if len(given) > 1 else None
        error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
        if error is not None:
            event.setdefault("error", describe(error))
            if debug:
                event["exception"] = _traceback(error)
        return event

    return process


def _traceback(error: BaseException) -> str:
    try:
        return "".join(traceback.format_exception(error, limit=-FRAMES)).rstrip()
    except Exception:  # noqa: BLE001 (a traceback prints foreign objects)
        return describe(error)


def _redact(redactor: Redactor) -> Processor:
    """Make plain data without a secret of it. Names of events and fields that are ours stay readable."""
    from mqttbridge.observe.events import EVENTS

    def process(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        name = event.get("event")
        plain: Any = redactor.plain(dict(event), keep=FIELDS)
        if not isinstance(plain, dict):
            plain = {"error": plain}
        if type(name) is str and name in EVENTS:
            plain["event"] = name
        at = time.time_ns() // 1_000_000
        now = datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        first = dict.fromkeys(("timestamp", "level", "event"))
        return {**first, **plain, "timestamp": now, "level": method, "at_ms": at}

    return process


def _render(*, as_json: bool, terminal: bool) -> list[Processor]:
    """Give the processors that make a line of the plain data."""
    if as_json:
        encoder = msgspec.json.Encoder()
        return [lambda _logger, _method, event: encoder.encode(event).decode()]
    colors = terminal and not os.environ.get("NO_COLOR")
    return [_escape_control, structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=28, sort_keys=False)]


def _escape_control(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keep a foreign text from moving the cursor or beginning a line of its own; a traceback keeps its lines."""
    shown: dict[str, Any] = {}
    for key, value in event.items():
        text = value
        if isinstance(value, str):
            lines = value.split("\n") if key == "exception" else [value]
            text = "\n".join(line.translate(CONTROL) for line in lines)
        shown[key.translate(CONTROL)] = text
    return shown


class _LibraryHandler(logging.Handler):
    """Takes what libraries log through the standard library into the one pipeline, as `library.message`."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._log = get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record as an event."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 (a wrong format string of a library)
            message = str(record.msg)
        level = max(number for number in (*LEVELS.values(), logging.CRITICAL) if number <= record.levelno)
        self._log.log(level, "library.message", logger=record.name, message=message, exc_info=record.exc_info)


def _route_library_logs() -> None:
    """Give the root logger our handler, in place of whatever would print by itself."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        # pytest's own are subclasses, and stay.
        if type(handler) in {_LibraryHandler, logging.StreamHandler}:
            root.removeHandler(handler)
    root.addHandler(_LibraryHandler())
    root.setLevel(logging.WARNING)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    logging.captureWarnings(capture=True)
    logging.raiseExceptions = False
