"""How tests look at what came of it: answers of handlers, counters, the ledger."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from functions.aggregator.handler import handler as aggregate
from functions.ingest.handler import handler as ingest_handler
from metering.adapters.dynamodb.lane_store import DynamoLaneStore
from metering.counter import Usage, total, usage_of
from metering.event import LedgerEntry
from metering.lane_folder import StoredLane
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.wiring import Wiring, using_here
from tests.builders import DEMO, a_stream_batch, an_http_request

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

EVER = Span(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC))


class Answer(NamedTuple):
    """What an HTTP function answered."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def statuses(self) -> list[str]:
        """What became of each event."""
        return [result["status"] for result in self.body["results"]]

    @property
    def errors(self) -> list[tuple[int, str]]:
        """Index and text of each error."""
        return [(error["index"], error["error"]) for error in self.body.get("errors", [])]


def post(
    body: object, *, headers: dict[str, str] | None = None, query: dict[str, str] | None = None
) -> Answer:
    """Send an ingest request to the handler."""
    answer = ingest_handler(an_http_request(body, headers=headers, query=query), None)
    return Answer(answer["statusCode"], json.loads(answer["body"]), answer["headers"])


def send(*events: object, **request: Any) -> Answer:
    """Send events in one ingest request."""
    return post({"events": list(events)}, **request)


def ledger_of(wiring: Wiring, tenant: TenantId = DEMO) -> list[LedgerEntry]:
    """A tenant's entries, in the order of their keys."""
    return sorted(wiring.ledger.of_tenant(tenant), key=lambda entry: entry.event.key)


def counted(
    wiring: Wiring, customer: str = "cus_A", metric: str = "api_calls", tenant: str = "demo"
) -> Usage:
    """All that a counter holds, read anew."""
    counters = another_process(wiring).counters
    usage = counters.usage(TenantId(tenant), CustomerRef(customer), EVER)
    return total(part for (of_metric, _), part in usage.items() if of_metric == Metric(metric))


def true_usage(entries: Iterable[LedgerEntry]) -> Usage:
    """What a counter must hold of these entries."""
    return total(map(usage_of, entries))


def of_customer(entries: Sequence[LedgerEntry], customer: str) -> list[LedgerEntry]:
    """The entries of one customer."""
    return [entry for entry in entries if entry.event.customer == customer]


def fold(
    wiring: Wiring, entries: Sequence[LedgerEntry], *, first: int = 1, shard: str = "shardId-0001"
) -> list[str]:
    """Deliver a stream batch to the aggregator of a process; where the stream must come again."""
    with using_here(wiring):
        answer = aggregate(a_stream_batch(entries, first=first, shard=shard), None)
    assert answer["state"] == {}
    return [failure["itemIdentifier"] for failure in answer["batchItemFailures"]]


def another_process(wiring: Wiring, dynamodb: "DynamoDBClient | None" = None) -> Wiring:
    """A process of the same deployment that has nothing in its memory."""
    return Wiring(wiring.config, clock=wiring.clock, dynamodb=dynamodb or wiring.dynamodb)


def lanes_of(wiring: Wiring) -> list[StoredLane]:
    """Every lane of the deployment."""
    store = DynamoLaneStore(wiring.dynamodb, wiring.table("counters"))
    return sorted(store.stored_lanes(), key=lambda stored: stored.key)
