"""Stripe as far as settings need it: meters, prices and subscriptions that a test put there."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from metering.delivery import Accepted, Answer
from metering.errors import NotFoundError
from metering.period import Era, Span
from metering.ports import (
    MeterEvent,
    StripeMeter,
    StripePrice,
    Subscription,
    SubscriptionItem,
    UsageRecord,
)
from metering.push import Mode


class FakeBilling:
    """Answers `metering.ports.Billing`; `trouble` is raised instead when it is set."""

    mode = Mode.TEST

    def __init__(self) -> None:
        self.meters: dict[str, StripeMeter | None] = {}
        """By price."""
        self.prices: dict[str, StripePrice] = {}
        """What is known of a price beyond its meter; without that it is a legacy metered one."""
        self.subscriptions: dict[str, Subscription] = {}
        self.trouble: Exception | None = None
        self.asked: list[tuple[str, str]] = []

    def reach(self) -> None:
        self._ask("", "")

    def send(self, event: MeterEvent | UsageRecord) -> Answer:
        return Accepted(replayed=False)

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        self._ask(meter_id, account)
        return Decimal(0)

    def hourly(
        self, meter_id: str, customer: str, span: Span, account: str = ""
    ) -> dict[datetime, Decimal]:
        self._ask(meter_id, account)
        return {}

    def records_total(self, subscription_item: str, period: Span, account: str = "") -> Decimal:
        self._ask(subscription_item, account)
        return Decimal(0)

    def meter_of_price(self, price_id: str, account: str = "") -> StripeMeter | None:
        self._ask(price_id, account)
        if price_id not in self.meters:
            raise NotFoundError(f"no price {price_id} at Stripe, in this account and mode")
        return self.meters[price_id]

    def meter(self, meter_id: str, account: str = "") -> StripeMeter:
        self._ask(meter_id, account)
        for meter in self.meters.values():
            if meter is not None and meter.id == meter_id:
                return meter
        raise NotFoundError(f"no meter {meter_id} at Stripe, in this account and mode")

    def price(self, price_id: str, account: str = "") -> StripePrice:
        self._ask(price_id, account)
        if price_id not in self.meters:
            raise NotFoundError(f"no price {price_id} at Stripe, in this account and mode")
        meter = self.meters[price_id]
        return self.prices.get(price_id) or a_price(price_id, meter.id if meter else "")

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        self._ask(subscription_id, account)
        if subscription_id not in self.subscriptions:
            raise NotFoundError(f"no subscription {subscription_id} at Stripe")
        return self.subscriptions[subscription_id]

    def of_customer(self, stripe_customer: str, account: str = "") -> list[Subscription]:
        self._ask(stripe_customer, account)
        return [one for one in self.subscriptions.values() if one.customer == stripe_customer]

    def under_way(self, account: str = "") -> Iterator[Subscription]:
        self._ask("", account)
        return iter(self.subscriptions.values())

    def cancel(self, subscription_id: str, *, invoice_now: bool, account: str = "") -> Subscription:
        raise AssertionError("nothing here cancels a subscription")

    def _ask(self, what: str, account: str) -> None:
        if self.trouble:
            raise self.trouble
        self.asked.append((what, account))


def a_meter(identity: str = "mtr_1", *, formula: str = "sum", active: bool = True) -> StripeMeter:
    return StripeMeter(identity, f"event_of_{identity}", formula, active)


def a_price(identity: str = "price_1", meter_id: str = "mtr_1") -> StripePrice:
    return StripePrice(
        identity, "prod_1", "usd", is_metered=True, meter_id=meter_id, interval="month"
    )


def a_subscription(
    anchor: datetime,
    now: datetime,
    *,
    customer: str = "cus_A",
    period: Span | None = None,
    identity: str = "sub_1",
) -> Subscription:
    """A subscription with one metered item, in the period that holds now unless given another."""
    span = period or Era(anchor, anchor).period_of(now)
    item = SubscriptionItem("si_1", "price_1", "mtr_1", span)
    return Subscription(identity, customer, anchor, (item,))
