"""What it costs to count events: the aggregator's time, lanes, marks, directory and reads."""

from dataclasses import dataclass
from decimal import Decimal

from infra.cost.assumed import GB, Assumed
from infra.cost.duration import duration_ms, invocation_usd
from infra.cost.measurement import Measurement, Taken
from infra.cost.prices import LOG, READ_UNIT, WRITE_UNIT
from infra.cost.traffic import Spread
from infra.functions import AGGREGATOR, TableStream

SETTINGS_CACHE_S = Decimal(30)
"""How long the aggregator keeps what it knows of a customer (`metering.config`)."""
MARK_S = Decimal(60)
"""A mark of a changed counter stands for so long (`changed_slot_s`)."""
HOUR_S = Decimal(3600)
RECORD_BYTES = Decimal(850)
PAYLOAD_BYTES = Decimal(6 * 1024 * 1024)
"""Of one invocation; the stream's records are JSON there (decision 0011)."""


@dataclass(frozen=True, slots=True)
class Stream:
    """Events on their way to the aggregator."""

    events_per_s: Decimal
    shards: int
    spread: Spread

    @property
    def per_shard(self) -> Decimal:
        """Events a second of one shard."""
        return self.events_per_s / self.shards

    @property
    def batch(self) -> Decimal:
        """Events of one invocation: the first, and those that come while the window is open."""
        trigger = trigger_of_aggregator()
        gathered = 1 + self.per_shard * trigger.batching_window_s
        return min(gathered, Decimal(trigger.batch_size), PAYLOAD_BYTES / RECORD_BYTES)

    @property
    def lanes_per_event(self) -> Decimal:
        """Lane writes for each event."""
        return self.spread.touched(self.batch) / self.batch

    def in_all_shards(self, seconds: Decimal) -> Decimal:
        """Counters that are touched in a stretch of time, added up over the shards.

        Each shard has a process of its own, which knows nothing of the others'.
        """
        return self.shards * self.spread.touched(self.per_shard * seconds)

    def once_each(self, seconds: Decimal) -> Decimal:
        """What is done once for each counter and so many seconds, for each event."""
        return self.in_all_shards(seconds) / (self.events_per_s * seconds)


def trigger_of_aggregator() -> TableStream:
    """The settings of the aggregator's event source mapping."""
    assert isinstance(AGGREGATOR.trigger, TableStream)
    return AGGREGATOR.trigger


def cpu_of_batch(measured: Measurement, events: Decimal) -> Decimal:
    """CPU milliseconds of one batch, on the line through the measured batches of 1 and of 500."""
    one, many = measured.folded_1, measured.folded_500
    per_event = (many.cpu_ms - one.cpu_ms) / (many.of - one.of)
    return max(one.cpu_ms + per_event * (events - one.of), one.cpu_ms)


@dataclass(frozen=True, slots=True)
class Counting:
    """Dollars for each event."""

    invocations: Decimal
    lanes: Decimal
    marks: Decimal
    """And the directory."""
    reads: Decimal

    @property
    def total(self) -> Decimal:
        """Everything."""
        return self.invocations + self.lanes + self.marks + self.reads


def counting(stream: Stream, measured: Measurement, assumed: Assumed) -> Counting:
    """What one event's share of counting costs."""
    batch = stream.batch
    lasts = duration_ms(
        AGGREGATOR, cpu_of_batch(measured, batch), assumed, waits_ms=_waits(stream, assumed)
    )
    log = measured.folded_500.log_bytes / GB * LOG.each
    closes = _window_closes_per_event(stream) * invocation_usd(AGGREGATOR, Decimal(2), assumed)
    marks = stream.once_each(MARK_S) + stream.once_each(HOUR_S)
    return Counting(
        (invocation_usd(AGGREGATOR, lasts, assumed) + log) / batch + closes,
        stream.lanes_per_event * lane_units(measured) * WRITE_UNIT.each,
        marks * WRITE_UNIT.each,
        stream.once_each(SETTINGS_CACHE_S) * _cold(measured).others_read * READ_UNIT.each,
    )


def lane_units(measured: Measurement) -> Decimal:
    """Write units of one lane, as its measured writes came to."""
    return measured.folded_60.written / measured.folded_60.items


def _cold(measured: Measurement) -> Taken:
    return measured.folded_cold.each()


def _waits(stream: Stream, assumed: Assumed) -> Decimal:
    """Lanes go out 25 a call and four calls at once."""
    lanes = stream.lanes_per_event * stream.batch
    rounds = max(Decimal(1), lanes / 25 / 4)
    return rounds * assumed.statements_wait_ms


def _window_closes_per_event(stream: Stream) -> Decimal:
    """Each shard's tumbling window ends with an invocation of its own."""
    window = trigger_of_aggregator().tumbling_window_s
    return Decimal(stream.shards) / window / stream.events_per_s
