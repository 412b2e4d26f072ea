"""Idempotency keys: what is replayed, what runs again, and what is refused."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
from tests.stripe_standin.conftest import Send
from tests.stripe_standin.description import CheckedClient
from tests.stripe_standin.raw import KEY, call

EVENTS = "/v1/billing/meter_events"


def test_a_repeated_key_gets_the_first_answer_and_nothing_happens_again(
    client: stripe.StripeClient, transport: CheckedClient
) -> None:
    first = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    asked = transport.headers["Request-Id"]
    second = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})

    assert second.id == first.id
    assert transport.headers["Idempotent-Replayed"] == "true"
    assert transport.headers["Original-Request"] == asked
    assert transport.headers["Request-Id"] != asked
    assert len(client.v1.customers.list().data) == 1


def test_a_replayed_meter_event_is_accepted_rather_than_a_duplicate(
    send: Send, stand_in: StandIn, customer: stripe.Customer
) -> None:
    send("5", identifier="u1.a.1", idempotency_key="k1")
    send("5", identifier="u1.a.1", idempotency_key="k1")

    assert stand_in.total("api_calls", customer.id) == 5


def test_a_key_with_other_parameters_is_an_idempotency_error(send: Send) -> None:
    send("5", identifier="u1.a.1", idempotency_key="k1")

    with pytest.raises(stripe.IdempotencyError) as refused:
        send("6", identifier="u1.a.1", idempotency_key="k1")

    assert refused.value.http_status == 400


def test_a_key_on_another_path_is_an_idempotency_error(client: stripe.StripeClient) -> None:
    client.v1.customers.create({"name": "x"}, {"idempotency_key": "k1"})

    with pytest.raises(stripe.IdempotencyError):
        client.v1.products.create({"name": "x"}, {"idempotency_key": "k1"})


def test_a_key_expires_after_a_day(client: stripe.StripeClient, stand_in: StandIn) -> None:
    create = client.v1.customers.create
    first = create({"name": "Ada"}, {"idempotency_key": "k1"})

    stand_in.advance(timedelta(hours=24, seconds=-1))
    replayed = create({"name": "Ada"}, {"idempotency_key": "k1"})
    stand_in.advance(timedelta(seconds=1))
    fresh = create({"name": "Ada"}, {"idempotency_key": "k1"})

    assert replayed.id == first.id
    assert fresh.id != first.id


def test_keys_belong_to_an_account(client: stripe.StripeClient) -> None:
    ours = client.v1.customers.create({}, {"idempotency_key": "k1"})
    theirs = client.v1.customers.create(
        {}, {"idempotency_key": "k1", "stripe_account": "acct_other"}
    )

    assert ours.id != theirs.id


def test_a_refusal_that_came_of_executing_is_replayed_with_its_headers(
    send: Send, transport: CheckedClient
) -> None:
    send(identifier="u1.a.1", idempotency_key="k1")
    for _ in range(2):
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            send(identifier="u1.a.1", idempotency_key="k2")

    assert transport.headers["Idempotent-Replayed"] == "true"
    assert transport.headers["Stripe-Should-Retry"] == "false"


def test_a_refused_parameter_is_not_stored(stand_in: StandIn) -> None:
    headers = KEY | {"Idempotency-Key": "k1"}
    wrong = call(stand_in, "POST", "/v1/customers", form="colour=red", headers=headers)
    right = call(stand_in, "POST", "/v1/customers", form="name=red", headers=headers)

    assert (wrong.status_code, right.status_code) == (400, 200)


def test_parameters_that_do_not_go_together_are_not_stored(client: stripe.StripeClient) -> None:
    product = client.v1.products.create({"name": "API"}).id
    create = client.v1.prices.create
    with pytest.raises(stripe.InvalidRequestError, match="unit_amount"):
        create({"currency": "usd", "product": product}, {"idempotency_key": "k1"})

    price = create(
        {"currency": "usd", "product": product, "unit_amount": 1}, {"idempotency_key": "k1"}
    )
    assert price.unit_amount == 1


def test_an_unauthorized_request_is_not_stored(stand_in: StandIn) -> None:
    key = {"Idempotency-Key": "k1"}
    without = call(stand_in, "POST", "/v1/customers", form="name=x", headers=key)
    authorized = call(stand_in, "POST", "/v1/customers", form="name=x", headers=KEY | key)

    assert (without.status_code, authorized.status_code) == (401, 200)


def test_a_rate_limit_is_not_stored(send: Send, stand_in: StandIn) -> None:
    stand_in.plan(FaultKind.RATE_LIMITED)
    with pytest.raises(stripe.RateLimitError):
        send(idempotency_key="k1")

    assert send(idempotency_key="k1").identifier


def test_parameters_may_come_in_another_order(stand_in: StandIn) -> None:
    headers = KEY | {"Idempotency-Key": "k1"}
    first = call(stand_in, "POST", "/v1/customers", form="name=x&email=y", headers=headers)
    second = call(stand_in, "POST", "/v1/customers", form="email=y&name=x", headers=headers)

    assert second.json() == first.json()


def test_a_key_has_at_most_255_characters(stand_in: StandIn) -> None:
    headers = KEY | {"Idempotency-Key": "k" * 256}

    assert call(stand_in, "POST", "/v1/customers", form="", headers=headers).status_code == 400


def test_a_twin_of_a_request_in_flight_conflicts(
    send: Send, stand_in: StandIn, customer: stripe.Customer
) -> None:
    stand_in.plan(FaultKind.DELAY, delay_s=0.3, path=EVENTS)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(send, "5", identifier="u1.a.1", idempotency_key="k1")
        while not stand_in.requests() or stand_in.requests()[-1]["path"] != EVENTS:
            assert not slow.done()
        with pytest.raises(stripe.APIError) as refused:
            send("5", identifier="u1.a.1", idempotency_key="k1")
        slow.result()

    assert refused.value.http_status == 409
    assert stand_in.total("api_calls", customer.id) == 5
    assert send("5", identifier="u1.a.1", idempotency_key="k1").identifier == "u1.a.1"
