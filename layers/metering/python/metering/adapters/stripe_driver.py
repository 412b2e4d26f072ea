"""A small, typed driver of Stripe's usage-based billing, usable alone; the writer sends through it.

    from datetime import UTC, datetime
    from decimal import Decimal

    from metering.adapters.stripe_driver import StripeBillingDriver
    from metering.push import Mode

    driver = StripeBillingDriver(live_key="sk_live_...", test_key="sk_test_...")
    november = datetime(2026, 11, 1, tzinfo=UTC)  # where the item's billing period begins
    answer = driver.record_usage(Mode.LIVE, "", "si_1", Decimal(5), november, "order-4711")
    summary = driver.get_usage_summary("si_1", november)

An item names its price, a price its meter, a subscription its customer: all of that is looked up
once. What a call came to is a value of `metering.delivery`, a timeout too; the same call with the
same key may be repeated until it is `Accepted` or `AlreadyExists`.
"""

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from hashlib import sha256
from typing import NamedTuple, Self

from metering.adapters.clock import SystemClock
from metering.adapters.stripe_billing import Rates, StripeBilling, make_billing
from metering.adapters.stripe_client import StripeConnection, for_account
from metering.adapters.stripe_key import StripeKey, shadow_key
from metering.config import Config
from metering.delivery import Answer, Refused
from metering.names import Identifier
from metering.period import Span
from metering.ports import Clock, MeterEvent, SetupError, StripeMeter, UsageRecord
from metering.push import OLDEST, ONE_MINUTE, VALUE_LIMIT, Mode, ceil_minute, floor_minute
from metering.quantity import canonical

log = logging.getLogger("metering.stripe")

IDENTIFIER_MAX = 100
"""Characters of a meter event's identifier."""


@dataclass(frozen=True, slots=True)
class UsageSummary:
    """What Stripe has added up for a subscription item in a billing period."""

    total: Decimal
    period: Span


@dataclass(frozen=True, slots=True)
class _Item:
    """A subscription item with what its usage is billed by."""

    id: str
    account: str
    customer: str
    period: Span
    """The one that was running when the item was read."""
    meter: StripeMeter | None
    """None bills legacy usage records."""


class _Door(NamedTuple):
    """One key's way to Stripe."""

    connection: StripeConnection
    billing: StripeBilling


