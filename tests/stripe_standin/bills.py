"""A customer with prices, usage and invoices: what the tests of billing have in common."""

import itertools
from datetime import UTC, datetime
from typing import Any, cast

import stripe

_numbers = itertools.count(1)


def at(text: str) -> int:
    return int(instant(text).timestamp())


def instant(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def text_of(seconds: int | None) -> str | None:
    return None if seconds is None else f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


class Bills:
    """One customer's, with a meter of its own."""

    def __init__(
        self, client: stripe.StripeClient, *, clock: str | None = None, **meter: Any
    ) -> None:
        self.client = client
        self.event_name = f"usage_{next(_numbers)}"
        described = {
            "display_name": "Usage",
            "event_name": self.event_name,
            "default_aggregation": {"formula": "sum"},
        }
        self.meter = client.v1.billing.meters.create(cast("Any", described | meter)).id
        owner: Any = {"name": "Ada"} | ({"test_clock": clock} if clock else {})
        self.customer = client.v1.customers.create(owner).id

    def price(self, *, interval: str = "month", **amounts: Any) -> str:
        """A metered price, 1 cent a unit unless told otherwise."""
        recurring = {"interval": interval, "usage_type": "metered", "meter": self.meter}
        return self._price(recurring, amounts)

    def seats(self, unit_amount: int = 900) -> str:
        return self._price({"interval": "month"}, {"unit_amount": unit_amount})

    def _price(self, recurring: dict[str, Any], amounts: dict[str, Any]) -> str:
        params = {
            "currency": "usd",
            "product_data": {"name": "API"},
            "recurring": recurring,
            **(amounts or {"unit_amount": 1}),
        }
        return self.client.v1.prices.create(cast("Any", params)).id

    def subscribe(self, *prices: str, **given: Any) -> stripe.Subscription:
        items = [{"price": price} for price in prices or (self.price(),)]
        params = {"customer": self.customer, "items": items} | given
        return self.client.v1.subscriptions.create(cast("Any", params))

    def use(self, value: str, when: str) -> None:
        self.client.v1.billing.meter_events.create(
            {
                "event_name": self.event_name,
                "payload": {"stripe_customer_id": self.customer, "value": value},
                "timestamp": at(when),
            }
        )

    def invoices(self, reason: str | None = None) -> list[stripe.Invoice]:
        """The customer's invoices, oldest first."""
        listed = self.client.v1.invoices.list({"customer": self.customer, "limit": 100})
        return [one for one in reversed(listed.data) if reason in (None, one.billing_reason)]

    def cycle(self) -> stripe.Invoice:
        """The newest invoice of a cycle's end."""
        return self.invoices("subscription_cycle")[-1]


def quantities(invoice: stripe.Invoice) -> list[str]:
    return [str(line.quantity_decimal) for line in invoice.lines.data]


def amounts(invoice: stripe.Invoice) -> list[int]:
    return [line.amount for line in invoice.lines.data]
