"""What a rate of events needs of the ledger, its stream, the aggregator and ingest."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from infra.cost.assumed import ASSUMED, Assumed
from infra.cost.counting import PAYLOAD_BYTES, RECORD_BYTES, Stream, cpu_of_batch
from infra.cost.duration import duration_ms, vcpus
from infra.cost.measurement import Measurement, Taken
from infra.cost.paths import ingest_ms
from infra.cost.traffic import Spread
from infra.functions import AGGREGATOR, INGEST, INGEST_QUEUE, RECONCILER
from infra.scale.limits import (
    NEW_TABLE_PARTITIONS,
    PARTITION_WRITES,
    SHARD_READS,
)
from metering.adapters.dynamodb.calls import STATEMENTS_MAX
from metering.adapters.dynamodb.counters import CHANGED_SHARDS

SPREAD = Spread(100_000)
"""A hundred thousand customers with the skew of real traffic: the first has 35 %."""
HOT = Decimal("0.35")
USED = Decimal("0.7")
"""How full a partition may be on average, so that an uneven second does not throttle it."""
SHARD_ROLLS_A_DAY = 6
"""A shard ends after about four hours and another goes on; each leaves a lane of its own."""
CALLS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Need:
    """What a rate of events needs."""

    rate: Decimal
    """Events a second."""
    measured: Measurement
    assumed: Assumed = ASSUMED
    spread: Spread = SPREAD

    @property
    def partitions(self) -> int:
        """Of the ledger; each has an open shard of the stream."""
        most = PARTITION_WRITES.value * USED
        return max(_up(self.rate / most), int(NEW_TABLE_PARTITIONS.value))

    @property
    def stream(self) -> Stream:
        """The events on their way to the aggregator."""
        return Stream(self.rate, self.partitions, self.spread)

    # --- ingest ---

    def concurrency(self, taken: Taken) -> Decimal:
        """Ingest functions at once."""
        lasts = ingest_ms(INGEST, taken, self.assumed)
        return self.rate / taken.of * lasts / 1000

    # --- the aggregator ---

    @property
    def batch_seconds(self) -> Decimal:
        """How long one invocation lasts in ordinary times."""
        return self.seconds_of(self.stream.batch)

    def seconds_of(self, events: Decimal) -> Decimal:
        """How long an invocation with so many records lasts: CPU, settings and lanes."""
        lanes = self.spread.touched(events)
        rounds = lanes / STATEMENTS_MAX / CALLS_AT_ONCE
        waits = (1 + rounds) * self.assumed.statements_wait_ms
        cpu = cpu_of_batch(self.measured, events)
        # Beyond the measured 25 counters, each costs its part of a call besides.
        cpu += max(lanes - 25, Decimal(0)) * self._cpu_of_a_lane()
        return duration_ms(AGGREGATOR, cpu, self.assumed, waits_ms=waits) / 1000

    def _cpu_of_a_lane(self) -> Decimal:
        """From two measured batches: each record takes the same, and so does each lane."""
        small, large = self.measured.folded_60, self.measured.folded_500
        base = self.measured.folded_1.cpu_ms
        share = small.of / large.of
        more_ms = (small.cpu_ms - base) - share * (large.cpu_ms - base)
        return max(more_ms / (small.items - share * large.items), Decimal(0))

    @property
    def busy(self) -> Decimal:
        """The part of its time that a shard's aggregator works; the rest it waits for events."""
        return self.batch_seconds * self.stream.per_shard / self.stream.batch

    @property
    def takes(self) -> Decimal:
        """Records a second of one shard that are taken while a backlog fills every batch."""
        full = PAYLOAD_BYTES / RECORD_BYTES
        return min(full / self.seconds_of(full), SHARD_READS.value)

    # --- counters ---

    @property
    def lane_writes(self) -> Decimal:
        """Write units a second of the counters table, for lanes."""
        return self.rate * self.stream.lanes_per_event

    @property
    def marks(self) -> Decimal:
        """Write units a second for marks of changed counters."""
        return self.stream.in_all_shards(Decimal(60)) / 60

    @property
    def marks_limit(self) -> Decimal:
        """How many a second the partitions of one slot of time take."""
        return PARTITION_WRITES.value * CHANGED_SHARDS

    @property
    def hot_lanes(self) -> int:
        """Lanes a day of a counter that every shard meets."""
        return self.partitions * SHARD_ROLLS_A_DAY

    @property
    def hot_writes(self) -> Decimal:
        """Write units a second of the hot customer's partition: a lane for each shard and batch."""
        batches = self.stream.per_shard / self.stream.batch
        return self.partitions * batches

    @property
    def hot_writes_behind(self) -> Decimal:
        """The same while all shards work off a backlog in full batches."""
        return self.partitions * self.takes / (PAYLOAD_BYTES / RECORD_BYTES)

    @property
    def index_shards(self) -> int:
        """Of the event index, for the hot counter's entries."""
        return max(_up(self.rate * HOT / (PARTITION_WRITES.value * USED)), 4)

    # --- the reconciler ---

    @property
    def recounts_at_most(self) -> Decimal:
        """Events of an open period that one run of the reconciler can read before its time is up.

        It reads all of those of each counter that changed.
        """
        cpu_s = self.measured.recounted.each().cpu_ms / 1000
        return RECONCILER.timeout_s * vcpus(RECONCILER) / (cpu_s * self.assumed.cpu_factor)

    # --- the queue ---

    def queue_takes(self, at_once: int) -> Decimal:
        """Events a second that the queue's functions take, ten messages of 100 events each."""
        taken = self.measured.queue_batch
        return at_once * taken.of / (ingest_ms(INGEST_QUEUE, taken, self.assumed) / 1000)

    def queue_at_once(self) -> int:
        """How many of them the rate needs."""
        return _up(self.rate / USED / self.queue_takes(1))


def _up(value: Decimal) -> int:
    return int(value.to_integral_value(ROUND_CEILING))
