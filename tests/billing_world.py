"""A small world for writer and reconciler: real tables, the real SDK, the Stripe stand-in."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import stripe

from functions.reconciler.handler import handler as reconcile
from functions.writer.handler import handler as write
from infra.functions import RECONCILER, WRITER, Function
from local.stripe.control import StandIn
from metering.advance import World as WriterWorld
from metering.apart import ApartPorts
from metering.counter import Aggregation, CounterKey
from metering.event import LedgerEntry
from metering.mapping import Customer, Mapping
from metering.names import CustomerRef, Metric, TenantId
from metering.period import CALENDAR_MONTHS, Span
from metering.push import PushStream
from metering.reconciliation import Report, Row
from metering.threads import InTurn
from metering.wiring import Wiring
from metering.writer import Writer
from tests.api_client import meter
from tests.builders import DEMO, NOON, a_subscriber, an_entry
from tests.conftest import SetClock

NOVEMBER = CALENDAR_MONTHS.period_of(NOON)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


class Context:
    """Lambda's, with all of a function's time left."""

    aws_request_id = "request-1"

    def __init__(self, function: Function) -> None:
        self._function = function

    def get_remaining_time_in_millis(self) -> int:
        return self._function.timeout_s * 1000


@dataclass
class BillingWorld:
    """Everything a test of writer and reconciler touches; one clock for us and for Stripe."""

    wiring: Wiring
    clock: SetClock
    stand_in: StandIn

    # --- set-up ---

    def map(
        self,
        metric: str = "api_calls",
        *,
        scale: int = 0,
        aggregation: Aggregation = Aggregation.SUM,
        event_name: str = "",
        window: str = "",
        tenant: TenantId = DEMO,
    ) -> Mapping:
        """Make a Stripe meter and map a metric onto it."""
        event_name = event_name or metric
        about: Any = {
            "display_name": event_name,
            "event_name": event_name,
            "default_aggregation": {
                "formula": "last" if aggregation is Aggregation.LAST else "sum"
            },
        }
        if window:
            about["event_time_window"] = window
        made = self.stripe.v1.billing.meters.create(about)
        mapping = Mapping(
            id=f"map_{tenant}_{metric}",
            tenant=tenant,
            metric=Metric(metric),
            aggregation=aggregation,
            stripe_account="",
            price_id="",
            subscription_item_id="",
            currency="usd",
            meter_id=made.id,
            meter_event_name=event_name,
            scale=scale,
            active=True,
            shadow=False,
            shadow_stripe_account="",
            shadow_price_id="",
            shadow_subscription_item_id="",
            created_at=self.clock.now(),
            updated_at=self.clock.now(),
            meter_window=window,
        )
        self.wiring.settings_store.add_mapping(mapping)
        return mapping

    def customer(self, ref: str, stripe_customer: str = "", anchor: datetime | None = None) -> None:
        """Say who a customer is at Stripe."""
        known = stripe_customer or ref
        self.stand_in.add_customers([known])
        self.wiring.settings_store.put_customer(
            a_subscriber(ref, anchor, stripe_customer=known)
            if anchor
            else Customer(DEMO, CustomerRef(ref), known)
        )

    @property
    def stripe(self) -> stripe.StripeClient:
        """The SDK, as anybody would use it on this Stripe."""
        return stripe.StripeClient("sk_test_x", base_addresses=self.stand_in.base_addresses())

    # --- what happens ---

    def use(self, quantity: str = "1", **about: Any) -> None:
        """One usage event, accepted and counted now."""
        now = self.clock.now()
        self.use_all([an_entry(quantity, **({"at": now, "received_at": now} | about))])

    def use_all(self, entries: Sequence[LedgerEntry]) -> None:
        """Usage events, accepted and counted."""
        meter(self.wiring, entries)

    def write(self) -> dict[str, Any]:
        """One run of the writer."""
        return write({}, Context(WRITER))

    def write_until_settled(self, runs_max: int = 20, every: timedelta = 2 * MINUTE) -> None:
        """Runs of the writer, some time apart, until it leaves nothing open."""
        for _ in range(runs_max):
            run = self.write()
            if run.get("complete") and not run["open"] and not run["must_return"]:
                return
            self.advance(every)
        raise AssertionError(f"still not settled: {run}")

    def reconcile(self, **event: Any) -> dict[str, Any]:
        """One run of the reconciler."""
        return reconcile(event, Context(RECONCILER))

    def advance(self, by: timedelta) -> None:
        """Time passes, for us and for Stripe."""
        self.set_time(self.clock.now() + by)

    def set_time(self, now: datetime) -> None:
        """It is that instant now, for us and for Stripe."""
        self.clock.set(now)
        self.stand_in.stand_at(now)

    # --- what is seen ---

    def told(self, customer: str = "cus_A", metric: str = "api_calls") -> Decimal:
        """What Stripe's meter holds, at once."""
        return self.stand_in.total(metric, customer)

    def told_in(self, period: Span, customer: str = "cus_A", metric: str = "api_calls") -> Decimal:
        """What Stripe's meter holds of a billing period."""
        mapping = self.wiring.settings.active_mapping(DEMO, Metric(metric))
        assert mapping is not None
        now = self.clock.now().replace(second=0, microsecond=0) + MINUTE
        span = Span(period.start, min(period.end, now))
        return self.wiring.billing.total(mapping.meter_id, customer, span)

    def events(self, customer: str = "cus_A", metric: str = "api_calls") -> int:
        """How many meter events Stripe counted."""
        found = self.stand_in.totals().get((metric, customer))
        return found.events if found else 0

    def stream(
        self, customer: str = "cus_A", metric: str = "api_calls", period: Span = NOVEMBER
    ) -> PushStream:
        """The counter's one stream."""
        counter = CounterKey(DEMO, CustomerRef(customer), Metric(metric))
        (stream,) = self.wiring.pushes.streams(counter, period)
        return stream

    def report(self, month: str = "2026-11") -> Report:
        """The latest report."""
        report = self.wiring.reports.latest(DEMO, month)
        assert report is not None
        return report

    def row(self, customer: str = "cus_A", metric: str = "api_calls") -> Row:
        """A row of a report that reads everything anew."""
        self.reconcile(tenantId=DEMO, period="2026-11", verify=True)
        rows = {(row.counter.customer, row.counter.metric): row for row in self.report().rows}
        return rows[CustomerRef(customer), Metric(metric)]


