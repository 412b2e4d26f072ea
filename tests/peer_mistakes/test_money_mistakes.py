"""The peer's money errors, W0b to W15 and W17: for each, the right number.

What each letter and number stands for is told in `docs/proof.md`. Everything goes the way that
usage goes in life: over HTTP into the ledger, from the stream into counters, from the writer to
Stripe's meter. What the peer got wrong is said in one line at each test; the numbers are its own.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.stripe.faults import FaultKind
from metering.counter import Aggregation
from metering.names import TenantId
from metering.period import CALENDAR_MONTHS, Span
from metering.reconciliation import Cause, Status
from metering.wiring import Wiring, using
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld, connected
from tests.builders import DEMO, NOON, a_counter, a_sent_event
from tests.closing_world import ClosingWorld
from tests.faults import FaultyClient, timed_out
from tests.integration.test_shadow import ShadowWorld
from tests.peer_mistakes.pipeline import Pipeline
from tests.readers import counted, ledger_of, post, send

DAY = timedelta(days=1)
DECEMBER = CALENDAR_MONTHS.period_of(NOVEMBER.end)
ACME = TenantId("acme")


def november(day: int, hour: int = 12) -> datetime:
    return datetime(2026, 11, day, hour, tzinfo=UTC)


# --- W0b: an error after the commit ---------------------------------------------------------------


def test_w0b_what_was_stored_counts_whether_or_not_its_answer_arrived(
    pipeline: Pipeline,
) -> None:
    """The peer answered 500 after it had stored the event, and then never counted it."""
    sent = a_sent_event(quantity=5, ts=NOON.isoformat())
    lost = FaultyClient(pipeline.wiring.dynamodb)
    lost.fail("batch_execute_statement", timed_out(), after_effect=True)
    with using(Wiring(pipeline.wiring.config, clock=pipeline.world.clock, dynamodb=lost.client)):
        first = send(sent)
    assert (first.status, first.body["results"][0]["retryable"]) == (503, True)

    for _ in range(2):
        pipeline.world.advance(MINUTE)
        assert send(sent).statuses == ["duplicate"]
    pipeline.deliver()
    pipeline.tell()

    assert pipeline.numbers() == (5, 5)


# --- W1 to W3: counters and what is told of them --------------------------------------------------


def test_w1_an_event_of_5_and_then_one_of_7_make_12(pipeline: Pipeline) -> None:
    """The peer's counter stayed 5: a job that had just run was not run again."""
    pipeline.use(5)
    assert pipeline.numbers() == (5, 5)

    pipeline.use(7)

    assert pipeline.numbers() == (12, 12)


def test_w1_the_numbers_from_1_to_100_in_five_batches_make_5050(pipeline: Pipeline) -> None:
    """In the peer's load runs 23,689 units became 777."""
    for first in range(0, 100, 20):
        batch = [a_sent_event(quantity=first + n, ts=NOON.isoformat()) for n in range(1, 21)]
        assert send(*batch).body["accepted"] == 20
        pipeline.deliver()

    assert pipeline.value() == 5050
    assert pipeline.value(Aggregation.COUNT) == 100


def test_w2_a_counter_over_two_weeks_is_100_110_111_and_112_and_never_shrinks(
    pipeline: Pipeline,
) -> None:
    """The peer's became 11 on the third event and 1 on a new run: it kept the last 48 hours."""
    seen = []
    for at, quantity in ((1, 100), (10, 10), (11, 1), (15, 1)):
        pipeline.go_to(november(at))
        pipeline.use(quantity)
        seen.append(pipeline.numbers())
    assert seen == [(100, 100), (110, 110), (111, 111), (112, 112)]

    pipeline.redeliver()
    pipeline.tell()

    assert pipeline.numbers() == (112, 112)
    assert pipeline.value(Aggregation.MAX) == 100  # the peer's shrank to 1
    assert pipeline.value(Aggregation.LAST) == 1


