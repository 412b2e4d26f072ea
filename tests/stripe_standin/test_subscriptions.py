"""Subscriptions and their items: periods, anchors, changes and ends."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
import stripe
from stripe.billing import Meter

from local.stripe.control import StandIn
from tests.stripe_standin.conftest import NOON


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def text_of(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def period_of(subscription: stripe.Subscription) -> tuple[str, str]:
    [item] = subscription["items"].data
    return text_of(item.current_period_start), text_of(item.current_period_end)


class Subscriptions:
    """Subscriptions of the test's customer to a metered price."""

    def __init__(self, client: stripe.StripeClient, customer: str, meter: str) -> None:
        self._client = client
        self._customer = customer
        self._meter = meter

    def price(self, *, interval: str = "month", interval_count: int = 1) -> str:
        recurring = {
            "interval": interval,
            "interval_count": interval_count,
            "usage_type": "metered",
            "meter": self._meter,
        }
        params = {
            "currency": "usd",
            "unit_amount": 1,
            "product_data": {"name": "API"},
            "recurring": recurring,
        }
        return self._client.v1.prices.create(cast("Any", params)).id

    def seats(self) -> str:
        return self._client.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": 900,
                "product_data": {"name": "Seats"},
                "recurring": {"interval": "month"},
            }
        ).id

    def create(self, price: str | None = None, **given: Any) -> stripe.Subscription:
        items = [{"price": price or self.price()}]
        params = {"customer": self._customer, "items": items} | given
        return self._client.v1.subscriptions.create(cast("Any", params))


@pytest.fixture
def subscriptions(
    client: stripe.StripeClient, customer: stripe.Customer, meter: Meter
) -> Subscriptions:
    return Subscriptions(client, customer.id, meter.id)


# --- periods --------------------------------------------------------------------------------------


def test_a_subscription_starts_now_and_periods_turn_on_its_anchor(
    subscriptions: Subscriptions, customer: stripe.Customer
) -> None:
    made = subscriptions.create()

    assert made.status == "active"
    assert made.customer == customer.id
    assert made.billing_cycle_anchor == int(NOON.timestamp())
    assert made.billing_mode.type == "flexible"
    assert period_of(made) == ("2026-11-20 12:00:00", "2026-12-20 12:00:00")


