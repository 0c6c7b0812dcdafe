"""Edits of the configuration by the API: implements `api.seam.Editor` on top of the reload.

Invariants:

1. The file is the truth: an edit is a file written, then an ordinary reload, whose result is the answer. What the
   reload refuses is put back as it was.
2. Nothing is written that the loader would not take with all that stands beside it.
3. One edit at a time, each on what is on disk at that moment: people edit these files too.
4. Only files of `connections.d` and `flows.d` are touched; never the main file, nor what a link leads to.
5. What has begun to be written is brought to its end, even if the one who asked has gone.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.to_thread
import msgspec

from mqttbridge.api.seam import Edited, Kind, Problem, Refused
from mqttbridge.errors import ConfigError, WriteFailed
from mqttbridge.settings import writing
from mqttbridge.settings.advice import advice
from mqttbridge.settings.allowlist import allowed
from mqttbridge.settings.checks import IDENTITY, IDENTITY_RULE
from mqttbridge.settings.documents import document_of
from mqttbridge.settings.drafts import DraftError, draft, with_active
from mqttbridge.settings.loader import CONNECTIONS_DIRECTORY, FLOWS_DIRECTORY, Loaded, load
from mqttbridge.settings.problems import Problems, dotted, shown
from mqttbridge.settings.reader import etag
from mqttbridge.settings.schema import Connection, Flow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from mqttbridge.api.seam import Tested
    from mqttbridge.clock import Clock
    from mqttbridge.control.plan import PlanReport
    from mqttbridge.settings.problems import Problem as Found

__all__ = ["Editing", "Reloads", "slug"]

MAX_SLUG: Final = 56
"""Characters of an id made of a name; a number may follow."""
PLANS: Final = 2
"""How many documents that are tried out are checked at a time: each check reads the whole configuration, in a thread
that the others and the loop wait for."""
MAX_TRIES: Final = 10
"""How often an edit begins anew because somebody else wrote the file meanwhile."""
NO_LINES = re.compile(r"; the message on line \d+ lists those that are")
"""Whoever sent a document sees no lines."""
NOT_ALLOWED = "is not among the brokers that the API may connect to (api.brokerAllowlist)"
FIRST_FLOW = "this is the first flow: a connection that no flow names gets no uplinks from now on"


class _House(msgspec.Struct, frozen=True):
    """Where parts of a kind live."""

    section: str
    directory: str
    part: type[Connection | Flow]


HOUSES: Final[dict[Kind, _House]] = {
    "connection": _House("connections", CONNECTIONS_DIRECTORY, Connection),
    "flow": _House("flows", FLOWS_DIRECTORY, Flow),
}


class Reloads(Protocol):
    """What is needed of the reload."""

    @property
    def loaded(self) -> Loaded:
        """The configuration in force."""
        ...

    async def reload(self) -> PlanReport:
        """Put the file as it stands in force, or tell its problems."""
        ...


class _Edit(msgspec.Struct, frozen=True):
    """An edit that the loader would take: bytes in place of other bytes; None: no file."""

    kind: Kind
    id: str
    path: Path
    old: bytes | None
    new: bytes | None
    fresh: Loaded
    warnings: tuple[str, ...] = ()


class _Overtaken(Exception):
    """Somebody has written the file since it was read."""


class Editing:
    """Implements `api.seam.Editor`."""

    def __init__(
        self,
        reloader: Reloads,
        *,
        environ: Mapping[str, str],
        try_out: Callable[[str, Connection], Awaitable[Tested]],
        clock: Clock | None = None,
        seal: Callable[[str], str] = str,
    ) -> None:
        """Take the reload, the environment that references point into, and what tries a connection out.

        `seal`: makes of the tag of a file what may be shown of it.
        """
        self._reloader = reloader
        self._environ = environ
        self._try_out = try_out
        self._clock = clock
        self._seal = seal
        self._one = anyio.Lock()
        self._plans = anyio.CapacityLimiter(PLANS)

    async def create(self, kind: Kind, id_: str | None, document: Mapping[str, Any]) -> Edited:
        """Write a new file; without an id one is made of the name."""
        return await self._edit(lambda: self._created(kind, id_, document))

    async def replace(
        self, kind: Kind, id_: str, document: Mapping[str, Any], *, if_match: str | None = None
    ) -> Edited:
        """Write the whole document in place of what is there."""
        return await self._edit(lambda: self._replaced(kind, id_, document, if_match))

    async def activate(self, id_: str, *, active: bool) -> Edited:
        """Change `active` of a connection, and nothing else of its file."""
        return await self._edit(lambda: self._activated(id_, active=active))

    async def delete(self, kind: Kind, id_: str, *, if_match: str | None = None) -> None:
        """Remove its file."""
        await self._edit(lambda: self._deleted(kind, id_, if_match))

    async def try_out(self, id_: str | None, document: Mapping[str, Any]) -> Tested:
        """Check a document as `create` or `replace` would, then the broker; keep nothing."""

        def planned() -> _Edit:
            if id_ is None:
                return self._created("connection", None, document)
            return self._replaced("connection", id_, document, None)

        edit = await anyio.to_thread.run_sync(_told, planned, limiter=self._plans)
        tested = await self._try_out(edit.id, edit.fresh.settings.connections[edit.id])
        return msgspec.structs.replace(tested, warnings=(*edit.warnings, *tested.warnings))

    # -- one edit -------------------------------------------------------------------------------------------------

    async def _edit(self, plan: Callable[[], _Edit]) -> Edited:
        """Plan an edit on what is on disk, write it, and have it taken up."""
        async with self._one:
            for _ in range(MAX_TRIES):
                edit = await anyio.to_thread.run_sync(_told, plan)
                try:
                    with anyio.CancelScope(shield=True):
                        await self._take(edit)
                except _Overtaken:
                    continue
                return Edited(edit.id, "" if edit.new is None else self._seal(etag(edit.new)), edit.warnings)
        raise Refused(409, f"the file of {_named(edit.kind, edit.id)} is being written by somebody else; try again")

    async def _take(self, edit: _Edit) -> None:
        """Write, and reload. Raises `Refused`, with everything as it was, or `_Overtaken`, with nothing done."""
        try:
            await anyio.to_thread.run_sync(_write, edit)
        except WriteFailed as error:
            raise _unwritten(error, await self._put_back(edit)) from None
        try:
            report = await self._reloader.reload()
        except BaseException:
            await self._put_back(edit)
            raise
        if report.problems:
            left = await self._put_back(edit)
            raise await anyio.to_thread.run_sync(self._not_taken_up, edit, report.problems, left)

    @staticmethod
    async def _put_back(edit: _Edit) -> str:
        """Undo an edit on disk. Gives what is to be added if that fails."""
        try:
            await anyio.to_thread.run_sync(_undo, edit)
        except WriteFailed as error:
            return f"; and the file of before could not be put back: {error}"
        return ""

    def _not_taken_up(self, edit: _Edit, problems: tuple[str, ...], left: str) -> Refused:
        """Tell why the reload refused what had passed the check: another file is wrong since, or the disk fails."""
        try:
            load(edit.fresh.path, environ=self._environ, clock=self._clock, overlay={edit.path: edit.new})
        except ConfigError:
            return Refused(409, _elsewhere(problems) + left)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        return Refused(503, f"the edit was not taken up, and nothing was changed: {problems[0]}{more}{left}")

    # -- planning: all of this blocks, and changes nothing --------------------------------------------------------

    def _created(self, kind: Kind, id_: str | None, document: Mapping[str, Any]) -> _Edit:
        loaded = self._reloader.loaded
        if id_ is None:
            id_ = self._new_id(kind, document.get("name"), loaded)
        elif not IDENTITY(id_):
            text = f"cannot be an id; an id has {IDENTITY_RULE}"
            raise Refused(422, f"{shown(id_)} {text}", [Problem("id", text)])
        path = _path(kind, id_, loaded)
        if (kind, id_) in loaded.owners or writing.present(path) is not None:
            raise Refused(409, f"{_named(kind, id_)} exists already")
        edit = self._checked(kind, id_, None, _drafted(kind, id_, document, None))
        if kind == "flow" and not loaded.settings.flows:
            return msgspec.structs.replace(edit, warnings=(*edit.warnings, FIRST_FLOW))
        return edit

    @staticmethod
    def _new_id(kind: Kind, name: object, loaded: Loaded) -> str:
        """Make an id of a name: one that is free."""
        base = slug(name if isinstance(name, str) else "") or kind
        number, id_ = 1, base
        while (
            (kind, id_) in loaded.owners or _path(kind, id_, loaded).is_symlink() or _path(kind, id_, loaded).exists()
        ):
            number += 1
            id_ = f"{base}-{number}"
        return id_

    def _replaced(self, kind: Kind, id_: str, document: Mapping[str, Any], if_match: str | None) -> _Edit:
        old = self._present(kind, id_, if_match)
        return self._checked(kind, id_, old, _drafted(kind, id_, document, old, self._shown(kind, id_, old)))

    def _shown(self, kind: Kind, id_: str, old: bytes | None) -> dict[str, Any] | None:
        """Give what is shown of a part, if that is what is in its file."""
        loaded = self._reloader.loaded
        if old is None or loaded.etags.get((kind, id_)) != etag(old):
            return None
        parts = loaded.settings.connections if kind == "connection" else loaded.settings.flows
        return document_of(parts[id_], loaded.outlines[kind, id_])

    def _activated(self, id_: str, *, active: bool) -> _Edit:
        old = self._present("connection", id_, None)
        if old is None:
            raise Refused(409, f"the file of {_named('connection', id_)} is gone; a reload takes that up")
        try:
            return self._checked("connection", id_, old, with_active(old, active=active), may_connect=active)
        except ValueError as error:
            raise Refused(409, f"{_path('connection', id_, self._reloader.loaded)}: {error}") from None

    def _deleted(self, kind: Kind, id_: str, if_match: str | None) -> _Edit:
        old = self._present(kind, id_, if_match)
        flows = self._reloader.loaded.settings.flows
        named = [f"“{name}”" for name, flow in flows.items() if kind == "connection" and id_ in flow.connections]
        if named:
            which = f"flow {named[0]} names" if len(named) == 1 else f"flows {', '.join(named)} name"
            raise Refused(409, f"{which} {_named(kind, id_)}; take it out there first")
        return self._checked(kind, id_, old, None)

    def _present(self, kind: Kind, id_: str, if_match: str | None) -> bytes | None:
        """Give the bytes of the file that has a part; None if somebody has removed it since the last reload."""
        loaded = self._reloader.loaded
        owner = loaded.owners.get((kind, id_))
        if owner is None:
            raise Refused(404, f"there is no {_named(kind, id_)}")
        if owner == loaded.path:
            raise Refused(409, f"{_named(kind, id_)} stands in {loaded.path.name}, the main file; edit it there")
        old = writing.present(owner)
        if if_match not in {None, "*"} and (old is None or self._seal(etag(old)) != if_match):
            raise Refused(412, f"{_named(kind, id_)} is not as it was: {self._how_changed(kind, id_, old)}")
        return old

    def _how_changed(self, kind: Kind, id_: str, old: bytes | None) -> str:
        """Say what helps: what is on disk and not in force cannot be got."""
        if old is not None and self._reloader.loaded.etags.get((kind, id_)) == etag(old):
            return "its file was changed meanwhile; get it again"
        return "its file was edited by hand, which is not in force yet; reload the configuration, then get it again"

    def _checked(
        self, kind: Kind, id_: str, old: bytes | None, new: bytes | None, *, may_connect: bool = True
    ) -> _Edit:
        """Load the configuration as it would be. Raises `Refused`."""
        loaded = self._reloader.loaded
        path = _path(kind, id_, loaded)
        problems = Problems()
        try:
            fresh = load(loaded.path, environ=self._environ, clock=self._clock, overlay={path: new}, problems=problems)
        except ConfigError as error:
            raise _wrong(kind, id_, path, problems.errors, error.problems) from None
        if kind == "connection" and new is not None and may_connect:
            host, _ = fresh.settings.connections[id_].configuration.address
            if not allowed(host, fresh.settings.api.broker_allowlist):
                problem = Problem("configuration.hostName", NOT_ALLOWED)
                raise Refused(422, f"{_named(kind, id_)}: {problem.property}: {problem.detail}", [problem])
        warnings = [_sentence(each) for each in problems.cautions if _about(each, kind, id_)]
        known = set(advice(loaded.settings))
        warnings += [each for each in advice(fresh.settings) if each not in known]
        return _Edit(kind, id_, path, old, new, fresh, tuple(warnings))


def slug(name: str) -> str:
    """Make what may be an id of a name: small letters, digits and hyphens; empty if nothing of it can be used."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MAX_SLUG].strip("-")


