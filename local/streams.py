"""The event source mapping of a DynamoDB stream: finds shards, reads them, has them delivered.

A child shard begins when its parent is finished. DynamoDB Local has one shard, so a stream may be
dealt to several virtual shards by the items' keys; each has a shard id of its own and keeps the
order per item, as several real shards would.
"""

import json
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from local.chaos import Chaos
from local.checkpoints import FINISHED, Checkpoints
from local.environment import Environment
from local.shard_delivery import DeliverySettings, Discarded, ShardDelivery, Shared
from local.stream_reader import Record, StreamReader, StreamShard, sequence_number
from metering.keys import shard_of

if TYPE_CHECKING:
    from collections.abc import Iterable

POLL_S = 0.25
"""AWS polls a shard four times a second."""
DISCOVER_S = 2.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MappingSettings:
    """What a stream's mapping is set to."""

    delivery: DeliverySettings
    virtual_shards: int = 1
    event_names: frozenset[str] = frozenset({"INSERT"})
    """The filter; other records cost no invocation."""


def _log_discarded(discarded: Discarded) -> None:
    first, last = (sequence_number(discarded.records[place]) for place in (0, -1))
    log.error("discarded %s..%s of %s: %s", first, last, discarded.shard_id, discarded.reason)


class StreamMapping:
    """One stream's mapping to one function; `start` makes its threads, `stop` ends them."""

    def __init__(
        self,
        reader: StreamReader,
        environment: Callable[[], Environment],
        settings: MappingSettings,
        *,
        checkpoints: Checkpoints | None = None,
        chaos: Chaos | None = None,
        on_discard: Callable[[Discarded], None] = _log_discarded,
    ) -> None:
        self._reader = reader
        self._settings = settings
        self._checkpoints = checkpoints or Checkpoints()
        self.chaos = chaos or Chaos()
        self._stop = threading.Event()
        self._shared = Shared(
            reader.arn,
            environment,
            settings.delivery,
            self._checkpoints,
            self.chaos,
            self._stop,
            on_discard,
        )
        self._lock = threading.Lock()
        self._tails: dict[str, _Tail] = {}
        self._threads: list[threading.Thread] = []
        self._last_error = ""

    def start(self) -> None:
        """Begin where the checkpoints say, else at the stream's oldest record."""
        self._spawn("discover", self._discover)

    def stop(self, *, within_s: float = 5.0) -> None:
        """End after the batches under way; what they leave is delivered again next time."""
        self._stop.set()
        deadline = time.monotonic() + within_s
        for thread in list(self._threads):
            thread.join(max(0.0, deadline - time.monotonic()))

    def _spawn(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, name=f"stream-{name}", daemon=True)
        self._threads.append(thread)
        thread.start()

    # --- shards ---

    def _discover(self) -> None:
        while not self._stop.is_set():
            try:
                self._begin_shards(self._reader.shards())
            except Exception as failed:
                log.exception("the stream's shards cannot be listed; trying again")
                self._last_error = repr(failed)
            self._stop.wait(DISCOVER_S)

    def _begin_shards(self, shards: "Iterable[StreamShard]") -> None:
        known = {shard.id: shard for shard in shards}
        for shard in known.values():
            parent_is_done = shard.parent not in known or self._is_finished(str(shard.parent))
            if parent_is_done and shard.id not in self._tails and not self._is_finished(shard.id):
                self._begin(shard)

    def _is_finished(self, shard: str) -> bool:
        return self._checkpoints.get(shard) == FINISHED

    def _begin(self, shard: StreamShard) -> None:
        deliveries = [ShardDelivery(name, self._shared) for name in self._names(shard.id)]
        tail = _Tail(shard.id, deliveries)
        with self._lock:
            self._tails[shard.id] = tail
        for delivery in deliveries:
            self._spawn(delivery.id, delivery.run)
        self._spawn(f"read-{shard.id}", lambda: self._read(tail))

    def _names(self, shard: str) -> list[str]:
        count = self._settings.virtual_shards
        return [shard] if count == 1 else [f"{shard}-{number:02d}" for number in range(count)]

    # --- reading ---

    def _read(self, tail: "_Tail") -> None:
        """Read a shard to its end; a failed read is repeated from where reading stood."""
        tail.read_until = self._start(tail)
        while not self._stop.is_set():
            try:
                self._read_on(tail)
            except Exception as failed:
                log.exception("shard %s cannot be read; trying again", tail.shard)
                self._last_error = repr(failed)
                self._stop.wait(1.0)
            else:
                break
        if not self._stop.is_set():
            self._finish(tail)

    def _start(self, tail: "_Tail") -> str | None:
        """The least of the virtual shards' checkpoints; None is the shard's beginning."""
        kept = [self._checkpoints.get(delivery.id) for delivery in tail.deliveries]
        tail.skip_until = {
            delivery.id: number for delivery, number in zip(tail.deliveries, kept, strict=True)
        }
        numbers = [number for number in kept if number is not None]
        return min(numbers, key=int) if len(numbers) == len(kept) else None

    def _read_on(self, tail: "_Tail") -> None:
        pages = self._reader.pages(tail.shard, after=tail.read_until)
        while not self._stop.is_set():
            asked_at = time.monotonic()
            page = next(pages, None)
            if page is None:
                break
            if page:
                self._deal(tail, page)
                tail.read_until = sequence_number(page[-1])
            else:
                tail.empty_since_ask(asked_at)
                self._stop.wait(POLL_S)

    def _deal(self, tail: "_Tail", page: list[Record]) -> None:
        count = len(tail.deliveries)
        dealt: list[list[Record]] = [[] for _ in range(count)]
        for record in page:
            place = shard_of(_item_key(record), count) if count > 1 else 0
            if record["eventName"] in self._settings.event_names and tail.is_new(record, place):
                dealt[place].append(record)
        for delivery, records in zip(tail.deliveries, dealt, strict=True):
            delivery.inbox.put(records)

    def _finish(self, tail: "_Tail") -> None:
        for delivery in tail.deliveries:
            delivery.inbox.close()
        while not self._stop.is_set() and any(not one.inbox.is_finished for one in tail.deliveries):
            self._stop.wait(POLL_S)
        if not self._stop.is_set():
            self._checkpoints.set(tail.shard, FINISHED)

    # --- looking at it ---

    def is_caught_up(self, since: float) -> bool:
        """Whether all that was written before an instant (monotonic) has been delivered."""
        with self._lock:
            tails = dict(self._tails)
        if not all(self._stands_still(tail, since) for tail in tails.values()):
            return False
        # Nor may a shard, such as the child of one that has just ended, be still to be begun.
        shards = self._reader.shards()
        return all(shard.id in tails or self._is_finished(shard.id) for shard in shards)

    def _stands_still(self, tail: "_Tail", since: float) -> bool:
        if self._is_finished(tail.shard):
            return True
        waits = any(self.chaos.is_rewind_due(delivery.id) for delivery in tail.deliveries)
        return not waits and tail.is_caught_up(since)

    def status(self) -> dict[str, Any]:
        """For people to look at."""
        with self._lock:
            tails = list(self._tails.values())
        return {
            "stream": self._reader.arn,
            "paused": self.chaos.is_paused,
            "pending": sum(one.inbox.pending for tail in tails for one in tail.deliveries),
            "last_error": self._last_error,
            "shards": {one.id: one.status() for tail in tails for one in tail.deliveries},
        }


class _Tail:
    """How far one real shard is read."""

    def __init__(self, shard: str, deliveries: list[ShardDelivery]) -> None:
        self.shard = shard
        self.deliveries = deliveries
        self.read_until: str | None = None
        self.skip_until: dict[str, str | None] = {}
        self._empty_asked_at = -1.0

    def is_new(self, record: Record, place: int) -> bool:
        """Whether its virtual shard had not processed a record before this process began."""
        until = self.skip_until[self.deliveries[place].id]
        return until is None or int(sequence_number(record)) > int(until)

    def empty_since_ask(self, asked_at: float) -> None:
        """A read that began at an instant found nothing new."""
        self._empty_asked_at = asked_at

    def is_caught_up(self, since: float) -> bool:
        """Whether a read begun after an instant found nothing, and nothing waits."""
        if self._empty_asked_at <= since:
            return False
        return all(not delivery.inbox.pending for delivery in self.deliveries)


def _item_key(record: Record) -> str:
    return json.dumps(record["dynamodb"]["Keys"], sort_keys=True)
