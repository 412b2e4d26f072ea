"""The driver alone: usage recorded on subscription items, and read back, in the right world."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
from metering.adapters.stripe_driver import StripeBillingDriver, UsageSummary
from metering.delivery import Accepted, AlreadyExists, OutcomeUnknown, Refused
from metering.errors import NotFoundError
from metering.period import Span
from metering.ports import SetupError
from metering.push import Mode
from tests.conftest import SetClock

ANCHOR = datetime(2026, 11, 3, 9, 30, 20, tzinfo=UTC)
PERIOD = Span(ANCHOR, datetime(2026, 12, 3, 9, 30, 20, tzinfo=UTC))
ACACIA = "2025-02-24.acacia"


@pytest.fixture
def driver(stand_in: StandIn, clock: SetClock) -> StripeBillingDriver:
    return StripeBillingDriver(test_key="sk_test_x", api_base=stand_in.url, clock=clock)


def make_price(client: stripe.StripeClient, **meter: Any) -> str:
    about: Any = {
        "display_name": "API calls",
        "event_name": "api_calls",
        "default_aggregation": {"formula": "sum"},
        **meter,
    }
    made = client.v1.billing.meters.create(about)
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 2,
            "product_data": {"name": "Calls"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": made.id},
        }
    )
    return price.id


def subscribe(
    client: stripe.StripeClient,
    stand_in: StandIn,
    clock: SetClock,
    price: str,
    version: str | None = None,
) -> str:
    """A subscription of cus_A since the anchor; its item's id."""
    stand_in.add_customers(["cus_A"])
    stand_in.stand_at(ANCHOR)
    options: Any = {"stripe_version": version} if version else None
    subscription = client.v1.subscriptions.create(
        {"customer": "cus_A", "items": [{"price": price}]}, options
    )
    stand_in.stand_at(clock.now())
    item: str = subscription["items"].data[0].id
    return item


@pytest.fixture
def item(client: stripe.StripeClient, stand_in: StandIn, clock: SetClock) -> str:
    return subscribe(client, stand_in, clock, make_price(client))


def record(driver: StripeBillingDriver, item: str, quantity: str, key: str, **more: Any) -> Any:
    at = more.pop("period_start", PERIOD.start)
    return driver.record_usage(Mode.TEST, "", item, Decimal(quantity), at, key, **more)


def test_usage_that_is_recorded_is_read_back(driver: StripeBillingDriver, item: str) -> None:
    assert record(driver, item, "5", "one") == Accepted()
    assert record(driver, item, "7", "two") == Accepted()

    summary = driver.get_usage_summary(item, PERIOD.start, mode=Mode.TEST)

    assert summary == UsageSummary(Decimal(12), PERIOD)


def test_a_repeat_with_the_same_key_counts_once_whenever_it_comes(
    driver: StripeBillingDriver, item: str, stand_in: StandIn, clock: SetClock
) -> None:
    record(driver, item, "5", "one")
    clock.advance(timedelta(hours=3))
    stand_in.stand_at(clock.now())
    anew = StripeBillingDriver(test_key="sk_test_x", api_base=stand_in.url, clock=clock)

    assert record(driver, item, "5", "one") == Accepted(replayed=True)
    assert record(anew, item, "5", "one") == Accepted(replayed=True)
    assert stand_in.total("api_calls", "cus_A") == 5


def test_after_a_lost_answer_the_same_call_finds_out(
    driver: StripeBillingDriver, item: str, stand_in: StandIn
) -> None:
    driver.get_usage_summary(item, PERIOD.start, mode=Mode.TEST)
    stand_in.plan(FaultKind.DROP_AFTER, times=1)

    assert isinstance(record(driver, item, "5", "one"), OutcomeUnknown)
    assert record(driver, item, "5", "one") == Accepted(replayed=True)
    assert stand_in.total("api_calls", "cus_A") == 5


