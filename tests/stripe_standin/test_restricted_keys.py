"""Restricted, revoked and bound keys, and the calls an account may make in a second."""

from datetime import timedelta
from pathlib import Path

import pytest
import stripe

from local.stripe.control import ControlError, StandIn
from local.stripe.server import running
from tests.stripe_standin.conftest import Send
from tests.stripe_standin.description import CheckedClient

KEY = "rk_test_pusher"


@pytest.fixture
def restricted(stand_in: StandIn, transport: CheckedClient) -> stripe.StripeClient:
    """A client whose key the test restricts."""
    return stripe.StripeClient(KEY, base_addresses=stand_in.base_addresses(), http_client=transport)


def test_a_key_does_what_its_scopes_allow(
    restricted: stripe.StripeClient, stand_in: StandIn, customer: stripe.Customer, send: Send
) -> None:
    send()
    stand_in.rule_key(KEY, scopes=["billing_meter_event_write", "customer_read"])

    assert restricted.v1.customers.retrieve(customer.id).name == "Ada"
    restricted.v1.billing.meter_events.create(
        {
            "event_name": "api_calls",
            "payload": {"stripe_customer_id": customer.id, "value": "1"},
        }
    )
    assert stand_in.total("api_calls", customer.id) == 2


def test_what_a_key_lacks_is_a_403_that_names_the_scope(
    restricted: stripe.StripeClient, stand_in: StandIn
) -> None:
    stand_in.rule_key(KEY, scopes=["customer_read", "billing_meter_event_write"])

    for scope, call in (
        ("billing_meter_read", restricted.v1.billing.meters.list),
        ("customer_write", restricted.v1.customers.create),
        ("price_read", restricted.v1.prices.list),
        ("subscription_read", restricted.v1.subscriptions.list),
        ("event_read", restricted.v2.core.events.list),
    ):
        with pytest.raises(stripe.PermissionError, match=f"'rak_{scope}'") as refused:
            call()
        assert refused.value.http_status == 403
        assert KEY not in str(refused.value)


def test_the_write_scope_allows_reading(restricted: stripe.StripeClient, stand_in: StandIn) -> None:
    stand_in.rule_key(KEY, scopes=["customer_write"])

    assert restricted.v1.customers.list().data == []


def test_a_refusal_for_want_of_a_scope_has_no_effect_and_is_not_kept(
    restricted: stripe.StripeClient, stand_in: StandIn
) -> None:
    stand_in.rule_key(KEY, scopes=["customer_read"])
    with pytest.raises(stripe.PermissionError):
        restricted.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    stand_in.rule_key(KEY, scopes=["customer_write"])

    made = restricted.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})

    assert [one.id for one in restricted.v1.customers.list().data] == [made.id]


def test_an_unknown_scope_cannot_be_given(stand_in: StandIn) -> None:
    with pytest.raises(ControlError, match="no such scope: meters_read"):
        stand_in.rule_key(KEY, scopes=["meters_read"])


def test_a_revoked_key_opens_nothing_until_it_is_restored(
    restricted: stripe.StripeClient, stand_in: StandIn
) -> None:
    stand_in.rule_key(KEY, revoked=True)
    with pytest.raises(stripe.AuthenticationError, match="Expired API Key") as refused:
        restricted.v1.customers.list()
    assert refused.value.http_status == 401

    stand_in.rule_key(KEY)
    assert restricted.v1.customers.list().data == []


def test_a_bound_key_sees_its_own_account_only(
    restricted: stripe.StripeClient, client: stripe.StripeClient, stand_in: StandIn
) -> None:
    stand_in.rule_key(KEY, account="acct_own", connected=["acct_friend"])
    own = restricted.v1.customers.create({"name": "Ada"})

    in_own: stripe.RequestOptions = {"stripe_account": "acct_own"}
    assert [one.id for one in client.v1.customers.list(None, in_own).data] == [own.id]
    assert client.v1.customers.list().data == []
    assert restricted.v1.customers.list(None, {"stripe_account": "acct_friend"}).data == []
    with pytest.raises(stripe.PermissionError, match="does not have access to account") as refused:
        restricted.v1.customers.list(None, {"stripe_account": "acct_foreign"})
    assert refused.value.http_status == 403


def test_a_restart_keeps_what_keys_may_do(tmp_path: Path) -> None:
    with running(data=tmp_path) as stand_in:
        stand_in.rule_key(KEY, revoked=True)
    for _ in range(2):
        with running(data=tmp_path) as stand_in:
            client = stripe.StripeClient(KEY, base_addresses=stand_in.base_addresses())
            with pytest.raises(stripe.AuthenticationError):
                client.v1.customers.list()


# --- calls per second ---------------------------------------------------------------------------


def test_an_account_may_make_so_many_calls_a_second(
    client: stripe.StripeClient, stand_in: StandIn, transport: CheckedClient
) -> None:
    stand_in.set(calls_per_s=2)
    client.v1.customers.list()
    stand_in.advance(timedelta(milliseconds=500))
    client.v1.customers.list()

    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.list()
    assert transport.headers["Stripe-Rate-Limited-Reason"] == "global-rate"
    client.v1.customers.list(None, {"stripe_account": "acct_other"})

    stand_in.advance(timedelta(milliseconds=500))
    client.v1.customers.list()
    with pytest.raises(stripe.RateLimitError):
        client.v1.customers.list()
