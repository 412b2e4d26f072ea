"""Meter events of v2: the same usage, typed errors, keys that are kept for 30 days."""

from datetime import timedelta
from typing import Any

import pytest
import requests
import stripe
from stripe.billing import Meter

from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
from tests.stripe_standin.conftest import Send
from tests.stripe_standin.description import CheckedClient
from tests.stripe_standin.raw import KEY

DAY = timedelta(days=1)
PATH = "/v2/billing/meter_events"


@pytest.fixture
def event(meter: Meter, customer: stripe.Customer) -> dict[str, Any]:
    return {
        "event_name": meter.event_name,
        "payload": {"stripe_customer_id": customer.id, "value": "5"},
        "identifier": "u1.a.1",
    }


def code_of(client: stripe.StripeClient, params: Any) -> str | None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_events.create(params)
    assert refused.value.http_status == 400
    return refused.value.code


def test_an_event_counts_and_is_answered_in_rfc_3339(
    client: stripe.StripeClient, stand_in: StandIn, customer: stripe.Customer, event: Any
) -> None:
    made = client.v2.billing.meter_events.create(event | {"timestamp": "2026-11-20T13:59:30+02:00"})

    assert made.object == "v2.billing.meter_event"
    assert made.timestamp == "2026-11-20T11:59:30.000Z"
    assert made.created == "2026-11-20T12:00:00.000Z"
    assert made.payload.to_dict() == event["payload"]
    assert stand_in.total("api_calls", customer.id) == 5


def test_identifiers_are_those_of_v1(
    client: stripe.StripeClient,
    stand_in: StandIn,
    send: Send,
    customer: stripe.Customer,
    event: Any,
) -> None:
    send("5", identifier="u1.a.1")
    assert code_of(client, event) == "duplicate_meter_event"

    client.v2.billing.meter_events.create(event | {"identifier": "u1.a.2"})
    with pytest.raises(
        stripe.InvalidRequestError, match=r"already exists with identifier u1\.a\.2"
    ):
        send("5", identifier="u1.a.2")

    assert stand_in.total("api_calls", customer.id) == 10


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"event_name": "nothing"}, "no_meter"),
        ({"payload": {"value": "1"}}, "payload_no_customer_defined"),
        ({"payload": {"stripe_customer_id": "cus_x"}}, "payload_no_value_defined"),
        ({"payload": {"stripe_customer_id": "cus_x", "value": "1.5"}}, "payload_invalid_value"),
        (
            {"payload": {"stripe_customer_id": "cus_x", "value": "1" * 16}},
            "payload_invalid_value",
        ),
        ({"timestamp": "2026-11-20T12:05:01Z"}, "timestamp_in_future"),
    ],
)
def test_errors_are_typed(
    client: stripe.StripeClient, event: Any, change: dict[str, Any], code: str
) -> None:
    assert code_of(client, event | change) == code


def test_an_inactive_meter_is_archived(
    client: stripe.StripeClient, meter: Meter, event: Any
) -> None:
    client.v1.billing.meters.deactivate(meter.id)

    assert code_of(client, event) == "archived_meter"


def test_an_unknown_customer_is_found_only_later(
    client: stripe.StripeClient, stand_in: StandIn, event: Any
) -> None:
    payload = {"stripe_customer_id": "cus_nobody", "value": "1"}
    client.v2.billing.meter_events.create(event | {"payload": payload}, {"idempotency_key": "k1"})
    stand_in.settle()

    [report] = client.v2.core.events.list().data

    assert report["data"]["reason"]["error_types"][0]["code"] == "meter_event_customer_not_found"
    assert stand_in.totals() == {}


@pytest.mark.parametrize(
    "body",
    [
        '{"event_name": "api_calls", "payload": {"stripe_customer_id": "cus_x", "value": 5}}',
        '{"event_name": "api_calls", "payload": {"stripe_customer_id": "cus_x"}, "timestamp": 5}',
        '{"event_name": "api_calls", "payload": {}, "colour": "red"}',
        '{"event_name": "api_calls"',
        '["event_name"]',
        '{"payload": {}}',
        '{"event_name": "api_calls", "payload": {"value": NaN}}',
    ],
)
def test_a_wrong_body_is_refused_in_the_shape_of_v2(
    stand_in: StandIn, meter: Meter, body: str
) -> None:
    headers = KEY | {"Content-Type": "application/json"}
    answer = requests.post(stand_in.url + PATH, data=body, headers=headers, timeout=10)

    assert meter.status == "active"
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"code", "message"}
    assert error["message"]


