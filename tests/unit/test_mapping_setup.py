"""What is wrong with a mapping is told when it is made: meter, price, window, keys, shadow."""

import logging
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from metering.counter import Aggregation
from metering.errors import BadRequestError, RetryableError
from metering.legacy_price import migration_plan
from metering.mapping import Mapping
from metering.mapping_setup import (
    MeterAsked,
    StripeUnavailableError,
    with_meter,
    with_shadow,
)
from metering.names import CustomerRef
from metering.ports import SetupError, StripePrice
from metering.value_range import Counted, check_fits
from tests.builders import A_MAPPING
from tests.fake_billing import FakeBilling, a_meter, a_price

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
NOTHING = MeterAsked("", "")
NAMED = MeterAsked("mtr_1", "event_of_mtr_1")
MAPPING = replace(A_MAPPING, meter_id="", meter_event_name="")
MAPPED = A_MAPPING
BY_NAME = replace(MAPPING, price_id="")


@pytest.fixture
def stripe() -> FakeBilling:
    fake = FakeBilling()
    fake.meters["price_1"] = a_meter()
    return fake


def refused(mapping: Mapping, stripe: FakeBilling, asked: MeterAsked = NOTHING) -> str:
    with pytest.raises(BadRequestError) as refusal:
        with_meter(mapping, asked, stripe)
    return refusal.value.message


def test_a_mapping_takes_its_prices_meter(stripe: FakeBilling) -> None:
    assert with_meter(MAPPING, NOTHING, stripe) == MAPPED


def test_a_price_that_is_not_there_may_be_of_another_account_or_mode(stripe: FakeBilling) -> None:
    message = refused(replace(MAPPING, price_id="price_9", stripe_account="acct_9"), stripe)

    assert message.startswith("priceId: no price price_9 at Stripe, in this account and mode; ")
    assert "stripeAccount" in message
    assert "test or live" in message


def test_a_named_meter_that_is_not_there_is_refused(stripe: FakeBilling) -> None:
    message = refused(BY_NAME, stripe, MeterAsked("mtr_9", "calls"))

    assert message.startswith("meterId: no meter mtr_9 at Stripe")


def test_a_named_meter_is_checked_like_any_other(stripe: FakeBilling) -> None:
    assert with_meter(BY_NAME, NAMED, stripe) == replace(MAPPED, price_id="")
    wrong_name = MeterAsked("mtr_1", "calls")
    assert refused(BY_NAME, stripe, wrong_name) == "meterEventName: mtr_1 hears 'event_of_mtr_1'"

    stripe.meters["price_1"] = a_meter(active=False)
    assert refused(BY_NAME, stripe, NAMED).startswith("meterId: its meter mtr_1 is inactive")
    stripe.meters["price_1"] = a_meter(formula="count")
    assert "needs a meter with the formula 'sum'" in refused(BY_NAME, stripe, NAMED)


def test_a_price_that_is_not_on_the_named_meter_is_refused(stripe: FakeBilling) -> None:
    message = refused(MAPPING, stripe, MeterAsked("mtr_2", "event_of_mtr_2"))

    assert message == "meterId: price_1 charges by mtr_1"


def test_a_meter_that_cannot_be_asked_for_is_taken_as_named_and_said_so(
    stripe: FakeBilling, caplog: pytest.LogCaptureFixture
) -> None:
    stripe.trouble = RetryableError("Stripe is down")

    with caplog.at_level(logging.WARNING, "metering.setup"):
        mapping = with_meter(BY_NAME, NAMED, stripe)

    assert mapping == replace(MAPPED, price_id="")
    assert caplog.messages == ["meter mtr_1 is mapped unchecked: Stripe is down"]


@pytest.mark.parametrize("reason", ["Stripe refuses our key: 401", "Stripe refuses our key: 403"])
def test_a_wrong_key_is_named(stripe: FakeBilling, reason: str) -> None:
    stripe.trouble = SetupError(reason)

    with pytest.raises(StripeUnavailableError) as refusal:
        with_meter(MAPPING, NOTHING, stripe)

    assert refusal.value.status == 502
    assert reason in refusal.value.message


