"""How a reconciliation reads: a period's last, partial minute, and the ledger in one pass."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from metering.period import Era, Span
from metering.ports import LedgerTooLargeError
from metering.push import Push, PushState, readable
from metering.reconciliation import Row, Status
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import DEMO, NOON, a_counter, a_subscriber

CUT = datetime(2026, 11, 20, 14, 37, 42, tzinfo=UTC)
LAST_MINUTE = CUT.replace(second=0)


@pytest.fixture
def mapped(billing: BillingWorld) -> BillingWorld:
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    return billing


# --- the last minute ------------------------------------------------------------------------------


@pytest.fixture
def shortened(mapped: BillingWorld) -> BillingWorld:
    """10 were told in the minute in which the period then ended before its time."""
    mapped.set_time(LAST_MINUTE + timedelta(seconds=20))
    mapped.use("10")
    mapped.write()
    mapped.set_time(CUT + HOUR)
    subscriber = a_subscriber("cus_A", CUT)
    cut = replace(subscriber, eras=(Era(CUT, CUT, subscription="sub_1"),))
    mapped.wiring.settings_store.put_customer(cut)
    mapped.use("1")
    for _ in range(2):
        mapped.write()
        mapped.advance(2 * MINUTE)
    assert mapped.stream().key.period.end == CUT
    return mapped


def pushes(world: BillingWorld) -> list[Push]:
    return world.wiring.pushes.history(world.stream())


def first_row(world: BillingWorld) -> Row:
    """Of the period that was shortened."""
    world.reconcile(tenantId=DEMO, period="2026-11", verify=True)
    (row,) = [one for one in world.report().rows if one.period.start == NOVEMBER.start]
    return row


def test_a_push_in_the_partial_minute_of_a_shortened_period_is_not_lost(
    shortened: BillingWorld,
) -> None:
    (push,) = pushes(shortened)
    assert push.occurred_at == LAST_MINUTE

    row = first_row(shortened)

    assert row.period.end == CUT
    assert row.status is Status.OK
    assert {row.counted, row.pushed, row.stripe} == {10}


def test_a_push_that_was_lost_in_that_minute_is_found_there(shortened: BillingWorld) -> None:
    (push,) = pushes(shortened)
    shortened.stripe.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": push.identifier}}
    )

    row = first_row(shortened)

    (look,) = row.findings[0].looks
    assert (look.span.start, look.identifier) == (LAST_MINUTE, push.identifier)
    assert push.state is PushState.ACCEPTED


def test_a_later_life_of_the_store_begins_with_what_that_minute_holds(
    shortened: BillingWorld,
) -> None:
    shortened.wiring.pushes.raise_incarnation()
    shortened.use("1", at=CUT - MINUTE)
    shortened.write_until_settled()

    assert shortened.told() == 12


def test_the_minutes_that_can_be_read_have_begun() -> None:
    period = Span(NOON + timedelta(seconds=1), CUT)

    assert readable(period, CUT + HOUR) == Span(NOON + MINUTE, LAST_MINUTE + MINUTE)
    assert readable(period, LAST_MINUTE) == Span(NOON + MINUTE, LAST_MINUTE + MINUTE)
    assert readable(period, NOON) == Span(NOON + MINUTE, NOON + MINUTE)


# --- the ledger in one pass -----------------------------------------------------------------------


def use_of_many(world: BillingWorld) -> None:
    for customer in ("cus_A", "cus_B", "cus_C"):
        world.use("5", customer=customer)
        world.use("2", customer=customer, metric="gb")


def ledger_totals(world: BillingWorld) -> set[tuple[str, str, int, int]]:
    world.reconcile(tenantId=DEMO, period="2026-11", verify=True)
    return {
        (row.counter.customer, row.counter.metric, int(row.ledger), int(row.counted))
        for row in world.report().rows
    }


@pytest.mark.parametrize(("counters_a_page", "queries"), [(1, 0), (10**6, 6)])
def test_many_counters_are_recounted_in_one_pass_unless_the_ledger_is_too_large(
    mapped: BillingWorld,
    monkeypatch: pytest.MonkeyPatch,
    counters_a_page: int,
    queries: int,
) -> None:
    use_of_many(mapped)
    asked: list[object] = []
    read = mapped.wiring.ledger.of_counter

    def note(*what: Any) -> Any:
        asked.append(what)
        return read(*what)

    monkeypatch.setattr(mapped.wiring.ledger, "of_counter", note)
    monkeypatch.setattr("metering.survey.PASS_FROM", 6)
    monkeypatch.setattr("metering.survey.COUNTERS_A_PAGE", counters_a_page)

    totals = ledger_totals(mapped)

    assert totals == {
        (customer, metric, wanted, wanted)
        for customer in ("cus_A", "cus_B", "cus_C")
        for metric, wanted in (("api_calls", 5), ("gb", 2))
    }
    assert len(asked) == queries


def test_a_pass_over_a_ledger_that_is_too_large_stops(mapped: BillingWorld) -> None:
    use_of_many(mapped)

    with pytest.raises(LedgerTooLargeError):
        list(mapped.wiring.ledger.to_recount(DEMO, pages_max=0))
    found = list(mapped.wiring.ledger.to_recount(DEMO, pages_max=1))
    assert len(found) == 6
    assert a_counter().metric in {one.event.metric for one in found}