class StripeBillingDriver:
    """Records usage of subscription items and reads it back, in either of an account's worlds.

    A live key is only ever sent in live calls and a test key only in test calls; a key of the wrong
    kind is a SetupError. `legacy` allows items whose price has no meter, by usage records.
    """

    def __init__(
        self,
        live_key: str = "",
        test_key: str = "",
        *,
        api_base: str | None = None,
        legacy: bool = False,
        clock: Clock | None = None,
    ) -> None:
        config = Config(stripe_api_base=api_base, legacy_usage_records=legacy)
        keys = {Mode.LIVE: live_key, Mode.TEST: test_key}
        given = [_connection_of(text, mode, config) for mode, text in keys.items() if text]
        self._begin(config, given, clock or SystemClock())

    @classmethod
    def of(
        cls,
        config: Config,
        own: StripeConnection,
        rates: Rates,
        clock: Clock,
        *,
        shadow: StripeConnection | None = None,
    ) -> Self:
        """The driver that a deployment is set up with: its own key first, then the shadow's."""
        driver = cls()
        shadow = shadow or StripeConnection(shadow_key(config))
        driver._begin(config, [own, shadow], clock, rates)
        return driver

    def _begin(
        self,
        config: Config,
        connections: list[StripeConnection],
        clock: Clock,
        rates: Rates | None = None,
    ) -> None:
        self._legacy = config.legacy_usage_records
        self._clock = clock
        self._doors = [
            _Door(one, make_billing(config, connection=one, rates=rates)) for one in connections
        ]
        self._items: dict[tuple[Mode, str, str], _Item] = {}

    # --- the Billing port, for the writer ---

    def billing(self, mode: Mode) -> StripeBilling:
        """Stripe in one of its worlds.

        Raises:
            SetupError: no key opens that one.
        """
        return self._door(mode).billing

    @property
    def own(self) -> StripeBilling:
        """Stripe with the first key, whichever world it opens; without a key each call says so."""
        return self._doors[0].billing

    @property
    def shadow(self) -> StripeBilling | None:
        """Stripe's test account that is told the same in parallel; None when no key is set for it.

        Raises:
            SetupError: the key opens the live world: nothing is told there.
        """
        shadow = self._doors[-1]
        if not shadow.connection.is_set_up:
            return None
        assert shadow.billing.mode is Mode.TEST
        return shadow.billing

    def _door(self, mode: Mode) -> _Door:
        for door in self._doors:
            if door.connection.is_set_up and door.billing.mode is mode:
                return door
        raise SetupError(f"no {mode} key of Stripe's was given, so nothing is sent there")

    # --- usage of a subscription item ---

    def record_usage(
        self,
        mode: Mode,
        stripe_account: str,
        subscription_item_id: str,
        quantity: Decimal,
        period_start: datetime,
        idempotency_key: str,
    ) -> Answer:
        """Add a quantity to what an item has used in the billing period that began then.

        The period must still run, or Stripe would bill the usage nowhere. Every repeat of the call
        sends the same request, stamped with the period's first whole minute; Stripe knows the key
        for 24 hours, and a repeat after that may count again.

        Raises:
            NotFoundError: no such item in this account and mode.
            RetryableError: Stripe cannot say now what the item is billed by; nothing was sent.
            SetupError: no key opens this world, or Stripe refuses it.
        """
        door = self._door(mode)
        item = self._running_item(door, stripe_account, subscription_item_id, period_start)
        refused = self._refused(item, quantity, period_start)
        if refused is not None:
            return refused
        if item.meter is None:
            return door.billing.add_record(self._record(item, quantity, idempotency_key))
        return door.billing.send(self._event(item, item.meter, quantity, idempotency_key))

    def get_usage_summary(
        self,
        subscription_item_id: str,
        period_start: datetime,
        stripe_account: str = "",
        mode: Mode = Mode.LIVE,
        *,
        period_end: datetime | None = None,
    ) -> UsageSummary:
        """What Stripe has added up for an item in a billing period, whole minutes of it.

        Summaries follow events with a lag of some minutes. Of a period that is over, Stripe does
        not tell the end any more: name it.

        Raises:
            ValueError: no period of the item that still runs begins then, and no end is named.
            NotFoundError: no such item in this account and mode.
            RetryableError: Stripe cannot answer now.
            SetupError: no key opens this world, or Stripe refuses it.
        """
        door = self._door(mode)
        item = self._running_item(door, stripe_account, subscription_item_id, period_start)
        period = _period(item, period_start, period_end)
        if item.meter is None:
            return UsageSummary(door.billing.records_total(item.id, period, item.account), period)
        now = floor_minute(self._clock.now()) + ONE_MINUTE
        minutes = Span(ceil_minute(period.start), min(floor_minute(period.end), now))
        if minutes.start >= minutes.end:
            return UsageSummary(Decimal(0), period)
        total = door.billing.total(item.meter.id, item.customer, minutes, item.account)
        return UsageSummary(Decimal(canonical(total)), period)

    # --- what is sent ---

    def _refused(self, item: _Item, quantity: Decimal, period_start: datetime) -> Refused | None:
        """Why a call is not even sent."""
        if item.period.start != period_start:
            running = f"{item.period.start.isoformat()} to {item.period.end.isoformat()}"
            return Refused("not_the_running_period", f"{item.id} is in the period {running}")
        if ceil_minute(period_start) > self._clock.now():
            return Refused("period_not_begun", "its first whole minute has not begun; try again")
        if quantity != quantity.to_integral_value() or abs(quantity) >= VALUE_LIMIT:
            message = f"{quantity} is no whole number of at most 15 digits: count in smaller units"
            return Refused("invalid_quantity", message)
        return _unfit(item, quantity, has_legacy=self._legacy)

    def _event(
        self, item: _Item, meter: StripeMeter, quantity: Decimal, idempotency_key: str
    ) -> MeterEvent:
        occurred_at, suffix = self._instant(item.period.start)
        identifier = _identifier(idempotency_key)
        return MeterEvent(
            account=item.account,
            event_name=meter.event_name,
            customer=item.customer,
            value=canonical(quantity),
            occurred_at=occurred_at,
            identifier=identifier,
            idempotency_key=identifier + suffix,
        )

    def _record(self, item: _Item, quantity: Decimal, idempotency_key: str) -> UsageRecord:
        return UsageRecord(
            account=item.account,
            subscription_item=item.id,
            quantity=canonical(quantity),
            occurred_at=ceil_minute(item.period.start),
            idempotency_key=_identifier(idempotency_key),
        )

    def _instant(self, period_start: datetime) -> tuple[datetime, str]:
        """When the usage is stamped, and what its request's key gets for a suffix.

        Stripe takes no timestamp of more than 35 days ago. In a longer period it is the day's first
        minute after that: a repeat on another day is another request, for the same identifier.
        """
        first, now = ceil_minute(period_start), self._clock.now()
        if now - first <= OLDEST:
            return first, ""
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return today, f".{today:%Y%m%d}"

    # --- what an item is ---

    def _running_item(
        self, door: _Door, account: str, item_id: str, period_start: datetime
    ) -> _Item:
        """The item as it was read; anew when another period may be running by now."""
        key = door.billing.mode, account, item_id
        item = self._items.get(key)
        now = self._clock.now()
        if item is None or item.period.start != period_start or now >= item.period.end:
            item = self._items[key] = _read_item(door, account, item_id)
        return item