# --- meters with a window, and with other names --------------------------------------------------


@pytest.mark.parametrize("window", ["hour", "day"])
def test_the_meters_window_becomes_the_mappings(stripe: FakeBilling, window: str) -> None:
    stripe.meters["price_1"] = replace(a_meter(), window=window)

    for aggregation in (Aggregation.SUM, Aggregation.COUNT):
        mapping = replace(MAPPING, aggregation=aggregation)
        assert with_meter(mapping, NOTHING, stripe).meter_window == window


def test_a_maximum_cannot_be_told_by_windows(stripe: FakeBilling) -> None:
    stripe.meters["price_1"] = replace(a_meter(), window="hour")

    message = refused(replace(MAPPING, aggregation=Aggregation.MAX), stripe)

    assert message.startswith("aggregation: mtr_1 adds up one number per hour, which max cannot")


def test_a_new_meter_without_a_window_takes_the_window_away(stripe: FakeBilling) -> None:
    assert with_meter(replace(MAPPED, meter_window="hour"), NOTHING, stripe).meter_window == ""


@pytest.mark.parametrize("keys", [{"customer_key": "who"}, {"value_key": "how_much"}])
def test_a_meter_with_other_payload_keys_is_refused(
    stripe: FakeBilling, keys: dict[str, str]
) -> None:
    stripe.meters["price_1"] = replace(a_meter(), **keys)  # type: ignore[arg-type]

    message = refused(MAPPING, stripe)

    assert next(iter(keys.values())) in message
    assert "Make a meter with the default keys" in message


# --- prices without a meter ----------------------------------------------------------------------


def test_a_legacy_price_is_refused_with_the_way_out(stripe: FakeBilling) -> None:
    stripe.meters["price_1"] = None
    stripe.prices["price_1"] = replace(a_price(meter_id=""), product="prod_7", unit_amount="2.5")

    message = refused(MAPPING, stripe)

    assert "it is a legacy metered price" in message
    assert "(1) Create a meter" in message
    assert "product=prod_7" in message
    assert "(6) After the switch" in message


def test_a_price_that_is_not_metered_has_nothing_to_migrate(stripe: FakeBilling) -> None:
    stripe.meters["price_1"] = None
    stripe.prices["price_1"] = replace(a_price(meter_id=""), is_metered=False)

    message = refused(MAPPING, stripe)

    assert "price_1 is not metered" in message
    assert "Create a meter" not in message


def test_where_usage_records_are_switched_on_a_legacy_price_can_be_mapped(
    stripe: FakeBilling,
) -> None:
    stripe.meters["price_1"] = None

    mapping = with_meter(MAPPED, NOTHING, stripe, allows_legacy=True)

    assert mapping == replace(MAPPED, is_legacy=True, meter_id="", meter_event_name="")
    stripe.meters["price_1"] = a_meter()
    assert with_meter(mapping, NOTHING, stripe, allows_legacy=True) == MAPPED


def test_the_plan_names_every_step_with_what_is_known() -> None:
    price = StripePrice(
        id="price_old",
        product="prod_7",
        currency="eur",
        is_metered=True,
        meter_id="",
        interval="month",
        interval_count=3,
        unit_amount="0.25",
    )

    steps = migration_plan(price)

    assert len(steps) == 6
    assert "recurring[interval]=month, recurring[interval_count]=3" in steps[1]
    assert "currency=eur" in steps[1]
    assert "unit_amount_decimal=0.25" in steps[1]
    assert "POST /v1/prices/price_old with active=false" in steps[5]


def test_the_plan_for_a_tiered_price_says_where_its_tiers_are() -> None:
    price = replace(a_price("price_old", ""), tiers_mode="graduated")

    assert "GET /v1/prices/price_old?expand[]=tiers" in migration_plan(price)[1]


# --- shadow --------------------------------------------------------------------------------------

SHADOWED = replace(MAPPED, shadow=True, shadow_price_id="price_2")


@pytest.fixture
def shadow() -> FakeBilling:
    fake = FakeBilling()
    fake.meters["price_2"] = a_meter("mtr_2")
    return fake