# --- crashes --------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here."""


class Doom:
    """Lets a process die at its n-th call of a port, before or after the call's effect.

    A dead process does nothing any more: every later call dies too.
    """

    def __init__(self, at: int, *, after: bool) -> None:
        self._at = at
        self._after = after
        self._calls = 0

    @property
    def struck(self) -> bool:
        """Whether it came to it."""
        return self._calls >= self._at

    def call(self, method: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self._calls += 1
        if self._calls > self._at or (self.struck and not self._after):
            raise Crash
        result = method(*args, **named)
        if self.struck:
            raise Crash
        return result


class Doomed:
    """A port whose every call may be the last."""

    def __init__(self, port: Any, doom: Doom) -> None:
        self._port = port
        self._doom = doom

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return found
        return lambda *args, **named: self._doom.call(found, *args, **named)


def crash_a_writer(world: BillingWorld, doom: Doom) -> None:
    """One run of a writer that dies as it is doomed to, if its run is long enough."""
    ports = world_of(world.wiring)
    doomed = ports._replace(
        pushes=_doomed(ports.pushes, doom),
        billing=_doomed(ports.billing, doom),
        apart=ApartPorts(*(_doomed(port, doom) for port in ports.apart)),
    )
    writer = Writer(doomed, _doomed(world.wiring.writer_desk, doom), InTurn)
    with suppress(Crash):
        writer.run("doomed", lambda: timedelta(seconds=55))


def _doomed(port: Any, doom: Doom) -> Any:
    return Doomed(port, doom)


def world_of(wiring: Wiring) -> WriterWorld:
    """The ports that a writer works on."""
    return WriterWorld(
        wiring.counters,
        wiring.settings,
        wiring.pushes,
        wiring.billing,
        wiring.clock,
        wiring.period_closes,
        wiring.apart,
    )


def connected(wiring: Wiring, stand_in: StandIn, **changes: Any) -> Wiring:
    """The same deployment, told where its Stripe is."""
    config = replace(
        wiring.config, stripe_api_base=stand_in.url, stripe_secret_key="sk_test_x", **changes
    )
    return Wiring(config, clock=wiring.clock, dynamodb=wiring.dynamodb)
