"""Meter events: what is taken, what is refused, and how often one can count."""

from contextlib import nullcontext
from datetime import timedelta
from decimal import Decimal

import pytest
import stripe
from stripe.billing import Meter

from local.stripe.control import StandIn
from tests.stripe_standin.conftest import NOON, Send
from tests.stripe_standin.description import CheckedClient

DAY = timedelta(days=1)
NOW = int(NOON.timestamp())


def test_a_meter_event_is_answered_as_it_was_sent(send: Send, customer: stripe.Customer) -> None:
    event = send("42", identifier="u1.a.1", timestamp=NOW - 60)

    assert event.identifier == "u1.a.1"
    assert event.payload.to_dict() == {"stripe_customer_id": customer.id, "value": "42"}
    assert event.timestamp == NOW - 60
    assert event.created == NOW
    assert not event.livemode


def test_an_event_without_identifier_and_timestamp_gets_them(send: Send) -> None:
    first, second = send(), send()

    assert first.timestamp == NOW
    assert first.identifier
    assert first.identifier != second.identifier


def test_values_add_up_exactly_with_negative_ones(
    send: Send, stand_in: StandIn, customer: stripe.Customer
) -> None:
    for value in ("999999999999999", "999999999999999", "-7"):
        send(value)

    assert stand_in.total("api_calls", customer.id) == Decimal(1999999999999991)


# --- the identifier ---------------------------------------------------------------------------


def test_a_used_identifier_is_refused_without_a_code_and_not_to_be_retried(
    send: Send, stand_in: StandIn, customer: stripe.Customer, transport: CheckedClient
) -> None:
    send("5", identifier="u1.a.1")

    with pytest.raises(stripe.InvalidRequestError) as refused:
        send("5", identifier="u1.a.1")

    assert refused.value.http_status == 400
    assert refused.value.code is None
    assert refused.value.user_message == "An event already exists with identifier u1.a.1."
    assert transport.headers["Stripe-Should-Retry"] == "false"
    assert stand_in.total("api_calls", customer.id) == 5


def test_an_identifier_is_remembered_for_exactly_a_day_and_then_counts_again(
    send: Send, stand_in: StandIn, customer: stripe.Customer
) -> None:
    send("5", identifier="u1.a.1")

    stand_in.advance(DAY - timedelta(seconds=1))
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        send("5", identifier="u1.a.1")
    stand_in.advance(timedelta(seconds=1))
    send("5", identifier="u1.a.1")

    assert stand_in.total("api_calls", customer.id) == 10


def test_the_memory_of_identifiers_can_be_made_longer(send: Send, stand_in: StandIn) -> None:
    stand_in.set(identifier_memory_s=2 * 86_400)
    send(identifier="u1.a.1")
    stand_in.advance(DAY)

    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        send(identifier="u1.a.1")


def test_a_refused_event_leaves_its_identifier_free(send: Send) -> None:
    with pytest.raises(stripe.InvalidRequestError):
        send("many", identifier="u1.a.1")

    assert send("1", identifier="u1.a.1").identifier == "u1.a.1"


# --- the timestamp ----------------------------------------------------------------------------


@pytest.mark.parametrize("offset_s", [-35 * 86_400, 300])
def test_the_window_reaches_from_35_days_back_to_5_minutes_ahead(send: Send, offset_s: int) -> None:
    assert send(timestamp=NOW + offset_s).timestamp == NOW + offset_s


