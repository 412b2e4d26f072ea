"""Values that are set at Stripe: `last` meters, meters with a window, legacy prices."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.stripe.faults import FaultKind
from metering.counter import Aggregation
from metering.delivery import Accepted, Answer, OutcomeUnknown
from metering.mapping import Customer
from metering.names import CustomerRef, Metric
from metering.period import CALENDAR_MONTHS, BillingCalendar, Span
from metering.ports import Billing, MeterEvent, Subscription, SubscriptionItem, UsageRecord
from metering.push import PushState, StreamKind
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import DEMO, NOON, a_counter, an_entry

DECEMBER = CALENDAR_MONTHS.period_of(NOVEMBER.end)
JANUARY = CALENDAR_MONTHS.period_of(DECEMBER.end)
DAY = timedelta(days=1)


def settle(world: BillingWorld) -> None:
    world.write()
    world.advance(MINUTE)
    world.write_until_settled()


# --- last -----------------------------------------------------------------------------------------


@pytest.fixture
def seats(billing: BillingWorld) -> BillingWorld:
    """`api_calls` is a gauge on a `last` meter."""
    billing.map(aggregation=Aggregation.LAST)
    billing.stand_in.add_customers(["cus_A"])
    return billing


def test_a_last_meter_holds_the_newest_value(seats: BillingWorld) -> None:
    told = []
    for quantity in ("5", "9", "2"):
        seats.use(quantity)
        seats.write()
        seats.advance(MINUTE)
        told.append(seats.told_in(NOVEMBER))

    assert told == [5, 9, 2]
    assert seats.stream().kind is StreamKind.LAST


def test_a_value_that_arrives_late_does_not_take_the_place_of_a_newer_one(
    seats: BillingWorld,
) -> None:
    seats.use("9")
    seats.write()
    seats.advance(HOUR)
    seats.use("5", at=NOON - HOUR)

    assert seats.write()["planned"] == 0
    assert seats.told_in(NOVEMBER) == 9


def test_the_value_of_the_period_before_stands_in_the_next_without_any_event(
    seats: BillingWorld,
) -> None:
    seats.use("9")
    settle(seats)
    for period in (DECEMBER, JANUARY):
        seats.set_time(period.start + 2 * HOUR)
        settle(seats)
        assert seats.told_in(period) == 9

    (history,) = seats.wiring.pushes.of_period(a_counter(), JANUARY)
    assert [(push.value, push.occurred_at) for push in history.pushes] == [("9", JANUARY.start)]


def test_a_value_that_came_too_late_for_its_period_stands_from_the_next_on(
    seats: BillingWorld,
) -> None:
    seats.use("9")
    settle(seats)
    seats.set_time(DECEMBER.start + 2 * HOUR)
    settle(seats)
    seats.use_all([an_entry("4", at=DECEMBER.start - HOUR, received_at=seats.clock.now())])

    run = seats.write()
    seats.advance(HOUR)
    settle(seats)

    assert run["held"] == {"late_after_close": 1}
    assert [seats.told_in(period) for period in (NOVEMBER, DECEMBER)] == [9, 4]


def test_a_period_with_a_value_of_its_own_is_told_that(seats: BillingWorld) -> None:
    seats.use("9")
    settle(seats)
    seats.set_time(DECEMBER.start + 2 * HOUR)
    seats.use("3")
    settle(seats)

    assert seats.told_in(DECEMBER) == 3
    assert len(seats.wiring.pushes.history(seats.stream(period=DECEMBER))) == 1


def test_a_lost_answer_of_a_last_value_is_told_anew_after_a_day(seats: BillingWorld) -> None:
    seats.use("3")
    settle(seats)
    seats.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events")
    seats.use("7")
    seats.write()
    seats.advance(25 * HOUR)
    seats.use("3")
    seats.write_until_settled()

    assert seats.told_in(NOVEMBER) == 3
    (history,) = seats.wiring.pushes.of_period(a_counter(), NOVEMBER)
    assert [(push.value, push.state) for push in history.pushes] == [
        ("3", PushState.ACCEPTED),
        ("7", PushState.VOID),
        ("3", PushState.ACCEPTED),
    ]
    assert seats.wiring.pushes.in_need() == []


def test_two_customers_that_are_one_at_stripe_do_not_take_each_others_place(
    seats: BillingWorld,
) -> None:
    seats.customer("ann", "cus_A")
    seats.use("3")
    seats.write()
    seats.use("8", customer="ann")

    assert seats.write()["held"] == {"shared_value": 1}
    assert seats.told_in(NOVEMBER) == 3


def test_last_values_are_told_in_a_later_life_of_the_store(seats: BillingWorld) -> None:
    seats.use("3")
    settle(seats)
    seats.wiring.pushes.raise_incarnation()
    seats.advance(HOUR)
    settle(seats)

    lives = {one.key.incarnation: one for one in seats.wiring.pushes.streams(a_counter(), NOVEMBER)}
    assert [lives[0].accepted, lives[1].accepted] == [3, 3]
    assert seats.told_in(NOVEMBER) == 3


# --- windows --------------------------------------------------------------------------------------


@pytest.fixture
def hourly(billing: BillingWorld) -> BillingWorld:
    """`api_calls` goes to a meter that keeps the newest event of each UTC hour."""
    billing.map(window="hour")
    billing.stand_in.add_customers(["cus_A"])
    return billing


def test_each_bucket_is_told_whole_at_its_first_hour(hourly: BillingWorld) -> None:
    hourly.use("5")
    hourly.use("6", at=NOON - DAY)
    settle(hourly)
    hourly.use("2")
    settle(hourly)

    assert hourly.told_in(NOVEMBER) == 13
    streams = hourly.wiring.pushes.streams(a_counter(), NOVEMBER)
    told = {one.key.hour: one.accepted for one in streams}
    midnight = NOON - 12 * HOUR
    assert told == {midnight: 7, midnight - DAY: 6}
    values = [push.value for one in streams for push in hourly.wiring.pushes.history(one)]
    assert sorted(values) == ["5", "6", "7"]


def test_a_window_that_is_told_twice_counts_once(hourly: BillingWorld) -> None:
    hourly.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events")
    hourly.use("5")
    hourly.write()
    hourly.advance(25 * HOUR)  # the identifier is forgotten, and nobody needs to look it up
    hourly.write_until_settled()

    assert hourly.told_in(NOVEMBER) == 5
    assert hourly.wiring.pushes.in_need() == []


def test_a_period_that_begins_within_an_hour_is_not_told_by_windows(hourly: BillingWorld) -> None:
    hourly.customer("cus_B", anchor=datetime(2026, 10, 20, 11, 59, 30, tzinfo=UTC))
    hourly.use("5", customer="cus_B")

    assert hourly.write()["held"] == {"uneven_period": 1}
    assert hourly.told("cus_B") == 0


def test_usage_after_the_close_is_not_told_by_windows(hourly: BillingWorld) -> None:
    hourly.use("5")
    settle(hourly)
    hourly.set_time(NOVEMBER.end + 2 * HOUR)
    hourly.use_all([an_entry("1", at=NOVEMBER.end - HOUR, received_at=hourly.clock.now())])

    assert hourly.write()["held"] == {"late_after_close": 1}
    assert hourly.told() == 5


def test_a_mapping_that_becomes_another_kind_holds_what_the_period_was_told(
    billing: BillingWorld,
) -> None:
    former = billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("5")
    settle(billing)
    billing.wiring.settings_store.change_mapping(former, replace(former, meter_window="hour"))
    billing.use("1")

    assert billing.write()["held"] == {"told_otherwise": 1}
    assert billing.told() == 5


# --- legacy prices --------------------------------------------------------------------------------


class UsageRecords:
    """A Stripe account with a subscription to a legacy price; records are kept by instant."""

    def __init__(self, billing: Billing) -> None:
        self._billing = billing
        self.sent: list[UsageRecord] = []
        self.answers: list[Answer] = []
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._billing, name)

    def send(self, event: MeterEvent | UsageRecord) -> Answer:
        assert isinstance(event, UsageRecord)
        self.sent.append(event)
        return self.answers.pop() if self.answers else Accepted()

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        self.asked += 1
        period: Span = BillingCalendar().period_of(NOON)
        items = (
            SubscriptionItem("si_seat", "price_seat", "", period),
            SubscriptionItem("si_1", "price_old", "", period),
        )
        return Subscription(subscription_id, "cus_A", period.start, items)


@pytest.fixture
def legacy(billing: BillingWorld) -> tuple[BillingWorld, UsageRecords]:
    """`api_calls` goes to a legacy price, to which `cus_A` is subscribed."""
    made = billing.map()
    old = replace(made, is_legacy=True, meter_id="", meter_event_name="", price_id="price_old")
    billing.wiring.settings_store.change_mapping(made, old)
    billing.wiring.settings_store.put_customer(
        Customer(DEMO, CustomerRef("cus_A"), "cus_A", subscription="sub_1")
    )
    records = UsageRecords(billing.wiring.billing)
    billing.wiring.billing = records
    billing.wiring.__dict__.pop("writer", None)
    return billing, records


def test_a_legacy_price_gets_the_whole_usage_on_the_customers_item(
    legacy: tuple[BillingWorld, UsageRecords],
) -> None:
    world, records = legacy
    for quantity in ("5", "2"):
        world.use(quantity)
        world.write()
        world.advance(MINUTE)

    told = [(one.subscription_item, one.quantity, one.occurred_at) for one in records.sent]
    assert told == [("si_1", "5", NOVEMBER.start), ("si_1", "7", NOVEMBER.start)]
    assert world.stream().accepted == 7
    assert records.asked == 1  # what was told before names the item


def test_a_usage_record_with_unknown_outcome_is_set_again(
    legacy: tuple[BillingWorld, UsageRecords],
) -> None:
    world, records = legacy
    records.answers.append(OutcomeUnknown("timeout"))
    world.use("5")
    world.write()
    world.advance(25 * HOUR)
    world.use("1")
    world.write_until_settled()

    assert [one.quantity for one in records.sent] == ["5", "6"]
    assert len({one.idempotency_key for one in records.sent}) == 2
    assert world.stream().accepted == 6


def test_a_customer_without_an_item_of_the_price_is_not_told(
    legacy: tuple[BillingWorld, UsageRecords],
) -> None:
    world, records = legacy
    mapping = world.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert mapping is not None
    other = replace(mapping, price_id="price_other")
    world.wiring.settings_store.change_mapping(mapping, other)
    world.use("5")

    assert world.write()["held"] == {"subscription_item_missing": 1}
    assert records.sent == []
