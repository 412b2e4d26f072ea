"""Stripe as far as settings need it: meters, prices and subscriptions that a test put there."""

from datetime import datetime
from decimal import Decimal

from metering.delivery import Accepted, Answer
from metering.errors import NotFoundError
from metering.period import BillingCalendar, Span
from metering.ports import MeterEvent, StripeMeter, Subscription, SubscriptionItem
from metering.push import Mode


class FakeBilling:
    """Answers `metering.ports.Billing`; `trouble` is raised instead when it is set."""

    mode = Mode.TEST

    def __init__(self) -> None:
        self.meters: dict[str, StripeMeter | None] = {}
        """By price."""
        self.subscriptions: dict[str, Subscription] = {}
        self.trouble: Exception | None = None
        self.asked: list[tuple[str, str]] = []

    def reach(self) -> None:
        self._ask("", "")

    def send(self, event: MeterEvent) -> Answer:
        return Accepted(replayed=False)

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        self._ask(meter_id, account)
        return Decimal(0)

    def meter_of_price(self, price_id: str, account: str = "") -> StripeMeter | None:
        self._ask(price_id, account)
        if price_id not in self.meters:
            raise NotFoundError(f"no price {price_id} at Stripe, in this account and mode")
        return self.meters[price_id]

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        self._ask(subscription_id, account)
        if subscription_id not in self.subscriptions:
            raise NotFoundError(f"no subscription {subscription_id} at Stripe")
        return self.subscriptions[subscription_id]

    def _ask(self, what: str, account: str) -> None:
        if self.trouble:
            raise self.trouble
        self.asked.append((what, account))


def a_meter(identity: str = "mtr_1", *, formula: str = "sum", active: bool = True) -> StripeMeter:
    return StripeMeter(identity, f"event_of_{identity}", formula, active)


def a_subscription(
    anchor: datetime, now: datetime, *, customer: str = "cus_A", period: Span | None = None
) -> Subscription:
    """A subscription with one metered item, in the period that holds now unless given another."""
    span = period or BillingCalendar(anchor).period_of(now)
    item = SubscriptionItem("si_1", "price_1", "mtr_1", span)
    return Subscription("sub_1", customer, anchor, (item,))