def test_w2_three_batches_of_one_day_are_100_110_and_111_and_their_greatest_is_100(
    pipeline: Pipeline,
) -> None:
    """A later batch adds to the day; the peer's overwrote it."""
    seen = []
    for quantity in (100, 10, 1):
        pipeline.send(quantity)
        pipeline.deliver()
        seen.append(pipeline.value())

    assert seen == [100, 110, 111]
    assert pipeline.value(Aggregation.MAX) == 100


def test_w2_a_rebuild_of_the_counter_from_the_ledger_is_112_too(pipeline: Pipeline) -> None:
    for at, quantity in ((1, 100), (10, 10), (11, 1), (15, 1)):
        pipeline.go_to(november(at))
        pipeline.use(quantity)

    pipeline.wiring.rebuilder.request(DEMO)
    pipeline.world.advance(HOUR)
    pipeline.wiring.rebuilder.advance()
    pipeline.tell()

    assert pipeline.numbers() == (112, 112)


def test_w3_three_pushes_of_10_30_and_500_are_three_meter_events(pipeline: Pipeline) -> None:
    """The peer sent its first payload three times, and wrote down 30 and 500 as told."""
    pipeline.world.map("storage")
    pipeline.send(10, customerRef="cus_A")
    pipeline.send(30, customerRef="cus_B")
    pipeline.send(500, customerRef="cus_A", metric="storage")
    pipeline.deliver()

    pipeline.tell()

    world = pipeline.world
    assert {key: one.total for key, one in world.stand_in.totals().items()} == {
        ("api_calls", "cus_A"): 10,
        ("api_calls", "cus_B"): 30,
        ("storage", "cus_A"): 500,
    }
    received = [(one["customer"], one["value"]) for one in pipeline.received()]
    assert sorted(received) == [("cus_A", "10"), ("cus_A", "500"), ("cus_B", "30")]
    streams = [world.stream(), world.stream("cus_B"), world.stream(metric="storage")]
    assert [one.accepted for one in streams] == [10, 30, 500]


def test_w3_a_second_push_of_a_customer_sends_its_own_delta(pipeline: Pipeline) -> None:
    pipeline.use(10)
    pipeline.use(5)

    (history,) = pipeline.wiring.pushes.of_period(a_counter(), NOVEMBER)
    assert [push.value for push in history.pushes] == ["10", "5"]
    assert len({push.identifier for push in history.pushes}) == 2
    assert pipeline.told("cus_A") == (15,)


# --- W4: shadow -----------------------------------------------------------------------------------


def test_w4_a_shadow_without_a_test_key_leaves_the_live_meter_at_42(
    billing: BillingWorld, wiring: Wiring
) -> None:
    """The peer logged "skipping shadow push" and told the live item; once more, by the shadow."""
    shadow = ShadowWorld(billing, wiring)
    shadow.turn(on=True)
    billing.use("42")

    with using(connected(wiring, billing.stand_in, stripe_shadow_secret_key=None)):
        for _ in range(3):
            billing.write()
            billing.advance(MINUTE)

    assert shadow.both_told() == (42, 0)
    assert billing.events() == 1
    assert set(billing.stand_in.totals()) == {("api_calls", "cus_A")}


# --- W5 to W9: what is told, to whom, for when ----------------------------------------------------


def test_w5_two_customers_of_40_and_70_are_40_and_70_at_stripe_and_110_together(
    pipeline: Pipeline,
) -> None:
    """With the peer they overwrote each other on one item: about 70, the greater of the two."""
    pipeline.send(40, customerRef="cus_A")
    pipeline.send(70, customerRef="cus_B")
    pipeline.deliver()

    pipeline.tell()

    assert pipeline.told("cus_A", "cus_B") == (40, 70)
    assert sum(one.total for one in pipeline.world.stand_in.totals().values()) == 110