def _path(kind: Kind, id_: str, loaded: Loaded) -> Path:
    return loaded.path.parent / HOUSES[kind].directory / f"{id_}.yaml"


def _drafted(
    kind: Kind, id_: str, document: Mapping[str, Any], old: bytes | None, shown: dict[str, Any] | None = None
) -> bytes:
    try:
        return draft(dict(document), HOUSES[kind].part, old, shown)
    except DraftError as error:
        raise _refused(kind, id_, [Problem(name, text) for name, text in error.problems]) from None


# -- in a thread


def _told(plan: Callable[[], _Edit]) -> _Edit:
    """Plan, and tell what the disk says as a refusal."""
    try:
        return plan()
    except WriteFailed as error:
        raise _unwritten(error, "") from None


def _write(edit: _Edit) -> None:
    """Write or remove. Raises `WriteFailed`, or `_Overtaken` if the file is not what the edit was planned on."""
    writing.sweep(edit.path.parent)
    if writing.present(edit.path) != edit.old:
        raise _Overtaken
    if edit.new == edit.old:
        return
    if edit.new is None:
        writing.remove(edit.path)
    else:
        writing.write(edit.path, edit.new)


def _undo(edit: _Edit) -> None:
    """Put back what was there, unless somebody has written something else since."""
    if edit.new == edit.old or writing.present(edit.path) != edit.new:
        return
    if edit.old is None:
        writing.remove(edit.path)
    else:
        writing.write(edit.path, edit.old)


