"""Plan changes and cancellations at Stripe that we hear of after usage was told past them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.mapping import Customer
from metering.names import CustomerRef, Metric
from metering.notice import NoticeKind
from metering.period import Span, day_of
from metering.period_close import PeriodState
from metering.push import PushStream
from metering.reconciliation import Status
from metering.tenant_settings import AfterClose, TenantSettings
from tests.billing_world import (
    BillingWorld,
    Doom,
    crash_a_writer,
)
from tests.books import adjusting
from tests.builders import DEMO, NOON, a_counter
from tests.closing_world import ClosingWorld

ODD = NOON + timedelta(minutes=37, seconds=42)
CUT = datetime(2026, 12, 1, 6, 0, 1, tzinfo=UTC)
NEXT = datetime(2027, 1, 1, 6, 0, 1, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FORMER, PRESENT = Span(ODD, CUT), Span(CUT, NEXT)


@pytest.fixture
def subscribed(billing: BillingWorld) -> ClosingWorld:
    """A customer with a subscription; it used 10 and told them, then 3 until just before CUT."""
    billing.set_time(ODD)
    closing = ClosingWorld(billing)
    billing.customer("cus_A")
    closing.subscribe()
    closing.close()
    closing.go_to(ODD + MINUTE)
    billing.use("10")
    billing.write_until_settled()
    return closing


def change_plan(closing: ClosingWorld) -> None:
    closing.go_to(CUT)
    closing.world.stripe.v1.subscriptions.update(
        closing.customer().subscription,
        {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"},
    )


def use_and_tell(closing: ClosingWorld, at: datetime, quantity: str) -> None:
    closing.go_to(at)
    closing.world.use(quantity)
    closing.world.write()


def hear(closing: ClosingWorld) -> None:
    """The notice comes at last; the counters are rebuilt where that is needed."""
    identity = f"evt_{closing.world.clock.now():%d%H%M}"
    closing.notice(NoticeKind.SUBSCRIPTION, identity=identity)
    closing.close()
    rebuild(closing)
    closing.go_to(closing.world.clock.now() + HOUR)  # a sweep
    closing.close()
    for _ in range(3):
        closing.world.write()
        closing.go_to(closing.world.clock.now() + MINUTE)
    closing.world.write_until_settled()


def rebuild(closing: ClosingWorld) -> None:
    """Whatever rebuild was asked for ends."""
    for _ in range(2):
        closing.go_to(closing.world.clock.now() + 10 * MINUTE)
        closing.world.wiring.rebuilder.advance()


def adjusted_in(closing: ClosingWorld, period: Span) -> Decimal:
    usage = closing.world.wiring.counters.usage(DEMO, CustomerRef("cus_A"), period)
    return sum((one.adjusted for one in usage.values()), Decimal(0))


@contextmanager
def counting_by(closing: ClosingWorld, former: Customer) -> Iterator[None]:
    """Events are counted by what a function remembers of a customer."""
    store = closing.world.wiring.settings_store
    stands = closing.customer()
    store.put_customer(former)
    yield
    store.put_customer(replace(stands, recuts=closing.customer().recuts))


def stream(closing: ClosingWorld, period: Span) -> PushStream:
    (found,) = closing.world.wiring.pushes.streams(a_counter(), period)
    return found


def told(closing: ClosingWorld, period: Span) -> Decimal:
    """What Stripe holds of a period, by whole minutes as it sums up."""
    start, end = (-(-one.timestamp() // 60) * 60 for one in period)
    whole = Span(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    return closing.world.told_in(whole)


def findings(closing: ClosingWorld, month: str) -> dict[datetime, Any]:
    closing.world.reconcile(tenantId=DEMO, period=month, verify=True)
    rows = closing.world.report(month).rows
    assert all(row.status is not Status.INVESTIGATE for row in rows), rows
    return {row.period.start: row for row in rows}


@pytest.mark.parametrize("delay", [MINUTE, HOUR, 2 * DAY], ids=["minute", "hour", "days"])
def test_what_was_told_past_a_plan_change_is_left_to_the_period_it_is_in(
    subscribed: ClosingWorld, delay: timedelta
) -> None:
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + MINUTE, "5")
    if delay > MINUTE:
        use_and_tell(subscribed, CUT + delay, "7")
    used = 12 if delay > MINUTE else 5
    sent = subscribed.world.events()

    hear(subscribed)

    former, present = stream(subscribed, FORMER), stream(subscribed, PRESENT)
    assert (former.accepted, former.ceded, former.key.period) == (10, used, FORMER)
    assert (present.accepted, sum(one.amount for one in present.received)) == (used, used)
    assert [told(subscribed, FORMER), told(subscribed, PRESENT)] == [10, used]
    assert subscribed.world.events() == sent  # Stripe was told nothing for it.

    subscribed.world.use("2")
    subscribed.world.write_until_settled()
    subscribed.go_to(subscribed.world.clock.now() + HOUR)
    assert told(subscribed, PRESENT) == used + 2
    assert {row.pushed for row in findings(subscribed, "2026-12").values()} == {used + 2}
    assert findings(subscribed, "2026-11")[ODD].pushed == 10


def test_an_adjustment_past_a_plan_change_is_counted_in_the_period_it_is_in(
    subscribed: ClosingWorld,
) -> None:
    change_plan(subscribed)
    subscribed.go_to(CUT + MINUTE)
    at = subscribed.world.clock.now()
    subscribed.world.use_all([adjusting("4", occurred_at=at)])
    assert adjusted_in(subscribed, Span(day_of(CUT), CUT)) == 4

    hear(subscribed)

    assert adjusted_in(subscribed, Span(day_of(CUT), CUT)) == 0
    assert adjusted_in(subscribed, PRESENT) == 4
    assert told(subscribed, PRESENT) == 4


def test_what_a_cached_calendar_counts_after_the_change_was_heard_of_is_found_by_the_next_run(
    subscribed: ClosingWorld,
) -> None:
    former = subscribed.customer()
    change_plan(subscribed)
    subscribed.go_to(CUT + MINUTE)
    subscribed.notice(NoticeKind.SUBSCRIPTION, identity="evt_heard")
    subscribed.close()
    at = subscribed.world.clock.now()
    with counting_by(subscribed, former):
        subscribed.world.use("5")
    assert subscribed.usage_in(Span(day_of(CUT), CUT)) == 5

    subscribed.go_to(at + MINUTE)
    subscribed.close()
    rebuild(subscribed)

    assert subscribed.usage_in(Span(day_of(CUT), CUT)) == 0
    assert subscribed.usage_in(PRESENT) == 5


def test_what_a_rebuild_under_way_counted_by_the_former_calendar_is_counted_anew_after_it(
    subscribed: ClosingWorld,
) -> None:
    former = subscribed.customer()
    rebuilder = subscribed.world.wiring.rebuilder
    subscribed.go_to(CUT - 5 * MINUTE)
    rebuilder.request(DEMO)
    change_plan(subscribed)
    subscribed.go_to(CUT + 4 * MINUTE)  # What is received now, the next epoch counts at once.
    subscribed.notice(NoticeKind.SUBSCRIPTION, identity="evt_heard")
    subscribed.close()
    with counting_by(subscribed, former):
        subscribed.world.use("5")
    subscribed.close()
    rebuild(subscribed)
    assert subscribed.usage_in(Span(day_of(CUT), CUT)) == 5, "the rebuild that was under way"

    subscribed.close()
    rebuild(subscribed)

    assert subscribed.usage_in(Span(day_of(CUT), CUT)) == 0
    assert subscribed.usage_in(PRESENT) == 5


def test_the_next_invoice_is_billed_without_anybody(subscribed: ClosingWorld) -> None:
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + HOUR, "5")
    hear(subscribed)
    subscribed.go_to(NEXT + MINUTE)

    subscribed.run_until(NEXT + 90 * MINUTE)

    close = subscribed.closing(CUT)
    assert (close.state, close.held_at) == (PeriodState.CLOSED, None)
    assert subscribed.invoice_of(close).lines.data[0].quantity == 5


def test_usage_from_before_the_cut_in_a_push_behind_it_is_billed_once(
    subscribed: ClosingWorld,
) -> None:
    """Stripe has billed the former period by then; what it lacks is carried, and told already."""
    subscribed.go_to(CUT - MINUTE)
    subscribed.world.use("3")
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + MINUTE, "5")

    hear(subscribed)

    former, present = stream(subscribed, FORMER), stream(subscribed, PRESENT)
    assert (former.accepted, former.carried_out) == (10, Decimal(3))
    assert (present.accepted, present.carried_in_quantity) == (8, Decimal(3))
    assert [told(subscribed, FORMER), told(subscribed, PRESENT)] == [10, 8]
    assert findings(subscribed, "2026-12")[CUT].pushed == 8


def test_where_late_usage_is_not_billed_it_is_taken_back_from_the_next_period(
    subscribed: ClosingWorld,
) -> None:
    unbilled = TenantSettings(DEMO, after_close=AfterClose.UNBILLED)
    subscribed.world.wiring.settings_store.put_tenant(unbilled)
    subscribed.go_to(CUT - MINUTE)
    subscribed.world.use("3")
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + MINUTE, "5")

    hear(subscribed)

    assert stream(subscribed, FORMER).carried_out == 0
    assert [told(subscribed, FORMER), told(subscribed, PRESENT)] == [10, 5]


def test_a_cancellation_that_is_heard_late_is_the_same(subscribed: ClosingWorld) -> None:
    subscribed.go_to(CUT)
    subscribed.world.stripe.v1.subscriptions.cancel(subscribed.customer().subscription)
    use_and_tell(subscribed, CUT + HOUR, "5")

    hear(subscribed)

    month = Span(CUT, datetime(2027, 1, 1, tzinfo=UTC))
    assert stream(subscribed, FORMER).accepted == 10
    assert stream(subscribed, month).accepted == 5
    assert [told(subscribed, FORMER), told(subscribed, month)] == [10, 5]


def test_two_cuts_that_are_heard_one_after_the_other(subscribed: ClosingWorld) -> None:
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + HOUR, "5")
    hear(subscribed)
    again = CUT + DAY
    subscribed.go_to(again)
    subscribed.world.stripe.v1.subscriptions.update(
        subscribed.customer().subscription,
        {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"},
    )
    use_and_tell(subscribed, again + HOUR, "7")

    hear(subscribed)

    periods = [FORMER, Span(CUT, again), Span(again, again.replace(year=2027, month=1))]
    assert [stream(subscribed, one).accepted for one in periods] == [10, 5, 7]
    assert [told(subscribed, one) for one in periods] == [10, 5, 7]


def test_a_period_that_began_after_the_cut_is_gone_and_leaves_all_it_told(
    subscribed: ClosingWorld,
) -> None:
    """Heard after the former period's end: a period had begun there that Stripe never had."""
    end = datetime(2026, 12, 20, 12, 37, 42, tzinfo=UTC)
    subscribed.go_to(end - HOUR)
    subscription = subscribed.customer().subscription
    subscribed.world.stripe.v1.subscriptions.update(
        subscription, {"billing_cycle_anchor": {"type": "now"}, "proration_behavior": "none"}
    )
    use_and_tell(subscribed, end - 30 * MINUTE, "5")
    use_and_tell(subscribed, end + HOUR, "7")

    hear(subscribed)

    present = subscribed.customer().calendar.period_of(end)
    assert present.start == end - HOUR
    assert stream(subscribed, Span(ODD, end)).accepted == 10
    assert stream(subscribed, present).accepted == 12
    assert stream(subscribed, Span(end, end)).is_given_up
    assert told(subscribed, present) == 12
    assert set(findings(subscribed, "2026-12")) == {present.start}