def test_w5_two_refs_that_are_one_customer_at_stripe_add_up_to_110(pipeline: Pipeline) -> None:
    for ref, quantity in (("ann", 40), ("bob", 70)):
        pipeline.world.customer(ref, "cus_A")
        pipeline.send(quantity, customerRef=ref)
    pipeline.deliver()

    pipeline.tell()

    assert pipeline.world.told("cus_A") == 110


def test_w5_each_customer_may_be_another_one_at_stripe(pipeline: Pipeline) -> None:
    """The peer had no way to say which customer of ours is which at Stripe."""
    for ref, quantity in (("ann", 40), ("bob", 70)):
        known = f"cus_of_{ref}"
        pipeline.world.stand_in.add_customers([known])
        about = {"tenantId": DEMO, "stripeCustomer": known}
        assert pipeline.api.put(f"/v1/customers/{ref}", about).status == 200
        pipeline.send(quantity, customerRef=ref)
    pipeline.deliver()

    pipeline.tell()

    assert pipeline.told("cus_of_ann", "cus_of_bob") == (40, 70)


def test_w5_two_subscription_items_of_one_legacy_price_are_40_and_70(
    pipeline: Pipeline,
) -> None:
    """Usage records are set, not added; so each customer's go to an item of its own."""
    world = pipeline.world
    config = replace(pipeline.wiring.config, legacy_usage_records=True)
    with using(Wiring(config, clock=world.clock, dynamodb=pipeline.wiring.dynamodb)):
        price = world.stand_in.add_legacy_price(unit_amount_decimal="2.5")
        about = {"tenantId": DEMO, "metric": "seats", "aggregation": "sum", "priceId": price}
        assert pipeline.api.post("/v1/mappings", about).status == 201
        items = [legacy_item(pipeline, customer, price) for customer in ("cus_A", "cus_B")]
        pipeline.send(40, metric="seats", customerRef="cus_A")
        pipeline.send(70, metric="seats", customerRef="cus_B")
        pipeline.deliver()

        pipeline.tell()

    assert [records_of(pipeline, item) for item in items] == [[40], [70]]


BEFORE_METERS: Any = {"stripe_version": "2025-02-24.acacia"}


def legacy_item(pipeline: Pipeline, customer: str, price: str) -> str:
    """The item of a customer's new subscription to a price without a meter."""
    wanted: Any = {"customer": customer, "items": [{"price": price}]}
    made = pipeline.world.stripe.v1.subscriptions.create(wanted, BEFORE_METERS)
    known = {"tenantId": DEMO, "subscription": made.id}
    answer = pipeline.api.put(f"/v1/customers/{customer}", known)
    assert answer.status == 200, answer.text
    return str(made["items"].data[0].id)


def records_of(pipeline: Pipeline, item: str) -> list[int]:
    """What the usage records of an item come to, by billing period."""
    path = f"/v1/subscription_items/{item}/usage_record_summaries"
    found = pipeline.world.stripe.raw_request("get", path, **BEFORE_METERS)
    return [one["total_usage"] for one in found.data["data"]]


def test_w6_a_decrease_of_4_takes_stripe_from_10_to_6_and_its_revert_back_to_10(
    pipeline: Pipeline,
) -> None:
    """The peer skipped every delta of 0 or less: Stripe stayed at 10 and billed it."""
    pipeline.use(10)
    path = adjusted(pipeline, -4)

    pipeline.decide(f"{path}/approve")
    assert pipeline.numbers() == (6, 6)
    pipeline.decide(f"{path}/revert")

    assert pipeline.numbers() == (10, 10)
    (history,) = pipeline.wiring.pushes.of_period(a_counter(), NOVEMBER)
    assert [push.value for push in history.pushes] == ["10", "-4", "4"]


