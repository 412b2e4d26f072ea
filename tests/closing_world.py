"""Subscriptions and invoices in the Stripe stand-in, for tests of closing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import stripe

from functions.period_closer.handler import handler as close_periods
from infra.functions import PERIOD_CLOSER
from metering.mapping import Customer
from metering.names import CustomerRef
from metering.notice import Notice, NoticeKind
from metering.period import Span
from metering.period_close import PeriodClose
from tests.billing_world import BillingWorld, Context
from tests.builders import DEMO

GRACE = timedelta(hours=1)
RUNS_MAX = 100


class ClosingWorld:
    """A billing world whose customers have subscriptions."""

    def __init__(self, world: BillingWorld) -> None:
        self.world = world
        mapping = world.map()
        self.price = self.make_price(mapping.meter_id)
        world.wiring.settings_store.change_mapping(
            mapping, replace(mapping, price_id=self.price.id)
        )

    @classmethod
    def over(cls, world: BillingWorld) -> "ClosingWorld":
        """The same over a world whose meters and prices a test makes itself."""
        closing = cls.__new__(cls)
        closing.world = world
        return closing

    def make_price(self, meter_id: str, interval: Any = "month") -> stripe.Price:
        """A price of one cent a unit."""
        product = self.world.stripe.v1.products.create({"name": "Calls"})
        return self.world.stripe.v1.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": 1,
                "recurring": {"interval": interval, "usage_type": "metered", "meter": meter_id},
            }
        )

    def subscribe(
        self, customer: str = "cus_A", price: stripe.Price | None = None, **about: Any
    ) -> stripe.Subscription:
        """A subscription that starts now."""
        self.world.stand_in.add_customers([customer])
        items = [{"price": (price or self.price).id}]
        parameters: Any = {"customer": customer, "items": items} | about
        return self.world.stripe.v1.subscriptions.create(parameters)

    # --- what happens ---

    def close(self, **event: object) -> dict[str, Any]:
        """One run of the closer."""
        return close_periods(event, Context(PERIOD_CLOSER))

    def go_to(self, instant: datetime) -> None:
        """It is that instant now, for us and for Stripe."""
        self.world.set_time(instant)

    def run_until(self, end: datetime, every: timedelta | None = None) -> None:
        """Runs of the closer up to an instant, whenever one is due or some time apart."""
        self.close()
        for _ in range(RUNS_MAX):
            now = self.world.clock.now()
            if now >= end:
                return
            self.go_to(min(now + every if every else self._next_look(now), end))
            self.close()
        raise AssertionError(f"more than {RUNS_MAX} runs up to {end}")

    def _next_look(self, now: datetime) -> datetime:
        unfinished = self.world.wiring.period_closes.unfinished()
        looks = [one.next_look_at for one in unfinished if one.next_look_at]
        return max(min(looks, default=now + timedelta(days=1)), now + timedelta(minutes=1))

    def notice(self, kind: NoticeKind, customer: str = "cus_A", identity: str = "evt_1") -> None:
        """A notice from Stripe, as the webhook keeps it."""
        now = self.world.clock.now()
        kept = Notice(identity, kind, f"{kind}.x", "", customer, "", False, now, now)  # noqa: FBT003
        assert self.world.wiring.notices.keep(kept)

    # --- what is seen ---

    def customer(self, ref: str = "cus_A") -> Customer:
        """A customer as it stands."""
        found = self.world.wiring.settings_store.stored_customer(DEMO, CustomerRef(ref))
        assert found is not None
        return found

    def closing(self, start: datetime, ref: str = "cus_A") -> PeriodClose:
        """The close of the period that begins somewhere."""
        period = self.world.wiring.settings.customer(DEMO, CustomerRef(ref)).calendar.period_of(
            start
        )
        found = self.world.wiring.period_closes.of(DEMO, CustomerRef(ref), period)
        assert found is not None
        return found

    def invoice_of(self, close: PeriodClose) -> stripe.Invoice:
        """A close's invoice at Stripe."""
        return self.world.stripe.v1.invoices.retrieve(close.invoice)

    def usage_in(self, period: Span, ref: str = "cus_A") -> Decimal:
        """What the counters hold of a period."""
        usage = self.world.wiring.counters.usage(DEMO, CustomerRef(ref), period)
        return sum((one.counted.sum for one in usage.values()), Decimal(0))

    def reads(self) -> int:
        """How many reads the stand-in has answered."""
        return sum(1 for one in self.world.stand_in.requests() if one["method"] == "GET")

    @contextmanager
    def lagging(self, by: timedelta) -> Iterator[None]:
        """Stripe's summaries lag."""
        self.world.stand_in.set(summary_delay_s=by.total_seconds())
        yield
        self.world.stand_in.set(summary_delay_s=0)
