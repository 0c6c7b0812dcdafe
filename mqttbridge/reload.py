"""The configuration in force, and how another one comes into force while the daemon runs.

Invariants:

1. A file with an error changes nothing: what runs goes on, and `problem` says why for health.
2. A part whose settings do not differ is not touched; what changes in place keeps its link.
3. What is stored stays stored: a connection that ends settles what is in flight, and its queue waits in the journal.
4. One reload at a time; whoever asks meanwhile gets one of his own behind it.

Order: accounts first (nothing may be routed to what the journal does not know), then the settings for whatever looks
them up, in one step of the loop; then ends what ends, and begins what begins.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import msgspec

from mqttbridge.control.plan import PlanReport, compare, new_topics
from mqttbridge.crew import SLICE
from mqttbridge.errors import ConfigError, HistoryFailed, JournalError
from mqttbridge.files import ConfigFiles, Secrets
from mqttbridge.observe.log import get_logger
from mqttbridge.renewal import Renewal
from mqttbridge.routing import Router
from mqttbridge.settings.advice import advice
from mqttbridge.settings.diff import Action, diff, in_force, renewed
from mqttbridge.telling import Telling

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from mqttbridge.clock import Clock
    from mqttbridge.files import Learn
    from mqttbridge.history.records import Passed
    from mqttbridge.model import Device
    from mqttbridge.observe.metrics import Metrics
    from mqttbridge.observe.notify import Notifier
    from mqttbridge.parts import Parts
    from mqttbridge.settings.diff import Diff
    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Settings
    from mqttbridge.vitals import Stores

__all__ = ["HISTORY_SHARE", "Reloader"]

log = get_logger()

LOOK_EVERY = 1.0
"""Seconds between two looks at the files; a change counts once two of them in a row agree."""
LAST = 10
"""Uplinks that are looked at for examples of topics,"""
MAX_SHOWN = 50
"""of so many connections."""
PAGE = 1000
MAX_DEVICES = 65_536
"""Devices that a plan compares."""
HISTORY_SHARE = 4
"""The history may take this part of journal.maxSize."""
GATHER = 0.05
"""Seconds: signals that come together are one."""
EMPTIED = (
    "there is neither a source nor a connection in it any more, as in a file that is only being written; to run with "
    "nothing, restart the daemon"
)
RETRY = 30.0
"""Seconds after which files that changed are taken up again, when it was the disk that kept them from it."""


class _Fresh(msgspec.Struct, frozen=True, gc=False):
    """The file as it stands, and what follows from it: all that takes long, made in a thread."""

    loaded: Loaded
    difference: Diff
    warnings: tuple[str, ...]
    router: Router


class Reloader:
    """Implements `control.plan.Reloading`. `run` it as a task for signals, watched files and renewed certificates."""

    def __init__(
        self,
        loaded: Loaded,
        parts: Parts,
        stores: Stores,
        *,
        read: Callable[[], Loaded],
        metrics: Metrics,
        notifier: Notifier,
        learn_secrets: Learn,
        clock: Clock,
    ) -> None:
        """Begin with what was loaded at the start. `read` loads the file as it stands, and blocks.

        `learn_secrets(*values)` is told every secret of a configuration before anything of it is used; what it gives
        is called when they are neither in force nor fresh.
        """
        self.loaded = loaded
        """The configuration in force."""
        self.problem = ""
        """Why the file as it stands is not in force: a sentence, empty while it is."""
        self.renewal = Renewal(clock)
        self.on_applied: Callable[[Settings], object] = lambda _: None
        """Called in the loop after another configuration has come into force, with the one before."""
        self._parts = parts
        self._stores = stores
        self._files = ConfigFiles(read, loaded.files)
        self._metrics = metrics
        self._notifier = notifier
        self._secrets = Secrets(learn_secrets)
        self._retry_at: float | None = None
        self._asked = anyio.Event()
        self._one = anyio.Lock()
        self._closed = False
        self._telling = Telling((*loaded.warnings, *advice(loaded.settings)))
        self._clock = clock
        metrics.reloaded(ok=True, at=clock.now())

    def ask(self) -> None:
        """Ask for a reload soon. From a signal's task; several that come together are one."""
        self._asked.set()

    async def close(self) -> None:
        """Take no more reloads; wait for the one under way."""
        self._closed = True
        async with self._one:
            pass

    # -- what control/plan.py asks for ----------------------------------------------------------------------------

    async def plan(self) -> PlanReport:
        """Tell what a reload would do with the file as it stands."""
        try:
            fresh = await self._load()
        except ConfigError as error:
            return PlanReport(problems=error.problems)
        return await self._report(fresh, applied=False)

    async def reload(self) -> PlanReport:
        """Put the file as it stands in force, and tell what that did; with an error in it, nothing is done."""
        return await self._one_reload(quiet=False)

    async def restart(self, connection: str) -> bool:
        """End the session of a connection and begin another, behind any reload; False: it has none."""
        async with self._one:
            return not self._closed and await self._parts.restart_session(connection)

    async def _one_reload(self, *, quiet: bool) -> PlanReport:
        """Reload when it is one's turn. `quiet`: that nothing changed is not worth a line."""
        report = PlanReport()
        async with self._one:
            # Whoever asked may go away: what was begun is brought to its end.
            with anyio.CancelScope(shield=True):
                report = await self._reload(quiet=quiet)
        return report

    async def _reload(self, *, quiet: bool) -> PlanReport:
        self._notifier.reloading()
        try:
            return await self._take_up(quiet=quiet)
        except ConfigError as error:
            self.renewal.right()  # whatever is wrong with the files, this tells it
            return self._refused(error.problems)
        except JournalError as error:
            self._retry_at = self._clock.monotonic() + RETRY
            return self._refused((f"the configuration was not taken up: {error}",))
        except Exception as error:  # a bug here must not end the daemon
            log.exception("config.crashed")
            return self._refused((f"internal error ({type(error).__name__}); please report it",))
        finally:
            self._notifier.ready()

    async def _take_up(self, *, quiet: bool) -> PlanReport:
        if self._closed:
            raise ConfigError(["the daemon is ending: nothing is taken up any more"])
        self._retry_at = None
        fresh = await self._load()
        report = await self._report(fresh, applied=True)
        if fresh.difference.empty:
            self.loaded = fresh.loaded
            if not quiet:
                log.info("config.unchanged")
        else:
            await self._apply(fresh)
        self._secrets.hold(self.loaded.secrets)
        self._well()
        return report

    def _well(self) -> None:
        """Take note that the file as it stands is in force."""
        self.problem = ""
        self.renewal.right()
        self._metrics.reloaded(ok=True, at=self._clock.now())

    def _refused(self, problems: Iterable[str]) -> PlanReport:
        lines = tuple(problems)
        for line in lines:
            log.error("config.rejected", reason=line)
        more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
        self.problem = f"the file as it stands is not in force: {lines[0]}{more}"
        self._metrics.reloaded(ok=False, at=self._clock.now())
        return PlanReport(problems=lines)

    async def _load(self) -> _Fresh:
        """Read the file as it stands, and find what differs. Raises `ConfigError`."""
        loaded = await self._files.load()
        return await anyio.to_thread.run_sync(self._compared, loaded)

    def _compared(self, fresh: Loaded) -> _Fresh:
        """Find what differs, and make what follows from it. Blocks. Raises `ConfigError`."""
        # Before anything of it is used.
        self._secrets.learn(fresh.secrets)
        old, new = self.loaded.settings, fresh.settings
        if (old.sources or old.connections) and not (new.sources or new.connections):
            raise ConfigError([f"{fresh.path}: {EMPTIED}"])
        return _Fresh(fresh, diff(old, new), (*fresh.warnings, *advice(new)), Router(new.flows, new.connections))

    async def _report(self, fresh: _Fresh, *, applied: bool) -> PlanReport:
        """Put a difference into words, with the last uplinks of connections whose topics change."""
        old, new, difference = self.loaded.settings, fresh.loaded.settings, fresh.difference
        uplinks: dict[str, list[Passed]] = {}
        # Examples are a courtesy: a history that cannot be read, which it says itself, keeps no reload from its work.
        with contextlib.suppress(HistoryFailed):
            for id_ in new_topics(difference, old, new)[:MAX_SHOWN]:
                uplinks[id_] = await self._stores.history.latest(id_, LAST)
        devices = [] if difference.empty else await self._devices()
        queued = {name: counts.queued for name, counts in self._stores.journal.counts().items()}
        warnings = fresh.warnings
        return await compare(
            difference, old, new, uplinks=uplinks, devices=devices, queued=queued, warnings=warnings, applied=applied
        )

    async def _devices(self) -> list[Device]:
        """Give what was learnt of devices: the first so many, by DevEUI."""
        found: list[Device] = []
        with contextlib.suppress(JournalError):
            while len(found) < MAX_DEVICES:
                page = await self._stores.downlinks.devices(found[-1].dev_eui if found else "", PAGE)
                found += page
                if len(page) < PAGE:
                    break
        return found

    # -- applying -------------------------------------------------------------------------------------------------

    async def _apply(self, fresh: _Fresh, *, quiet: bool = False) -> None:
        """Put a configuration in force. `quiet`: no warnings. Raises `JournalError`: then nothing was changed."""
        began = self._clock.monotonic()
        before, difference = self.loaded.settings, fresh.difference
        settings = in_force(before, fresh.loaded.settings)
        await self._configure(settings)
        where = self.loaded.state_directory
        self.loaded = msgspec.structs.replace(fresh.loaded, settings=settings, state_directory=where)
        leaving = [one.id for one in difference.connections if one.action in (Action.STOP, Action.RESTART)]
        self._parts.take_over(settings, fresh.router)
        await self._parts.reconfigure(leaving)
        await self._exchange(difference, leaving)
        if not quiet:
            self._telling.warn(fresh.warnings)
        counts, seconds = self._stores.journal.counts(), self._clock.monotonic() - began
        await self._telling.tell(difference, configured=settings.connections, counts=counts, seconds=seconds)
        self.on_applied(before)

    async def _configure(self, settings: Settings) -> None:
        """Open the accounts of new connections, and change what the stores may keep. Raises `JournalError`."""
        stores, journal = self._stores, settings.journal
        await stores.journal.declare(settings.connections)
        if journal != self.loaded.settings.journal:
            await stores.journal.configure(max_size=journal.max_size, when_full=journal.when_full)
            stores.history.configure(retention=journal.retention, max_size=journal.max_size // HISTORY_SHARE)

    async def _exchange(self, difference: Diff, leaving: Collection[str]) -> None:
        """End what stops or restarts, all at once, and begin what starts or restarts."""
        parts, ends, begins = self._parts, (Action.STOP, Action.RESTART), (Action.START, Action.RESTART)
        # A source's way back is another with every change of the source.
        before = {one.id: parts.dispatchers.get(one.id) for one in difference.sources}
        async with anyio.create_task_group() as ending:
            ending.start_soon(parts.sources.remove, [one.id for one in difference.sources if one.action in ends])
            ending.start_soon(parts.remove_ways_back, list(before))
            ending.start_soon(self._exchange_sessions, difference, leaving)
        orphans = await self._orphans()
        for id_, dispatcher in before.items():
            if id_ in parts.configured or id_ in orphans:
                parts.add_way_back(id_, dispatcher)
        for one in difference.sources:
            if one.action in begins:
                parts.add_source(one.id)
            elif one.action is Action.CHANGE:
                parts.change_source(one.id)

    async def _exchange_sessions(self, difference: Diff, leaving: Collection[str]) -> None:
        """Begin and end sessions; one that restarts begins as soon as it has ended itself, however slow others are."""
        parts = self._parts

        async def exchange(id_: str, *, again: bool) -> None:
            await parts.sessions.remove([id_])
            if again:
                parts.add_session(id_)

        await parts.sessions.ask_to_end(leaving)
        async with anyio.create_task_group() as exchanging:
            for number, one in enumerate(difference.connections, 1):
                if one.action is Action.START:
                    parts.add_session(one.id)
                elif one.action is not Action.CHANGE:
                    exchanging.start_soon(functools.partial(exchange, one.id, again=one.action is Action.RESTART))
                if number % SLICE == 0:
                    await anyio.lowlevel.checkpoint()

    async def _orphans(self) -> list[str]:
        """Give the sources that downlinks wait for, configured or not."""
        try:
            return await self._stores.downlinks.sources()
        except JournalError:
            # It says so itself. What waits for a source that is gone is told so after the next start.
            return []

    # -- files and signals ----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take up what is asked for, and what changes on disk, until cancelled."""
        while True:
            with anyio.move_on_after(LOOK_EVERY):
                await self._asked.wait()
            if self._asked.is_set():
                await anyio.sleep(GATHER)
                self._asked = anyio.Event()
                await self.reload()
                continue
            if self._retry_at is not None and self._clock.monotonic() >= self._retry_at:
                # Whatever did not come into force for the disk's sake is a change still.
                self._retry_at = None
                self._files.forget()
            self.renewal.look()
            if files := await self._files.changed():
                await self._changed(files)

    async def _changed(self, files: set[Path]) -> None:
        """Take up files that changed: all of it if they are watched, else renewed certificates alone."""
        if self.loaded.settings.watch:
            await self._one_reload(quiet=True)
        elif files.isdisjoint(self.loaded.certificate_files) and not self.renewal.wrong:
            self._files.pass_by()
        else:
            async with self._one:
                await self._renew()

    async def _renew(self) -> None:
        """Take up certificates and keys that were renewed on disk."""
        if self._closed:
            return
        try:
            await self._take_up_renewed()
        except ConfigError as error:
            self.renewal.refused(error.problems)  # one of two files, as yet, or an edit that is not done
        except JournalError:
            self._retry_at = self._clock.monotonic() + RETRY  # the journal itself tells of its disk
        except Exception:  # a bug here must not end the daemon
            log.exception("config.crashed")

    async def _take_up_renewed(self) -> None:
        read = await self._files.load()
        settings = renewed(self.loaded.settings, read.settings)
        secrets = (*self.loaded.secrets, *read.secrets)
        renewal = msgspec.structs.replace(self.loaded, settings=settings, secrets=secrets)
        fresh = await anyio.to_thread.run_sync(self._compared, renewal)
        self.renewal.right()
        if not fresh.difference.empty:
            # What was warned of is no news, and may be of the certificate before; `certificate.expiring` tells of this.
            whole = msgspec.structs.replace(self.loaded, settings=settings)
            await self._apply(msgspec.structs.replace(fresh, loaded=whole), quiet=True)
            self._secrets.hold(secrets)
        for one in (*fresh.difference.connections, *fresh.difference.sources):
            log.info("config.renewed", **{one.part: one.id})
        if self.problem and self.loaded.settings == read.settings:
            self._well()  # all that the file lacked was a certificate that fits
