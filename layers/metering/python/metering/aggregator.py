"""The aggregator: folds what the ledger's stream brings into lanes, each record exactly once.

Data never makes it fail: what cannot be folded is quarantined and passed over. When the world does
(a table refuses), it names the record from which the stream must come again; what was folded by
then is skipped, because each lane knows its position.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from metering import quantity
from metering.counter import BucketKey, CounterKey, counter_of
from metering.keys import digest, join
from metering.lane import Advance, Lane, LaneKey, Placed, Record, Unreadable, advance
from metering.mapping import Customer
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Width, day_of
from metering.ports import (
    Clock,
    EpochReader,
    Lanes,
    Quarantine,
    Quarantined,
    Refused,
    Settings,
    WriteFailed,
    Written,
)

CACHED_LANES_MAX = 20_000
ROUNDS_MAX = 5
"""How often lanes are tried that another writer moved meanwhile."""

LaneRecords = dict[LaneKey, list[Placed]]


@dataclass(frozen=True, slots=True)
class Folded:
    """What one batch came to."""

    failed_from: str | None
    """The position from which the stream must come again; None when all is folded."""
    records: int
    buckets: int
    late: int
    unfoldable: int


class Aggregator:
    """Folds one shard's batches; keeps warm copies of lanes, which saves reading them."""

    def __init__(
        self,
        lanes: Lanes,
        epochs: EpochReader,
        settings: Settings,
        quarantine: Quarantine,
        clock: Clock,
    ) -> None:
        self._lanes = lanes
        self._epochs = epochs
        self._settings = settings
        self._quarantine = quarantine
        self._clock = clock
        self._warm: dict[LaneKey, Lane] = {}

    def fold(
        self, shard: str, records: Sequence[Record], unreadable: Sequence[Unreadable] = ()
    ) -> Folded:
        """Fold a shard's records, which come in the shard's order; set aside what is no entry.

        Raises:
            RetryableError: settings, directory, marks or quarantine refused; redeliver them all.
        """
        placed = self._place(records)
        by_lane = self._by_lane(shard, placed)
        buckets = dict.fromkeys(
            BucketKey(counter_of(record.entry.event), start) for record, start in placed
        )
        # Listed before and marked after: no counter is ever unlisted, no change unmarked.
        self._lanes.list_counters(_newest(records))
        self._set_aside([_unreadable(record, self._clock.now()) for record in unreadable])
        failed, unfoldable = self._fold_lanes(by_lane)
        self._lanes.mark_changed(buckets)
        late = sum(record.entry.is_late for record in records)
        return Folded(failed, len(records), len(buckets), late, unfoldable)

    def _by_lane(self, shard: str, records: Iterable[Placed]) -> LaneRecords:
        by_lane: LaneRecords = defaultdict(list)
        for placed in records:
            entry = placed.record.entry
            counter, day = counter_of(entry.event), day_of(entry.event.occurred_at)
            for epoch in self._epochs.of(counter.tenant).of(entry.received_at):
                by_lane[LaneKey(counter, day, epoch, shard)].append(placed)
        return by_lane

    def _place(self, records: Sequence[Record]) -> list[Placed]:
        """Each record with its bucket, by its customer's calendar and its metric's width."""
        refs: dict[TenantId, set[CustomerRef]] = defaultdict(set)
        for record in records:
            refs[record.entry.event.tenant].add(record.entry.event.customer)
        customers = {
            tenant: self._settings.customers(tenant, wanted) for tenant, wanted in refs.items()
        }
        named = dict.fromkeys((one.entry.event.tenant, one.entry.event.metric) for one in records)
        widths = {name: self._settings.metric(*name).bucket for name in named}
        return [_placed(record, customers, widths) for record in records]

    # --- lanes ------------------------------------------------------------------------------------

    def _fold_lanes(self, by_lane: LaneRecords) -> tuple[str | None, int]:
        """Advance every lane; the position to come again from, and how many were unfoldable."""
        self._warm_up(by_lane)
        unfoldable: set[str] = set()
        pending, failed = list(by_lane), set[LaneKey]()
        for _ in range(ROUNDS_MAX):
            steps = self._steps(by_lane, pending)
            # Before the lane passes them: once it has, nobody meets these records again.
            unfoldable |= self._set_unfoldable_aside(steps.values())
            moves = [(key, step) for key, step in steps.items() if step.after is not step.before]
            refused = []
            for (key, _), outcome in zip(moves, self._lanes.write(moves), strict=True):
                self._keep_warm(key, outcome)
                failed |= {key} if isinstance(outcome, WriteFailed) else set()
                refused += [key] if isinstance(outcome, Refused) else []
            pending = refused
            if not pending:
                break
        return _first_position(by_lane, failed.union(pending)), len(unfoldable)

    def _warm_up(self, by_lane: LaneRecords) -> None:
        cold = [key for key in by_lane if key not in self._warm]
        if len(self._warm) + len(cold) > CACHED_LANES_MAX:
            self._warm.clear()
            cold = list(by_lane)
        self._warm.update(self._lanes.read(cold))

    def _steps(self, by_lane: LaneRecords, keys: Iterable[LaneKey]) -> dict[LaneKey, Advance]:
        steps = {key: advance(self._warm[key], by_lane[key]) for key in keys}
        return {key: step for key, step in steps.items() if step is not None}

    def _keep_warm(self, key: LaneKey, outcome: Written) -> None:
        match outcome:
            case Lane():
                self._warm[key] = outcome
            case Refused(standing):
                self._warm[key] = standing
            case WriteFailed():
                # Nobody knows whether it was written: the next try reads it.
                self._warm.pop(key, None)

    # --- quarantine -------------------------------------------------------------------------------

    def _set_unfoldable_aside(self, steps: Iterable[Advance]) -> set[str]:
        """Quarantine what the steps pass over; the positions of it."""
        records = {record.position: record for step in steps for record in step.unfoldable}
        self._set_aside([_unfoldable(record, self._clock.now()) for record in records.values()])
        return set(records)

    def _set_aside(self, items: Sequence[Quarantined]) -> None:
        if items:
            self._quarantine.put(items)