def adjusted(pipeline: Pipeline, delta: int) -> str:
    """The path of a new adjustment of `api_calls` of `cus_A` in November."""
    wanted = {
        "tenantId": DEMO,
        "metric": "api_calls",
        "customerRef": "cus_A",
        "periodStart": "2026-11-01",
        "delta": delta,
        "reason": "correction",
    }
    answer = pipeline.api.post("/v1/adjustments", wanted)
    assert answer.status == 201, answer.text
    return f"/v1/adjustments/{answer.body['id']}"


def test_w7_usage_of_november_that_comes_in_december_is_told_for_november(
    pipeline: Pipeline,
) -> None:
    """The peer looked at the current month only: what came after midnight was lost."""
    pipeline.go_to(NOVEMBER.end - HOUR)
    pipeline.use(10)
    pipeline.send(3, ts="2026-11-30T23:59:00Z")  # accepted in November, counted in December
    pipeline.go_to(NOVEMBER.end + 10 * MINUTE)
    pipeline.send(2, ts="2026-11-30T23:59:30Z")  # and one that is even accepted in December
    pipeline.send(100)
    pipeline.deliver()

    pipeline.tell()

    assert pipeline.told_in(NOVEMBER, DECEMBER) == (15, 100)
    pipeline.world.advance(HOUR)
    row = pipeline.row()
    assert (row["ledger"], row["stripe"], row["status"]) == (15, 15, Status.OK)


def test_w7_usage_after_the_close_is_told_once_in_the_period_that_is_open(
    pipeline: Pipeline,
) -> None:
    """The peer never finalised a period and never told of what came later."""
    pipeline.go_to(NOVEMBER.end - HOUR)
    pipeline.use(10)
    pipeline.go_to(NOVEMBER.end + 12 * HOUR)

    pipeline.use(5, ts="2026-11-30T23:59:00Z")
    pipeline.world.advance(MINUTE)
    pipeline.tell()

    assert pipeline.told_in(NOVEMBER, DECEMBER) == (10, 5)
    assert pipeline.numbers() == (15, 15)


def test_w8_a_period_from_the_10th_to_the_10th_is_told_its_own_usage(pipeline: Pipeline) -> None:
    """The peer stamped all usage at the first of the month, which is in the period before."""
    anchor = datetime(2026, 3, 10, 9, 30, tzinfo=UTC)
    pipeline.world.customer("cus_A", anchor=anchor)
    before = Span(anchor.replace(month=10), anchor.replace(month=11))
    after = Span(anchor.replace(month=11), anchor.replace(month=12))
    pipeline.go_to(november(10, hour=9) + 20 * MINUTE)
    pipeline.send(3)
    pipeline.go_to(november(10, hour=9) + 40 * MINUTE)
    pipeline.send(4)
    pipeline.deliver()

    pipeline.tell()

    assert pipeline.told_in(before, after) == (3, 4)
    stamped = {one["value"]: one["timestamp"] for one in pipeline.received()}
    assert datetime.fromtimestamp(stamped["3"], UTC) in before
    assert datetime.fromtimestamp(stamped["4"], UTC) in after


def test_w8_the_invoice_of_a_subscription_from_the_20th_bills_its_own_10(
    billing: BillingWorld,
) -> None:
    start = NOON + 37 * MINUTE
    billing.set_time(start)
    closing = ClosingWorld(billing)
    billing.customer("cus_A")
    closing.subscribe()
    closing.close()
    pipeline = Pipeline(billing)
    pipeline.use(99, ts=(start - HOUR).isoformat())  # before the subscription: not on its invoice
    pipeline.go_to(start + MINUTE)
    pipeline.use(10)

    pipeline.go_to(start.replace(month=12) + 2 * HOUR)

    (first, *_) = billing.stripe.v1.invoices.list({"customer": "cus_A"}).data
    assert [line.quantity for line in first.lines.data] == [10]