def shadow_refused(mapping: Mapping, shadow: FakeBilling) -> str:
    with pytest.raises(BadRequestError) as refusal:
        with_shadow(mapping, shadow)
    return refusal.value.message


def test_a_shadow_has_its_own_prices_meter(shadow: FakeBilling) -> None:
    mapping = with_shadow(replace(SHADOWED, shadow_stripe_account="acct_2"), shadow)

    assert (mapping.shadow_meter_id, mapping.shadow_meter_event_name) == ("mtr_2", "event_of_mtr_2")
    assert shadow.asked == [("price_2", "acct_2")]


def test_without_a_test_key_or_a_shadow_nothing_is_told_in_parallel(shadow: FakeBilling) -> None:
    former = replace(SHADOWED, shadow_meter_id="mtr_2", shadow_meter_event_name="event_of_mtr_2")

    assert with_shadow(former, None) == SHADOWED
    assert with_shadow(replace(former, shadow=False), shadow) == replace(SHADOWED, shadow=False)
    assert shadow.asked == []


def test_a_meter_is_never_its_own_shadow(shadow: FakeBilling) -> None:
    shadow.meters["price_2"] = a_meter("mtr_1")

    assert "the very meter that is to be shadowed" in shadow_refused(SHADOWED, shadow)
    elsewhere = replace(SHADOWED, shadow_stripe_account="acct_2")
    assert with_shadow(elsewhere, shadow).shadow_meter_id == "mtr_1"


def test_a_shadow_needs_a_price_that_can_carry_the_same(shadow: FakeBilling) -> None:
    missing = replace(SHADOWED, shadow_price_id="")
    assert shadow_refused(missing, shadow) == "shadowPriceId: Required while shadow is true"
    unknown = replace(SHADOWED, shadow_price_id="price_9")
    assert "shadowPriceId: no price price_9" in shadow_refused(unknown, shadow)
    windowed = replace(SHADOWED, meter_window="hour")
    assert "event_time_window 'none'" in shadow_refused(windowed, shadow)
    shadow.meters["price_2"] = a_meter("mtr_2", formula="last")
    assert "needs a meter with the formula 'sum'" in shadow_refused(SHADOWED, shadow)
    shadow.meters["price_2"] = None
    assert "charges by no Billing Meter" in shadow_refused(SHADOWED, shadow)


def test_a_shadow_that_cannot_be_asked_for_is_an_answer_to_try_again(shadow: FakeBilling) -> None:
    shadow.trouble = RetryableError("Stripe is down")

    with pytest.raises(StripeUnavailableError, match="Stripe is down"):
        with_shadow(SHADOWED, shadow)


# --- values that only fit after scaling ----------------------------------------------------------


def used(**totals: str) -> list[Counted]:
    return [Counted(CustomerRef(ref), Decimal(total)) for ref, total in totals.items()]


@pytest.mark.parametrize(
    ("total", "scale"),
    [("999999999999999", 0), ("999.999999999999", 12), ("0", 12), ("-99999", 10)],
)
def test_fifteen_digits_fit(total: str, scale: int) -> None:
    check_fits(replace(MAPPING, scale=scale), used(ada=total))


@pytest.mark.parametrize(
    ("total", "scale", "greatest"),
    [
        ("1000", 12, "the greatest scale that fits is 11"),
        ("999999999999999", 1, "the greatest scale that fits is 0"),
        ("12345.678", 11, "the greatest scale that fits is 10"),
        ("-100000", 10, "the greatest scale that fits is 9"),
        ("1000000000000000", 0, "no scale fits"),
    ],
)
def test_sixteen_digits_do_not_and_the_greatest_scale_that_does_is_named(
    total: str, scale: int, greatest: str
) -> None:
    with pytest.raises(BadRequestError) as refusal:
        check_fits(replace(MAPPING, scale=scale), used(bob="1", ada=total, cyd="2"))

    assert refusal.value.message.startswith("scale: customer ada has used ")
    assert refusal.value.message.endswith(greatest)


def test_nothing_counted_fits_every_scale() -> None:
    check_fits(replace(MAPPING, scale=12), [])
