"""A customer in place of a former one: whether its calendar was changed under usage."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from metering.mapping import Customer, in_place_of, unmapped_customer
from metering.names import CustomerRef, TenantId
from tests.builders import a_subscriber

ACME = TenantId("acme")
ANCHOR = datetime(2026, 11, 3, 4, 5, 6, tzinfo=UTC)
ANN = a_subscriber("ann", ANCHOR, tenant=ACME)
MONTHLY = Customer(ACME, CustomerRef("ann"), "cus_A")


@pytest.mark.parametrize(
    ("before", "after", "recuts"),
    [
        (None, MONTHLY, 0),
        (None, ANN, 0),  # nothing was told of somebody unknown at Stripe
        (ANN, ANN, 0),
        (ANN, replace(ANN, stripe_customer="cus_B"), 0),
        (MONTHLY, ANN, 1),
        (ANN, MONTHLY, 1),
        (replace(ANN, recuts=1), MONTHLY, 2),
        (replace(ANN, recuts=2), ANN, 2),
    ],
)
def test_each_change_of_the_calendar_is_counted_for_ever(
    before: Customer | None, after: Customer, recuts: int
) -> None:
    assert in_place_of(before, after) == replace(after, recuts=recuts)


def test_who_is_its_own_stripe_customer_may_have_been_told_before_it_was_set_up() -> None:
    ref = CustomerRef("cus_A")

    assert in_place_of(None, replace(ANN, ref=ref)).recuts == 1
    assert in_place_of(None, replace(MONTHLY, ref=ref)).recuts == 0


def test_a_customer_that_nobody_set_up_is_who_its_name_says() -> None:
    assert unmapped_customer(ANN.tenant, CustomerRef("cus_9")) == Customer(
        ANN.tenant, CustomerRef("cus_9"), "cus_9"
    )
    assert unmapped_customer(ANN.tenant, CustomerRef("ann")).stripe_customer == ""
