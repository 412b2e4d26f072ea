"""One tenant of a running stack, as its own programs and its Stripe account see it."""

import itertools
import json
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from operator import itemgetter
from types import TracebackType
from typing import Any, Literal, Self

import httpx
import stripe

from local import queues
from local.runner import STRIPE_KEY
from local.stack import Stack
from local.stripe.control import StandIn
from metering.adapters.clock import SystemClock
from metering.auth import DEFAULT_SCOPES, Scope
from metering.config import Config
from metering.names import TenantId
from metering.period import CALENDAR_MONTHS, Span
from metering.push import ceil_minute
from metering.times import to_text
from metering.wiring import Wiring

TOLD_WITHIN_S = 25.0
"""A push that met trouble is sent again after 5 s, then 10 s, less up to a half."""
SETTINGS_CACHE_S = 2.1
"""What `local.runner` lets functions cache settings for, and a little."""
STATIONS = ("localTotal", "countedTotal", "pushedTotal", "stripeTotal")
_numbers = itertools.count(1)


class Shop:
    """A tenant, its meters and its customers; every name in it is its own."""

    def __init__(self, stack: Stack, name: str) -> None:
        number = next(_numbers)
        self.tenant = f"{name}-{number}"
        self.customer = f"cus_{number}_of_{name}"
        self._meters: dict[str, str] = {}
        self._prices: dict[str, str] = {}
        self._connect(stack)

    def _connect(self, stack: Stack) -> None:
        self.stack = stack
        self._ahead = stack.now() - SystemClock().now()
        self.api = httpx.Client(base_url=stack.api_url, timeout=30, trust_env=False)
        self._stand_in = StandIn(stack.stripe_url)
        self._stripe = stripe.StripeClient(
            STRIPE_KEY, base_addresses=self._stand_in.base_addresses()
        )

    def moved_to(self, stack: Stack) -> Self:
        """The same tenant, on a stack that was started anew."""
        self._connect(stack)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give back the connections."""
        self.api.close()
        self._stand_in.close()

    def shows_key(self, *scopes: Scope) -> None:
        """Call with an API key from now on, with a project's scopes unless told which."""
        chosen = scopes or DEFAULT_SCOPES
        issued = self.wiring().key_issuer.create_key(TenantId(self.tenant), chosen)
        self.api.headers["authorization"] = f"Bearer {issued.text}"

    # --- at Stripe ---

    def price(self, metric: str, interval: Literal["day", "month"] = "month") -> str:
        """A metered price with a meter of its own."""
        meter = self._stripe.v1.billing.meters.create(
            {
                "display_name": metric,
                "event_name": self.event_name(metric),
                "default_aggregation": {"formula": "sum"},
            }
        )
        self._meters[metric] = meter.id
        price = self._stripe.v1.prices.create(
            {
                "currency": "usd",
                "product_data": {"name": metric},
                "unit_amount_decimal": Decimal("0.1"),
                "recurring": {"interval": interval, "usage_type": "metered", "meter": meter.id},
            }
        )
        self._prices[metric] = price.id
        return price.id

    def event_name(self, metric: str) -> str:
        """The meter's, no other tenant's."""
        return f"{self.tenant}.{metric}"

    def meter_id(self, metric: str) -> str:
        """Of the meter behind the price."""
        return self._meters[metric]

    def known_at_stripe(self, *customers: str) -> None:
        """Let customers exist."""
        self._stand_in.add_customers(customers)

    def at_stripe(self, metric: str, customer: str | None = None) -> Decimal:
        """The running month's total, by the SDK's event summaries."""
        now = self.now()
        end = ceil_minute(now) + timedelta(minutes=1)
        summaries = self._stripe.v1.billing.meters.event_summaries.list(
            self._meters[metric],
            {
                "customer": customer or self.customer,
                "start_time": int(CALENDAR_MONTHS.period_of(now).start.timestamp()),
                "end_time": int(end.timestamp()),
            },
        )
        return sum((Decimal(str(one.aggregated_value)) for one in summaries.data), Decimal(0))

    def subscribes(self, *metrics: str) -> Span:
        """Have the customer pay what it uses of some metrics; its first billing period."""
        items: Any = [{"price": self._prices[metric]} for metric in metrics]
        made = self._stripe.v1.subscriptions.create({"customer": self.customer, "items": items})
        customer = self.call("PUT", f"/v1/customers/{self.customer}", {"subscription": made.id})
        period = customer["period"]
        return Span(instant(period["start"]), instant(period["end"]))

    def billed(self, period: Span) -> dict[str, Decimal]:
        """What the final invoice of a period bills of each metric, asked past the product."""
        metrics = {price: metric for metric, price in self._prices.items()}
        [invoice] = [
            one
            for one in self._stand_in.invoices(self.customer)
            if one["period_end"] == period.end.timestamp() and one["status"] == "paid"
        ]
        return {
            metrics[line["pricing"]["price_details"]["price"]]: Decimal(line["quantity_decimal"])
            for line in invoice["lines"]
        }

    # --- time ---

    def now(self) -> datetime:
        """The stack's present instant."""
        return SystemClock().now() + self._ahead

    def moves_to(self, moment: datetime) -> None:
        """Let time pass until an instant."""
        self._ahead = self.stack.advance_to(moment) - SystemClock().now()

    # --- settings ---

    def maps(
        self, metric: str, *, interval: Literal["day", "month"] = "month", **more: object
    ) -> Any:
        """Map a metric by nothing but a new price; the mapping as it stands."""
        self.known_at_stripe(self.customer)
        price = self.price(metric, interval)
        mapping = {"metric": metric, "aggregation": "sum", "priceId": price}
        return self.call("POST", "/v1/mappings", {**mapping, **more})

    def sets(self, metric: str, **settings: object) -> Any:
        """Change a metric's settings."""
        return self.call("PUT", f"/v1/metrics/{metric}", settings)

    def settings_are_known(self) -> None:
        """Wait until no function answers from what it read before."""
        time.sleep(SETTINGS_CACHE_S)

    # --- events ---

    def event(self, **fields: Any) -> dict[str, Any]:
        """An event of now, with a key of its own unless told otherwise."""
        event = {
            "tenantId": self.tenant,
            "metric": "api_calls",
            "customerRef": self.customer,
            "quantity": 1,
            "ts": to_text(self.now() - timedelta(seconds=1)),
            "idempotencyKey": f"key-{next(_numbers)}",
        }
        return event | fields

    def events(self, count: int, **fields: Any) -> list[dict[str, Any]]:
        """Several."""
        return [self.event(**fields) for _ in range(count)]

    def sends(self, *events: Mapping[str, Any]) -> Any:
        """The answer's body; every event is answered for."""
        body = self.call("POST", "/v1/events/ingest", {"events": events})
        assert len(body["results"]) == len(events)
        return body

    def queues(self, body: object) -> None:
        """Send one message over SQS; text goes as it is."""
        text = body if isinstance(body, str) else to_json(body)
        sqs = queues.client(self.stack.sqs_endpoint)
        sqs.send_message(QueueUrl=self.stack.queue_url, MessageBody=text)

    def is_counted(self) -> None:
        """Wait until everything that was sent is in its counter."""
        self.stack.drain()

    # --- what became of them ---

    def usage(self, customer: str | None = None) -> dict[str, Any]:
        """The running month by metric, as the API shows it."""
        body = self.call("GET", "/v1/usage/current", customerRef=customer or self.customer)
        return {metric["name"]: metric for metric in body["metrics"]}

    def counted(self, metric: str = "api_calls", customer: str | None = None) -> Decimal:
        """A counter's number."""
        usage = self.usage(customer)
        return Decimal(usage[metric]["current"]) if metric in usage else Decimal(0)

    def trace(self, event: Mapping[str, Any]) -> Any:
        """What became of an event."""
        return self.call("GET", "/v1/events/trace", idempotencyKey=event["idempotencyKey"])

    def is_told(self) -> dict[str, Any]:
        """Run the writer until it has nothing left to tell; its last answer."""
        deadline = time.monotonic() + TOLD_WITHIN_S
        while True:
            report: dict[str, Any] = self.stack.run("writer")
            if report["complete"] and not report["open"] and not report["must_return"]:
                return report
            assert time.monotonic() < deadline, f"the writer does not finish: {report}"
            if report["open"]:
                time.sleep(0.2)  # a push that met trouble waits for its next attempt

    def is_compared(self) -> dict[tuple[str, str], Any]:
        """Reconcile now; the report's lines by metric and customer."""
        lines = self.compared(f"{self.now():%Y-%m}")
        return {(line["metric"], line["customerRef"]): line for line in lines}

    def compared(self, month: str) -> list[Any]:
        """The same for the periods that begin in a month, in the order of time."""
        self.stack.run(
            "reconciler", tenantId=self.tenant, period=month, verify=True, readsMax=10**6
        )
        report = self.call("GET", f"/v1/reconciliation/{month}")
        return sorted(report["reports"], key=itemgetter("periodStart"))

    # --- the ends of billing periods ---

    def closes(self) -> dict[datetime, dict[str, Any]]:
        """Let the closer run; the customer's billing periods by their starts."""
        self.stack.run("period_closer")
        return self.periods()

    def periods(self) -> dict[datetime, dict[str, Any]]:
        """The customer's billing periods by their starts."""
        periods = self.call("GET", "/v1/periods", customerRef=self.customer)
        return {instant(period["period"]["start"]): period for period in periods}

    def call(self, method: str, path: str, body: object = None, **query: str | int | bool) -> Any:
        """A call that succeeds; the answer's JSON, every number with all its digits."""
        parameters = {"tenantId": self.tenant, **query}
        content = None if body is None else to_json(body)
        headers = {"content-type": "application/json"}
        answer = self.api.request(method, path, params=parameters, content=content, headers=headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return from_json(answer.text)

    def wiring(self) -> Wiring:
        """Our own adapters on the stack's tables, for what the API does not show."""
        return Wiring(Config(dynamodb_endpoint=self.stack.dynamodb_endpoint, event_index_shards=1))


def to_json(body: object) -> str:
    """JSON with `Decimal`s as numbers, digit by digit."""
    return re.sub(r'"@number@([^"]*)"', r"\1", json.dumps(body, default="@number@{}".format))


def from_json(text: str) -> Any:
    """JSON with every digit kept."""
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def instant(text: str) -> datetime:
    """A time of the API's."""
    return datetime.fromisoformat(text).astimezone(UTC)
