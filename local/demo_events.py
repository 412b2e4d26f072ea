"""The demo's input as usage events: each request an `api_calls`, its response `egress_bytes`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import batched
from typing import Any

from local.access_log import Request
from metering import times
from metering.period import CALENDAR_MONTHS

BATCH = 100
QUEUE_EVERY = 8
"""Every so many batches, one goes over SQS."""
SECOND_COPY_AFTER = 5
"""A batch's second copy follows so many batches later, as a retry does."""
YOUNGEST = timedelta(minutes=2)
"""The newest event is this old: no clock is exactly right."""

SentEvent = dict[str, Any]


@dataclass(slots=True)
class Expected:
    """What the log itself adds up to, per metric."""

    events: int = 0
    total: Decimal = Decimal(0)
    per_customer: dict[str, Decimal] = field(default_factory=dict)

    def add(self, customer: str, quantity: Decimal) -> None:
        """Count one event."""
        self.events += 1
        self.total += quantity
        self.per_customer[customer] = self.per_customer.get(customer, Decimal(0)) + quantity


@dataclass(frozen=True, slots=True)
class Delivery:
    """One batch on its way; `over_queue` by SQS instead of HTTPS."""

    events: tuple[SentEvent, ...]
    over_queue: bool


def usage_events(log: Sequence[Request], tenant: str, now: datetime) -> list[SentEvent]:
    """The log's usage, moved so that its newest request lies just before `now`.

    All of it lies in the running month: early in a month the log's days are pressed together.
    """
    latest = max(request.offset_s for request in log)
    month = CALENDAR_MONTHS.period_of(now)
    end = max(now - YOUNGEST, month.start)
    span = min(timedelta(seconds=latest), end - month.start)
    return [
        event
        for request in log
        for event in _events_of(
            request, tenant, end - span * (1 - request.offset_s / max(latest, 1))
        )
    ]


def _events_of(request: Request, tenant: str, at: datetime) -> Iterator[SentEvent]:
    event = {
        "tenantId": tenant,
        "customerRef": request.customer,
        "ts": times.to_iso_ms(at),
        "source": "etl",
    }
    key = f"line-{request.line}"
    yield event | {"metric": "api_calls", "quantity": 1, "idempotencyKey": f"{key}-calls"}
    if request.bytes:
        yield event | {
            "metric": "egress_bytes",
            "quantity": request.bytes,
            "idempotencyKey": f"{key}-bytes",
        }


def expectations(events: Sequence[SentEvent]) -> dict[str, Expected]:
    """What the counters must say, per metric."""
    expected: dict[str, Expected] = {}
    for event in events:
        metric = expected.setdefault(event["metric"], Expected())
        metric.add(event["customerRef"], Decimal(event["quantity"]))
    return expected


def deliveries(events: Sequence[SentEvent]) -> list[Delivery]:
    """Every event twice, in batches; where the first copy goes over SQS the second does not."""
    batches = list(batched(events, BATCH, strict=False))
    planned = []
    for number in range(len(batches) + SECOND_COPY_AFTER):
        if number < len(batches):
            planned.append(Delivery(batches[number], over_queue=number % QUEUE_EVERY == 0))
        if number >= SECOND_COPY_AFTER:
            planned.append(Delivery(batches[number - SECOND_COPY_AFTER], over_queue=False))
    return planned