def test_one_event_of_a_customer_and_meter_at_a_time(
    client: stripe.StripeClient, stand_in: StandIn, event: Any
) -> None:
    stand_in.plan(FaultKind.DELAY, path=PATH, delay_s=2)
    late = stripe.StripeClient(
        "sk_test_x",
        base_addresses=stand_in.base_addresses(),
        http_client=stripe.RequestsClient(timeout=0.2),
    )
    with pytest.raises(stripe.APIConnectionError):
        late.v2.billing.meter_events.create(event)

    with pytest.raises(stripe.RateLimitError) as refused:
        client.v2.billing.meter_events.create(event | {"identifier": "u1.a.2"})

    assert refused.value.http_status == 429
    assert refused.value.json_body["error"]["code"] == "too_many_concurrent_requests"  # type: ignore[index]


# --- idempotency keys ---------------------------------------------------------------------------


def test_a_success_is_replayed_for_thirty_days(
    client: stripe.StripeClient, stand_in: StandIn, transport: CheckedClient, event: Any
) -> None:
    key: stripe.RequestOptions = {"idempotency_key": "k1"}
    first = client.v2.billing.meter_events.create(event, key)
    stand_in.advance(30 * DAY - timedelta(seconds=1))

    again = client.v2.billing.meter_events.create(event, key)

    assert again.created == first.created
    assert transport.headers["Idempotent-Replayed"] == "true"
    stand_in.advance(timedelta(seconds=1))
    assert client.v2.billing.meter_events.create(event, key).created != first.created


def test_a_failure_is_executed_again_under_its_key(
    client: stripe.StripeClient, stand_in: StandIn, customer: stripe.Customer, event: Any
) -> None:
    key: stripe.RequestOptions = {"idempotency_key": "k1"}
    stand_in.plan(FaultKind.ERROR_BEFORE, path=PATH)
    with pytest.raises(stripe.APIError):
        client.v2.billing.meter_events.create(event, key)

    client.v2.billing.meter_events.create(event, key)

    assert stand_in.total("api_calls", customer.id) == 5


def test_a_500_after_the_effect_is_a_duplicate_under_the_same_key(
    client: stripe.StripeClient, stand_in: StandIn, customer: stripe.Customer, event: Any
) -> None:
    key: stripe.RequestOptions = {"idempotency_key": "k1"}
    stand_in.plan(FaultKind.ERROR_AFTER, path=PATH)
    with pytest.raises(stripe.APIError):
        client.v2.billing.meter_events.create(event, key)

    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_events.create(event, key)

    assert refused.value.code == "duplicate_meter_event"
    assert stand_in.total("api_calls", customer.id) == 5


def test_a_key_with_other_parameters_is_refused(client: stripe.StripeClient, event: Any) -> None:
    key: stripe.RequestOptions = {"idempotency_key": "k1"}
    client.v2.billing.meter_events.create(event, key)

    with pytest.raises(stripe.IdempotencyError):
        client.v2.billing.meter_events.create(event | {"identifier": "u1.a.2"}, key)


def test_keys_of_v1_and_v2_do_not_meet(client: stripe.StripeClient, send: Send, event: Any) -> None:
    send(identifier="u1.a.2", idempotency_key="k1")

    assert client.v2.billing.meter_events.create(event, {"idempotency_key": "k1"}).identifier


# --- adjustments --------------------------------------------------------------------------------


def test_a_cancelled_event_stops_counting(
    client: stripe.StripeClient, stand_in: StandIn, customer: stripe.Customer, event: Any
) -> None:
    client.v2.billing.meter_events.create(event)

    made = client.v2.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}}
    )

    assert (made.status, made.cancel.identifier) == ("pending", "u1.a.1")
    assert made.created == "2026-11-20T12:00:00.000Z"
    assert stand_in.total("api_calls", customer.id) == 0


def test_what_cannot_be_cancelled_is_an_invalid_configuration(
    client: stripe.StripeClient, meter: Meter
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v2.billing.meter_event_adjustments.create(
            {"event_name": meter.event_name, "type": "cancel", "cancel": {"identifier": "u1"}}
        )

    assert refused.value.code == "invalid_cancel_configuration"
