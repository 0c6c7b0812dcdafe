"""Parts that work as tasks: begun, ended and replaced one by one."""

from __future__ import annotations

import anyio
import pytest

from mqttbridge.crew import Crew


class Worker:
    """A part that notes what it does."""

    def __init__(self, *, fails: bool = False) -> None:
        self.said: list[str] = []
        self.fails = fails
        self._stop = anyio.Event()
        self.may_end = anyio.Event()
        self.may_end.set()

    async def run(self) -> None:
        self.said.append("began")
        if self.fails:
            raise RuntimeError("a bug")
        await self._stop.wait()
        await self.may_end.wait()
        self.said.append("ended")

    def stop(self) -> None:
        self._stop.set()


async def test_all_begin_with_the_block_and_have_ended_after_it() -> None:
    workers = {"a": Worker(), "b": Worker()}
    crew = Crew(workers)
    async with crew.working():
        await anyio.wait_all_tasks_blocked()
        assert [each.said for each in workers.values()] == [["began"], ["began"]]
        assert len(crew) == 2
    assert [each.said for each in workers.values()] == [["began", "ended"], ["began", "ended"]]


async def test_one_that_comes_later_begins_at_once_and_one_that_leaves_has_ended() -> None:
    crew: Crew[Worker] = Crew()
    late = Worker()
    async with crew.working():
        crew.add("late", late)
        await anyio.wait_all_tasks_blocked()
        assert late.said == ["began"]
        await crew.remove(["late", "nobody"])
        assert late.said == ["began", "ended"]
        assert "late" not in crew
        crew.add("late", again := Worker())
        await anyio.wait_all_tasks_blocked()
        assert again.said == ["began"]
        assert crew.get("late") is again
        assert list(crew) == ["late"]


async def test_those_that_leave_end_side_by_side() -> None:
    slow, quick = Worker(), Worker()
    slow.may_end = anyio.Event()
    crew = Crew({"slow": slow, "quick": quick})
    async with crew.working(), anyio.create_task_group() as group:
        await anyio.wait_all_tasks_blocked()
        group.start_soon(crew.remove, ["slow", "quick"])
        await anyio.wait_all_tasks_blocked()
        assert quick.said == ["began", "ended"]
        assert slow.said == ["began"]
        slow.may_end.set()


async def test_no_two_of_one_id() -> None:
    crew = Crew({"a": Worker()})
    with pytest.raises(ValueError, match="a is here already"):
        crew.add("a", Worker())


async def test_a_part_before_the_work_begins_is_forgotten_without_waiting() -> None:
    crew = Crew({"a": Worker()})
    await crew.remove(["a"])
    assert not len(crew)


async def test_a_part_that_fails_ends_the_others_and_is_told() -> None:
    good = Worker()
    crew = Crew({"bad": Worker(fails=True), "good": good})
    with pytest.raises(BaseExceptionGroup) as caught:
        async with crew.working():
            await anyio.sleep_forever()
    assert caught.group_contains(RuntimeError, match="a bug")