def test_w9_of_42_point_4_stripe_is_told_42_and_so_do_our_books_say(pipeline: Pipeline) -> None:
    """The peer told 42, wrote down 42.4 as told, and lost the 0.4 for good."""
    pipeline.use("42.4")

    assert pipeline.numbers() == (Decimal("42.4"), 42)
    assert pipeline.world.stream().accepted_quantity == 42
    pipeline.world.advance(HOUR)
    row = pipeline.row()
    assert (row["ledger"], row["pushed"], row["stripe"]) == (Decimal("42.4"), 42, 42)
    assert pipeline.causes() == [(Cause.REMAINDER, Decimal("0.4"))]

    pipeline.use("0.6")

    assert pipeline.numbers() == (43, 43)


def test_w9_of_42_point_6_stripe_is_told_42_too(pipeline: Pipeline) -> None:
    """The peer rounded to 43, and billed what was not used."""
    pipeline.use("42.6")

    assert pipeline.numbers() == (Decimal("42.6"), 42)


def test_w9_0_point_4_on_each_of_five_days_are_2_at_stripe_and_not_0(pipeline: Pipeline) -> None:
    seen = []
    for day in range(11, 16):
        pipeline.go_to(november(day))
        pipeline.use("0.4")
        seen.append(pipeline.world.told())

    assert seen == [0, 0, 1, 1, 2]
    assert pipeline.numbers() == (2, 2)


def test_w9_a_scale_of_one_decimal_tells_stripe_424_tenths(pipeline: Pipeline) -> None:
    pipeline.world.map("storage", scale=1)

    pipeline.use("42.4", metric="storage")

    assert pipeline.world.told(metric="storage") == 424
    assert pipeline.world.stream(metric="storage").accepted_quantity == Decimal("42.4")


# --- W10: which of Stripe's interfaces ------------------------------------------------------------


def test_w10_7_go_to_a_billing_meter_under_one_identifier_and_count_once(
    pipeline: Pipeline,
) -> None:
    """The peer used usage records, which Stripe's API has not had since 2025-03-31."""
    world = pipeline.world
    world.stand_in.plan(FaultKind.DROP_AFTER, path="/v1/billing/meter_events", times=1)

    pipeline.use(7)

    told = [one["path"] for one in world.stand_in.requests() if one["idempotency_key"]]
    assert told[-2:] == ["/v1/billing/meter_events"] * 2  # the one that was lost, and its repeat
    (history,) = pipeline.wiring.pushes.of_period(a_counter(), NOVEMBER)
    received = [(one["identifier"], one["value"]) for one in pipeline.received()]
    assert received == [(history.pushes[0].identifier, "7")]
    assert pipeline.numbers() == (7, 7)


# --- W11 and W12: adjustments and late events -----------------------------------------------------


def test_w11_10_and_an_approved_5_are_15_and_after_the_revert_10(pipeline: Pipeline) -> None:
    """The peer's counter was 5 after the revert: it subtracted twice."""
    pipeline.use(10)
    path = adjusted(pipeline, 5)

    pipeline.decide(f"{path}/approve")
    assert pipeline.numbers() == (15, 15)
    pipeline.decide(f"{path}/revert")

    assert pipeline.numbers() == (10, 10)


def test_w12_a_very_late_2_beside_5_is_one_adjustment_that_makes_7(pipeline: Pipeline) -> None:
    """The peer made several adjustments of it, told nobody, and 9 when they were approved."""
    pipeline.use(5)
    late = pipeline.send(2, ts="2026-11-10T11:00:00.000001Z")
    assert late.body["results"][0]["late"] is True
    for _ in range(3):
        pipeline.deliver()
        pipeline.redeliver()
        pipeline.world.advance(MINUTE)
        pipeline.tell()

    assert pipeline.numbers() == (5, 5)
    listed = pipeline.api.get("/v1/adjustments", tenantId=DEMO, status="pending").body
    assert [(one["delta"], one["reason"]) for one in listed["adjustments"]] == [(2, "late_event")]
    path = f"/v1/adjustments/{listed['adjustments'][0]['id']}/approve"
    assert pipeline.decide(path)["already"] is False
    assert pipeline.decide(path)["already"] is True

    assert pipeline.numbers() == (7, 7)
    listed = pipeline.api.get("/v1/adjustments", tenantId=DEMO, status="pending").body
    assert listed["adjustments"] == []


