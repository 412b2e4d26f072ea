"""The fault plan: what a client sees, what has happened, and what a retry finds."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import stripe

from local.stripe.control import ControlError, StandIn
from local.stripe.faults import RATE_LIMIT_REASONS, FaultKind
from tests.stripe_standin.conftest import Send
from tests.stripe_standin.description import CheckedClient

EVENTS = "/v1/billing/meter_events"


@pytest.fixture
def counted(stand_in: StandIn, customer: stripe.Customer) -> "Counted":
    return Counted(stand_in, customer.id)


class Counted:
    """What the test's customer has used."""

    def __init__(self, stand_in: StandIn, customer: str) -> None:
        self._stand_in = stand_in
        self._customer = customer

    def __eq__(self, other: object) -> bool:
        return self._stand_in.total("api_calls", self._customer) == other

    __hash__ = None  # type: ignore[assignment]


def test_a_connection_dropped_before_the_effect_leaves_nothing(
    send: Send, stand_in: StandIn, counted: Counted
) -> None:
    stand_in.plan(FaultKind.DROP_BEFORE)
    with pytest.raises(stripe.APIConnectionError):
        send("5", identifier="u1.a.1", idempotency_key="k1")

    assert counted == 0
    send("5", identifier="u1.a.1", idempotency_key="k1")
    assert counted == 5


def test_a_connection_dropped_after_the_effect_is_replayed_on_retry(
    send: Send, stand_in: StandIn, counted: Counted, transport: CheckedClient
) -> None:
    stand_in.plan(FaultKind.DROP_AFTER)
    with pytest.raises(stripe.APIConnectionError):
        send("5", identifier="u1.a.1", idempotency_key="k1")

    assert counted == 5
    send("5", identifier="u1.a.1", idempotency_key="k1")
    assert transport.headers["Idempotent-Replayed"] == "true"
    assert counted == 5


@pytest.mark.parametrize(
    ("kind", "after_the_error"), [(FaultKind.ERROR_BEFORE, 0), (FaultKind.ERROR_AFTER, 5)]
)
def test_a_500_is_replayed_and_only_the_identifier_tells_what_happened(
    send: Send, stand_in: StandIn, counted: Counted, kind: FaultKind, after_the_error: int
) -> None:
    stand_in.plan(kind)
    for _ in range(2):
        with pytest.raises(stripe.APIError) as failed:
            send("5", identifier="u1.a.1", idempotency_key="k1")
        assert failed.value.http_status == 500
    assert counted == after_the_error

    if after_the_error:
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            send("5", identifier="u1.a.1", idempotency_key="k1.g1")
    else:
        send("5", identifier="u1.a.1", idempotency_key="k1.g1")
    assert counted == 5


def test_a_503_has_no_effect_and_is_not_replayed(
    send: Send, stand_in: StandIn, counted: Counted
) -> None:
    stand_in.plan(FaultKind.UNAVAILABLE)
    with pytest.raises(stripe.APIError) as failed:
        send("5", idempotency_key="k1")

    assert failed.value.http_status == 503
    assert counted == 0
    send("5", idempotency_key="k1")
    assert counted == 5


@pytest.mark.parametrize("reason", RATE_LIMIT_REASONS)
def test_each_reason_for_a_rate_limit_is_told(
    send: Send, stand_in: StandIn, transport: CheckedClient, reason: str
) -> None:
    stand_in.plan(FaultKind.RATE_LIMITED, reason=reason)
    with pytest.raises(stripe.RateLimitError) as refused:
        send()

    assert refused.value.error
    assert refused.value.error.code == "rate_limit"
    assert transport.headers["Stripe-Rate-Limited-Reason"] == reason
    assert "Stripe-Should-Retry" not in transport.headers


def test_a_lock_timeout_asks_to_be_retried(
    send: Send, stand_in: StandIn, transport: CheckedClient
) -> None:
    stand_in.plan(FaultKind.RATE_LIMITED, reason="lock-timeout")
    with pytest.raises(stripe.RateLimitError) as refused:
        send()

    assert refused.value.error
    assert refused.value.error.code == "lock_timeout"
    assert transport.headers["Stripe-Should-Retry"] == "true"
    assert "Stripe-Rate-Limited-Reason" not in transport.headers


def test_a_late_answer_has_its_effect_at_once(
    send: Send, stand_in: StandIn, counted: Counted
) -> None:
    stand_in.plan(FaultKind.DELAY, delay_s=0.3)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(send, "5")
        while counted != 5:
            pass
        assert not slow.done()
        slow.result()


def test_a_second_event_of_the_same_customer_and_meter_must_wait_its_turn(
    client: stripe.StripeClient, send: Send, stand_in: StandIn, counted: Counted
) -> None:
    other = client.v1.customers.create({"name": "Bob"})
    stand_in.plan(FaultKind.DELAY, delay_s=0.3)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(send, "5")
        while counted != 5:
            pass
        with pytest.raises(stripe.RateLimitError):
            send("2", idempotency_key="k2")
        send("1", customer=other.id)
        slow.result()
    send("2", idempotency_key="k2")

    assert counted == 7


def test_faults_hit_the_requests_they_are_meant_for_as_often_as_told(
    client: stripe.StripeClient, send: Send, stand_in: StandIn
) -> None:
    stand_in.plan(FaultKind.UNAVAILABLE, times=2, method="POST", path="/v1/billing/*")
    client.v1.customers.create({})
    client.v1.billing.meters.list()
    for _ in range(2):
        with pytest.raises(stripe.APIError):
            send()

    assert send().identifier
    assert stand_in.planned_faults() == []


def test_an_outage_lasts_until_it_is_over(send: Send, stand_in: StandIn, counted: Counted) -> None:
    with stand_in.outage():
        for _ in range(3):
            with pytest.raises(stripe.APIConnectionError):
                send("5", identifier="u1.a.1")
    send("5", identifier="u1.a.1")

    assert counted == 5


def test_the_sdk_gets_through_a_short_trouble_by_itself(
    send: Send, stand_in: StandIn, counted: Counted, customer: stripe.Customer
) -> None:
    retrying = stripe.StripeClient(
        "sk_test_x",
        base_addresses=stand_in.base_addresses(),
        max_network_retries=1,
        http_client=CheckedClient(),
    )
    stand_in.plan(FaultKind.DROP_AFTER, path=EVENTS)
    retrying.v1.billing.meter_events.create(
        {
            "event_name": "api_calls",
            "payload": {"stripe_customer_id": customer.id, "value": "5"},
        }
    )

    assert counted == 5


@pytest.mark.parametrize(
    ("fault", "word"),
    [({"times": 0}, "times"), ({"reason": "moon"}, "reason"), ({"colour": "red"}, "colour")],
)
def test_a_fault_that_cannot_be_is_refused(
    stand_in: StandIn, fault: dict[str, object], word: str
) -> None:
    with pytest.raises(ControlError, match=word):
        stand_in.plan(FaultKind.DELAY, **fault)


def test_time_can_be_moved_and_let_run_again(stand_in: StandIn) -> None:
    noon = stand_in.now()
    later = stand_in.advance(timedelta(hours=1))
    assert later - noon == timedelta(hours=1)
    assert stand_in.now() == later

    assert stand_in.run() >= later
    assert stand_in.now() > later


def test_the_request_log_tells_what_was_answered(send: Send, stand_in: StandIn) -> None:
    send(idempotency_key="k1")

    line = stand_in.requests()[-1]

    assert (line["method"], line["path"], line["status"]) == ("POST", EVENTS, 200)
    assert line["idempotency_key"] == "k1"
    assert not line["replayed"]
