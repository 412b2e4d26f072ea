"""The ends of billing periods in their table."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from metering.names import CustomerRef, TenantId
from metering.period import CALENDAR_MONTHS, Span
from metering.period_close import PeriodClose, PeriodState
from metering.wiring import Wiring
from tests.builders import NOON

ACME = TenantId("acme")
ANN, BOB = CustomerRef("ann"), CustomerRef("b" * 255)
NOVEMBER = CALENDAR_MONTHS.period_of(NOON)
DECEMBER = CALENDAR_MONTHS.period_of(NOVEMBER.end)


def a_close(
    customer: CustomerRef = ANN,
    period: Span = NOVEMBER,
    state: PeriodState = PeriodState.CLOSING,
    tenant: TenantId = ACME,
) -> PeriodClose:
    return PeriodClose(tenant, customer, period, state, began_at=period.end)


def test_a_close_is_kept_whole(wiring: Wiring) -> None:
    moment = datetime(2026, 12, 1, 0, 59, 1, 5, tzinfo=UTC)
    close = replace(
        a_close(),
        subscription="sub_1",
        invoice="in_1",
        finalizes_at=moment,
        is_held=True,
        agreed_at=moment + timedelta(seconds=1),
        closed_at=moment + timedelta(seconds=2),
        message="waits for Stripe's summary",
        held_at=moment + timedelta(seconds=3),
        released_at=moment + timedelta(seconds=4),
        next_look_at=moment + timedelta(seconds=5),
    )

    stored = wiring.period_closes.store(close)

    assert stored == replace(close, version=1)
    assert wiring.period_closes.of(ACME, ANN, NOVEMBER) == stored
    assert wiring.period_closes.of(ACME, ANN, DECEMBER) is None
    assert wiring.period_closes.of(ACME, BOB, NOVEMBER) is None


def test_of_two_who_change_a_close_at_once_the_second_is_told(wiring: Wiring) -> None:
    closes = wiring.period_closes
    stored = closes.store(a_close())
    assert stored is not None

    assert closes.store(a_close()) is None
    assert closes.store(replace(stored, message="first")) is not None
    assert closes.store(replace(stored, message="second")) is None
    found = closes.of(ACME, ANN, NOVEMBER)
    assert found is not None
    assert (found.message, found.version) == ("first", 2)


def test_a_period_is_unfinished_until_it_is_closed(wiring: Wiring) -> None:
    closes = wiring.period_closes
    wanted = [a_close(), a_close(BOB), a_close(ANN, DECEMBER), a_close(tenant=TenantId("other"))]
    stored = [closes.store(close) for close in wanted]
    closes.store(a_close(BOB, DECEMBER, PeriodState.CLOSED))
    assert stored[0] is not None
    closes.store(replace(stored[0], state=PeriodState.CLOSED))

    found = {(one.tenant, one.customer, one.period) for one in closes.unfinished()}

    assert found == {(one.tenant, one.customer, one.period) for one in wanted[1:]}


def test_a_close_is_to_be_held_first_from_its_instant_until_it_is_not_any_more(
    wiring: Wiring,
) -> None:
    closes = wiring.period_closes
    final = NOVEMBER.end + timedelta(hours=1)
    deadline = final - timedelta(minutes=15)
    stored = closes.store(replace(a_close(), invoice="in_1", finalizes_at=final))
    closes.store(a_close(BOB))
    assert stored is not None

    assert list(closes.to_hold(deadline - timedelta(seconds=1))) == []
    assert list(closes.to_hold(deadline)) == [stored]
    assert closes.store(replace(stored, agreed_at=deadline)) is not None
    assert list(closes.to_hold(final)) == []


@pytest.mark.parametrize(("month", "customers"), [("2026-11", 2), ("2026-12", 1), ("2027-01", 0)])
def test_a_tenants_closes_are_listed_by_the_month_they_begin_in(
    wiring: Wiring, month: str, customers: int
) -> None:
    for close in (a_close(), a_close(BOB), a_close(ANN, DECEMBER), a_close(tenant=TenantId("x"))):
        wiring.period_closes.store(close)

    assert len(list(wiring.period_closes.of_month(ACME, month))) == customers
