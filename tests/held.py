"""Ports held in memory, for tests that run an aggregator a thousand times."""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from metering.counter import BucketKey, CounterKey, Usage, total
from metering.epoch import Epochs
from metering.lane import Advance, Lane, LaneKey
from metering.mapping import Customer, MetricSettings, unmapped_customer
from metering.mapping import Mapping as MeterMapping
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.ports import Quarantined, Refused, WriteFailed, Written
from metering.tenant_settings import TenantSettings

Step = tuple[LaneKey, Advance]
Trouble = Callable[[Step], str | None]
"""What befalls a step: None, `refused`, `lost` (written, answer lost) or `late` (written later)."""


class HeldLanes:
    """Lanes under compare-and-set, as DynamoDB keeps them."""

    def __init__(self) -> None:
        self.lanes: dict[LaneKey, Lane] = {}
        self.newest: dict[CounterKey, datetime] = {}
        self.changed: set[BucketKey] = set()
        self.zombies: list[Step] = []
        """Writes of the dead, on their way."""
        self.trouble: Trouble = lambda step: None

    def read(self, keys: Sequence[LaneKey]) -> dict[LaneKey, Lane]:
        return {key: self.lanes.get(key, Lane()) for key in keys}

    def write(self, steps: Sequence[Step]) -> list[Written]:
        return [self._write(step) for step in steps]

    def _write(self, step: Step) -> Written:
        match self.trouble(step):
            case "refused":
                return WriteFailed()
            case "late":
                self.zombies.append(step)
                return WriteFailed()
            case "lost":
                self.put(step)
                return WriteFailed()
        return self.put(step)

    def put(self, step: Step) -> Written:
        """Write a step if its lane still is what the step starts from."""
        key, advance = step
        standing = self.lanes.get(key, Lane())
        if standing.position != advance.before.position or standing.folded:
            # An INSERT that meets a lane does not learn what stands there.
            return Refused(standing) if advance.before.position else WriteFailed()
        self.lanes[key] = advance.after
        return advance.after

    def list_counters(self, newest: Mapping[CounterKey, datetime]) -> None:
        for counter, at in newest.items():
            self.newest[counter] = max(at, self.newest.get(counter, at))

    def mark_changed(self, buckets: Collection[BucketKey]) -> None:
        self.changed |= set(buckets)

    def usage(self, counter: CounterKey) -> Usage:
        """All that a counter holds."""
        own = (lane for key, lane in self.lanes.items() if key.counter == counter)
        return total(usage for lane in own for usage in lane.buckets.values())


class FirstEpoch:
    """Nobody rebuilds."""

    def of(self, tenant: TenantId) -> Epochs:
        return Epochs()


class NoSettings:
    """Nobody set anything up."""

    def tenant(self, tenant: TenantId) -> TenantSettings:
        return TenantSettings(tenant)

    def metric(self, tenant: TenantId, metric: Metric) -> MetricSettings:
        return MetricSettings(metric)

    def active_mapping(self, tenant: TenantId, metric: Metric) -> MeterMapping | None:
        return None

    def customer(self, tenant: TenantId, ref: CustomerRef) -> Customer:
        return unmapped_customer(tenant, ref)

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> Mapping[CustomerRef, Customer]:
        return {ref: unmapped_customer(tenant, ref) for ref in refs}

    def tenants(self) -> list[TenantId]:
        return []


class HeldQuarantine:
    """What was set aside, by id."""

    def __init__(self) -> None:
        self.items: dict[str, Quarantined] = {}

    def put(self, items: Sequence[Quarantined]) -> None:
        self.items |= {item.id: item for item in items}

    def of_key(self, tenant: TenantId, key: IdempotencyKey) -> list[Quarantined]:
        return [one for one in self.items.values() if (one.tenant, one.key) == (tenant, key)]

    def newest(self, tenant: TenantId | None, limit: int) -> list[Quarantined]:
        return [one for one in self.items.values() if one.tenant == tenant][:limit]