def test_w12_two_late_events_of_one_second_are_two_adjustments(pipeline: Pipeline) -> None:
    for part in ("000001", "000002"):
        pipeline.send(2, ts=f"2026-11-10T11:00:00.{part}Z")
    pipeline.deliver()

    listed = pipeline.api.get("/v1/adjustments", tenantId=DEMO, status="pending").body

    assert [one["delta"] for one in listed["adjustments"]] == [2, 2]


# --- W13: reconciliation --------------------------------------------------------------------------


def summary(pipeline: Pipeline) -> Any:
    """The whole of November, as the API sums it up."""
    return pipeline.api.get(
        "/v1/reconciliation/summary", tenantId=DEMO, periodStart="2026-11", periodEnd="2026-11"
    ).body


def test_w13_a_local_40_is_40_after_three_runs_and_not_120(pipeline: Pipeline) -> None:
    """The peer's summary added its runs up: 120, and a drift of 5,300 percent."""
    pipeline.use(40)
    for _ in range(3):
        pipeline.world.advance(HOUR)
        pipeline.world.reconcile(tenantId=DEMO, period="2026-11")

    overall = summary(pipeline)["overall"]

    assert (overall["local"], overall["stripe"]) == (40, 40)
    assert (overall["drift_abs"], overall["drift_pct"]) == (0, 0)


def test_w13_stripes_99_of_october_are_no_part_of_novembers_40(pipeline: Pipeline) -> None:
    """The peer summed Stripe over all billing periods."""
    pipeline.go_to(NOVEMBER.start - HOUR)
    pipeline.use(99)
    pipeline.go_to(NOON)
    pipeline.use(40)
    pipeline.world.advance(HOUR)

    row = pipeline.row()

    assert (row["ledger"], row["stripe"], row["status"]) == (40, 40, Status.OK)


def test_w13_what_stripe_has_too_much_is_never_proposed_as_usage_of_ours(
    pipeline: Pipeline,
) -> None:
    """The peer trusted Stripe and proposed usage; each run proposed it again, and all counted."""
    pipeline.use(40)
    pipeline.world.stand_in.send_foreign_event("api_calls", "cus_A", "3")
    for _ in range(3):
        pipeline.world.advance(HOUR)
        row = pipeline.row()
        assert (row["ledger"], row["counted"], row["stripe"]) == (40, 40, 43)
        assert pipeline.causes() == [(Cause.FOREIGN_WRITER, -3)]

    assert pipeline.api.get("/v1/adjustments", tenantId=DEMO).body["total"] == 0
    assert [one.amount for one in pipeline.world.report().proposals] == [-3]
    assert pipeline.value() == 40


def test_w13_a_customer_with_3_too_many_and_one_with_3_too_few_differ_by_6(
    pipeline: Pipeline,
) -> None:
    """With the peer the two cancelled, and all was well."""
    pipeline.use(10, customerRef="cus_A")
    pipeline.use(10, customerRef="cus_B")
    pipeline.world.stand_in.send_foreign_event("api_calls", "cus_A", "3")
    pipeline.world.stand_in.send_foreign_event("api_calls", "cus_B", "-3")
    pipeline.world.advance(HOUR)
    assert pipeline.world.row().status is Status.INVESTIGATE

    overall = summary(pipeline)["overall"]

    assert (overall["local"], overall["stripe"], overall["drift_abs"]) == (20, 20, 6)


