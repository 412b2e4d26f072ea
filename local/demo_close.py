"""The demo's last part: a month ends, its invoices become final, and say what the ledger says.

The customers with most usage are subscribed before anything is sent. Then time is moved to the
month's end, where Stripe drafts their invoices, and past the hour in which drafts take late usage.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import httpx
import stripe
from rich.table import Table

from local.demo_events import Expected
from local.runner import STRIPE_KEY
from local.seed import METRICS, DemoMetric
from local.stack import DEMO_TENANT, Stack
from local.stripe.control import StandIn
from metering.period import CALENDAR_MONTHS, Span
from metering.period_close import CLOSE_GRACE

SUBSCRIBERS = 25
AFTER = timedelta(minutes=1)
"""How far time is moved beyond an instant at which something happens at Stripe."""
CENTS = Decimal(100)


@dataclass(frozen=True, slots=True)
class Subscribers:
    """Whose month is closed: it is the period of their subscriptions."""

    customers: tuple[str, ...]
    prices: Mapping[str, str]
    """By metric."""
    month: Span

    @property
    def month_text(self) -> str:
        """As `YYYY-MM`."""
        return f"{self.month.start:%Y-%m}"


@dataclass(frozen=True, slots=True)
class Line:
    """What an invoice bills of one metric."""

    customer: str
    invoice: str
    metric: str
    quantity: Decimal
    cents: Decimal


@dataclass(frozen=True, slots=True)
class Billed:
    """One metric of the closed month, all subscribers together."""

    metric: str
    ledger: Decimal
    invoiced: Decimal
    invoices: int
    cents: Decimal
    wrong_customers: int

    @property
    def agrees(self) -> bool:
        """Whether each customer's line bills what log and ledger add up to, at the right amount."""
        return self.ledger == self.invoiced and not self.wrong_customers


@dataclass(frozen=True, slots=True)
class ClosedMonth:
    """What came of the subscribers' month."""

    metrics: tuple[Billed, ...]
    troubles: tuple[str, ...]
    """Periods that are not closed by their invoice, and differences that the reconciler found."""
    example: str

    @property
    def agrees(self) -> bool:
        """Whether all of it is closed, reconciled and billed to the last unit."""
        return not self.troubles and all(metric.agrees for metric in self.metrics)


# --- before the usage -----------------------------------------------------------------------------


def subscribe(
    stack: Stack, prices: Mapping[str, str], expected: Mapping[str, Expected]
) -> Subscribers:
    """Give the heaviest customers subscriptions that began with the running month.

    Stripe bills what was used before a backdated subscription existed: in classic billing mode with
    the period's own invoice, in flexible mode with a first one at once.
    """
    month = CALENDAR_MONTHS.period_of(stack.now())
    subscribers = Subscribers(_heaviest(expected), prices, month)
    with StandIn(stack.stripe_url) as stand_in:
        client = stripe.StripeClient(STRIPE_KEY, base_addresses=stand_in.base_addresses())
    with httpx.Client(base_url=stack.api_url, timeout=30) as api:
        for customer in subscribers.customers:
            subscription = _subscription(client, customer, subscribers)
            change = {"tenantId": DEMO_TENANT, "subscription": subscription}
            api.put(f"/v1/customers/{customer}", json=change).raise_for_status()
    return subscribers


def _heaviest(expected: Mapping[str, Expected]) -> tuple[str, ...]:
    """By their requests."""
    requests = expected[METRICS[0].name].per_customer
    ordered = sorted(requests, key=lambda customer: (-requests[customer], customer))
    return tuple(ordered[:SUBSCRIBERS])


def _subscription(client: stripe.StripeClient, customer: str, subscribers: Subscribers) -> str:
    made = client.v1.subscriptions.create(
        {
            "customer": customer,
            "items": [{"price": price} for price in subscribers.prices.values()],
            "billing_mode": {"type": "classic"},
            "backdate_start_date": int(subscribers.month.start.timestamp()),
            "billing_cycle_anchor": int(subscribers.month.end.timestamp()),
        }
    )
    return made.id


# --- the month's end ------------------------------------------------------------------------------


def close(stack: Stack, subscribers: Subscribers) -> None:
    """Let the month end, and then the hour in which its drafts still take usage."""
    asked = {"tenantId": DEMO_TENANT, "customerRefs": subscribers.customers}
    for instant in (subscribers.month.end, subscribers.month.end + CLOSE_GRACE):
        stack.advance_to(instant + AFTER)
        stack.run("period_closer", **asked)


def closed_month(
    stack: Stack, subscribers: Subscribers, expected: Mapping[str, Expected]
) -> ClosedMonth:
    """The month as ledger, product and Stripe have it now."""
    rows = list(_rows(stack, subscribers))
    lines = list(_lines(stack, subscribers))
    ledger = {(row["metric"], row["customerRef"]): row["localTotal"] for row in rows}
    return ClosedMonth(
        tuple(
            _billed(metric, expected[metric.name], ledger, lines, subscribers.customers)
            for metric in METRICS
            if metric.name in expected
        ),
        (*_unreconciled(rows), *_unclosed(stack, subscribers)),
        _example(lines),
    )


