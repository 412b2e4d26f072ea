"""What a row tells people, word for word: they act on these sentences."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.comparison import compare
from metering.counter import NO_USAGE, Usage, total, usage_of
from metering.facts import (
    Reading,
    Recount,
    Recounted,
    exact_sum,
    mark_of,
    pushed_by,
    recount,
    recount_kept,
    recounted,
)
from metering.period_close import PeriodClose, PeriodState
from metering.push import (
    Carry,
    Correction,
    PushState,
    PushStream,
    Stop,
    StreamKind,
    plan,
    stamp,
)
from metering.reconciliation import InvoiceNumber
from tests.builders import NOON, an_entry
from tests.unit.test_reconciliation import AGREED, HOUR, KEY, MINUTE, NOVEMBER, OLD, TOLD

SEEN = Reading(Decimal(10), NOON)


def found(now: datetime = NOON, **changes: Any) -> list[tuple[str, str, str]]:
    row = compare(replace(AGREED, **changes), now)
    return [(one.cause, str(one.amount), one.explanation) for one in row.findings]


def with_push(**changes: Any) -> dict[str, Any]:
    """An agreed row with one more event, whose push is open as told."""
    more = an_entry("4", received_at=NOON - HOUR)
    planned = plan(TOLD, 14, NOON, NOON, closes_at=NOVEMBER.end)
    assert isinstance(planned, PushStream)
    stream = stamp(planned, NOON)
    assert stream.open is not None
    return {
        "usage": total(map(usage_of, [*OLD, more])),
        "ledger": recount([*OLD, more], NOON),
        "streams": [replace(stream, open=replace(stream.open, **changes))],
    }


PUSH = f"u1.{KEY.id}.2"

HALF = an_entry("0.5", received_at=NOON - HOUR)
LATE = an_entry("3", is_late=True)
TRIAL = PeriodClose(
    KEY.counter.tenant,
    KEY.counter.customer,
    NOVEMBER,
    PeriodState.CLOSING,
    NOON,
    is_trial=True,
)
CANCELLED = replace(
    TOLD,
    corrections=(
        Correction(-4, NOON, "api:ann", "test data"),
        Correction(-2, NOON, "api:eve", "more of it"),
        Correction(-1, NOON, "api:bob", "a script"),
    ),
    compensated=-7,
)
CASES: list[tuple[dict[str, Any], tuple[str, str, str]]] = [
    (
        {"ledger": recount([*OLD, an_entry("5", received_at=NOON - 14 * MINUTE)], NOON)},
        (
            "counter_behind",
            "5",
            "1 events of the last 15 minutes are not in the counter yet; the aggregator is on it.",
        ),
    ),
    (
        {"ledger": recount([*OLD, an_entry("5", received_at=NOON - HOUR)], NOON)},
        (
            "counter_wrong",
            "5",
            "The counter holds 10 of 2 events, the ledger 15 of 3; rebuild the tenant's counters.",
        ),
    ),
    (
        {"no_route": "unmapped", "streams": (), "stripe": None},
        (
            "unmapped",
            "10",
            "The metric has no active mapping, so its usage is counted and not told to Stripe.",
        ),
    ),
    (
        {"no_route": "no_stripe_customer", "streams": (), "stripe": None},
        (
            "no_stripe_customer",
            "10",
            "Nobody said which Stripe customer this is; PUT /v1/customers/{ref}.",
        ),
    ),
    (
        {"no_route": "no_meter", "streams": (), "stripe": None},
        (
            "no_meter",
            "10",
            "The mapping names no Billing Meter; give its meterId and meterEventName.",
        ),
    ),
    (
        {"no_route": "subscription_item_missing", "streams": (), "stripe": None},
        (
            "subscription_item_missing",
            "10",
            (
                "The mapping's price has no meter, and the customer no subscription "
                "item of that price; name the subscription with PUT "
                "/v1/customers/{ref}."
            ),
        ),
    ),
    (with_push(), ("in_flight", "4", f"Push {PUSH} of 4 is under way.")),
    (with_push(last_error="500"), ("in_flight", "4", f"Push {PUSH} of 4 is under way (500).")),
    (
        with_push(state=PushState.UNKNOWN, last_error="timeout"),
        (
            "unknown_outcome",
            "4",
            (
                f"Nobody knows whether push {PUSH} of 4 counted (timeout); its minute "
                "will be looked up at Stripe."
            ),
        ),
    ),
    (
        {"streams": [replace(TOLD, accepted=7)], "stripe": Reading(Decimal(7), NOON)},
        ("awaiting_push", "3", "3 wait for the writer's next run."),
    ),
    (
        {
            "streams": [
                replace(
                    TOLD, accepted=7, stopped=Stop("refused", "No such customer", NOON, NOON + HOUR)
                )
            ],
            "stripe": Reading(Decimal(7), NOON),
        },
        ("refused", "3", "Stripe was not told 3: No such customer"),
    ),
    (
        {
            "streams": [replace(TOLD, accepted=7)],
            "stripe": Reading(Decimal(7), NOON),
            "held": "scale_changed",
        },
        ("held", "3", "The writer holds back 3: scale_changed."),
    ),
    (
        {"invoice": InvoiceNumber("in_1", Decimal(9), is_final=True)},
        ("invoice_differs", "1", "Invoice in_1 bills 9, Stripe was told 10."),
    ),
    (
        {"invoice": InvoiceNumber("in_1", Decimal(9), is_final=False)},
        (
            "line_lags",
            "1",
            "Invoice in_1 bills 9, Stripe was told 10; the lines of a draft may lag.",
        ),
    ),
    ({"close": TRIAL}, ("trial", "10", "The period lay in a trial: the 10 told are not billed.")),
    (
        {"streams": [CANCELLED]},
        (
            "compensated",
            "-7",
            (
                "Stripe's total was changed by -7 to cancel what others wrote (approved "
                "last by api:bob: a script)."
            ),
        ),
    ),
    (
        {"streams": [replace(CANCELLED, compensated=0)]},
        (
            "compensated",
            "0",
            (
                "Stripe's total was changed by 0 to cancel what others wrote (approved "
                "last by api:bob: a script). Another -7 is approved and on its way."
            ),
        ),
    ),
    (
        {"recounted_at": NOON, "recount_mark": "other"},
        (
            "recounted_earlier",
            "0",
            (
                "The ledger agreed with the counter at 2026-11-20T12:00:00.000Z; what "
                "was counted since is recounted by a later run."
            ),
        ),
    ),
    (
        {
            "standing": Decimal(3),
            "usage": NO_USAGE,
            "ledger": Recount(),
            "streams": [replace(TOLD, accepted=3)],
            "stripe": Reading(Decimal(3), NOON),
        },
        ("standing", "3", "The last value of an earlier period, 3, stands here."),
    ),
    (
        {
            "streams": [
                replace(
                    TOLD,
                    accepted=15,
                    carried_in=(
                        Carry(datetime(2026, 10, 1, tzinfo=UTC), Decimal(2)),
                        Carry(datetime(2026, 9, 1, tzinfo=UTC), Decimal(3)),
                    ),
                )
            ],
            "stripe": Reading(Decimal(15), NOON),
        },
        (
            "carried_in",
            "5",
            "5 belong to closed periods (2026-09-01, 2026-10-01) and are told here.",
        ),
    ),
    (
        {
            "scale": 0,
            "usage": total(map(usage_of, [*OLD, HALF])),
            "ledger": recount([*OLD, HALF], NOON),
        },
        ("remainder", "0.5", "0.5 is less than Stripe is told in; the next push carries it."),
    ),
    (
        {"usage": total(map(usage_of, [*OLD, LATE])), "ledger": recount([*OLD, LATE], NOON)},
        ("late_held", "3", "3 of 1 late events await approval."),
    ),
    (
        {"stripe": Reading(Decimal(7), NOON)},
        ("lost_push", "3", "Stripe accepted 3 that its summary does not hold."),
    ),
    (
        {"stripe": Reading(Decimal(12), NOON)},
        (
            "foreign_writer",
            "-2",
            (
                "Stripe's summary holds 2 that this system never sent; look for other "
                "writers to the meter."
            ),
        ),
    ),
    ({"stripe": None}, ("not_read", "0", "Stripe's summary was not read in this run.")),
]


@pytest.mark.parametrize(
    ("changes", "finding"),
    CASES,
)
def test_a_finding_is_told_in_these_words(
    changes: dict[str, Any], finding: tuple[str, str, str]
) -> None:
    assert found(**changes) == [finding]


def test_usage_without_a_way_to_stripe_that_was_told_before_is_named_though_nothing_differs() -> (
    None
):
    assert found(no_route="unmapped", stripe=None)[0][:2] == ("unmapped", "0")
    assert (
        found(no_route="unmapped", usage=NO_USAGE, ledger=Recount(), streams=(), stripe=None) == []
    )


def test_a_cancelled_total_below_zero_and_one_of_a_trial_are_told_together() -> None:
    below = replace(TOLD, accepted=-4, carried_in=(Carry(NOVEMBER.start, Decimal(-14)),))

    told = found(streams=[below], stripe=Reading(Decimal(-4), NOON), close=TRIAL)

    assert told[0] == (
        "negative_total",
        "-4",
        "Stripe was told -4 in all: it bills 0 for that, and carries nothing over.",
    )
    assert told[1][0] == "trial"


def test_a_stop_that_is_over_says_nothing_of_why_usage_waits() -> None:
    stop = Stop("refused", "No such customer", NOON - 2 * HOUR, NOON)
    streams = [replace(TOLD, accepted=7, stopped=stop)]

    assert found(streams=streams, stripe=Reading(Decimal(7), NOON))[0][0] == "awaiting_push"
    after = NOVEMBER.end + HOUR
    stopped = replace(stop, until=after + HOUR)
    late = [replace(TOLD, accepted=7, stopped=stopped)]
    assert found(after, streams=late, stripe=Reading(Decimal(7), after))[0][0] == "late_after_close"


def test_a_row_keeps_all_numbers_that_were_compared() -> None:
    facts = replace(
        AGREED,
        subscription_item_id="si_1",
        stripe=Reading(Decimal(7), NOON - HOUR, told=Decimal(7)),
        invoice=InvoiceNumber("in_1", Decimal(10), is_final=True),
        recounted_at=NOON - HOUR,
        recount_mark=mark_of(AGREED.usage),
    )

    row = compare(facts, NOON)

    assert (row.counter, row.period, row.subscription_item_id) == (KEY.counter, NOVEMBER, "si_1")
    assert [row.ledger, row.counted, row.pushed, row.stripe] == [10, 10, 10, 7]
    assert row.stripe_read_at == NOON - HOUR
    assert row.told_at_reading == 7
    assert (row.invoice, row.recounted_at) == (facts.invoice, NOON - HOUR)
    assert row.usage_mark == mark_of(AGREED.usage)
    assert compare(replace(AGREED, stripe=SEEN), NOON).told_at_reading == 10
    assert compare(replace(AGREED, stripe=None), NOON).told_at_reading is None


# --- the ledger's number --------------------------------------------------------------------------


def test_an_entry_must_be_counted_a_quarter_of_an_hour_after_its_receipt() -> None:
    at_last = an_entry("1", received_at=NOON - 15 * MINUTE)
    soon = an_entry("1", received_at=NOON - 15 * MINUTE + timedelta(microseconds=1))

    assert recount([at_last, soon], NOON) == Recount(total(map(usage_of, [at_last, soon])), 1)


def test_a_recount_that_agrees_is_remembered_and_one_that_does_not_is_not() -> None:
    usage = total(map(usage_of, OLD))
    count = recount(OLD, NOON)

    assert recounted(count, usage, NOON) == Recounted(count, NOON, mark_of(usage))
    assert recounted(count, NO_USAGE, NOON) == Recounted(count, None, "")
    assert recount_kept(usage) == Recount(usage, 2)


def test_a_counter_that_changed_shows_another_mark() -> None:
    usage = total(map(usage_of, OLD))

    assert mark_of(usage) == mark_of(total(map(usage_of, reversed(OLD))))
    assert mark_of(usage) != mark_of(usage + usage_of(an_entry("1")))
    assert mark_of(Usage()) == "7e0ab4c5f262d72e"


def test_of_last_values_the_newest_that_was_told_counts() -> None:
    last = replace(TOLD, kind=StreamKind.LAST, accepted_at=NOON)
    older = replace(last, accepted=99, accepted_at=NOON - HOUR)
    never = replace(last, accepted=5, accepted_at=None)

    assert pushed_by([older, last, never]) == 10
    assert pushed_by([last, TOLD]) == 20
    assert pushed_by([]) == exact_sum([]) == 0
    assert exact_sum([Decimal(10**37), Decimal(1)]) == 10**37 + 1


def test_recent_pushes_and_closed_periods_are_told_by_the_present_instant() -> None:
    after = NOVEMBER.end + 2 * HOUR
    closing = PeriodClose(
        KEY.counter.tenant,
        KEY.counter.customer,
        NOVEMBER,
        PeriodState.CLOSING,
        NOVEMBER.end,
        finalizes_at=NOVEMBER.end + 9 * HOUR,
    )
    behind = {"streams": [replace(TOLD, accepted=7)], "stripe": Reading(Decimal(7), after)}

    assert found(after, **behind)[0][0] == "late_after_close"
    assert found(after, **behind, close=closing)[0][0] == "awaiting_push"


def test_a_counter_with_as_many_entries_as_the_ledger_and_another_sum_is_wrong() -> None:
    swapped = total(map(usage_of, [OLD[0], an_entry("7", received_at=NOON - HOUR)]))

    assert found(usage=swapped)[0][:2] == ("counter_wrong", "-1")


def test_a_counter_that_has_not_changed_since_its_recount_needs_no_note() -> None:
    assert found(recounted_at=NOON, recount_mark=mark_of(AGREED.usage)) == []