def test_a_push_that_did_not_count_is_told_again_where_it_stands_now(
    subscribed: ClosingWorld,
) -> None:
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + HOUR, "5")
    hear(subscribed)
    pushes = subscribed.world.wiring.pushes
    present = stream(subscribed, PRESENT)
    (push,) = pushes.history(present)
    former = stream(subscribed, FORMER)
    assert push.identifier.split(".")[1] == former.key.id
    assert push.identifier not in {one.identifier for one in pushes.history(former)}
    account = subscribed.world.stand_in
    assert account.total("api_calls", "cus_A") == 15

    from metering.push import reject_async  # noqa: PLC0415

    now = subscribed.world.clock.now()
    assert pushes.store(*reject_async(present, push, now, "gone")) is not None
    (rejected,) = pushes.history(stream(subscribed, PRESENT))
    assert rejected.state == "async_rejected"
    assert stream(subscribed, PRESENT).accepted == 0
    assert stream(subscribed, FORMER).accepted == 10


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_writer_that_dies_while_it_leaves_pushes_leaves_them_once(
    subscribed: ClosingWorld,
    after: bool,  # noqa: FBT001 (named by its parameter's id)
) -> None:
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + HOUR, "5")
    subscribed.notice(NoticeKind.SUBSCRIPTION)
    subscribed.close()
    for _ in range(2):
        subscribed.go_to(subscribed.world.clock.now() + 10 * MINUTE)
        subscribed.world.wiring.rebuilder.advance()
    subscribed.go_to(subscribed.world.clock.now() + HOUR)
    subscribed.close()

    for at in (1, 4, 8, 16, 32, 64, 100, 120, 121, 122, 123, 124, 125, 130):
        crash_a_writer(subscribed.world, Doom(at, after=after))
        subscribed.go_to(subscribed.world.clock.now() + 2 * MINUTE)
    subscribed.world.write_until_settled()

    assert (stream(subscribed, FORMER).accepted, stream(subscribed, PRESENT).accepted) == (10, 5)
    assert [told(subscribed, FORMER), told(subscribed, PRESENT)] == [10, 5]
    assert subscribed.world.events() == 2


def test_another_scale_is_left_to_a_person(subscribed: ClosingWorld) -> None:
    change_plan(subscribed)
    use_and_tell(subscribed, CUT + HOUR, "5")
    wired = subscribed.world.wiring
    mapping = wired.settings.active_mapping(DEMO, Metric("api_calls"))
    assert mapping is not None
    wired.settings_store.change_mapping(mapping, replace(mapping, scale=2))

    hear(subscribed)

    assert wired.pushes.streams(a_counter(), PRESENT) == []
    assert subscribed.world.told() == 15