def _placed(
    record: Record,
    customers: Mapping[TenantId, Mapping[CustomerRef, Customer]],
    widths: Mapping[tuple[TenantId, Metric], Width],
) -> Placed:
    event = record.entry.event
    calendar = customers[event.tenant][event.customer].calendar
    width = widths[event.tenant, event.metric]
    return Placed(record, calendar.bucket_of(event.occurred_at, width).start)


def _newest(records: Iterable[Record]) -> dict[CounterKey, datetime]:
    newest: dict[CounterKey, datetime] = {}
    for record in records:
        event = record.entry.event
        counter = counter_of(event)
        if counter not in newest or newest[counter] < event.occurred_at:
            newest[counter] = event.occurred_at
    return newest


def _first_position(by_lane: LaneRecords, keys: Iterable[LaneKey]) -> str | None:
    return min((by_lane[key][0].record.position for key in keys), default=None)


def _unfoldable(record: Record, now: datetime) -> Quarantined:
    event = record.entry.event
    return Quarantined(
        id=f"unfoldable-{digest(join(event.tenant, event.key)).hex()}",
        tenant=event.tenant,
        key=event.key,
        kind="unfoldable",
        reason="its counter cannot take this quantity exactly (38 digits), or is closed for good;"
        " it is in the ledger and not in the counter",
        origin=f"stream:{record.position}",
        payload=quantity.canonical(event.quantity),
        recorded_at=now,
    )


def _unreadable(record: Unreadable, now: datetime) -> Quarantined:
    return Quarantined(
        id=f"unreadable-{digest(record.image).hex()}",
        tenant=None,
        key=None,
        kind="unreadable",
        reason=record.reason,
        origin=f"stream:{record.position}",
        payload=record.image,
        recorded_at=now,
    )
