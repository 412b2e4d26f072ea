"""Comparing the numbers of one counter and billing period, and naming why they differ.

They are read in the order Stripe, pushes, counter, ledger. What happens meanwhile can then only
make a later number run ahead, and that is what the causes explain that pass by themselves.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from metering import late_findings, times
from metering.facts import (
    SETTLED_AFTER,
    ZERO,
    Facts,
    exact_sum,
    mark_of,
)
from metering.period_close import takes_usage_until
from metering.push import (
    PushState,
    PushStream,
    is_stopped,
    quantity_of,
)
from metering.quantity import EXACT, canonical
from metering.reconciliation import (
    NOTES,
    WRONG_WHATEVER_THE_AMOUNT,
    Cause,
    Finding,
    Row,
    Status,
)
from metering.stripe_findings import between_pushes_and_stripe, open_quantity


def compare(facts: Facts, now: datetime, *, epsilon: Decimal = ZERO) -> Row:
    """The row of a counter and period: ok only when all its numbers agree.

    What Stripe cannot be told (less than a scaled unit) and what awaits approval is noted, and is
    no difference. `epsilon`, in the metric's unit, is how large a difference may be to be ok.
    """
    findings = (
        *_between_ledger_and_counter(facts),
        *_between_counter_and_pushes(facts, now),
        *between_pushes_and_stripe(facts, now),
        *_between_pushes_and_invoice(facts),
        *facts.inventory,
        *_notes(facts),
    )
    stripe = facts.stripe
    told = stripe.told if stripe and stripe.told is not None else facts.pushed
    return Row(
        counter=facts.counter,
        period=facts.period,
        subscription_item_id=facts.subscription_item_id,
        ledger=facts.recounted,
        counted=facts.counted,
        pushed=facts.pushed,
        stripe=stripe.total if stripe else None,
        stripe_read_at=stripe.read_at if stripe else None,
        findings=findings,
        status=_status(findings, epsilon),
        invoice=facts.invoice,
        told_at_reading=told if stripe else None,
        recounted_at=facts.recounted_at,
        usage_mark=facts.recount_mark,
    )


def _status(findings: Iterable[Finding], epsilon: Decimal) -> Status:
    differences = [one for one in findings if not _is_fine(one, epsilon)]
    if not differences:
        return Status.OK
    is_settled = all(one.is_settled for one in differences)
    return Status.RESOLVED if is_settled else Status.INVESTIGATE


def _is_fine(finding: Finding, epsilon: Decimal) -> bool:
    if finding.cause in NOTES:
        return True
    return finding.cause not in WRONG_WHATEVER_THE_AMOUNT and abs(finding.amount) <= epsilon


# --- ledger and counter ---------------------------------------------------------------------------


def _between_ledger_and_counter(facts: Facts) -> Iterator[Finding]:
    amount = facts.recounted - facts.counted
    counted, recounted = facts.usage.entries, facts.ledger.usage.entries
    if amount == 0 and counted == recounted:
        return
    if facts.ledger.settled <= counted < recounted:
        text = (
            f"{recounted - counted} events of the last {SETTLED_AFTER // timedelta(minutes=1)}"
            " minutes are not in the counter yet; the aggregator is on it."
        )
        yield Finding(Cause.COUNTER_BEHIND, amount, text)
        return
    text = (
        f"The counter holds {canonical(facts.counted)} of {counted} events, the ledger"
        f" {canonical(facts.recounted)} of {recounted}; rebuild the tenant's counters."
    )
    yield Finding(Cause.COUNTER_WRONG, amount, text)


# --- counter and pushes ---------------------------------------------------------------------------


def _between_counter_and_pushes(facts: Facts, now: datetime) -> Iterator[Finding]:
    if facts.no_route:
        amount = EXACT.subtract(facts.counted, facts.pushed)
        if amount or facts.pushed:
            yield Finding(Cause(facts.no_route), amount, _NO_ROUTE_TEXTS[facts.no_route])
        return
    amount = EXACT.subtract(facts.tellable, facts.pushed)
    pushes = [one for one in facts.streams if one.open and not one.open.is_correction]
    yield from (_open_push(stream) for stream in pushes)
    rest = EXACT.subtract(amount, exact_sum(map(open_quantity, pushes)))
    yield from late_findings.told_later(facts)
    rest = EXACT.subtract(rest, late_findings.told_later_in_all(facts))
    if rest != 0:
        yield _not_told(facts, rest, now)


_NO_ROUTE_TEXTS = {
    "unmapped": "The metric has no active mapping, so its usage is counted and not told to Stripe.",
    "no_stripe_customer": "Nobody said which Stripe customer this is; PUT /v1/customers/{ref}.",
    "no_meter": "The mapping names no Billing Meter; give its meterId and meterEventName.",
    "subscription_item_missing": (
        "The mapping's price has no meter, and the customer no subscription item of that price;"
        " name the subscription with PUT /v1/customers/{ref}."
    ),
}


def _open_push(stream: PushStream) -> Finding:
    push = stream.open
    assert push is not None
    amount = open_quantity(stream)
    if push.state is PushState.UNKNOWN:
        text = (
            f"Nobody knows whether push {push.identifier} of {canonical(amount)} counted"
            f" ({push.last_error}); its minute will be looked up at Stripe."
        )
        return Finding(Cause.UNKNOWN_OUTCOME, amount, text)
    trouble = f" ({push.last_error})" if push.last_error else ""
    text = f"Push {push.identifier} of {canonical(amount)} is under way{trouble}."
    return Finding(Cause.IN_FLIGHT, amount, text)


def _not_told(facts: Facts, amount: Decimal, now: datetime) -> Finding:
    stops = [one.stopped for one in facts.streams if one.stopped and is_stopped(one, now)]
    is_over = now >= takes_usage_until(facts.period, facts.close)
    if stops and not is_over:
        text = f"Stripe was not told {canonical(amount)}: {stops[0].message}"
        return Finding(Cause.REFUSED, amount, text)
    if facts.held:
        text = f"The writer holds back {canonical(amount)}: {facts.held}."
        return Finding(Cause.HELD, amount, text)
    if is_over:
        return late_findings.not_told(facts, amount, now)
    text = f"{canonical(amount)} wait for the writer's next run."
    return Finding(Cause.AWAITING_PUSH, amount, text)


# --- pushes and the invoice -----------------------------------------------------------------------


def _between_pushes_and_invoice(facts: Facts) -> Iterator[Finding]:
    if facts.pushed < 0:
        text = (
            f"Stripe was told {canonical(facts.pushed)} in all: it bills 0 for that, and carries"
            " nothing over."
        )
        yield Finding(Cause.NEGATIVE_TOTAL, facts.pushed, text)
    if facts.close is not None and facts.close.is_trial:
        text = f"The period lay in a trial: the {canonical(facts.pushed)} told are not billed."
        yield Finding(Cause.TRIAL, facts.pushed, text)
        return
    if facts.invoice is None:
        return
    # What is below zero is billed as 0.
    amount = EXACT.subtract(max(facts.pushed, ZERO), facts.invoice.quantity)
    if amount == 0:
        return
    billed = (
        f"Invoice {facts.invoice.invoice} bills {canonical(facts.invoice.quantity)}, Stripe was"
        f" told {canonical(facts.pushed)}"
    )
    if facts.invoice.is_final:
        yield Finding(Cause.INVOICE_DIFFERS, amount, f"{billed}.")
    else:
        yield Finding(Cause.LINE_LAGS, amount, f"{billed}; the lines of a draft may lag.")


def _corrected(stream: PushStream) -> Finding:
    amount = quantity_of(stream.compensated, stream.scale)
    last = stream.corrections[-1]
    text = (
        f"Stripe's total was changed by {canonical(amount)} to cancel what others wrote (approved"
        f" last by {last.approved_by}: {last.reason})."
    )
    due = quantity_of(stream.correction_due, stream.scale)
    if due:
        text += f" Another {canonical(due)} is approved and on its way."
    return Finding(Cause.COMPENSATED, amount, text)


# --- notes ----------------------------------------------------------------------------------------


def _notes(facts: Facts) -> Iterator[Finding]:
    if facts.recounted_at is not None and facts.recount_mark != mark_of(facts.usage):
        text = (
            f"The ledger agreed with the counter at {times.to_iso_ms(facts.recounted_at)}; what was"
            " counted since is recounted by a later run."
        )
        yield Finding(Cause.RECOUNTED_EARLIER, ZERO, text)
    remainder = EXACT.subtract(facts.due, facts.tellable)
    if remainder and not facts.no_route:
        text = f"{canonical(remainder)} is less than Stripe is told in; the next push carries it."
        yield Finding(Cause.REMAINDER, remainder, text)
    held = facts.ledger.usage.late_value(facts.aggregation)
    if held:
        count = facts.ledger.usage.late.count
        text = f"{canonical(held)} of {count} late events await approval."
        yield Finding(Cause.LATE_HELD, held, text)
    yield from (_corrected(stream) for stream in facts.streams if stream.corrections)
    if facts.standing:
        text = f"The last value of an earlier period, {canonical(facts.standing)}, stands here."
        yield Finding(Cause.STANDING, facts.standing, text)
    if facts.carried_in:
        starts = sorted({carry.from_period for one in facts.streams for carry in one.carried_in})
        periods = ", ".join(f"{start:%Y-%m-%d}" for start in starts)
        text = (
            f"{canonical(facts.carried_in)} belong to closed periods ({periods}) and are told here."
        )
        yield Finding(Cause.CARRIED_IN, facts.carried_in, text)
