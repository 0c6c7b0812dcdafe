"""Parts of one kind, each a task in one task group: begun, ended and replaced while the others go on.

For the composition root and the reload. A part is anything with `run` (until stopped) and `stop` (asks it to end soon).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import anyio
import anyio.lowlevel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping

    from anyio.abc import TaskGroup

__all__ = ["SLICE", "Crew", "Part"]

SLICE = 20
"""Parts that begin, end, are changed or told of in one step of the loop: all of a thousand would hold it up."""


class Part(Protocol):
    """What a crew is made of."""

    async def run(self) -> None:
        """Work until stopped."""
        ...

    def stop(self) -> None:
        """Ask it to end; `run` returns soon."""
        ...


P = TypeVar("P", bound=Part)


class Crew(Generic[P]):
    """The parts of one kind by id. Those that are here before `working` begin with it."""

    def __init__(self, parts: Mapping[str, P] | None = None) -> None:
        """Begin with these."""
        self._parts: dict[str, P] = dict(parts or {})
        self._ended: dict[str, anyio.Event] = {}
        self._group: TaskGroup | None = None

    def __len__(self) -> int:
        """Count them."""
        return len(self._parts)

    def __iter__(self) -> Iterator[str]:
        """Give the ids."""
        return iter(self._parts)

    def __contains__(self, name: str) -> bool:
        """Tell whether there is one of this id."""
        return name in self._parts

    def get(self, name: str) -> P | None:
        """Give the one of this id, if there is one."""
        return self._parts.get(name)

    def items(self) -> Iterable[tuple[str, P]]:
        """Give all, by id, as they are now."""
        return list(self._parts.items())

    @contextlib.asynccontextmanager
    async def working(self) -> AsyncIterator[None]:
        """Have all of them work as long as the block goes on; then stop them, and wait until they have ended."""
        async with anyio.create_task_group() as group:
            self._group = group
            for name, part in self.items():
                self._start(group, name, part)
            try:
                yield
            finally:
                self._group = None
                self.stop()

    def add(self, name: str, part: P) -> None:
        """Take one in, in place of none; it begins at once if the others work. Not while they end."""
        if name in self._parts:
            raise ValueError(f"{name} is here already")
        self._parts[name] = part
        if self._group is not None:
            self._start(self._group, name, part)

    async def remove(self, names: Iterable[str]) -> None:
        """Stop these, all at once, wait until each has ended, and forget them. Ids that are not here are passed by."""
        leaving = [name for name in names if name in self._parts]
        await self.ask_to_end(leaving)
        for name in leaving:
            if (ended := self._ended.pop(name, None)) is not None:
                await ended.wait()
            self._parts.pop(name, None)

    async def ask_to_end(self, names: Iterable[str]) -> None:
        """Ask these to end, and do not wait for it: a few at a time, so that others have their turn."""
        for number, name in enumerate(names, 1):
            if (part := self._parts.get(name)) is not None:
                part.stop()
            if number % SLICE == 0:
                await anyio.lowlevel.checkpoint()

    def stop(self) -> None:
        """Ask all of them to end."""
        for part in self._parts.values():
            part.stop()

    def _start(self, group: TaskGroup, name: str, part: P) -> None:
        self._ended[name] = anyio.Event()
        group.start_soon(self._run, part, self._ended[name], name=f"{type(part).__name__} {name}")

    @staticmethod
    async def _run(part: P, ended: anyio.Event) -> None:
        try:
            await part.run()
        finally:
            ended.set()
