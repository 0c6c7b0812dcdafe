"""A reload without a daemon, for edits; run as a program, it edits one configuration until it is killed."""

from __future__ import annotations

import asyncio
import functools
import itertools
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from mqttbridge.api.seam import Step, Tested
from mqttbridge.control.plan import PlanReport
from mqttbridge.editing import Editing
from mqttbridge.errors import ConfigError
from mqttbridge.settings.loader import load

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mqttbridge.settings.loader import Loaded
    from mqttbridge.settings.schema import Connection

ENVIRON = {"HOST": "broker.example", "KEY": "secret word"}
LARGE = 100_000


def read(path: Path) -> Loaded:
    return load(path, environ=ENVIRON)


class Reload:
    """Takes up the file as it stands, and starts nothing."""

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.count = 0
        self.before: Callable[[], Awaitable[None]] | None = None
        """Called at the begin of the next reload."""
        self.refuses: tuple[str, ...] = ()

    async def reload(self) -> PlanReport:
        self.count += 1
        if self.before is not None:
            before, self.before = self.before, None
            await before()
        if self.refuses:
            return PlanReport(problems=self.refuses)
        try:
            self.loaded = await anyio.to_thread.run_sync(read, self.loaded.path)
        except ConfigError as error:
            return PlanReport(problems=error.problems)
        return PlanReport(applied=True)


class Edits:
    """An editor, what it edits, and what was tried out."""

    def __init__(self, loaded: Loaded) -> None:
        self.path = loaded.path
        self.reload = Reload(loaded)
        self.tried: list[tuple[str, Connection]] = []
        self.editor = Editing(self.reload, environ=ENVIRON, try_out=self._try_out)

    async def _try_out(self, id_: str, connection: Connection) -> Tested:
        self.tried.append((id_, connection))
        return Tested(ok=True, steps=(Step("DNS", "ok"),), warnings=("of the broker",))

    @property
    def loaded(self) -> Loaded:
        return self.reload.loaded

    def file(self, id_: str, directory: str = "connections.d") -> Path:
        return self.path.parent / directory / f"{id_}.yaml"


async def edits(path: Path) -> Edits:
    return Edits(await anyio.to_thread.run_sync(functools.partial(read, path)))


def document(text: str, **configuration: Any) -> dict[str, Any]:  # noqa: ANN401 (properties)
    return {"name": text, "configuration": {"hostName": "h", "description": text, **configuration}}


async def _for_ever(path: Path) -> None:
    world = await edits(path)
    for number in itertools.count():
        text = "ab"[number % 2] * LARGE
        await world.editor.replace("connection", "acme", document(text))
        if number % 2:
            await world.editor.create("connection", "other", document("x"))
        elif number:
            await world.editor.delete("connection", "other")
        sys.stdout.write(f"{number}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_for_ever(Path(sys.argv[1])))
