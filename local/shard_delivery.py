"""Delivering one shard's records to a function, as Lambda's event source mapping does.

One batch at a time, in order; a failed one blocks the shard until it is through, cut in halves or
given up. Source: AWS, "Using Lambda with Amazon DynamoDB".
"""

import copy
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

from local.chaos import Chaos, HandlerKilledError
from local.checkpoints import Checkpoints
from local.environment import Environment
from local.inbox import Inbox
from local.stream_reader import Record, sequence_number
from local.tumbling import TumblingWindow, window_start
from metering.adapters.clock import SystemClock

HISTORY = 5_000
"""How many delivered records a shard can be rewound by."""
_IDLE_S = 0.2

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How a mapping batches and what it does when the function fails."""

    batch_size: int
    window_s: float
    tumbling_window_s: int = 0
    """0: no windows, and no `state` asked for."""
    retries_max: int = -1
    """-1: for ever."""
    bisects_on_error: bool = True
    timeout_s: float = 60.0
    retry_delay_s: float = 0.2
    retry_delay_max_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Discarded:
    """A batch given up after its last retry; what a failure destination gets."""

    shard_id: str
    records: tuple[Record, ...]
    reason: str


@dataclass(slots=True)
class Tally:
    """What one shard's delivery has come to."""

    invocations: int = 0
    records: int = 0
    failures: int = 0
    discarded: int = 0
    last_error: str = ""
    last_batch: int = 0


@dataclass(frozen=True, slots=True)
class Shared:
    """What all shards of one mapping have in common."""

    stream_arn: str
    environment: Callable[[], Environment]
    settings: DeliverySettings
    checkpoints: Checkpoints
    chaos: Chaos
    stop: threading.Event
    on_discard: Callable[[Discarded], None]


class FailedInvocationError(Exception):
    """The whole batch counts as failed."""


@dataclass(slots=True)
class _Piece:
    """Part of a batch, and how often it was tried in vain."""

    records: Sequence[Record]
    attempts: int = 0