def test_w13_one_unit_in_a_thousand_is_a_difference(pipeline: Pipeline) -> None:
    """Below half a percent the peer found nothing wrong, however much money that was."""
    pipeline.use(1000)
    pipeline.world.stand_in.send_foreign_event("api_calls", "cus_A", "1")
    pipeline.world.advance(HOUR)

    row = pipeline.row()

    assert (row["difference"], row["status"]) == (-1, Status.INVESTIGATE)


def test_w13_calls_and_bytes_are_not_added_up(pipeline: Pipeline) -> None:
    """The peer's overall number was a sum of unlike units."""
    pipeline.world.map("bytes")
    pipeline.use(40)
    pipeline.use(5000, metric="bytes")
    pipeline.world.advance(HOUR)
    pipeline.world.row()

    found = summary(pipeline)

    assert [(one["metric"], one["local"]) for one in found["perMetric"]] == [
        ("api_calls", 40),
        ("bytes", 5000),
    ]
    assert found["overall"]["local"] is None


# --- W14: which events are the same ---------------------------------------------------------------


def test_w14_the_same_key_of_two_tenants_is_two_events(pipeline: Pipeline) -> None:
    """The peer swallowed tenant B's `evt-1` as a duplicate of tenant A's."""
    for tenant in (DEMO, ACME):
        sent = a_sent_event(tenantId=tenant, idempotencyKey="evt-1", quantity=9)
        assert send(sent).statuses == ["accepted"]
        pipeline.deliver(tenant)

    assert pipeline.value() == 9
    assert counted(pipeline.wiring, tenant=ACME).counted.sum == 9


def test_w14_two_real_events_of_one_millisecond_of_5_and_7_make_12(pipeline: Pipeline) -> None:
    """The peer called both accepted and kept one: its key left the quantity out."""
    both = [a_sent_event(idempotencyKey=..., quantity=quantity) for quantity in (5, 7)]

    assert send(*both).statuses == ["accepted", "accepted"]
    pipeline.deliver()

    assert pipeline.value() == 12
    assert pipeline.value(Aggregation.COUNT) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"metric": "a|b", "customerRef": "c"}, {"metric": "a", "customerRef": "b|c"}),
        ({"customerRef": "a|b", "resourceId": "c"}, {"customerRef": "a", "resourceId": "b|c"}),
        ({"customerRef": "1:a", "resourceId": "b"}, {"customerRef": "1", "resourceId": "a1:b"}),
    ],
)
def test_w14_keys_that_are_made_of_parts_keep_the_parts_apart(
    pipeline: Pipeline, one: dict[str, str], other: dict[str, str]
) -> None:
    """The peer joined them by `|`, unescaped: `a|b`,`c` had the key of `a`,`b|c`."""
    answer = send(*(a_sent_event(idempotencyKey=..., **parts) for parts in (one, other)))

    assert answer.statuses == ["accepted", "accepted"]
    assert len(ledger_of(pipeline.wiring)) == 2


def test_w14_tenant_and_key_keep_apart_too(pipeline: Pipeline) -> None:
    pairs = [("t|1", "a"), ("t", "1|a"), ("t1", ":a"), ("t", "1:a")]
    for quantity, (tenant, key) in enumerate(pairs, start=1):
        sent = a_sent_event(tenantId=tenant, idempotencyKey=key, quantity=quantity)
        assert send(sent).statuses == ["accepted"], (tenant, key)


def test_w14_a_derived_key_has_128_bits(pipeline: Pipeline) -> None:
    """The peer's had 64: among some billions of events two are expected to meet."""
    key = send(a_sent_event(idempotencyKey=...)).body["results"][0]["idempotencyKey"]

    assert len(bytes.fromhex(key.removeprefix("evt_"))) * 8 == 128


