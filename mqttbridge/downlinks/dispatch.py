"""Brings the stored downlinks of one source to its network server. The daemon runs one dispatcher per source.

Invariants:

1. What the network server answered is never asked again by this process, even while its end cannot be stored; nothing
   is sent while an end waits to be stored. After a crash what is pending is sent again, with the same key.
2. An end is logged and counted once, after it is on disk.
3. One that follows another, which was stopped, takes over the ends that this could not store: nothing is sent twice
   that was answered.
4. Memory is bounded: of the pending ones a window is read, in order, and more as they end.

What is sent when, and what an answer means, is decided in `lanes`. A dead or slow network server holds up nothing but
its own downlinks.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import msgspec

from mqttbridge.downlinks.lanes import End, Lanes, final_end
from mqttbridge.downlinks.network import Later
from mqttbridge.downlinks.receipts import Ended, receipt, short
from mqttbridge.downlinks.telling import tell_ended
from mqttbridge.errors import JournalError
from mqttbridge.journal.downlink_protocol import ConcludedDownlink
from mqttbridge.model import DownlinkOutcome
from mqttbridge.mqtt.backoff import jitter
from mqttbridge.observe.log import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mqttbridge.clock import Clock
    from mqttbridge.downlinks.lanes import Retry, Verdict
    from mqttbridge.downlinks.network import Answer, Network
    from mqttbridge.journal.downlink_protocol import DownlinkJournal, PendingDownlink, ReceiptBody
    from mqttbridge.observe.metrics import DownlinkMetrics
    from mqttbridge.observe.throttle import Throttle
    from mqttbridge.settings.schema import Connection

    Unstored = tuple[Ended, ReceiptBody | None, str]
    """An end that is not on disk: with its receipt, and the network server's name for the downlink."""

__all__ = ["DispatchStatus", "Dispatcher"]

log = get_logger()

PAGE = 500
"""How many are read, and ended, at a time."""
WINDOW = 5000
WINDOW_HUNGRY = 50_000
"""KiB, and how many at most, in memory; the second while all that are there wait for their devices."""
SEND_LIMIT = 60.0
JOURNAL_RETRY = 1.0
STOP_LIMIT = 5.0
LOOK_EVERY = 60.0
"""Seconds. The last: a jump of the wall clock is noticed in this time."""
GONE = "the source it was meant for takes no downlinks any more: it is not configured, or has no way back"


class DispatchStatus(msgspec.Struct, frozen=True):
    """How a dispatcher is. `why`: a sentence, empty when fine. `waiting`: how many are in memory and have not ended."""

    why: str
    waiting: int