def _billed(
    metric: DemoMetric,
    expected: Expected,
    ledger: Mapping[tuple[str, str], Decimal],
    lines: Sequence[Line],
    customers: Iterable[str],
) -> Billed:
    own = {line.customer: line for line in lines if line.metric == metric.name}
    kept = {one: ledger.get((metric.name, one), Decimal(0)) for one in customers}
    right = {
        customer
        for customer, quantity in kept.items()
        if quantity == expected.per_customer.get(customer, 0)
        and customer in own
        and own[customer].quantity == quantity
        and own[customer].cents == metric.cents(quantity)
    }
    return Billed(
        metric.name,
        sum(kept.values(), Decimal(0)),
        sum((line.quantity for line in own.values()), Decimal(0)),
        len({line.invoice for line in own.values()}),
        sum((line.cents for line in own.values()), Decimal(0)),
        len(kept) - len(right),
    )


def _rows(stack: Stack, subscribers: Subscribers) -> Iterator[dict[str, Any]]:
    """The latest reconciliation's rows of the subscribers."""
    body = _get(stack, f"/v1/reconciliation/{subscribers.month_text}")
    return (
        row
        for row in body["reports"]
        if row["customerRef"] in subscribers.customers and row["metric"] in subscribers.prices
    )


def _lines(stack: Stack, subscribers: Subscribers) -> Iterator[Line]:
    """What the stand-in's final invoices of the month bill, asked past the product."""
    metrics = {price: metric for metric, price in subscribers.prices.items()}
    with StandIn(stack.stripe_url) as stand_in:
        invoices = stand_in.invoices()
    for invoice in invoices:
        if invoice["period_end"] != subscribers.month.end.timestamp() or _is_draft(invoice):
            continue
        for line in invoice["lines"]:
            yield Line(
                invoice["customer"],
                invoice["number"],
                metrics[line["pricing"]["price_details"]["price"]],
                Decimal(line["quantity_decimal"]),
                Decimal(line["amount"]),
            )


def _is_draft(invoice: Mapping[str, Any]) -> bool:
    return bool(invoice["status"] == "draft")


def _unreconciled(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if row["status"] != "ok" or row["invoicedTotal"] != row["localTotal"]:
            yield f"{row['metric']} of {row['customerRef']}: {row['explanation'] or 'not invoiced'}"


def _unclosed(stack: Stack, subscribers: Subscribers) -> Iterator[str]:
    periods = _get(stack, f"/v1/periods/{subscribers.month_text}")
    by_customer = {period["customerRef"]: period for period in periods}
    for customer in subscribers.customers:
        period = by_customer.get(customer, {"state": "open", "invoice": "", "message": "not begun"})
        if period["state"] != "closed" or period["message"] != f"closed by {period['invoice']}":
            yield f"the month of {customer} is {period['state']}: {period['message']}"


def _get(stack: Stack, path: str) -> Any:
    query = {"tenantId": DEMO_TENANT}
    answer = httpx.get(f"{stack.api_url}{path}", params=query, timeout=60).raise_for_status()
    return json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)


# --- showing --------------------------------------------------------------------------------------


def _example(lines: Iterable[Line]) -> str:
    """The greatest invoice, in a sentence."""
    by_invoice: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_invoice[line.invoice].append(line)
    greatest = max(by_invoice.values(), key=_cents, default=[])
    if not greatest:
        return "there is no invoice"
    parts = " and ".join(f"{line.quantity:,} {line.metric}" for line in greatest)
    first = greatest[0]
    return f"invoice {first.invoice} of {first.customer}: {parts}, {_dollars(_cents(greatest))}"


def _cents(lines: Iterable[Line]) -> Decimal:
    return sum((line.cents for line in lines), Decimal(0))


def _dollars(cents: Decimal) -> str:
    return f"${cents / CENTS:,.2f}"


def table(closed: ClosedMonth, subscribers: Subscribers) -> Table:
    """The month on the subscribers' invoices."""
    title = f"{subscribers.month.start:%B}, closed, for {len(subscribers.customers)} customers"
    shown = Table(title=title)
    shown.add_column("")
    for metric in closed.metrics:
        shown.add_column(metric.metric, justify="right")
    shown.add_row("in the ledger", *(f"{one.ledger:,}" for one in closed.metrics))
    shown.add_row("on their invoices", *(f"{one.invoiced:,}" for one in closed.metrics))
    shown.add_row("invoices", *(f"{one.invoices:,}" for one in closed.metrics))
    shown.add_row("billed", *(_dollars(one.cents) for one in closed.metrics), end_section=True)
    shown.add_row("", *(_verdict(one) for one in closed.metrics))
    return shown


def _verdict(metric: Billed) -> str:
    if metric.agrees:
        return "[green]agree[/]"
    return f"[red]differ ({metric.wrong_customers} customers)[/]"
