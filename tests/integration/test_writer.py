"""The writer against DynamoDB Local and the Stripe stand-in: nothing lost, nothing doubled.

What Stripe and crashes can do to a push stands row by row in `test_failure_table.py`; deaths
between any two calls stand in `test_writer_deaths.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from local.stripe.faults import FaultKind
from metering.counter import Aggregation
from metering.delivery import Answer
from metering.errors import InvariantBrokenError
from metering.names import CustomerRef, Metric
from metering.period import Span
from metering.ports import Billing, Change, Cursor, MeterEvent, Pushes, UsageRecord
from metering.push import PushState, PushStream
from metering.reconciliation import Cause
from metering.wiring import Wiring
from tests.billing_world import (
    HOUR,
    MINUTE,
    NOVEMBER,
    BillingWorld,
    connected,
)
from tests.builders import DEMO, a_counter, an_entry
from tests.faults import Call, FaultyClient, Go


@pytest.fixture
def mapped(billing: BillingWorld) -> BillingWorld:
    """`api_calls` goes to a meter in whole units; `cus_A` and `cus_B` exist at Stripe."""
    billing.map()
    billing.stand_in.add_customers(["cus_A", "cus_B"])
    return billing


# --- the plain way --------------------------------------------------------------------------------


def test_usage_reaches_stripe_to_the_last_unit_and_only_once(mapped: BillingWorld) -> None:
    mapped.use("40")
    mapped.use("2")

    run = mapped.write()
    mapped.write()

    assert (run["looked_at"], run["planned"], run["accepted"], run["open"]) == (1, 1, 1, 0)
    assert mapped.told() == 42
    assert mapped.events() == 1


def test_later_usage_is_told_as_a_delta(mapped: BillingWorld) -> None:
    mapped.use("40")
    mapped.write()
    mapped.advance(MINUTE)
    mapped.use("2")
    mapped.write()

    assert mapped.told() == 42
    assert mapped.events() == 2


def test_customers_do_not_overwrite_each_other(mapped: BillingWorld) -> None:  # W5, W3
    mapped.use("10", customer="cus_A")
    mapped.use("30", customer="cus_B")
    mapped.write()
    mapped.use("500", customer="cus_A")
    mapped.write()

    assert mapped.told("cus_A") == 510
    assert mapped.told("cus_B") == 30


def test_every_push_of_a_process_carries_its_own_payload(mapped: BillingWorld) -> None:  # W3
    mapped.map("egress_bytes")
    mapped.use("10", customer="cus_A")
    mapped.use("30", customer="cus_B")
    mapped.use("500", customer="cus_A", metric="egress_bytes")
    mapped.write()

    assert mapped.told("cus_A") == 10
    assert mapped.told("cus_B") == 30
    assert mapped.told("cus_A", "egress_bytes") == 500


def test_a_customer_with_a_name_of_ours_is_told_under_its_stripe_customer(
    mapped: BillingWorld,
) -> None:
    mapped.customer("ann", "cus_ann")
    mapped.use("7", customer="ann")
    mapped.write()

    assert mapped.told("cus_ann") == 7


def test_two_customers_that_are_one_at_stripe_add_up(mapped: BillingWorld) -> None:
    mapped.customer("ann", "cus_A")
    mapped.use("7", customer="ann")
    mapped.use("5", customer="cus_A")
    mapped.write()

    assert mapped.told("cus_A") == 12


def test_the_push_carries_the_minute_of_the_newest_usage(mapped: BillingWorld) -> None:  # W8
    used_at = datetime(2026, 11, 18, 7, 30, 59, tzinfo=UTC)
    mapped.use("1", at=used_at)
    mapped.write()

    (history,) = mapped.wiring.pushes.of_period(a_counter(), NOVEMBER)

    assert [push.occurred_at for push in history.pushes] == [used_at.replace(second=0)]
    assert history.pushes[0].state is PushState.ACCEPTED


# --- numbers --------------------------------------------------------------------------------------


def test_a_fraction_is_carried_until_it_fills_a_scaled_unit(billing: BillingWorld) -> None:  # W9
    billing.map(scale=2)
    billing.stand_in.add_customers(["cus_A"])
    told = []
    for quantity in ("0.004", "0.004", "42.4", "0.002"):
        billing.use(quantity)
        billing.write()
        billing.advance(MINUTE)
        told.append(billing.told())

    assert told == [0, 0, 4240, 4241]


def test_usage_that_is_corrected_downwards_lowers_stripe(mapped: BillingWorld) -> None:  # W6
    mapped.use("10")
    mapped.write()
    mapped.advance(MINUTE)
    mapped.use_all([an_entry("-4", at=mapped.clock.now(), received_at=mapped.clock.now())])
    mapped.write()

    assert mapped.told() == 6


@pytest.mark.parametrize(
    ("aggregation", "expected"),
    [(Aggregation.COUNT, [2, 3, 4]), (Aggregation.MAX, [7, 7, 9]), (Aggregation.SUM, [8, 10, 19])],
)
def test_aggregations_ride_on_a_sum_meter_as_increments(
    billing: BillingWorld, aggregation: Aggregation, expected: list[int]
) -> None:
    billing.map(aggregation=aggregation)
    billing.stand_in.add_customers(["cus_A"])
    told = []
    for quantities in (("1", "7"), ("2",), ("9",)):
        for quantity in quantities:
            billing.use(quantity)
        billing.write()
        billing.advance(MINUTE)
        told.append(billing.told())

    assert told == expected


def test_a_total_beyond_15_digits_is_held_back(billing: BillingWorld) -> None:
    billing.map(scale=1)
    billing.stand_in.add_customers(["cus_A"])
    billing.use("100000000000000")

    assert billing.write()["held"] == {"too_many_digits": 1}
    assert billing.told() == 0


# --- what is not told -----------------------------------------------------------------------------


def test_an_unmapped_metric_is_not_pushed(billing: BillingWorld) -> None:
    billing.stand_in.add_customers(["cus_A"])
    billing.use("3")
    billing.map("other")

    assert billing.write()["held"] == {"unmapped": 1}
    assert billing.told() == 0


def test_a_customer_that_nobody_knows_at_stripe_is_not_pushed(mapped: BillingWorld) -> None:
    mapped.use("3", customer="ann")

    assert mapped.write()["held"] == {"no_stripe_customer": 1}


def test_usage_is_pushed_once_its_metric_is_mapped(billing: BillingWorld) -> None:
    billing.stand_in.add_customers(["cus_A"])
    billing.map("other")
    billing.use("3")
    billing.write()
    billing.map()
    billing.advance(HOUR)
    billing.write()

    assert billing.told() == 3


def test_without_a_key_nothing_is_told_and_the_run_says_why(
    billing: BillingWorld,
) -> None:
    billing.wiring.config = replace(billing.wiring.config, stripe_secret_key=None)

    assert "no Stripe key" in billing.write()["skipped"]


def test_usage_told_to_one_meter_is_not_told_again_to_the_next(mapped: BillingWorld) -> None:
    mapped.use("10")
    mapped.write()
    former = mapped.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert former is not None
    mapped.wiring.settings_store.delete_mapping(former)
    mapped.map(event_name="api_calls_v2")
    mapped.use("5")
    mapped.write()

    assert mapped.told() == 10
    assert mapped.told(metric="api_calls_v2") == 5


def test_a_scale_that_changes_under_a_running_stream_holds_it(mapped: BillingWorld) -> None:
    mapped.use("10")
    mapped.write()
    former = mapped.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert former is not None
    mapped.wiring.settings_store.change_mapping(former, replace(former, scale=3))
    mapped.use("1")

    assert mapped.write()["held"] == {"scale_changed": 1}
    assert mapped.told() == 10


def test_where_a_billing_anchor_moves_usage_that_was_told_is_left_to_the_period_it_is_in(
    mapped: BillingWorld,
) -> None:
    moved = datetime(2026, 11, 15, 8, tzinfo=UTC)
    mapped.use("10")
    mapped.write()
    mapped.customer("cus_A", anchor=moved)
    mapped.use("1")

    run = mapped.write()
    assert (run["recut"], run["held"]) == (1, {})
    mapped.write_until_settled()

    assert mapped.told() == 11
    assert mapped.stream().accepted == 0
    assert mapped.stream(period=Span(moved, moved)).accepted == 11


def test_a_changed_anchor_is_seen_for_ever_however_often_the_customer_is_put(
    mapped: BillingWorld,
) -> None:
    moved = datetime(2026, 11, 15, 8, tzinfo=UTC)
    mapped.use("10")
    mapped.write()
    former = mapped.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert former is not None
    mapped.wiring.settings_store.change_mapping(former, replace(former, scale=1))
    mapped.customer("cus_A", anchor=moved)
    mapped.customer("cus_A", anchor=moved)
    mapped.use("1")

    assert mapped.write()["held"] == {"period_changed": 1}
    assert mapped.told() == 10
    mapped.reconcile(tenantId=DEMO, period="2026-11", verify=True)
    (held,) = [row for row in mapped.report().rows if "period_changed" in row.explanation]
    assert held.period.start == moved
    assert held.cause == Cause.HELD


def test_a_writer_that_knows_a_customer_as_it_was_begins_no_stream_for_it(
    mapped: BillingWorld,
) -> None:
    moved = datetime(2026, 11, 15, 8, tzinfo=UTC)
    mapped.use("10")
    late = connected(mapped.wiring, mapped.stand_in, settings_cache_s=30)
    late.settings.customers(DEMO, [CustomerRef("cus_A")])
    mapped.customer("cus_A", anchor=moved)
    mapped.write()  # by the new calendar

    run = late.writer.run("late", lambda: timedelta(seconds=55))

    assert (run["sent"], run["held"], run["must_return"]) == (0, {"another_writer": 1}, True)
    assert mapped.told() == 10
    (own,) = mapped.wiring.pushes.of_month(DEMO, "2026-11")
    assert own.key.period.start == moved


def test_a_customer_whose_calendar_never_changed_costs_no_extra_reads(
    mapped: BillingWorld,
) -> None:
    mapped.map("egress_bytes")
    for metric in ("api_calls", "egress_bytes"):
        for customer in ("cus_A", "cus_B"):
            mapped.use("3", customer=customer, metric=metric)
    faulty = FaultyClient(mapped.wiring.dynamodb)
    asked: list[str] = []

    def noting(call: Call, go: Go) -> Any:
        asked.extend(part["S"] for part in call.request["ExpressionAttributeValues"].values())
        return go()

    faulty.around("query", noting)
    counted = Wiring(mapped.wiring.config, clock=mapped.clock, dynamodb=faulty.client)
    run = counted.writer.run("counted", lambda: timedelta(seconds=55))

    assert run["accepted"] == 4
    # Per customer: its streams of the period; its usage.
    assert len([text for text in asked if text.startswith("7:streams")]) == 2
    assert len([text for text in asked if text.startswith("4:demo5:cus_")]) == 2
    # Per customer, for both of its streams: planned and stamped; committed.
    assert faulty.calls.count("transact_write_items") == 4


# --- periods --------------------------------------------------------------------------------------


def test_usage_that_arrives_within_the_grace_still_goes_into_its_period(
    mapped: BillingWorld,
) -> None:  # W7
    last = NOVEMBER.end - timedelta(seconds=10)
    mapped.set_time(NOVEMBER.end + 10 * MINUTE)
    mapped.use("5", at=last)
    mapped.write()

    assert mapped.told() == 5
    assert mapped.stream().accepted == 5


def test_usage_on_both_sides_of_a_period_end_goes_into_two_streams(mapped: BillingWorld) -> None:
    mapped.set_time(NOVEMBER.end + 5 * MINUTE)
    mapped.use("5", at=NOVEMBER.end - MINUTE)
    mapped.use("7", at=NOVEMBER.end + MINUTE)
    mapped.write()

    december = mapped.stream(period=NOVEMBER._replace(start=NOVEMBER.end))
    assert mapped.stream().accepted == 5
    assert december.accepted == 7
    assert mapped.told() == 12


def test_a_period_follows_the_customers_anchor_to_the_second(mapped: BillingWorld) -> None:
    anchor = datetime(2026, 10, 20, 11, 59, 30, tzinfo=UTC)
    mapped.customer("cus_B", anchor=anchor)
    mapped.use("1", customer="cus_B", at=datetime(2026, 11, 20, 11, 59, 29, tzinfo=UTC))
    mapped.use("2", customer="cus_B", at=datetime(2026, 11, 20, 11, 59, 31, tzinfo=UTC))
    mapped.write()

    (before,) = mapped.wiring.pushes.of_period(a_counter("cus_B"), NOVEMBER._replace(start=anchor))
    (after,) = mapped.wiring.pushes.of_period(
        a_counter("cus_B"), NOVEMBER._replace(start=datetime(2026, 11, 20, 11, 59, 30, tzinfo=UTC))
    )
    assert [push.value for push in before.pushes] == ["1"]
    assert before.pushes[0].occurred_at == datetime(2026, 11, 20, 11, 58, tzinfo=UTC)
    assert [push.value for push in after.pushes] == ["2"]
    assert after.pushes[0].occurred_at == datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


# --- trouble at Stripe ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.DROP_BEFORE,
        FaultKind.DROP_AFTER,
        FaultKind.ERROR_BEFORE,
        FaultKind.ERROR_AFTER,
        FaultKind.RATE_LIMITED,
        FaultKind.UNAVAILABLE,
    ],
)
def test_trouble_at_stripe_that_goes_on_loses_and_doubles_nothing(
    mapped: BillingWorld, kind: FaultKind
) -> None:
    mapped.stand_in.plan(kind, times=4, path="/v1/billing/meter_events")
    mapped.use("10")
    mapped.write()
    assert mapped.stream().open is not None
    mapped.use("3")

    mapped.write_until_settled(every=3 * MINUTE)

    assert mapped.told() == 13
    assert mapped.stream().accepted == 13


def test_stripe_down_for_30_hours_loses_nothing(mapped: BillingWorld) -> None:
    mapped.use("10")
    with mapped.stand_in.outage():
        for _ in range(6):
            mapped.write()
            mapped.advance(5 * HOUR)
        mapped.use("5")
        run = mapped.write()
    assert run["held"]["stripe_unavailable"] == 1

    mapped.write_until_settled(every=31 * MINUTE)

    assert mapped.told() == 15
    assert mapped.events() == 1


def test_once_a_key_is_refused_nothing_more_is_sent_with_it(mapped: BillingWorld) -> None:
    mapped.map("egress_bytes")
    mapped.use("1", metric="api_calls")
    mapped.use("2", metric="egress_bytes")
    wrong = connected(mapped.wiring, mapped.stand_in)
    wrong.config = replace(wrong.config, stripe_secret_key="sk_test_")  # no key of Stripe's

    run = wrong.writer.run("wrong", lambda: timedelta(seconds=55))

    assert (run["answers"], run["held"]) == ({"not_allowed": 1}, {"account_paused": 1})
    mapped.advance(6 * MINUTE)
    mapped.write_until_settled()
    assert [mapped.told(), mapped.told(metric="egress_bytes")] == [1, 2]


# --- crashes and twins ----------------------------------------------------------------------------


def test_pushes_that_wait_too_long_behind_others_are_recalled_and_sent_later(
    mapped: BillingWorld,
) -> None:
    mapped.map("egress_bytes")
    mapped.use("1", metric="api_calls")
    mapped.use("2", metric="egress_bytes")
    slow = connected(mapped.wiring, mapped.stand_in)
    slow.billing = SlowBilling(slow.billing, mapped)

    run = slow.writer.run("slow", lambda: timedelta(seconds=55))

    assert (run["planned"], run["sent"], run["open"]) == (2, 1, 1)
    (waiting,) = mapped.wiring.pushes.in_need()
    assert waiting.open is not None
    assert (waiting.open.state, waiting.open.attempts) == (PushState.PLANNED, 0)
    mapped.write_until_settled()
    assert [mapped.told(), mapped.told(metric="egress_bytes")] == [1, 2]


class SlowBilling:
    """A Stripe that takes its time for each request."""

    def __init__(self, billing: Billing, world: BillingWorld) -> None:
        self._billing = billing
        self._world = world

    def __getattr__(self, name: str) -> Any:
        return getattr(self._billing, name)

    def send(self, event: MeterEvent | UsageRecord) -> Answer:
        self._world.advance(timedelta(seconds=15))
        return self._billing.send(event)


def test_a_stream_that_cannot_be_stored_leaves_the_others_alone(mapped: BillingWorld) -> None:
    mapped.map("egress_bytes")
    mapped.use("1", metric="api_calls")
    mapped.use("2", metric="egress_bytes")
    broken = connected(mapped.wiring, mapped.stand_in)
    broken.pushes = BrokenPushes(broken.pushes, "api_calls")

    with pytest.raises(InvariantBrokenError, match="1 counters met a bug"):
        broken.writer.run("broken", lambda: timedelta(seconds=55))

    assert [mapped.told(), mapped.told(metric="egress_bytes")] == [0, 2]
    mapped.write_until_settled()
    assert [mapped.told(), mapped.told(metric="egress_bytes")] == [1, 2]


class BrokenPushes:
    """A store with a bug that meets one metric."""

    def __init__(self, pushes: Pushes, metric: str) -> None:
        self._pushes = pushes
        self._metric = metric

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pushes, name)

    def store_all(self, changes: Sequence[Change]) -> list[PushStream | None]:
        if any(one.stream.key.counter.metric == self._metric for one in changes):
            raise ValueError("a bug")
        return self._pushes.store_all(changes)


def test_a_second_writer_leaves_the_work_to_the_one_with_the_lease(mapped: BillingWorld) -> None:
    now = mapped.clock.now()
    desk = mapped.wiring.writer_desk
    fence = desk.take_lease("first", now, now + MINUTE)

    assert "lease" in mapped.write()["skipped"]
    mapped.advance(MINUTE)
    assert "skipped" not in mapped.write()
    assert fence == 1
    assert not desk.move_cursor(Cursor(now, now), fence)


def test_a_run_without_time_stops_and_the_next_goes_on(mapped: BillingWorld) -> None:
    customers = [f"cus_{number:03}" for number in range(130)]
    mapped.stand_in.add_customers(customers)
    mapped.use_all([an_entry("3", customer=customer) for customer in customers])
    left = iter([timedelta(seconds=55)] * 200)

    first = mapped.wiring.writer.run("short", lambda: next(left, timedelta()))
    second = mapped.write()

    assert not first["complete"]
    assert 0 < first["accepted"] < 130
    assert second["complete"]
    assert first["accepted"] + second["accepted"] == 130
