"""Builders of what tests send: each names only what its test is about."""

import itertools
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from metering import times
from metering.adapters.dynamodb.ledger_item import to_item
from metering.counter import Aggregation, CounterKey
from metering.event import LedgerEntry, Source, UsageEvent
from metering.mapping import Customer, Mapping
from metering.names import CustomerRef, IdempotencyKey, Identifier, Metric, TenantId
from metering.period import Era
from metering.ports import MeterEvent

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEMO = TenantId("demo")
_numbers = itertools.count(1)


def a_sent_event(**changes: Any) -> dict[str, Any]:
    """An event as a client sends it, with a key of its own unless given one."""
    sent = {
        "tenantId": "demo",
        "metric": "api_calls",
        "customerRef": "cus_A",
        "quantity": 1,
        "ts": "2026-11-20T11:00:00Z",
        "idempotencyKey": f"key-{next(_numbers)}",
    } | changes
    return {name: value for name, value in sent.items() if value is not ...}


def an_entry(  # noqa: PLR0913 (each test names only what it is about)
    quantity: str = "1",
    *,
    key: str | None = None,
    customer: str = "cus_A",
    metric: str = "api_calls",
    at: datetime = NOON,
    received_at: datetime = NOON,
    is_late: bool = False,
    tenant: str = "demo",
) -> LedgerEntry:
    """A ledger entry, with a key of its own unless given one."""
    event = UsageEvent(
        tenant=TenantId(tenant),
        key=IdempotencyKey(key or f"key-{next(_numbers)}"),
        metric=Metric(metric),
        customer=CustomerRef(customer),
        resource=None,
        quantity=Decimal(quantity),
        occurred_at=at,
        meta="{}",
        source=Source.HTTP,
    )
    return LedgerEntry(event, received_at, is_late=is_late)


def a_counter(customer: str = "cus_A", metric: str = "api_calls") -> CounterKey:
    return CounterKey(DEMO, CustomerRef(customer), Metric(metric))


A_MAPPING = Mapping(
    id="map_1",
    tenant=TenantId("acme"),
    metric=Metric("api_calls"),
    aggregation=Aggregation.SUM,
    stripe_account="",
    price_id="price_1",
    subscription_item_id="",
    currency="usd",
    meter_id="mtr_1",
    meter_event_name="event_of_mtr_1",
    scale=0,
    active=True,
    shadow=False,
    shadow_stripe_account="",
    shadow_price_id="",
    shadow_subscription_item_id="",
    created_at=NOON,
    updated_at=NOON,
)
A_METER_EVENT = MeterEvent(
    account="",
    event_name="api_calls",
    customer="cus_A",
    value="10",
    occurred_at=NOON,
    identifier=Identifier("u1.abc.1"),
    idempotency_key="u1.abc.1",
)


def an_http_request(
    body: object, *, headers: dict[str, str] | None = None, query: dict[str, str] | None = None
) -> dict[str, Any]:
    """A POST as API Gateway hands it over (payload 2.0); text goes as it is, the rest as JSON."""
    return {
        "version": "2.0",
        "rawPath": "/v1/events/ingest",
        "headers": {"content-type": "application/json"} | (headers or {}),
        "queryStringParameters": query or {},
        "requestContext": {
            "requestId": "request-1",
            "http": {
                "method": "POST",
                "path": "/v1/events/ingest",
                "sourceIp": "203.0.113.7",
            },
        },
        "body": body if isinstance(body, str) else json.dumps(body),
        "isBase64Encoded": False,
    }


def a_stream_batch(
    entries: Sequence[LedgerEntry], *, first: int = 1, shard: str = "shardId-0001"
) -> dict[str, Any]:
    """An invocation of the aggregator: the entries under rising sequence numbers."""
    return {
        "Records": [
            _stream_record(entry, str(first + offset)) for offset, entry in enumerate(entries)
        ],
        "shardId": shard,
        "eventSourceARN": "arn:aws:dynamodb:us-east-1:1:table/events/stream/1",
        "window": {"start": "2026-11-20T12:00:00Z", "end": "2026-11-20T12:01:00Z"},
        "state": {},
        "isFinalInvokeForWindow": False,
        "isWindowTerminatedEarly": False,
    }


def _stream_record(entry: LedgerEntry, sequence_number: str) -> dict[str, Any]:
    image = to_item(entry, index_shards=0)
    image["h"] = {"B": "AAAA"}
    return {
        "eventID": f"id-{sequence_number}",
        "eventName": "INSERT",
        "eventSource": "aws:dynamodb",
        "dynamodb": {
            "SequenceNumber": sequence_number.zfill(21),
            "ApproximateCreationDateTime": times.to_text(entry.received_at),
            "Keys": {"pk": image["pk"]},
            "NewImage": image,
            "StreamViewType": "NEW_IMAGE",
        },
    }


def a_queue_batch(*bodies: object) -> dict[str, Any]:
    """An invocation by the queue: messages `m-1`, `m-2`, ...; text goes as it is, the rest as JSON.

    A test that sends a message again gives it its place, or a batch of its own.
    """
    return {
        "Records": [
            {
                "messageId": f"m-{number}",
                "receiptHandle": f"handle-{number}",
                "body": body if isinstance(body, str) else json.dumps(body),
                "attributes": {"ApproximateReceiveCount": "1"},
                "messageAttributes": {},
                "eventSource": "aws:sqs",
                "eventSourceARN": "arn:aws:sqs:us-east-1:1:usage-events",
            }
            for number, body in enumerate(bodies, start=1)
        ]
    }


def monthly(anchor: datetime, subscription: str = "sub_1") -> tuple[Era, ...]:
    """The eras of a customer whose subscription has long billed it by the month."""
    since = anchor.replace(year=anchor.year - 1)
    return (Era(since, since, subscription=subscription),)


def a_subscriber(
    ref: str, anchor: datetime, *, stripe_customer: str = "cus_A", tenant: TenantId = DEMO
) -> Customer:
    """A customer whose periods begin each month at an anchor."""
    return Customer(
        tenant,
        CustomerRef(ref),
        stripe_customer,
        subscription="sub_1",
        eras=monthly(anchor),
    )
