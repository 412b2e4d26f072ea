"""The event source mapping of a stream as a state machine: what is due, and what became of it.

The kernel starts what `due` returns and tells `finished` how it ended. An invocation that ran into
its timeout is `finished` with a `Failure` though its code may go on: what it answers later moves
nothing. Payloads are not measured (6 MB on AWS). Source: AWS, "Using Lambda with Amazon DynamoDB".
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any

from infra.functions import TableStream
from local.shard_delivery import Discarded, FailedInvocationError, done_until
from local.stream_reader import Record, sequence_number
from tests.simulation.aws.feed import Feed
from tests.simulation.aws.stream import RETENTION, Entry, Shard, Stream

RETRY_DELAY = timedelta(seconds=1)
RETRY_DELAY_MAX = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class MappingFaults:
    """How often a mapping does what it may do and seldom does; rates from 0 to 1."""

    recut: float = 0.0
    """Per batch: it is cut at a drawn place, and so is all after it."""
    rewind: float = 0.0
    """Per success: it is forgotten, and up to `rewind_max` records come again."""
    rewind_max: int = 300
    twice: float = 0.0
    """Per batch: two pollers hold the shard for a moment, and each invokes."""
    rewinds_drained: bool = False
    """A shard's records may come again when its children are under way."""


PERFECT = MappingFaults()


@dataclass(frozen=True, slots=True)
class Failure:
    """An invocation that gave no answer: it raised, was killed, or took too long."""

    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Invocation:
    """One call of the function with a batch of one shard."""

    number: int
    shard: str
    event: dict[str, Any]
    records: tuple[Record, ...]
    """None in a window's last call."""
    start: int = field(repr=False)
    """Where its batch begins in its feed."""
    feed: Feed = field(repr=False)