def test_periods_roll_on_with_time(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create()

    stand_in.advance(timedelta(days=30, seconds=-1))
    before = period_of(client.v1.subscriptions.retrieve(made.id))
    stand_in.advance(timedelta(seconds=1))
    after = period_of(client.v1.subscriptions.retrieve(made.id))
    stand_in.advance(timedelta(days=365))
    later = period_of(client.v1.subscriptions.retrieve(made.id))

    assert before == ("2026-11-20 12:00:00", "2026-12-20 12:00:00")
    assert after == ("2026-12-20 12:00:00", "2027-01-20 12:00:00")
    assert later == ("2027-12-20 12:00:00", "2028-01-20 12:00:00")


def test_an_anchor_on_the_31st_falls_on_shorter_months_last_days(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    stand_in.stand_at(datetime(2027, 12, 31, 6, 30, 15, tzinfo=UTC))
    made = subscriptions.create()
    ends = []
    for _ in range(4):
        found = client.v1.subscriptions.retrieve(made.id)
        ends.append(period_of(found)[1])
        stand_in.stand_at(datetime.fromisoformat(ends[-1] + "+00:00"))

    assert ends == [
        "2028-01-31 06:30:15",
        "2028-02-29 06:30:15",
        "2028-03-31 06:30:15",
        "2028-04-30 06:30:15",
    ]


def test_a_future_anchor_makes_a_short_first_period(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create(billing_cycle_anchor=at("2026-12-01 00:00:00"))
    stand_in.stand_at(datetime(2026, 12, 1, tzinfo=UTC))

    assert period_of(made) == ("2026-11-20 12:00:00", "2026-12-01 00:00:00")
    assert period_of(client.v1.subscriptions.retrieve(made.id)) == (
        "2026-12-01 00:00:00",
        "2027-01-01 00:00:00",
    )


def test_an_anchor_beyond_the_first_interval_is_refused(subscriptions: Subscriptions) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="next billing date"):
        subscriptions.create(billing_cycle_anchor=at("2026-12-20 12:00:01"))


def test_an_anchor_can_be_configured_by_day_and_time(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    config = {"day_of_month": 31, "hour": 0, "minute": 0, "second": 0}
    made = subscriptions.create(billing_cycle_anchor_config=config)
    stand_in.stand_at(datetime(2026, 12, 1, tzinfo=UTC))

    assert text_of(made.billing_cycle_anchor) == "2026-11-30 00:00:00"
    assert period_of(client.v1.subscriptions.retrieve(made.id)) == (
        "2026-11-30 00:00:00",
        "2026-12-31 00:00:00",
    )


def test_a_configured_day_that_has_passed_is_next_months_at_the_time_of_creation(
    subscriptions: Subscriptions,
) -> None:
    made = subscriptions.create(billing_cycle_anchor_config={"day_of_month": 5})

    assert text_of(made.billing_cycle_anchor) == "2026-12-05 12:00:00"


@pytest.mark.parametrize(
    ("interval", "count", "end"),
    [
        ("day", 1, "2026-11-21 12:00:00"),
        ("week", 2, "2026-12-04 12:00:00"),
        ("month", 3, "2027-02-20 12:00:00"),
        ("year", 1, "2027-11-20 12:00:00"),
    ],
)
def test_the_prices_interval_sets_the_period(
    subscriptions: Subscriptions, interval: str, count: int, end: str
) -> None:
    made = subscriptions.create(subscriptions.price(interval=interval, interval_count=count))

    assert period_of(made) == ("2026-11-20 12:00:00", end)


def test_a_backdated_subscription_starts_in_the_past(subscriptions: Subscriptions) -> None:
    made = subscriptions.create(
        backdate_start_date=at("2026-11-10 00:00:00"),
        billing_cycle_anchor=at("2026-12-01 00:00:00"),
    )

    assert text_of(made.start_date) == "2026-11-10 00:00:00"
    assert period_of(made) == ("2026-11-10 00:00:00", "2026-12-01 00:00:00")


def test_a_trial_is_the_first_period_and_ends_by_itself(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create(trial_period_days=7)
    stand_in.advance(timedelta(days=7))
    after = client.v1.subscriptions.retrieve(made.id)

    assert made.status == "trialing"
    assert period_of(made) == ("2026-11-20 12:00:00", "2026-11-27 12:00:00")
    assert after.status == "active"
    assert period_of(after) == ("2026-11-27 12:00:00", "2026-12-27 12:00:00")
    stand_in.advance(timedelta(days=30))
    assert period_of(client.v1.subscriptions.retrieve(made.id))[1] == "2027-01-27 12:00:00"


def test_the_anchor_can_be_reset_to_now(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create()
    stand_in.advance(timedelta(days=1))

    changed = client.v1.subscriptions.update(made.id, {"billing_cycle_anchor": {"type": "now"}})

    assert period_of(changed) == ("2026-11-21 12:00:00", "2026-12-21 12:00:00")


# --- ends -----------------------------------------------------------------------------------------


def test_a_canceled_subscription_ends_at_once_and_keeps_its_last_period(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create()
    stand_in.advance(timedelta(days=1))

    canceled = client.v1.subscriptions.cancel(made.id)
    stand_in.advance(timedelta(days=60))
    later = client.v1.subscriptions.retrieve(made.id)

    assert canceled.status == "canceled"
    assert canceled.ended_at == int(NOON.timestamp()) + 86_400
    assert period_of(later) == period_of(made)
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.cancel(made.id)


def test_a_subscription_can_end_with_its_period(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create()
    ending = client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True})
    stand_in.advance(timedelta(days=40))
    ended = client.v1.subscriptions.retrieve(made.id)

    assert ending.status == "active"
    assert ending.cancel_at
    assert text_of(ending.cancel_at) == "2026-12-20 12:00:00"
    assert ended.status == "canceled"
    assert ended.ended_at == ending.cancel_at
    assert period_of(ended) == ("2026-11-20 12:00:00", "2026-12-20 12:00:00")


def test_an_end_can_be_called_off(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create(cancel_at_period_end=True)
    going_on = client.v1.subscriptions.update(made.id, {"cancel_at_period_end": False})
    stand_in.advance(timedelta(days=40))

    assert made.cancel_at
    assert going_on.cancel_at is None
    assert client.v1.subscriptions.retrieve(made.id).status == "active"


def test_a_subscription_can_end_at_an_instant(
    client: stripe.StripeClient, subscriptions: Subscriptions, stand_in: StandIn
) -> None:
    made = subscriptions.create(cancel_at=at("2027-01-05 00:00:00"))
    stand_in.stand_at(datetime(2027, 1, 5, tzinfo=UTC))
    ended = client.v1.subscriptions.retrieve(made.id)

    assert ended.status == "canceled"
    assert period_of(ended) == ("2026-12-20 12:00:00", "2027-01-20 12:00:00")


def test_deleting_a_customer_ends_its_subscriptions(
    client: stripe.StripeClient, subscriptions: Subscriptions, customer: stripe.Customer
) -> None:
    made = subscriptions.create()
    client.v1.customers.delete(customer.id)

    assert client.v1.subscriptions.retrieve(made.id).status == "canceled"


# --- lists and changes --------------------------------------------------------------------------


def test_ended_subscriptions_are_listed_only_on_demand(
    client: stripe.StripeClient, subscriptions: Subscriptions, customer: stripe.Customer
) -> None:
    first, second = subscriptions.create(), subscriptions.create()
    client.v1.subscriptions.cancel(first.id)

    def found(**params: Any) -> list[str]:
        listed = client.v1.subscriptions.list(cast("Any", {"customer": customer.id} | params))
        return [one.id for one in listed.data]

    assert found() == [second.id]
    assert found(status="all") == [second.id, first.id]
    assert found(status="canceled") == [first.id]
    assert found(price=first["items"].data[0].price.id, status="all") == [first.id]


def test_items_are_added_listed_changed_and_removed(
    client: stripe.StripeClient, subscriptions: Subscriptions
) -> None:
    made = subscriptions.create()
    metered = made["items"].data[0]

    seats = client.v1.subscription_items.create(
        {"subscription": made.id, "price": subscriptions.seats(), "quantity": 3}
    )
    listed = client.v1.subscription_items.list({"subscription": made.id})
    changed = client.v1.subscription_items.update(
        seats.id, {"quantity": 5, "metadata": {"team": "a"}}
    )
    removed = client.v1.subscription_items.delete(metered.id)

    assert [one.id for one in listed.data] == [seats.id, metered.id]
    assert (changed.quantity, changed.metadata.to_dict()) == (5, {"team": "a"})
    assert removed.deleted
    left = client.v1.subscriptions.retrieve(made.id)["items"].data
    assert [one.id for one in left] == [seats.id]
    with pytest.raises(stripe.InvalidRequestError, match="at least one active item"):
        client.v1.subscription_items.delete(seats.id)


def test_a_subscription_is_changed_together_with_its_items_or_not_at_all(
    client: stripe.StripeClient, subscriptions: Subscriptions
) -> None:
    made = subscriptions.create()
    metered = made["items"].data[0]

    with pytest.raises(stripe.InvalidRequestError, match="No such price"):
        client.v1.subscriptions.update(
            made.id,
            {
                "description": "new",
                "items": [
                    {"price": subscriptions.seats()},
                    {"id": metered.id, "deleted": True},
                    {"price": "price_nobody"},
                ],
            },
        )
    same = client.v1.subscriptions.retrieve(made.id)
    assert same.to_dict() == made.to_dict()

    changed = client.v1.subscriptions.update(
        made.id,
        {"items": [{"price": subscriptions.seats()}, {"id": metered.id, "deleted": True}]},
    )
    assert [one.quantity for one in changed["items"].data] == [1]


def test_a_metered_item_takes_no_quantity(subscriptions: Subscriptions) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="metered price") as refused:
        subscriptions.create(items=[{"price": subscriptions.price(), "quantity": 2}])

    assert refused.value.param == "items[0][quantity]"


def test_a_refused_subscription_leaves_nothing(
    client: stripe.StripeClient, subscriptions: Subscriptions
) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        subscriptions.create(items=[{"price": subscriptions.price(), "quantity": 2}])

    assert client.v1.subscriptions.list({"status": "all"}).data == []


def test_an_items_price_and_customer_can_be_expanded(
    client: stripe.StripeClient, subscriptions: Subscriptions, customer: stripe.Customer
) -> None:
    made = subscriptions.create()

    found = client.v1.subscriptions.retrieve(
        made.id, {"expand": ["customer", "items.data.price.product", "items.data.price.tiers"]}
    )

    assert isinstance(found.customer, stripe.Customer)
    assert found.customer.name == customer.name
    assert isinstance(found["items"].data[0].price.product, stripe.Product)
    listed = client.v1.subscriptions.list({"expand": ["data.customer"]})
    assert isinstance(listed.data[0].customer, stripe.Customer)


def test_what_the_stand_in_does_not_do_yet_is_said_rather_than_ignored(
    subscriptions: Subscriptions,
) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="does not do `default_tax_rates` yet"):
        subscriptions.create(default_tax_rates=["txr_1"])