def test_a_long_key_is_told_as_a_hash_of_itself(
    driver: StripeBillingDriver, item: str, stand_in: StandIn
) -> None:
    long = "k" * 300

    assert record(driver, item, "5", long + "a") == Accepted()
    assert record(driver, item, "5", long + "b") == Accepted()
    assert record(driver, item, "5", long + "a") == Accepted(replayed=True)
    assert stand_in.total("api_calls", "cus_A") == 10


def test_an_item_is_looked_up_once(
    driver: StripeBillingDriver, item: str, stand_in: StandIn
) -> None:
    for n in range(5):
        record(driver, item, "1", f"key {n}")

    reads = [one for one in stand_in.requests() if one["method"] == "GET"]
    assert len(reads) == 3  # item, subscription, meter


def test_the_next_period_is_noticed(
    driver: StripeBillingDriver, item: str, stand_in: StandIn, clock: SetClock
) -> None:
    record(driver, item, "5", "one")
    clock.set(PERIOD.end + timedelta(minutes=5))
    stand_in.stand_at(clock.now())

    late = record(driver, item, "5", "two")
    assert isinstance(late, Refused)
    assert late.code == "not_the_running_period"
    assert record(driver, item, "8", "three", period_start=PERIOD.end) == Accepted()
    now = driver.get_usage_summary(item, PERIOD.end, mode=Mode.TEST)
    assert now.total == 8
    with pytest.raises(ValueError, match="name the end"):
        driver.get_usage_summary(item, PERIOD.start, mode=Mode.TEST)
    before = driver.get_usage_summary(item, PERIOD.start, mode=Mode.TEST, period_end=PERIOD.end)
    assert before == UsageSummary(Decimal(5), PERIOD)


def test_in_a_periods_first_partial_minute_there_is_no_instant_yet(
    driver: StripeBillingDriver, item: str, stand_in: StandIn, clock: SetClock
) -> None:
    clock.set(ANCHOR + timedelta(seconds=10))
    stand_in.stand_at(clock.now())

    answer = record(driver, item, "5", "one")

    assert isinstance(answer, Refused)
    assert answer.code == "period_not_begun"
    summary = driver.get_usage_summary(item, PERIOD.start, mode=Mode.TEST)
    assert summary.total == 0


def test_in_a_long_period_usage_is_stamped_with_a_day_that_stripe_still_takes(
    client: stripe.StripeClient, stand_in: StandIn, clock: SetClock, driver: StripeBillingDriver
) -> None:
    meter = client.v1.prices.retrieve(make_price(client)).recurring
    assert meter is not None
    assert meter.meter is not None
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 2,
            "product_data": {"name": "Calls by the year"},
            "recurring": {"interval": "year", "usage_type": "metered", "meter": meter.meter},
        }
    )
    item = subscribe(client, stand_in, clock, price.id)
    clock.set(ANCHOR + timedelta(days=90))
    stand_in.stand_at(clock.now())

    assert record(driver, item, "5", "one") == Accepted()
    assert record(driver, item, "5", "one") == Accepted(replayed=True)
    clock.advance(timedelta(hours=20))  # another day, and Stripe knows the identifier still
    stand_in.stand_at(clock.now())
    assert isinstance(record(driver, item, "5", "one"), AlreadyExists)
    assert stand_in.total("api_calls", "cus_A") == 5


@pytest.mark.parametrize("quantity", ["1.5", "1000000000000000", "-1000000000000000"])
def test_what_stripe_cannot_count_exactly_is_not_sent(
    driver: StripeBillingDriver, item: str, quantity: str, stand_in: StandIn
) -> None:
    answer = record(driver, item, quantity, "one")

    assert isinstance(answer, Refused)
    assert answer.code == "invalid_quantity"
    assert stand_in.totals() == {}