class Dispatcher:
    """One source. `run` it as a task, `kick` it when there is more, `stop` it once."""

    def __init__(  # noqa: PLR0913 (the composition root gives it all this)
        self,
        source: str,
        network: Network | None,
        journal: DownlinkJournal,
        connections: Mapping[str, Connection],
        *,
        clock: Clock,
        random: Callable[[], float],
        metrics: DownlinkMetrics,
        throttle: Throttle,
        why: str = GONE,
        before: Dispatcher | None = None,
    ) -> None:
        """Prepare; nothing happens before `run`.

        Without a network all that is pending for the source fails, with the sentence `why`. The network stays the
        caller's: it is not closed here. `before`: whom this one follows, for the same source; its `run` has ended.
        """
        self._source = source
        self._network = network
        self._journal = journal
        self._connections = connections
        self._clock = clock
        self._random = random
        self._metrics = metrics
        self._throttle = throttle
        self._why = why
        self._lanes = Lanes(random)
        self._after = 0
        """The window holds all that are pending up to this seq."""
        self._more = True
        """Whether there may be more behind it."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._answers: list[tuple[PendingDownlink, Answer]] = []
        self._ends: dict[int, Unstored] = {} if before is None else before.hand_over()
        """By seq: ends that are not on disk."""
        self._crashed = ""
        self._wake = asyncio.Event()
        self._stopping = False

    def kick(self) -> None:
        """Hear that there is more in the journal, perhaps."""
        self._more = True
        self._wake.set()

    def stop(self) -> None:
        """Ask it to end: what is under way gets up to 5 s, what is not sent stays pending."""
        self._stopping = True
        self._wake.set()

    def hand_over(self) -> dict[int, Unstored]:
        """Give up, for the one that follows, the ends that could not be stored. `run` has ended."""
        self._save_answers()
        ends, self._ends = self._ends, {}
        return ends

    def status(self) -> DispatchStatus:
        """Tell how it is. Cheap."""
        return DispatchStatus(self._crashed or self._lanes.outage, len(self._lanes) + len(self._ends))

    async def run(self) -> None:
        """Send what is pending and what comes, until stopped."""
        pause = 0.0
        try:
            while not self._stopping:
                try:
                    await self._work()
                except Exception as error:  # a bug must end neither the daemon nor, for good, the downlinks
                    log.exception("downlink.crashed", source=self._source)
                    self._crashed = f"internal error ({type(error).__name__}); please report it"
                    await self._begin_again()
                    pause = jitter(pause, self._random())
                    await self._sleep(pause)
            await self._finish()
        finally:
            await self._cancel()

    async def _work(self) -> None:
        """Do what there is to do, then wait for more, until stopped."""
        while not self._stopping:
            self._wake.clear()
            self._take_answers()
            self._note(self._lanes.ended(self._clock.now()))
            try:
                await self._store()
                await self._refill()
            except JournalError:  # the journal itself tells of its disk, and its health does
                await self._wait(JOURNAL_RETRY)
                continue
            if self._ends or self._answers or self._stopping:
                continue
            self._note(self._lanes.ended(self._clock.now()))
            if self._ends:
                continue
            for pending in self._lanes.due(self._clock.monotonic()):
                task = asyncio.create_task(self._send(pending))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            self._crashed = ""
            await self._wait(self._lanes.delay(self._clock.now(), self._clock.monotonic()))

    async def _wait(self, delay: float | None) -> None:
        """Wait for news: an answer, a kick, a stop, or the time."""
        limit = LOOK_EVERY if delay is None else min(delay, LOOK_EVERY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit):
                await self._wake.wait()

    async def _sleep(self, delay: float) -> None:
        """Let time pass, whatever the news, but for a stop."""
        until = self._clock.monotonic() + delay
        while not self._stopping and (left := until - self._clock.monotonic()) > 0:
            self._wake.clear()
            await self._wait(left)

    async def _finish(self) -> None:
        """Take the answers that are still to come, and store them, if that takes no longer than 5 s."""
        try:
            async with asyncio.timeout(STOP_LIMIT):
                if self._tasks:
                    await asyncio.wait(self._tasks, timeout=STOP_LIMIT * 0.8)
                self._take_answers()
                while self._ends:
                    try:
                        await self._store()
                    except JournalError:
                        await asyncio.sleep(JOURNAL_RETRY)
        except TimeoutError:
            pass  # what is not stored is pending, and is sent again with the same key
        except Exception:  # likewise, after a bug
            log.exception("downlink.crashed", source=self._source)

    # --- the window

    async def _refill(self) -> None:
        """Read what the window has room for; what is asked for by a kick meanwhile is read at the next turn."""
        full = True
        while full and self._more and self._has_room() and not self._ends:
            self._more = False
            try:
                page = await self._journal.pending(self._source, self._after, PAGE)
            except JournalError:
                self._more = True
                raise
            full = len(page) >= PAGE
            self._more = self._more or full
            if page:
                self._after = page[-1].seq
            if self._network is None:
                self._note(End(one, DownlinkOutcome.FAILED, self._why) for one in page)
            else:
                self._lanes.add(page)

    def _has_room(self) -> bool:
        """Whether more may be read. A device that blocks a full window must not starve those beyond it."""
        weight = self._lanes.weight
        return weight < WINDOW or (weight < WINDOW_HUNGRY and self._lanes.hungry)

    async def _begin_again(self) -> None:
        """Forget what is in memory; all but the ends that are not on disk will be read anew."""
        await self._cancel()
        self._save_answers()
        self._lanes = Lanes(self._random)
        self._after = 0
        self._more = True

    async def _cancel(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- sending

    async def _send(self, pending: PendingDownlink) -> None:
        """Send one, and keep the answer for the loop."""
        answer = await self._ask(pending)
        self._answers.append((pending, answer))
        self._wake.set()

    async def _ask(self, pending: PendingDownlink) -> Answer:
        """Have the network server's answer; a bug, or one that never answers, counts as `Later`."""
        if self._network is None:
            return Later(self._why)
        try:
            async with asyncio.timeout(SEND_LIMIT):
                return await self._network.send(pending)
        except TimeoutError:
            return Later(f"the network server gave no answer within {SEND_LIMIT:g} seconds")
        except Exception as error:  # one downlink must not end the others
            log.exception("downlink.crashed", source=self._source)
            return Later(f"internal error ({type(error).__name__}); please report it")

    def _take_answers(self) -> None:
        """Have `lanes` decide on the answers that came. One stays in the list until that is done."""
        while self._answers:
            pending, answer = self._answers[0]
            verdict = self._lanes.answered(pending.seq, answer, self._clock.now(), self._clock.monotonic())
            if verdict.end is not None:
                self._note([verdict.end])
            del self._answers[0]
            self._tell(verdict, answer)

    def _save_answers(self) -> None:
        """Keep the final ones of the answers that `lanes` did not get to decide on."""
        for pending, answer in self._answers:
            if not isinstance(answer, Later) and pending.seq not in self._ends:
                self._note([final_end(pending, answer, 1)])
        self._answers.clear()

    def _tell(self, verdict: Verdict, answer: Answer) -> None:
        """Log and count what an answer means, but for the end."""
        retry = verdict.retry
        if retry is not None:
            self._metrics.downlink_retried(self._source)
            if not retry.everyone:
                self._tell_retry(retry)
        match verdict.network:
            case "failing":
                facts: dict[str, Any] = {} if retry is None else {"retry_in": round(retry.delay, 1)}
                facts["reason"] = short(answer.reason) if isinstance(answer, Later) else ""
                self._throttle.tell("warning", "network.failing", self._source, source=self._source, **facts)
            case "recovered":
                self._throttle.tell("info", "network.recovered", self._source, source=self._source)
            case "":
                pass

    def _tell_retry(self, retry: Retry) -> None:
        self._throttle.tell(
            "warning",
            "downlink.retrying",
            self._source,
            source=self._source,
            connection=retry.pending.connection,
            dev_eui=retry.pending.downlink.dev_eui,
            reason=short(retry.reason),
            retry_in=round(retry.delay, 1),
            attempts=retry.attempts,
        )

    # --- ends

    def _note(self, ends: Iterable[End]) -> None:
        """Keep ends until they are on disk, with their receipts."""
        for end in ends:
            ended = self._ended(end)
            self._ends[end.pending.seq] = (ended, self._receipt(ended), end.reference)

    def _receipt(self, ended: Ended) -> ReceiptBody | None:
        """Make a receipt, if one is wanted. A bug costs it alone: its downlink must end, or it would be sent again."""
        connection = self._connections.get(ended.connection)
        if connection is None or connection.configuration.downlink_receipt_topic_pattern is None:
            return None
        try:
            return receipt(ended)
        except Exception:
            log.exception("downlink.crashed", source=self._source)
            self._metrics.receipt_lost(ended.connection)
            return None

    def _ended(self, end: End) -> Ended:
        pending = end.pending
        return Ended(
            connection=pending.connection,
            key=pending.key,
            outcome=end.outcome,
            time=self._clock.now(),
            dev_eui=pending.downlink.dev_eui,
            source=self._source,
            correlation_id=pending.downlink.correlation_id,
            field=end.field,
            reason=end.reason,
            warnings=pending.warnings,
            correlation=pending.correlation,
            attempts=end.attempts,
        )

    async def _store(self) -> None:
        """Put the ends on disk, then tell of them. Raises `JournalError`: those that are left are tried again."""
        while self._ends:
            batch = list(self._ends.items())[:PAGE]
            await self._journal.conclude([ConcludedDownlink(seq, body, name) for seq, (_, body, name) in batch])
            for seq, (ended, _, _) in batch:
                del self._ends[seq]
                tell_ended(ended, self._metrics)