def _connection_of(text: str, mode: Mode, config: Config) -> StripeConnection:
    missing = f"no {mode} key of Stripe's was given"
    return StripeConnection(StripeKey(missing, text, "", config.stripe_api_base, only=mode))


def _read_item(door: _Door, account: str, item_id: str) -> _Item:
    options, v1 = for_account(account), door.connection.client.v1
    with door.connection.reading(
        f"no subscription item {item_id} at Stripe, in this account and mode"
    ):
        item = v1.subscription_items.retrieve(item_id, None, options)
        subscription = v1.subscriptions.retrieve(item.subscription, None, options)
    meter_id = (item.price.recurring.meter or "") if item.price.recurring else ""
    customer = subscription.customer
    return _Item(
        id=item.id,
        account=account,
        customer=customer if isinstance(customer, str) else customer.id,
        period=Span(_utc(item.current_period_start), _utc(item.current_period_end)),
        meter=door.billing.meter(meter_id, account) if meter_id else None,
    )


def _unfit(item: _Item, quantity: Decimal, *, has_legacy: bool) -> Refused | None:
    """Why an item's meter cannot take a quantity that is added."""
    meter = item.meter
    if meter is None:
        if has_legacy:
            return None
        return Refused("legacy_price", f"{item.id} has a price without a meter; see legacy=True")
    if meter.window:
        return Refused("windowed_meter", f"{meter.id} keeps one event per {meter.window}, no sums")
    if meter.formula == "count" and quantity != 1:
        return Refused("count_meter", f"{meter.id} counts events: record a quantity of 1 each")
    return None


def _identifier(idempotency_key: str) -> Identifier:
    """The key itself where Stripe takes one so long, and a hash of it where not."""
    if len(idempotency_key) <= IDENTIFIER_MAX:
        return Identifier(idempotency_key)
    return Identifier("h1." + sha256(idempotency_key.encode()).hexdigest())


def _period(item: _Item, start: datetime, end: datetime | None) -> Span:
    if end is not None:
        return Span(start, end)
    if start != item.period.start:
        raise ValueError(
            f"{item.id} is in the period from {item.period.start.isoformat()}; name the end"
            f" (period_end) of the one from {start.isoformat()}"
        )
    return item.period


def _utc(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