class Mapping:
    """One stream's mapping to one function."""

    def __init__(
        self,
        stream: Stream,
        settings: TableStream,
        random: Random,
        *,
        parallel: int = 1,
        faults: MappingFaults = PERFECT,
    ) -> None:
        """A mapping that begins at the stream's oldest record.

        `parallel` is the ParallelizationFactor: above 1 a shard's batches overlap, and only an
        item's own records keep their order.
        """
        self.faults = faults
        self.lost: list[Record] = []
        """Records that expired before an invocation with them succeeded."""
        self.discarded: list[Discarded] = []
        """What the failure destination got, payload and all."""
        self.seen: Counter[str] = Counter()
        """How often what happened; each key is a sentence."""
        self._stream = stream
        self._settings = settings
        self._random = random
        self._parallel = parallel
        self._feeds: dict[str, tuple[Feed, ...]] = {}
        self._active: list[Feed] = []
        self._waiting: list[Shard] = []
        self._known = 0

    # --- what the kernel asks ---

    def due(self, now: datetime) -> list[Invocation]:
        """The invocations to start at this moment; each counts as started."""
        self._look(now)
        ready = [feed for feed in self._active if feed.is_ready(self._settings, now)]
        return [invocation for feed in ready for invocation in self._invoke(feed, now)]

    def due_at(self, now: datetime) -> datetime | None:
        """When something is due at the latest if nothing else happens; None when nothing will be.

        What an invocation under way leads to, its `finished` will tell.
        """
        self._look(now)
        times = [feed.ready_at(self._settings) for feed in self._active]
        return min((at for at in times if at is not None), default=None)

    def finished(self, invocation: Invocation, answer: Any | Failure, now: datetime) -> None:
        """What became of an invocation: the function's answer, or that there was none."""
        feed = invocation.feed
        if feed.at_work is not invocation:
            self.seen["a stale invocation's answer moved nothing"] += 1
            return
        feed.at_work = None
        try:
            done = self._done(invocation, answer)
        except FailedInvocationError as failed:
            self._after_failure(invocation, str(failed), now)
        else:
            self._after_answer(invocation, done, now)

    def rewind(self, shard: str, by: int) -> int:
        """Lose a shard's checkpoint: up to `by` records come again; how many do.

        The batch under way comes again too, and what its invocation answers is not heard.
        """
        feeds = self._feeds.get(shard, ())
        is_drained = any(feed.is_finished for feed in feeds)
        if is_drained and not self.faults.rewinds_drained:
            return 0
        again = sum(feed.rewind(by) for feed in feeds)
        self._active += [feed for feed in feeds if feed not in self._active]
        if again:
            self.seen["a drained shard came again" if is_drained else "a checkpoint was lost"] += 1
        return again

    def is_drained(self, now: datetime) -> bool:
        """Whether every record is delivered, given up or expired; a window may still be open."""
        self._look(now)
        waits = any(shard.entries for shard in self._waiting)
        return not waits and not any(feed.holds_records for feed in self._active)

    def iterator_age(self, now: datetime) -> timedelta:
        """How old the oldest record is that is not done, and zero when all are."""
        self._look(now)
        heads = [
            entry for feed in self._active for entry in feed.entries[feed.done : feed.done + 1]
        ]
        heads += [entry for shard in self._waiting for entry in shard.entries[:1]]
        return max((now - entry.created_at for entry in heads), default=timedelta(0))

    # --- shards ---

    def _look(self, now: datetime) -> None:
        """Find new shards and records, drop expired ones, and leave shards that are drained."""
        self._waiting += self._stream.shards[self._known :]
        self._known = len(self._stream.shards)
        for feed in self._active:
            self._read(feed, now)
        if self._waiting:
            self._begin(now)
        self._active = [feed for feed in self._active if not feed.is_finished]

    def _begin(self, now: datetime) -> None:
        """Begin the shards whose parent is drained; parents stand before their children."""
        waiting, self._waiting = self._waiting, []
        for shard in waiting:
            if shard.parent is not None and not self._is_drained(shard.parent):
                self._waiting.append(shard)
                continue
            window_s = self._settings.tumbling_window_s
            parts = range(self._parallel)
            feeds = tuple(Feed(shard, (part, self._parallel), window_s) for part in parts)
            self._feeds[shard.id] = feeds
            self._active += feeds
            for feed in feeds:
                self._read(feed, now)

    def _is_drained(self, shard: Shard) -> bool:
        feeds = self._feeds.get(shard.id, ())
        return bool(feeds) and all(feed.is_finished for feed in feeds)

    def _read(self, feed: Feed, now: datetime) -> None:
        feed.read()
        if feed.at_work is None:
            self.lost += [entry.record for entry in feed.expire(now - RETENTION)]

    # --- invocations ---

    def _invoke(self, feed: Feed, now: datetime) -> Iterator[Invocation]:
        batch: list[Entry] = []
        if not feed.is_window_over(now):
            self._recut(feed)
            batch = feed.next_batch(self._settings.batch_size)
        records = tuple(entry.record for entry in batch)
        invocation = feed.at_work = self._invocation(feed, records)
        yield invocation
        if self._happens(self.faults.twice):
            # The other poller's fate is its own: whatever it answers moves nothing here.
            self.seen["a batch went to two invocations at once"] += 1
            yield self._invocation(feed, records)

    def _invocation(self, feed: Feed, records: tuple[Record, ...]) -> Invocation:
        event: dict[str, Any] = {"Records": list(records)}
        if self._settings.tumbling_window_s:
            event |= feed.window.fields(final=not records, early=feed.ends_early)
            event |= {"shardId": feed.shard.id, "eventSourceARN": self._stream.arn}
        self.seen["an invocation"] += 1
        return Invocation(
            self.seen["an invocation"], feed.shard.id, event, records, feed.done, feed
        )

    def _recut(self, feed: Feed) -> None:
        left = len(feed.entries) - feed.done
        if feed.is_rewound or self._happens(self.faults.recut):
            self.seen["a batch was cut elsewhere"] += 1
            size = self._random.randint(1, min(left, self._settings.batch_size))
            feed.edges = [feed.done + size]
            feed.is_rewound = False

    def _happens(self, rate: float) -> bool:
        return rate > 0 and self._random.random() < rate

    # --- what became of them ---

    def _done(self, invocation: Invocation, answer: Any | Failure) -> int:
        """How many records from the start are done.

        Raises:
            FailedInvocationError: none is: no answer, or one that Lambda takes for a failure.
        """
        if isinstance(answer, Failure):
            raise FailedInvocationError(answer.reason)
        numbers = [sequence_number(record) for record in invocation.records]
        if not self._settings.tumbling_window_s:
            return done_until(answer, numbers)
        state = answer.get("state") if isinstance(answer, dict) else None
        if not isinstance(state, dict):
            raise FailedInvocationError("the response carries no `state`")
        done = done_until(answer, numbers) if numbers else 0
        invocation.feed.keep_state(state)
        return done

    def _after_answer(self, invocation: Invocation, done: int, now: datetime) -> None:
        feed, size = invocation.feed, len(invocation.records)
        if done < size:
            # What stands before the lowest reported record is done; the rest comes again.
            feed.keep_edge(invocation.start + size)
            self._after_report(feed, done, now)
            return
        feed.advance(invocation.start + size)
        if not size:
            feed.close_window()
        if self._happens(self.faults.rewind):
            self.rewind(feed.shard.id, self._random.randint(1, self.faults.rewind_max))

    def _after_report(self, feed: Feed, done: int, now: datetime) -> None:
        if not done:
            self.seen["a batch's first record was reported"] += 1
            self._try_again(feed, "reported by the function", now)
            return
        self.seen["a batch was done in part"] += 1
        feed.advance(feed.done + done)
        feed.not_before = now + self._delay(1)

    def _after_failure(self, invocation: Invocation, reason: str, now: datetime) -> None:
        feed, size = invocation.feed, len(invocation.records)
        self.seen["an invocation failed"] += 1
        if size:
            feed.keep_edge(invocation.start + size)
        if size > 1 and self._settings.bisects_on_error:
            # Cutting uses up no retry.
            self.seen["a batch was cut in two"] += 1
            self.seen["a cut reached a single record"] += size // 2 == 1
            feed.keep_edge(invocation.start + size // 2)
            feed.not_before = now + self._delay(1)
            return
        self._try_again(feed, reason, now, is_batch=size > 0)

    def _try_again(self, feed: Feed, reason: str, now: datetime, *, is_batch: bool = True) -> None:
        """Retry after a while, or give the batch up; a window's last call is never given up."""
        feed.attempts += 1
        feed.not_before = now + self._delay(feed.attempts)
        if is_batch and 0 <= self._settings.retries_max < feed.attempts:
            records = tuple(entry.record for entry in feed.entries[feed.done : feed.edges[-1]])
            self.discarded.append(Discarded(feed.shard.id, records, reason))
            feed.advance(feed.edges[-1])

    def _delay(self, attempts: int) -> timedelta:
        """At once or later, the longer the more often it failed."""
        return self._random.random() * min(RETRY_DELAY * (1 << min(attempts, 10)), RETRY_DELAY_MAX)