@pytest.mark.parametrize(
    ("offset_s", "code"),
    [(-35 * 86_400 - 1, "timestamp_too_far_in_past"), (301, "timestamp_in_future")],
)
def test_a_timestamp_outside_the_window_is_refused(send: Send, offset_s: int, code: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send(timestamp=NOW + offset_s)

    assert refused.value.code == code


# --- the value --------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["1e3", "0x1", "--1", "+1", " 1", "1_000", "NaN", "٣", "1.5"])
def test_a_value_that_is_no_whole_number_is_refused(send: Send, value: str) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send(value)

    assert refused.value.code == "meter_event_invalid_value"


def test_fifteen_digits_are_taken_and_sixteen_refused(send: Send) -> None:
    send("-999999999999999")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        send("1000000000000000")

    assert refused.value.code == "meter_event_value_too_many_digits"


def test_decimals_are_taken_where_the_account_allows_them(
    send: Send, stand_in: StandIn, customer: stripe.Customer
) -> None:
    stand_in.set(decimals=True)
    send("0.1")
    send("0.2")

    assert stand_in.total("api_calls", customer.id) == Decimal("0.3")


def test_negative_values_are_refused_where_the_account_forbids_them(
    send: Send, stand_in: StandIn
) -> None:
    stand_in.set(negatives=False)

    with pytest.raises(stripe.InvalidRequestError, match="must not be negative"):
        send("-1")


# --- meter, customer, payload -------------------------------------------------------------------


def test_an_event_for_no_meter_is_refused(send: Send) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No active meter") as refused:
        send(event_name="nothing")

    assert refused.value.code == "no_meter"


def test_an_inactive_meter_takes_no_events(
    client: stripe.StripeClient, send: Send, meter: Meter
) -> None:
    client.v1.billing.meters.deactivate(meter.id)

    with pytest.raises(stripe.InvalidRequestError) as refused:
        send()

    assert refused.value.code == "archived_meter"


def test_an_unknown_customer_is_refused_at_once(send: Send) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such customer") as refused:
        send(customer="cus_nobody")

    assert refused.value.code == "meter_event_customer_not_found"


def test_a_deleted_customer_is_unknown(
    client: stripe.StripeClient, send: Send, customer: stripe.Customer
) -> None:
    client.v1.customers.delete(customer.id)

    with pytest.raises(stripe.InvalidRequestError, match="No such customer"):
        send()


def test_an_account_may_find_an_unknown_customer_only_later(send: Send, stand_in: StandIn) -> None:
    stand_in.set(asynchronous=["meter_event_customer_not_found"])

    send(customer="cus_nobody", identifier="u1.a.1", idempotency_key="k1")

    account = stand_in.state()["accounts"]["acct_standin"]
    assert account["meter_events"] == []
    assert [
        (one["code"], one["identifier"], one["idempotency_key"]) for one in account["rejections"]
    ] == [("meter_event_customer_not_found", "u1.a.1", "k1")]
    with pytest.raises(stripe.InvalidRequestError, match="already exists"):
        send(identifier="u1.a.1")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({"value": "1"}, "meter_event_no_customer_defined"),
        ({"stripe_customer_id": "cus_x"}, "meter_event_value_not_found"),
    ],
)
def test_a_payload_names_the_customer_and_the_value(
    client: stripe.StripeClient, meter: Meter, payload: dict[str, str], code: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.billing.meter_events.create({"event_name": "api_calls", "payload": payload})

    assert refused.value.code == code


@pytest.mark.parametrize(("field", "longest"), [("identifier", 100), ("event_name", 100)])
def test_names_have_a_longest_length(
    send: Send, transport: CheckedClient, field: str, longest: int
) -> None:
    transport.lenient = True
    with pytest.raises(stripe.InvalidRequestError, match="at most 100 characters") as refused:
        send(**{field: "x" * (longest + 1)})

    assert refused.value.param == field


def test_a_count_meter_needs_no_value(
    client: stripe.StripeClient, stand_in: StandIn, customer: stripe.Customer
) -> None:
    client.v1.billing.meters.create(
        {
            "display_name": "Logins",
            "event_name": "logins",
            "default_aggregation": {"formula": "count"},
        }
    )
    for _ in range(3):
        client.v1.billing.meter_events.create(
            {"event_name": "logins", "payload": {"stripe_customer_id": customer.id}}
        )

    assert stand_in.total("logins", customer.id) == 3


# --- adjustments --------------------------------------------------------------------------------


def test_a_cancelled_event_stops_counting(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, customer: stripe.Customer
) -> None:
    send("5", identifier="u1.a.1")
    send("7")

    adjustment = client.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}}
    )

    assert adjustment.status == "pending"
    assert stand_in.total("api_calls", customer.id) == 7


@pytest.mark.parametrize(("age_s", "refused"), [(86_400, False), (86_401, True)])
def test_an_event_can_be_cancelled_for_a_day(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, age_s: int, *, refused: bool
) -> None:
    stand_in.set(identifier_memory_s=10 * 86_400)
    send(identifier="u1.a.1")
    stand_in.advance(timedelta(seconds=age_s))

    expected = pytest.raises(stripe.InvalidRequestError, match="within 24 hours")
    with expected if refused else nullcontext():
        client.v1.billing.meter_event_adjustments.create(
            {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}}
        )


def test_an_event_cannot_be_cancelled_twice_or_unheard_of(
    client: stripe.StripeClient, send: Send
) -> None:
    send(identifier="u1.a.1")
    cancel = client.v1.billing.meter_event_adjustments.create
    cancel({"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}})

    with pytest.raises(stripe.InvalidRequestError, match="cancelled already"):
        cancel({"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}})
    with pytest.raises(stripe.InvalidRequestError, match="No such meter event"):
        cancel({"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.2"}})
