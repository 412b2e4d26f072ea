"""Stripe down, slow, refusing or losing answers while usage arrives and the writer runs."""

from collections import Counter

import pytest

from local.stack import Stack
from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
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


def test_trouble_of_every_kind_and_an_outage_lose_and_double_nothing(
    shop: Shop, stack: Stack, stand_in: StandIn
) -> None:
    """All in one, since each must wait for the same: a push's next attempt, 5 s after its first."""
    shop.maps("api_calls")
    customers = customers_of(shop, *KIND_OF_ANSWER)
    [cut_off] = customers_of(shop, "cut_off")
    for kind in KIND_OF_ANSWER:
        stand_in.plan(kind, path=SENDING, delay_s=0.3)
    shop.sends(*(shop.event(customerRef=one, quantity=n) for n, one in enumerate(customers, 1)))
    shop.is_counted()

    report = stack.run("writer")

    assert stand_in.planned_faults() == []
    assert report["answers"] == Counter(KIND_OF_ANSWER.values())
    assert report["open"] == len(customers) - 1, "only the slow answer is one"

    with stand_in.outage():
        body = shop.sends(
            *(shop.event(customerRef=customer, quantity=100) for customer in customers),
            *shop.events(3, customerRef=cut_off, quantity=10),
        )
        shop.is_counted()
        stack.run("writer")
        during = shop.is_compared()["api_calls", cut_off]

    assert body["accepted"] == len(customers) + 3, "ingest does not wait for Stripe"
    assert (during["status"], during["countedTotal"], during["pushedTotal"]) == (
        "investigate",
        30,
        0,
    )
    assert {one["cause"] for one in during["findings"]} == {"in_flight", "not_read"}

    shop.is_told()

    wanted = [100 + n for n, _ in enumerate(customers, 1)] + [30]
    customers.append(cut_off)
    assert [int(shop.counted(customer=customer)) for customer in customers] == wanted
    assert [int(shop.at_stripe("api_calls", customer)) for customer in customers] == wanted
    assert {line["status"] for line in shop.is_compared().values()} == {"ok"}


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
    causes = [(one["cause"], one["amount"]) for one in differs["findings"]]
    # Of a row that differs it is looked up what is set up for it; the shop's has no subscription.
    assert causes == [("foreign_writer", -2), ("no_subscription", 0)]
