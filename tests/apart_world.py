"""A customer whose period was closed by its invoice, for tests of what comes after."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import stripe

from metering.mapping import Customer
from metering.names import Metric
from metering.period import Span
from metering.period_close import PeriodState
from metering.push import PushStream
from metering.reconciliation import Row
from metering.tenant_settings import AfterClose, TenantSettings
from tests.billing_world import BillingWorld
from tests.builders import DEMO, NOON, a_subscriber, an_entry
from tests.closing_world import GRACE, ClosingWorld

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
END = datetime(2026, 12, 20, 12, tzinfo=UTC)
PERIOD = Span(NOON, END)
NEXT_END = END.replace(year=2027, month=1)
TIERS: list[Any] = [
    {"up_to": 12, "unit_amount": 100},
    {"up_to": "inf", "unit_amount": 10, "flat_amount": 500},
]
"""One dollar for each of the first 12; then ten cents, and five dollars for getting there."""


class ApartWorld:
    """A closing world whose tenant has what comes too late billed apart, at a price with tiers."""

    def __init__(self, world: BillingWorld) -> None:
        self.world = world
        self.closing = ClosingWorld(world)
        self.price = self._make_price()
        self.decide(AfterClose.INVOICE_ITEM)
        world.customer("cus_A")

    def _make_price(self) -> stripe.Price:
        mapping = self.world.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
        assert mapping is not None
        price = self.world.stripe.v1.prices.create(
            {
                "product_data": {"name": "Calls"},
                "currency": "usd",
                "billing_scheme": "tiered",
                "tiers_mode": "graduated",
                "tiers": TIERS,
                "recurring": {
                    "interval": "month",
                    "usage_type": "metered",
                    "meter": mapping.meter_id,
                },
            }
        )
        changed = replace(mapping, price_id=price.id)
        self.world.wiring.settings_store.change_mapping(mapping, changed)
        return price

    def decide(self, policy: AfterClose, *, holds_invoices: bool = True) -> None:
        """What becomes of usage after the close."""
        settings = TenantSettings(DEMO, after_close=policy, holds_invoices=holds_invoices)
        self.world.wiring.settings_store.put_tenant(settings)

    # --- what happens ---

    def begin(self, quantity: str = "10") -> None:
        """A subscription begins, and so much of its first period is told."""
        self.closing.subscribe(price=self.price)
        self.closing.close()
        self.world.advance(MINUTE)
        if quantity != "0":
            self.world.use(quantity)
            self.world.write_until_settled()

    def end_period(self) -> None:
        """The period's invoice is finalized by Stripe, and we have seen it."""
        for after in (MINUTE, 46 * MINUTE, GRACE + MINUTE):
            self.closing.go_to(END + after)
            self.closing.close()
        assert self.closing.closing(NOON).state is PeriodState.CLOSED

    def use_late(self, quantity: str, **about: Any) -> None:
        """Usage of the closed period, counted now."""
        now = self.world.clock.now()
        entry = an_entry(quantity, **({"at": END - HOUR, "received_at": now} | about))
        self.world.use_all([entry])

    def subscriber(self, ref: str = "cus_A") -> Customer:
        """A customer as its subscription says, known before it used anything."""
        [found] = self.world.stripe.v1.subscriptions.list({"customer": "cus_A"}).data
        known = a_subscriber(ref, NOON, stripe_customer="cus_A")
        eras = tuple(replace(era, subscription=found.id) for era in known.eras)
        return replace(known, subscription=found.id, eras=eras)

    # --- what is seen ---

    def stream(self, customer: str = "cus_A") -> PushStream:
        return self.world.stream(customer, period=PERIOD)

    def items(self, customer: str = "cus_A") -> list[stripe.InvoiceItem]:
        """The customer's invoice items at Stripe, oldest first."""
        return self.world.stripe.v1.invoice_items.list({"customer": customer, "limit": 100}).data[
            ::-1
        ]

    def amounts(self, customer: str = "cus_A") -> list[int]:
        return [item.amount for item in self.items(customer)]

    def closing_row(self) -> Row:
        """The closed period's row of a report that reads everything anew."""
        self.world.reconcile(tenantId=DEMO, period="2026-11", verify=True)
        (found,) = (one for one in self.world.report().rows if one.period.start == NOON)
        return found