# -- words


def _named(kind: Kind, id_: str) -> str:
    return f"{kind} {shown(id_)}"


def _unwritten(error: WriteFailed, left: str) -> Refused:
    return Refused(503 if error.passing else 409, f"{error}{left}")


def _refused(kind: Kind, id_: str, problems: list[Problem]) -> Refused:
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    what = f"{first.property}: {first.detail}" if first.property else first.detail
    return Refused(422, f"{_named(kind, id_)} is wrong: {what}{more}", problems)


def _wrong(kind: Kind, id_: str, path: Path, found: list[Found], lines: tuple[str, ...]) -> Refused:
    """Tell problems of the document, by property; or else that something else is wrong."""
    own = [Problem(dotted(each.path[2:]), NO_LINES.sub("", each.text)) for each in found if each.mark.file == str(path)]
    if own:
        return _refused(kind, id_, list(dict.fromkeys(own)))
    if any(each.path == (HOUSES[kind].section, id_) for each in found):
        return Refused(409, f"{_named(kind, id_)} exists already, in another file, which is not in force yet")
    return Refused(409, _elsewhere(lines))


def _elsewhere(lines: tuple[str, ...]) -> str:
    more = f" (and {len(lines) - 1} more)" if len(lines) > 1 else ""
    return f"nothing was changed, for the configuration has an error elsewhere: {lines[0]}{more}; mend it first"


def _about(found: Found, kind: Kind, id_: str) -> bool:
    return found.path[:2] == (HOUSES[kind].section, id_)


def _sentence(found: Found) -> str:
    where = dotted(found.path[2:])
    return f"{where}: {found.text}" if where else found.text
