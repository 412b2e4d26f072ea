"""Whether what was counted can be told at a scale, by the latest period of each customer."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.counter import CounterKey, Usage, usage_of
from metering.errors import BadRequestError
from metering.mapping import Customer, unmapped_customer
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.ports import KnownCounter
from metering.value_range import LOOKED_AT_MAX, Counted, check_fits, counted
from tests.builders import A_MAPPING, an_entry
from tests.held import NoSettings

ACME = TenantId("acme")
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
OCTOBER_9, NOVEMBER_9 = (datetime(2026, month, 9, 8, tzinfo=UTC) for month in (10, 11))
DAY = timedelta(days=1)


class KeptCounters:
    """What was counted, by customer and metric, each in the buckets of its days."""

    def __init__(self, kept: Mapping[tuple[str, str], Mapping[datetime, str]]) -> None:
        self._kept = kept

    def known(
        self, tenant: TenantId, *, customer: CustomerRef | None = None
    ) -> Iterator[KnownCounter]:
        assert tenant == ACME
        for (ref, metric), days in self._kept.items():
            yield KnownCounter(CounterKey(ACME, CustomerRef(ref), Metric(metric)), max(days))

    def usage(
        self, tenant: TenantId, customer: CustomerRef, span: Span
    ) -> dict[tuple[Metric, datetime], Usage]:
        assert tenant == ACME
        return {
            (Metric(metric), day): usage_of(an_entry(quantity))
            for (ref, metric), days in self._kept.items()
            for day, quantity in days.items()
            if ref == customer and day in span
        }

    def changed_since(self, instant: datetime) -> Any:
        raise NotImplementedError


class OfAcme(NoSettings):
    """Customers that nobody set up, of one tenant."""

    def customers(
        self, tenant: TenantId, refs: Iterable[CustomerRef]
    ) -> Mapping[CustomerRef, Customer]:
        assert tenant == ACME
        return {ref: unmapped_customer(tenant, ref) for ref in refs}


def used(kept: Mapping[tuple[str, str], Mapping[datetime, str]]) -> list[Counted]:
    return list(counted(A_MAPPING, KeptCounters(kept), OfAcme(), NOON))


def test_each_customers_latest_period_is_added_up() -> None:
    kept = {
        ("ann", "api_calls"): {OCTOBER_9: "100", NOVEMBER_9: "2", NOVEMBER_9 + DAY: "3"},
        ("ann", "egress"): {NOVEMBER_9: "50"},
        ("bob", "api_calls"): {OCTOBER_9: "7"},
    }

    assert used(kept) == [
        Counted(CustomerRef("ann"), Decimal(5)),
        Counted(CustomerRef("bob"), Decimal(7)),
    ]


def test_a_counter_that_claims_to_be_of_the_future_is_looked_at_now() -> None:
    kept = {("ann", "api_calls"): {NOVEMBER_9: "2", NOON + 20 * DAY: "3"}}

    assert used(kept) == [Counted(CustomerRef("ann"), Decimal(2))]


def test_of_very_many_customers_some_are_looked_at() -> None:
    kept = {(f"c{number}", "api_calls"): {NOVEMBER_9: "1"} for number in range(LOOKED_AT_MAX + 1)}

    assert len(used(kept)) == LOOKED_AT_MAX


def test_a_total_that_does_not_fit_is_refused_in_words() -> None:
    with pytest.raises(BadRequestError) as refused:
        check_fits(
            replace(A_MAPPING, scale=12),
            [
                Counted(CustomerRef("ann"), Decimal("-0.5")),
                Counted(CustomerRef("bob"), Decimal(1000)),
            ],
        )

    assert refused.value.error == "Validation Error"
    assert refused.value.message == (
        "scale: customer bob has used 1000 in its billing period, which at scale 12 has more than"
        " the 15 digits that Stripe takes; the greatest scale that fits is 11"
    )


def test_no_scale_above_twelve_is_ever_proposed() -> None:
    with pytest.raises(BadRequestError, match=r"the greatest scale that fits is 12$"):
        check_fits(
            replace(A_MAPPING, scale=18), [Counted(CustomerRef("ann"), Decimal("0.5") * 100)]
        )
