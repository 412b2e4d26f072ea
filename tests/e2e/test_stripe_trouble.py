"""Stripe down, slow, refusing or losing answers while usage arrives and the writer runs."""

import pytest

from local.dynamodb_local import LocalServiceError
from local.stack import Stack
from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
from metering.adapters.dynamodb.writer_desk import DESK_KEY
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

SENDING = "/v1/billing/meter_events"
KIND_OF_ANSWER = {
    FaultKind.DROP_BEFORE: "outcome_unknown",
    FaultKind.DROP_AFTER: "outcome_unknown",
    FaultKind.DELAY: "accepted",
    FaultKind.RATE_LIMITED: "rate_limited",
    FaultKind.ERROR_BEFORE: "server_error",
    FaultKind.ERROR_AFTER: "server_error",
    FaultKind.UNAVAILABLE: "outcome_unknown",
}


def customers_of(shop: Shop, *names: str) -> list[str]:
    customers = [f"{shop.customer}_{name}" for name in names]
    shop.known_at_stripe(*customers)
    return customers


def shows_at_stripe(shop: Shop, customers: list[str]) -> list[int]:
    return [int(shop.at_stripe("api_calls", customer)) for customer in customers]


def test_each_kind_of_trouble_once_loses_and_doubles_nothing(
    shop: Shop, stack: Stack, stand_in: StandIn
) -> None:
    shop.maps("api_calls")
    customers = customers_of(shop, *KIND_OF_ANSWER)
    for kind in KIND_OF_ANSWER:
        stand_in.plan(kind, path=SENDING, delay_s=0.3)
    shop.sends(*(shop.event(customerRef=one, quantity=n) for n, one in enumerate(customers, 1)))
    shop.is_counted()

    report = stack.run("writer")

    assert stand_in.planned_faults() == []
    assert report["answers"] == {
        kind: list(KIND_OF_ANSWER.values()).count(kind) for kind in KIND_OF_ANSWER.values()
    }
    assert report["open"] == len(customers) - 1

    shop.sends(*(shop.event(customerRef=customer, quantity=100) for customer in customers))
    shop.is_counted()
    shop.is_told()

    expected = [100 + n for n, _ in enumerate(customers, 1)]
    assert [shop.counted(customer=customer) for customer in customers] == expected
    assert shows_at_stripe(shop, customers) == expected
    assert {line["status"] for line in shop.is_compared().values()} == {"ok"}


def test_an_outage_is_made_up_for_when_stripe_is_back(
    shop: Shop, stack: Stack, stand_in: StandIn
) -> None:
    shop.maps("api_calls")
    kinds = (FaultKind.DROP_BEFORE, FaultKind.RATE_LIMITED, FaultKind.ERROR_AFTER)
    customers = customers_of(shop, *kinds)
    for kind, customer in zip(kinds, customers, strict=True):
        with stand_in.outage(kind):
            for quantity in (1, 10):
                body = shop.sends(*shop.events(2, customerRef=customer, quantity=quantity))
                assert body["accepted"] == 2, "ingest does not wait for Stripe"
                shop.is_counted()
                stack.run("writer")
            during = shop.is_compared()["api_calls", customer]
            assert during["status"] == "investigate"
            assert (during["countedTotal"], during["pushedTotal"]) == (22, 0)
            assert {"in_flight", "not_read"} <= {one["cause"] for one in during["findings"]}

    shop.is_told()

    assert [shop.counted(customer=customer) for customer in customers] == [22] * len(customers)
    assert shows_at_stripe(shop, customers) == [22] * len(customers)
    assert {line["status"] for line in shop.is_compared().values()} == {"ok"}


@pytest.mark.parametrize("answered", [False, True])
def test_a_writer_killed_at_its_database_calls_tells_stripe_once(
    shop: Shop, stack: Stack, *, answered: bool
) -> None:
    shop.maps("api_calls")
    deaths = 0
    for call in range(3, 15, 3):
        shop.sends(shop.event(quantity=call))
        shop.is_counted()
        stack.chaos("writer", "kill", call=call, answered=answered)
        try:
            stack.run("writer")
        except LocalServiceError as failed:
            if "RunKilledError" not in str(failed):
                raise
            deaths += 1
            the_dead_runs_lease_ends(shop)
    shop.is_told()

    assert deaths >= 3
    assert shop.at_stripe("api_calls") == shop.counted() == sum(range(3, 15, 3))


def the_dead_runs_lease_ends(shop: Shop) -> None:
    """It would by itself, a minute later."""
    shop.wiring().dynamodb.update_item(
        TableName="billing",
        Key=DESK_KEY,
        UpdateExpression="SET lease_until = :ended",
        ExpressionAttributeValues={":ended": {"S": "0"}},
    )


def test_what_another_writer_sends_is_found_and_named(shop: Shop, stand_in: StandIn) -> None:
    shop.maps("api_calls")
    shop.sends(shop.event(quantity=3))
    shop.is_counted()
    shop.is_told()
    agreed = shop.is_compared()["api_calls", shop.customer]
    stand_in.send_foreign_event(shop.event_name("api_calls"), shop.customer, "2")
    stand_in.settle()

    differs = shop.is_compared()["api_calls", shop.customer]

    assert (agreed["status"], agreed["findings"]) == ("ok", [])
    assert (differs["status"], differs["stripeTotal"], differs["diff"]) == ("investigate", 5, -2)
    assert [(one["cause"], one["amount"]) for one in differs["findings"]] == [
        ("foreign_writer", -2)
    ]