def test_w14_one_key_with_5_and_then_with_7_is_a_conflict_and_counts_5(
    pipeline: Pipeline,
) -> None:
    """The peer dropped the second without a word."""
    first = a_sent_event(idempotencyKey="evt-1", quantity=5)

    assert send(first).statuses == ["accepted"]
    pipeline.world.advance(MINUTE)
    second = send(first | {"quantity": 7})
    pipeline.deliver()

    assert second.statuses == ["conflict"]
    assert (second.body["conflicts"], second.body["duplicates"]) == (1, 0)
    assert pipeline.value() == 5


@pytest.mark.parametrize(
    "ts",
    ["2026-11-20T11:00:00Z", "2026-11-20T11:00:00.000Z", "2026-11-20T12:00:00+01:00"],
)
def test_w14_an_event_of_two_client_languages_is_one_event_of_2(
    pipeline: Pipeline, ts: str
) -> None:
    """The peer's Node and Python clients hashed one event to two keys."""
    node = a_sent_event(idempotencyKey=..., quantity=2, ts="2026-11-20T11:00:00.000Z")
    python = {
        "tenant_id": "demo",
        "metric": "api_calls",
        "customer_ref": "cus_A",
        "quantity": "2.0",
        "ts": ts,
    }

    assert send(node).statuses == ["accepted"]
    pipeline.world.advance(MINUTE)
    assert send(python).statuses == ["duplicate"]
    pipeline.deliver()

    assert pipeline.value() == 2


# --- W15: floats ----------------------------------------------------------------------------------


def test_w15_12345678901234_point_123457_comes_through_to_the_last_digit(
    pipeline: Pipeline,
) -> None:
    """The peer's total ended in 123000."""
    text = "12345678901234.123457"
    body = '{"events": [{"tenantId": "demo", "metric": "api_calls", "customerRef": "cus_A",'
    answer = post(body + f' "ts": "2026-11-20T11:00:00Z", "quantity": {text}}}]}}')
    assert answer.statuses == ["accepted"]
    pipeline.deliver()
    pipeline.tell()

    assert pipeline.value() == Decimal(text)
    found = pipeline.api.get("/v1/usage/current", tenantId=DEMO, customerRef="cus_A")
    assert f'"current":{text}' in found.text.replace(" ", "")
    assert pipeline.world.told() == 12_345_678_901_234


def test_w15_a_sum_is_exact_to_its_twentieth_digit(pipeline: Pipeline) -> None:
    for quantity in ("12345678901233.123456", "1.000001"):
        assert pipeline.send(quantity).statuses == ["accepted"]
    pipeline.deliver()

    assert pipeline.value() == Decimal("12345678901234.123457")


def test_w15_ten_times_0_point_1_are_1(pipeline: Pipeline) -> None:
    sent = [a_sent_event(quantity=0.1) for _ in range(10)]

    assert send(*sent).body["accepted"] == 10
    pipeline.deliver()
    pipeline.tell()

    assert pipeline.numbers() == (1, 1)


# --- W17: where nobody knows ----------------------------------------------------------------------


def test_w17_where_usage_cannot_be_read_no_number_is_shown(pipeline: Pipeline) -> None:
    """The peer's widget showed 12,500 calls and $234.50 that it had made up."""
    pipeline.use(40)
    broken = FaultyClient(pipeline.wiring.dynamodb)
    broken.fail("query", timed_out())

    with using(Wiring(pipeline.wiring.config, clock=pipeline.world.clock, dynamodb=broken.client)):
        answer = pipeline.api.get("/v1/usage/current", tenantId=DEMO, customerRef="cus_A")

    assert (answer.status, answer.body["error"]) == (503, "Service Unavailable")
    assert "metrics" not in answer.body


def test_w17_what_stripe_was_not_asked_is_unknown_and_not_0(pipeline: Pipeline) -> None:
    pipeline.use(40)
    pipeline.world.advance(HOUR)

    with pipeline.world.stand_in.outage():
        row = pipeline.row()

    assert (row["ledger"], row["pushed"], row["stripe"]) == (40, 40, None)