class ShardDelivery:
    """One shard on its way to its function; `run` is a thread's whole life."""

    def __init__(self, shard_id: str, shared: Shared) -> None:
        self.id = shard_id
        self.inbox = Inbox(shared.settings.batch_size * 4, shared.stop)
        self.tally = Tally()
        self._arn = shared.stream_arn
        self._environment = shared.environment()
        self._second_environment = shared.environment()
        self._settings = shared.settings
        self._checkpoints = shared.checkpoints
        self._chaos = shared.chaos
        self._stop = shared.stop
        self._on_discard = shared.on_discard
        self._window = TumblingWindow(shared.settings.tumbling_window_s)
        self._history: deque[Record] = deque(maxlen=HISTORY)
        self._clock = SystemClock()

    def run(self) -> None:
        """Deliver until the shard is finished or all stops."""
        while not self._stop.is_set() and not self.inbox.is_finished:
            self._rewind(self._chaos.take_rewind(self.id))
            if not self._chaos.wait_while_paused(_IDLE_S):
                continue
            size = self._chaos.batch_size(self._settings.batch_size)
            self._take(self.inbox.gather(size, window_s=self._settings.window_s, idle_s=_IDLE_S))
        if not self._stop.is_set():
            self._close_window()

    def status(self) -> dict[str, Any]:
        """For people to look at."""
        checkpoint = self._checkpoints.get(self.id)
        return {"checkpoint": checkpoint, "pending": self.inbox.pending, **asdict(self.tally)}

    def _rewind(self, records: int) -> None:
        again = [self._history.pop() for _ in range(min(records, len(self._history)))]
        self.inbox.give_back(again[::-1])

    def _take(self, batch: list[Record]) -> None:
        if not batch:
            if self._window.is_over(self._clock.now().timestamp()):
                self._close_window()
            return
        try:
            for piece in self._by_window(batch):
                self._deliver(piece)
        except OSError as unwritten:
            # A checkpoint that is not on disk does not hold: the batch is delivered again.
            log.exception("shard %s: a checkpoint cannot be written", self.id)
            self._note_failure(repr(unwritten))
            self.inbox.give_back(batch)
            self._wait(1)
        finally:
            self.inbox.done()

    # --- windows ---

    def _by_window(self, batch: list[Record]) -> Iterator[list[Record]]:
        """The batch cut where a window ends; closes and opens windows on the way."""
        size_s = self._settings.tumbling_window_s
        if not size_s:
            yield batch
            return
        for start, records in groupby(batch, lambda record: window_start(record, size_s)):
            if self._window.is_over(start):
                self._close_window()
            self._window.open(start)
            yield list(records)

    def _close_window(self, *, early: bool = False) -> None:
        """The window's last invocation, without records; the shard waits until it succeeds."""
        attempts = 0
        while self._window.is_open and not self._stop.is_set():
            try:
                self._invoke([], self._window.fields(final=True, early=early))
                self._window.close()
            except FailedInvocationError:
                attempts += 1
                self._wait(attempts)

    # --- batches ---

    def _deliver(self, records: Sequence[Record]) -> None:
        work = [_Piece(records)]
        while work and not self._stop.is_set():
            piece = work.pop()
            try:
                done = self._attempt(piece.records)
            except FailedInvocationError as failed:
                work += self._after_failure(piece, failed)
                continue
            if done < len(piece.records):
                # What stands before the lowest reported record is done; the rest comes again.
                attempts = 0 if done else piece.attempts + 1
                work += self._again(_Piece(piece.records[done:], attempts), "reported by function")

    def _attempt(self, records: Sequence[Record]) -> int:
        """Invoke once; how many records from the start are done."""
        fields = self._window.fields(final=False) if self._settings.tumbling_window_s else {}
        answer = self._invoke(records, fields)
        done = done_until(answer, [sequence_number(record) for record in records])
        self.tally.failures += done < len(records)
        if done:
            self._checkpoints.set(self.id, sequence_number(records[done - 1]))
            self._history.extend(records[:done])
            self.tally.records += done
            self.tally.last_batch = done
        if self._window.is_state_too_large:
            self._close_window(early=True)
            self._window.open(window_start(records[-1], self._settings.tumbling_window_s))
        return done

    def _after_failure(self, piece: _Piece, failed: FailedInvocationError) -> list[_Piece]:
        middle = len(piece.records) // 2
        if middle and self._settings.bisects_on_error:
            # Popped from the end, so the earlier half goes last; cutting uses up no retry.
            self._wait(1)
            halves = (piece.records[middle:], piece.records[:middle])
            return [_Piece(half, piece.attempts) for half in halves]
        return self._again(_Piece(piece.records, piece.attempts + 1), str(failed))

    def _again(self, piece: _Piece, reason: str) -> list[_Piece]:
        """The piece to retry after a while, or nothing when it is given up."""
        if 0 <= self._settings.retries_max < piece.attempts:
            self._discard(piece.records, reason)
            return []
        if piece.attempts:
            self._wait(piece.attempts)
        return [piece]

    def _discard(self, records: Sequence[Record], reason: str) -> None:
        log.error("shard %s: %d records given up: %s", self.id, len(records), reason)
        self.tally.discarded += len(records)
        self._on_discard(Discarded(self.id, tuple(records), reason))
        self._checkpoints.set(self.id, sequence_number(records[-1]))

    def _wait(self, attempts: int) -> None:
        delay = self._settings.retry_delay_s * 2 ** min(attempts - 1, 10)
        self._stop.wait(min(delay, self._settings.retry_delay_max_s))

    # --- invocations ---

    def _invoke(self, records: Sequence[Record], fields: dict[str, Any]) -> Any:
        """The function's answer.

        Raises:
            FailedInvocationError: it raised, was killed, took too long, or gave no `state` back.
        """
        event = {"Records": list(records), "shardId": self.id, "eventSourceARN": self._arn}
        while not self._chaos.wait_while_paused(_IDLE_S) and not self._stop.is_set():
            pass
        self.tally.invocations += 1
        started = time.monotonic()
        try:
            answer = self._run({**event, **fields} if fields else {"Records": event["Records"]})
            self._check_time(time.monotonic() - started)
            if fields:
                self._window.keep(_state(answer))
        except FailedInvocationError as failed:
            self._note_failure(str(failed))
            raise
        except HandlerKilledError as killed:
            self._note_failure(str(killed))
            raise FailedInvocationError(str(killed)) from killed
        except Exception as failed:
            log.exception("shard %s: the function failed on %d records", self.id, len(records))
            self._note_failure(repr(failed))
            raise FailedInvocationError(repr(failed)) from failed
        return answer

    def _check_time(self, took_s: float) -> None:
        """Lambda would have ended it; here it can only be told afterwards."""
        if took_s > self._settings.timeout_s:
            raise FailedInvocationError(f"the function took {took_s:.1f} s, over its timeout")

    def _run(self, event: dict[str, Any]) -> Any:
        kill = self._chaos.take_kill()
        if not self._chaos.take_twice():
            return self._environment.invoke(event, kill=kill)
        with ThreadPoolExecutor(1) as elsewhere:
            # The other poller's fate is its own: whatever it answers or raises moves nothing here.
            elsewhere.submit(self._second_environment.invoke, copy.deepcopy(event))
            return self._environment.invoke(event, kill=kill)

    def _note_failure(self, reason: str) -> None:
        self.tally.failures += 1
        self.tally.last_error = reason


def _state(answer: Any) -> Any:
    if not (isinstance(answer, dict) and isinstance(answer.get("state"), dict)):
        raise FailedInvocationError("the response carries no `state`, which windows require")
    return answer["state"]


def done_until(answer: Any, sequence_numbers: Sequence[str]) -> int:
    """How many records from the start a response calls done: those before the lowest it reports.

    Raises:
        FailedInvocationError: it reports something that is no record of the batch.
    """
    reported = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not reported:
        return len(sequence_numbers)
    places = {number: place for place, number in enumerate(sequence_numbers)}
    try:
        return min(places[failure["itemIdentifier"]] for failure in reported)
    except (KeyError, TypeError) as wrong:
        raise FailedInvocationError(f"batchItemFailures names no record: {reported!r}") from wrong
