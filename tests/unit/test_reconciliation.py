"""What a row says about its numbers: each difference has a cause, an amount and a sentence."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.comparison import compare
from metering.counter import NO_USAGE, Aggregation, Usage, usage_of
from metering.evidence import Evidence
from metering.facts import Facts, Reading, recount
from metering.period import Span
from metering.push import (
    Carry,
    Mode,
    Push,
    PushState,
    PushStream,
    Stop,
    StreamKey,
    StreamKind,
    Target,
    close,
    stamp,
)
from metering.reconciliation import Cause, InvoiceNumber, Row, Status
from metering.tenant_settings import AfterClose
from tests.builders import NOON, a_counter, an_entry
from tests.push_steps import plan

NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
COUNTER = a_counter()
KEY = StreamKey(Target("", Mode.TEST, "api_calls", "cus_A"), COUNTER, NOVEMBER)
OLD = [an_entry("4", received_at=NOON - HOUR), an_entry("6", received_at=NOON - HOUR)]
TOLD = PushStream(KEY, "mtr_1", 0, accepted=10, next_seq=2, version=3)


def counted(*entries: object) -> Usage:
    usage = NO_USAGE
    for entry in entries:
        usage += usage_of(entry)  # type: ignore[arg-type]
    return usage


AGREED = Facts(
    counter=COUNTER,
    period=NOVEMBER,
    aggregation=Aggregation.SUM,
    ledger=recount(OLD, NOON),
    usage=counted(*OLD),
    streams=(TOLD,),
    stripe=Reading(Decimal(10), NOON),
)


def row_of(now: datetime = NOON, **changes: object) -> Row:
    return compare(replace(AGREED, **changes), now)  # type: ignore[arg-type]


def causes(row: Row) -> list[tuple[Cause, Decimal]]:
    return [(finding.cause, finding.amount) for finding in row.findings]


def sent(delta: int) -> PushStream:
    planned = plan(TOLD, TOLD.accepted + delta, NOON, NOON)
    assert isinstance(planned, PushStream)
    return stamp(planned, NOON)


def read(total: str) -> Reading:
    return Reading(Decimal(total), NOON)


def test_four_equal_numbers_are_ok() -> None:
    row = row_of()

    assert row.status is Status.OK
    assert row.findings == ()
    assert [row.ledger, row.counted, row.pushed, row.stripe] == [10, 10, 10, 10]
    assert row.difference == 0


def test_events_of_the_last_minutes_are_on_their_way_to_the_counter() -> None:
    new = an_entry("5", received_at=NOON - 14 * MINUTE)

    row = row_of(ledger=recount([*OLD, new], NOON))

    assert causes(row) == [(Cause.COUNTER_BEHIND, Decimal(5))]
    assert row.status is Status.INVESTIGATE
    assert "1 events of the last 15 minutes" in row.explanation


def test_an_event_that_should_long_be_counted_makes_the_counter_wrong() -> None:
    lost = an_entry("5", received_at=NOON - 15 * MINUTE)

    row = row_of(ledger=recount([*OLD, lost], NOON))

    assert causes(row) == [(Cause.COUNTER_WRONG, Decimal(5))]
    assert "rebuild" in row.explanation


def test_a_counter_with_more_than_the_ledger_is_wrong() -> None:
    assert causes(row_of(ledger=recount(OLD[:1], NOON)))[0] == (Cause.COUNTER_WRONG, Decimal(-6))


def test_a_counter_with_an_event_swapped_is_wrong_though_the_sum_agrees() -> None:
    halves = [an_entry("5", received_at=NOON - HOUR) for _ in range(2)]
    three = [*halves, an_entry("0", received_at=NOON - HOUR)]

    assert causes(row_of(ledger=recount(three, NOON))) == [(Cause.COUNTER_WRONG, Decimal(0))]


def test_an_open_push_is_in_flight() -> None:
    row = row_of(
        usage=counted(*OLD, OLD[0]), ledger=recount([*OLD, OLD[0]], NOON), streams=[sent(4)]
    )

    assert causes(row) == [(Cause.IN_FLIGHT, Decimal(4))]


def test_an_open_push_that_stripe_has_already_counted_is_in_flight_and_nothing_else() -> None:
    more = [*OLD, OLD[0]]
    facts: dict[str, Any] = {
        "usage": counted(*more),
        "ledger": recount(more, NOON),
        "streams": [sent(4)],
    }

    assert causes(row_of(**facts, stripe=read("14"))) == [(Cause.IN_FLIGHT, Decimal(4))]
    assert causes(row_of(**facts, stripe=read("13"))) == [
        (Cause.IN_FLIGHT, Decimal(4)),
        (Cause.FOREIGN_WRITER, Decimal(-3)),
    ]


def test_a_push_whose_outcome_is_unknown_says_so() -> None:
    stream = sent(4)
    assert stream.open is not None
    unknown = replace(stream, open=replace(stream.open, state=PushState.UNKNOWN, last_error="400"))

    row = row_of(
        usage=counted(*OLD, OLD[0]), ledger=recount([*OLD, OLD[0]], NOON), streams=[unknown]
    )

    assert causes(row) == [(Cause.UNKNOWN_OUTCOME, Decimal(4))]


def test_usage_that_was_not_told_yet_waits_for_the_writer() -> None:
    row = row_of(streams=[replace(TOLD, accepted=7)], stripe=read("7"))

    assert causes(row) == [(Cause.AWAITING_PUSH, Decimal(3))]


def test_usage_counted_after_the_close_is_named() -> None:
    row = row_of(NOVEMBER.end + HOUR, streams=[replace(TOLD, accepted=7)], stripe=read("7"))

    assert causes(row) == [(Cause.LATE_AFTER_CLOSE, Decimal(3))]


def test_a_last_value_that_came_after_the_close_is_settled_though_nothing_was_ever_told() -> None:
    row = row_of(NOVEMBER.end + HOUR, aggregation=Aggregation.LAST, streams=[], stripe=read("0"))

    assert causes(row) == [(Cause.LATE_AFTER_CLOSE, row.counted)]
    assert row.status is Status.RESOLVED


def test_a_stopped_stream_tells_what_stripe_said() -> None:
    stop = Stop("refused", "No such customer: 'cus_A'", NOON - MINUTE, NOON + HOUR)

    row = row_of(streams=[replace(TOLD, accepted=0, stopped=stop)], stripe=read("0"))

    assert causes(row) == [(Cause.REFUSED, Decimal(10))]
    assert "No such customer: 'cus_A'" in row.explanation


def test_held_usage_tells_what_holds_it() -> None:
    row = row_of(streams=[replace(TOLD, accepted=7)], stripe=read("7"), held="scale_changed")

    assert causes(row) == [(Cause.HELD, Decimal(3))]
    assert "scale_changed" in row.explanation


@pytest.mark.parametrize(
    "reason", ["unmapped", "no_stripe_customer", "no_meter", "subscription_item_missing"]
)
def test_usage_without_a_way_to_stripe_says_what_is_missing(reason: str) -> None:
    row = row_of(no_route=reason, streams=(), stripe=None)

    assert causes(row) == [(Cause(reason), Decimal(10))]
    assert row.stripe is None
    assert row.difference == 10


# --- Stripe's side --------------------------------------------------------------------------------


def recent(delta: int) -> Push:
    planned = plan(TOLD, TOLD.accepted + delta, NOON, NOON)
    assert isinstance(planned, PushStream)
    return close(planned, PushState.ACCEPTED, NOON, resolution="answered").push


def test_what_was_accepted_a_moment_ago_may_not_be_in_the_summary_yet() -> None:
    assert causes(row_of(stripe=read("7"), recent=[recent(3)])) == [(Cause.STRIPE_LAG, Decimal(3))]


def test_what_was_accepted_long_ago_and_is_not_in_the_summary_is_lost() -> None:
    row = row_of(stripe=read("7"))

    assert causes(row) == [(Cause.LOST_PUSH, Decimal(3))]
    assert row.status is Status.INVESTIGATE


def test_more_missing_than_the_last_pushes_explain_is_lost() -> None:
    assert causes(row_of(stripe=read("7"), recent=[recent(2)])) == [(Cause.LOST_PUSH, Decimal(3))]


def test_a_recent_negative_push_explains_a_surplus() -> None:
    assert causes(row_of(stripe=read("13"), recent=[recent(-3)])) == [
        (Cause.STRIPE_LAG, Decimal(-3))
    ]


def test_what_stripe_holds_and_nobody_sent_came_from_elsewhere() -> None:
    row = row_of(stripe=read("12.5"))

    assert causes(row) == [(Cause.FOREIGN_WRITER, Decimal("-2.5"))]
    assert "2.5" in row.explanation


def test_what_was_not_read_is_not_ok() -> None:
    row = row_of(stripe=None)

    assert causes(row) == [(Cause.NOT_READ, Decimal(0))]
    assert row.status is Status.INVESTIGATE


LAST = replace(TOLD, kind=StreamKind.LAST, accepted_at=NOON - HOUR)


def test_a_last_value_is_compared_with_the_newest_that_was_told() -> None:
    older = StreamKey(Target("", Mode.TEST, "old", "cus_A"), COUNTER, NOVEMBER)
    before = replace(LAST, key=older, accepted=99, accepted_at=NOON - 2 * HOUR)

    assert row_of(streams=[before, LAST]).status is Status.OK
    assert row_of(streams=[before, LAST]).pushed == 10


def test_a_last_value_that_somebody_else_set_is_named_with_both_values() -> None:
    row = row_of(streams=[LAST], stripe=read("12"), evidence=Evidence())

    assert causes(row) == [(Cause.FOREIGN_WRITER, Decimal(-2))]
    assert "Stripe's last value is 12, and it was told 10" in row.explanation


@pytest.mark.parametrize("evidence", [None, Evidence(is_complete=False)])
def test_nobody_is_blamed_for_a_last_value_whose_minute_was_not_read(
    evidence: Evidence | None,
) -> None:
    row = row_of(streams=[LAST], stripe=read("12"), evidence=evidence)

    assert causes(row) == [(Cause.LOST_PUSH, Decimal(-2))]
    assert "whether its push counted could not be looked up in this run" in row.explanation


def test_usage_records_that_could_not_be_read_back_say_so() -> None:
    row = row_of(streams=[replace(TOLD, kind=StreamKind.LEGACY)], stripe=None)

    assert [one.cause for one in row.findings] == [Cause.NOT_READ]
    assert "usage records could not be read" in row.explanation


def test_what_was_told_after_the_days_reading_is_noted_and_ok() -> None:
    kept = Reading(Decimal(7), NOON - HOUR, told=Decimal(7))

    row = row_of(stripe=kept)

    assert causes(row) == [(Cause.READ_EARLIER, Decimal(3))]
    assert row.status is Status.OK
    assert row.told_at_reading == 7


# --- after the close ------------------------------------------------------------------------------

LATE: dict[str, Any] = {"streams": [replace(TOLD, accepted=7)], "stripe": Reading(Decimal(7), NOON)}
AFTER = NOVEMBER.end + HOUR


@pytest.mark.parametrize(
    ("policy", "status", "text"),
    [
        (AfterClose.CARRY_FORWARD, Status.INVESTIGATE, "told in the open period"),
        (AfterClose.INVOICE_ITEM, Status.INVESTIGATE, "billed apart"),
        (AfterClose.UNBILLED, Status.RESOLVED, "not billed"),
    ],
)
def test_late_usage_says_what_the_policy_makes_of_it(
    policy: AfterClose, status: Status, text: str
) -> None:
    row = row_of(AFTER, **LATE, after_close=policy)

    assert causes(row) == [(Cause.LATE_AFTER_CLOSE, Decimal(3))]
    assert row.status is status
    assert text in row.explanation


def test_what_was_carried_out_is_resolved_and_the_rest_is_not() -> None:
    carried = [replace(TOLD, accepted=7, carried_out=Decimal(2))]

    row = row_of(AFTER, streams=carried, stripe=read("7"))

    assert causes(row) == [
        (Cause.LATE_AFTER_CLOSE, Decimal(2)),
        (Cause.LATE_AFTER_CLOSE, Decimal(1)),
    ]
    assert [one.is_settled for one in row.findings] == [True, False]
    assert row.status is Status.INVESTIGATE


def test_what_a_former_life_of_the_store_carried_counts_and_what_it_told_does_not() -> None:
    carry = Carry(NOVEMBER.start, Decimal(5))
    former = replace(TOLD, key=TOLD.key._replace(incarnation=0), accepted=7, carried_in=(carry,))
    present = replace(TOLD, key=TOLD.key._replace(incarnation=1), accepted=15)

    row = row_of(streams=[present], former=[former], stripe=read("15"))

    assert row.pushed == 15
    assert row.status is Status.OK


def test_usage_that_was_carried_in_is_expected_at_stripe_and_noted() -> None:
    carry = Carry(NOVEMBER.start - timedelta(days=31), Decimal(5))

    row = row_of(streams=[replace(TOLD, accepted=15, carried_in=(carry,))], stripe=read("15"))

    assert causes(row) == [(Cause.CARRIED_IN, Decimal(5))]
    assert "2026-10-01" in row.explanation
    assert row.status is Status.OK


def test_a_total_below_zero_is_billed_as_zero_and_noted() -> None:
    below = replace(TOLD, accepted=-4, carried_in=(Carry(NOVEMBER.start, Decimal(-14)),))

    row = row_of(
        streams=[below], stripe=read("-4"), invoice=InvoiceNumber("in_1", Decimal(0), is_final=True)
    )

    assert (Cause.NEGATIVE_TOTAL, Decimal(-4)) in causes(row)
    assert row.status is Status.OK


# --- notes and epsilon ----------------------------------------------------------------------------


def test_less_than_a_scaled_unit_is_noted_and_ok() -> None:
    entries = [an_entry("10.129", received_at=NOON - HOUR)]
    stream = replace(TOLD, scale=2, accepted=1012)

    row = row_of(
        ledger=recount(entries, NOON),
        usage=counted(*entries),
        scale=2,
        streams=[stream],
        stripe=read("10.12"),
    )

    assert causes(row) == [(Cause.REMAINDER, Decimal("0.009"))]
    assert row.status is Status.OK


def test_late_events_that_await_approval_are_noted_and_ok() -> None:
    late = an_entry("3", is_late=True)

    row = row_of(ledger=recount([*OLD, late], NOON), usage=counted(*OLD, late))

    assert causes(row) == [(Cause.LATE_HELD, Decimal(3))]
    assert row.status is Status.OK


def test_epsilon_decides_what_is_ok_and_hides_nothing() -> None:
    facts = replace(AGREED, stripe=read("9"))

    tolerant = compare(facts, NOON, epsilon=Decimal(1))

    assert tolerant.status is Status.OK
    assert causes(tolerant) == [(Cause.LOST_PUSH, Decimal(1))]
    assert compare(facts, NOON, epsilon=Decimal("0.99")).status is Status.INVESTIGATE


def test_errors_that_cancel_out_do_not_hide_each_other() -> None:
    """W13: the ledger and Stripe agree, the numbers between them do not."""
    row = row_of(usage=counted(OLD[0]))

    assert row.difference == 0
    assert row.status is Status.INVESTIGATE
    assert causes(row) == [
        (Cause.COUNTER_WRONG, Decimal(6)),
        (Cause.AWAITING_PUSH, Decimal(-6)),
    ]
