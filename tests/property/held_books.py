"""A tenant's books in memory: the real core over ports that keep what the tables would keep.

Entries, stream records and lanes stand here in the forms that they have in DynamoDB, as JSON text,
so that every value passes through each form on its way from a request's body to an answer.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from functions.api.answers import answer
from functions.api.routes_usage import _usage_now
from metering.adapters.dynamodb.counter_item import buckets_value, read_buckets
from metering.adapters.dynamodb.ledger_item import from_item, partition_key, to_item
from metering.adapters.dynamodb.stream import StreamBatch, read_batch
from metering.adjustment import Adjustment
from metering.adjustments import Adjustments
from metering.aggregator import Aggregator
from metering.counter import Aggregation, Usage, sum_of_buckets
from metering.event import LedgerEntry
from metering.event_result import EventResult
from metering.ingest import Ingest
from metering.ingest_request import read_json
from metering.lane import Lane
from metering.mapping import MetricSettings
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.period import Span
from metering.ports import Appended
from metering.threads import InTurn
from metering.usage_report import Step, UsageReport
from tests.builders import DEMO, NOON
from tests.conftest import SetClock
from tests.held import FirstEpoch, HeldLanes, HeldQuarantine, NoSettings
from tests.held import Step as LaneStep

SHARD = {"shardId": "shardId-1", "eventSourceARN": "arn:aws:dynamodb:::table/events/stream/1"}


class HeldLedger:
    """The ledger's items by their keys; each new one is a record of the stream too."""

    def __init__(self) -> None:
        self._items: dict[str, str] = {}
        self.stream: list[str] = []

    def append(self, entries: Sequence[LedgerEntry]) -> list[Appended]:
        return [self._append(entry) for entry in entries]

    def _append(self, entry: LedgerEntry) -> Appended:
        item = to_item(entry, index_shards=4)
        text = json.dumps(item, default=bytes.hex)
        standing = self._items.setdefault(item["pk"]["S"], text)
        if standing is text:
            self.stream.append(text)
            return Appended.ACCEPTED
        is_same = json.loads(standing)["h"] == json.loads(text)["h"]
        return Appended.DUPLICATE if is_same else Appended.CONFLICT

    def get(self, tenant: TenantId, key: IdempotencyKey) -> LedgerEntry | None:
        text = self._items.get(partition_key(tenant, key))
        return None if text is None else from_item(json.loads(text))

    def get_many(
        self, tenant: TenantId, keys: Iterable[IdempotencyKey]
    ) -> dict[IdempotencyKey, LedgerEntry]:
        found = {key: self.get(tenant, key) for key in keys}
        return {key: entry for key, entry in found.items() if entry is not None}

    def held(
        self, tenant: TenantId, *, metric: Metric | None, customer: CustomerRef | None
    ) -> Iterator[LedgerEntry]:
        return (one for one in self.of_tenant(tenant) if one.is_late)

    def of_tenant(self, tenant: TenantId) -> Iterator[LedgerEntry]:
        return (from_item(json.loads(text)) for text in self._items.values())

    def of_counter(self, *_: Any, **__: Any) -> Iterator[LedgerEntry]:
        raise NotImplementedError

    def to_recount(self, *_: Any, **__: Any) -> Iterator[LedgerEntry]:
        raise NotImplementedError


class ItemLanes(HeldLanes):
    """Lanes of which every write goes through the item that keeps it."""

    def put(self, step: LaneStep) -> Any:
        key, advance = step
        stored = json.loads(json.dumps(buckets_value(advance.after.buckets)))
        after = Lane(advance.after.position, read_buckets({"b": stored}))
        return super().put((key, replace(advance, after=after)))