def test_a_meter_that_keeps_one_event_per_hour_takes_no_sums(
    client: stripe.StripeClient, stand_in: StandIn, clock: SetClock, driver: StripeBillingDriver
) -> None:
    item = subscribe(client, stand_in, clock, make_price(client, event_time_window="hour"))

    answer = record(driver, item, "5", "one")

    assert isinstance(answer, Refused)
    assert answer.code == "windowed_meter"


def test_a_meter_that_counts_takes_ones(
    client: stripe.StripeClient, stand_in: StandIn, clock: SetClock, driver: StripeBillingDriver
) -> None:
    counting = {"default_aggregation": {"formula": "count"}}
    item = subscribe(client, stand_in, clock, make_price(client, **counting))

    assert isinstance(record(driver, item, "2", "one"), Refused)
    assert record(driver, item, "1", "one") == Accepted()


def test_an_unknown_item_is_not_found(driver: StripeBillingDriver) -> None:
    with pytest.raises(NotFoundError, match="no subscription item si_none"):
        record(driver, "si_none", "5", "one")


# --- keys ----------------------------------------------------------------------------------------


def test_a_test_key_never_makes_a_live_call(
    driver: StripeBillingDriver, item: str, stand_in: StandIn
) -> None:
    with pytest.raises(SetupError, match="no live key of Stripe's was given"):
        driver.record_usage(Mode.LIVE, "", item, Decimal(1), PERIOD.start, "one")
    with pytest.raises(SetupError, match="no live key"):
        driver.get_usage_summary(item, PERIOD.start)
    assert stand_in.totals() == {}


@pytest.mark.parametrize(
    ("live_key", "test_key", "mode"),
    [("sk_test_x", "", Mode.LIVE), ("", "rk_live_x", Mode.TEST)],
)
def test_a_key_in_the_wrong_place_is_refused(live_key: str, test_key: str, mode: Mode) -> None:
    with pytest.raises(SetupError, match=f"a {mode} key of Stripe's is needed"):
        StripeBillingDriver(live_key, test_key).billing(mode)


def test_each_world_has_its_own_key() -> None:
    driver = StripeBillingDriver(live_key="sk_live_x", test_key="rk_test_x")

    for mode, key in ((Mode.LIVE, "sk_live_x"), (Mode.TEST, "rk_test_x")):
        billing = driver.billing(mode)
        assert billing.mode is mode
        assert billing._connection.client._requestor.api_key == key


def test_a_live_key_is_never_sent_to_a_stand_in(stand_in: StandIn) -> None:
    driver = StripeBillingDriver(live_key="sk_live_x", api_base=stand_in.url)

    with pytest.raises(SetupError, match="only ever sent to Stripe"):
        driver.record_usage(Mode.LIVE, "", "si_1", Decimal(1), PERIOD.start, "one")


# --- items without a meter -----------------------------------------------------------------------


@pytest.fixture
def legacy_item(client: stripe.StripeClient, stand_in: StandIn, clock: SetClock) -> str:
    return subscribe(
        client, stand_in, clock, stand_in.add_legacy_price(unit_amount_decimal="2.5"), ACACIA
    )


def test_without_the_flag_a_legacy_item_is_refused(
    driver: StripeBillingDriver, legacy_item: str
) -> None:
    answer = record(driver, legacy_item, "5", "one")

    assert isinstance(answer, Refused)
    assert answer.code == "legacy_price"


def test_behind_the_flag_usage_records_work_the_same(
    stand_in: StandIn, clock: SetClock, legacy_item: str
) -> None:
    driver = StripeBillingDriver(
        test_key="sk_test_x", api_base=stand_in.url, legacy=True, clock=clock
    )

    assert record(driver, legacy_item, "5", "one") == Accepted()
    assert record(driver, legacy_item, "5", "one") == Accepted(replayed=True)
    assert record(driver, legacy_item, "7", "two") == Accepted()

    summary = driver.get_usage_summary(legacy_item, PERIOD.start, mode=Mode.TEST)
    assert summary == UsageSummary(Decimal(12), PERIOD)