class LaneCounters:
    """The `Counters` that the lanes add up to."""

    def __init__(self, lanes: HeldLanes) -> None:
        self._lanes = lanes

    def usage(
        self, tenant: TenantId, customer: CustomerRef, span: Span
    ) -> dict[tuple[Metric, datetime], Usage]:
        found: dict[tuple[Metric, datetime], Usage] = {}
        counters = {key.counter for key in self._lanes.lanes}
        for counter in sorted(one for one in counters if one[:2] == (tenant, customer)):
            own = [lane for key, lane in self._lanes.lanes.items() if key.counter == counter]
            for start, usage in sum_of_buckets(lane.buckets for lane in own).items():
                if start in span:
                    found[counter.metric, start] = usage
        return found

    def known(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError

    def changed_since(self, instant: datetime) -> Any:
        raise NotImplementedError


class HeldAdjustments:
    """The records of adjustments, by id."""

    def __init__(self) -> None:
        self.records: dict[str, Adjustment] = {}

    def get(self, tenant: TenantId, adjustment_id: str) -> Adjustment | None:
        return self.records.get(adjustment_id)

    def of_tenant(
        self, tenant: TenantId, *, metric: Metric | None, customer: CustomerRef | None
    ) -> Iterator[Adjustment]:
        return iter(self.records.values())

    def add(self, adjustment: Adjustment) -> bool:
        return self.records.setdefault(adjustment.id, adjustment) is adjustment

    def approve(self, approved: Adjustment) -> bool:
        self.records[approved.id] = approved
        return True

    def revert(self, reverted: Adjustment, child: Adjustment) -> bool:
        self.records |= {reverted.id: reverted, child.id: child}
        return True


class NamedByAggregation(NoSettings):
    """Four metrics, each named as it is aggregated."""

    def metric(self, tenant: TenantId, metric: Metric) -> MetricSettings:
        return MetricSettings(metric, Aggregation(metric))


class HeldBooks:
    """What a tenant sent, what was counted of it, and what is answered."""

    def __init__(self) -> None:
        self.clock = SetClock(NOON)
        self.ledger = HeldLedger()
        self.lanes = ItemLanes()
        self.quarantine = HeldQuarantine()
        settings, counters = NamedByAggregation(), LaneCounters(self.lanes)
        self._ingest = Ingest(self.ledger, settings, self.quarantine, self.clock)
        self._aggregators = [
            Aggregator(self.lanes, FirstEpoch(), settings, self.quarantine, self.clock)
            for _ in range(2)
        ]
        numbers = iter(range(1, 1 << 30))
        self.adjustments = Adjustments(
            HeldAdjustments(),
            self.ledger,
            settings,
            self.clock,
            lambda size: next(numbers).to_bytes(size),
            InTurn,
        )
        self._report = UsageReport(counters, settings, self.clock)
        self.delivered = 0

    def send(self, body: str) -> list[EventResult]:
        """Take the events of a JSON list."""
        return self._ingest.take(read_json(body.encode()), tenant=DEMO)

    def deliver(self, length: int, *, back: int = 0, process: int = 0) -> None:
        """Bring some of the stream to an aggregator, from some records before what is done."""
        start = max(0, self.delivered - back)
        batch = self._batch(start, start + length)
        folded = self._aggregators[process].fold(batch.shard, batch.records, batch.unreadable)
        assert (folded.failed_from, folded.unfoldable, batch.unreadable) == (None, 0, ())
        self.delivered = max(self.delivered, start + len(batch.records))

    def deliver_all(self) -> None:
        """Bring all of the stream, to whichever aggregator knows less of it."""
        self.deliver(len(self.ledger.stream), back=self.delivered, process=1)

    def _batch(self, start: int, end: int) -> StreamBatch:
        images = enumerate(self.ledger.stream[start:end], start + 1)
        records = [
            {
                "eventName": "INSERT",
                "dynamodb": {"SequenceNumber": str(number), "NewImage": json.loads(text)},
            }
            for number, text in images
        ]
        return read_batch(SHARD | {"Records": records})

    def usage_now(self, customer: str) -> str:
        """The body that `GET /v1/usage/current` answers."""
        body: object = answer(_usage_now(self._report.current(DEMO, CustomerRef(customer)))).body
        assert isinstance(body, str)
        return body

    def months(self, customer: str, metric: str, span: Span) -> Mapping[datetime, Any]:
        """A metric's number by the month, of those that had usage."""
        ref, name = CustomerRef(customer), Metric(metric)
        return dict(self._report.history(DEMO, ref, name, span, Step.MONTH).values)
