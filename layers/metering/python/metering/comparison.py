"""Comparing the numbers of one counter and billing period, and naming why they differ.

They are read in the order Stripe, pushes, counter, ledger. What happens meanwhile can then only
make a later number run ahead, and that is what the causes explain that pass by themselves.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from metering.counter import EMPTY, NO_USAGE, Aggregation, CounterKey, Tally, Usage, tally_of
from metering.event import LedgerEntry
from metering.period import Span
from metering.push import Push, PushState, PushStream, is_closed, is_stopped, quantity_of, wanted
from metering.quantity import EXACT, canonical
from metering.reconciliation import NOTES, Cause, Finding, Row, Status

SETTLED_AFTER = timedelta(minutes=15)
"""From the receipt of an event to when it must be in its counter, whatever the traffic."""
SUMMARY_LAG = timedelta(minutes=30)
"""From Stripe's answer to when an event must be in its summary; Stripe publishes no figure."""
ZERO = Decimal(0)


@dataclass(slots=True)
class Recount:
    """What the ledger's entries of one counter and period add up to."""

    counted: Tally = EMPTY
    late: Tally = EMPTY
    settled: int = 0
    """How many of the counted entries must have reached the counter by now."""

    def add(self, entry: LedgerEntry, now: datetime) -> None:
        """Count one more entry."""
        if entry.is_late:
            self.late += tally_of(entry.event)
            return
        self.counted += tally_of(entry.event)
        self.settled += entry.received_at <= now - SETTLED_AFTER


def recount(entries: Iterable[LedgerEntry], now: datetime) -> Recount:
    """What entries of one counter and period add up to."""
    sums = Recount()
    for entry in entries:
        sums.add(entry, now)
    return sums


@dataclass(frozen=True, slots=True)
class Reading:
    """A counter's part of what Stripe has summed up, in the metric's unit."""

    total: Decimal
    read_at: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """All that is known of one counter and billing period."""

    counter: CounterKey
    period: Span
    aggregation: Aggregation
    ledger: Recount
    usage: Usage = NO_USAGE
    """What the counter holds."""
    scale: int = 0
    """Of the mapping: Stripe is told whole units of 10^-scale."""
    streams: Sequence[PushStream] = ()
    no_route: str = ""
    """Why its usage is not told to Stripe (a `NoRoute`)."""
    held: str = ""
    """Why the writer holds it back (a `Held`)."""
    stripe: Reading | None = None
    recent: Sequence[Push] = ()
    """Pushes that were accepted less than `SUMMARY_LAG` before Stripe was read."""
    subscription_item_id: str = ""

    @property
    def counted(self) -> Decimal:
        """The counter's number."""
        return self.usage.counted.value(self.aggregation)

    @property
    def recounted(self) -> Decimal:
        """The ledger's number."""
        return self.ledger.counted.value(self.aggregation)

    @property
    def pushed(self) -> Decimal:
        """What Stripe has accepted."""
        return sum((stream.accepted_quantity for stream in self.streams), ZERO)

    @property
    def tellable(self) -> Decimal:
        """What Stripe should have been told of the counter's number."""
        return quantity_of(wanted(self.counted, self.scale), self.scale)


def compare(facts: Facts, now: datetime, *, epsilon: Decimal = ZERO) -> Row:
    """The row of a counter and period: ok only when all its numbers agree.

    What Stripe cannot be told (less than a scaled unit) and what awaits approval is noted, and is
    no difference. `epsilon`, in the metric's unit, is how large a difference may be to be ok.
    """
    findings = (
        *_between_ledger_and_counter(facts),
        *_between_counter_and_pushes(facts, now),
        *_between_pushes_and_stripe(facts),
        *_notes(facts),
    )
    return Row(
        counter=facts.counter,
        period=facts.period,
        subscription_item_id=facts.subscription_item_id,
        ledger=facts.recounted,
        counted=facts.counted,
        pushed=facts.pushed,
        stripe=facts.stripe.total if facts.stripe else None,
        stripe_read_at=facts.stripe.read_at if facts.stripe else None,
        findings=findings,
        status=Status.OK if all(_is_fine(one, epsilon) for one in findings) else Status.INVESTIGATE,
    )


def _is_fine(finding: Finding, epsilon: Decimal) -> bool:
    if finding.cause in NOTES:
        return True
    return finding.cause is not Cause.NOT_READ and abs(finding.amount) <= epsilon


# --- ledger and counter ---------------------------------------------------------------------------


def _between_ledger_and_counter(facts: Facts) -> Iterator[Finding]:
    amount = facts.recounted - facts.counted
    counted, recounted = facts.usage.counted.count, facts.ledger.counted.count
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
    pushes = [stream for stream in facts.streams if stream.open is not None]
    yield from (_open_push(stream) for stream in pushes)
    rest = amount - sum((_open_quantity(stream) for stream in pushes), ZERO)
    if rest != 0:
        yield _not_told(facts, rest, now)


_NO_ROUTE_TEXTS = {
    "unmapped": "The metric has no active mapping, so its usage is counted and not told to Stripe.",
    "no_stripe_customer": "Nobody said which Stripe customer this is; PUT /v1/customers/{ref}.",
    "no_meter": "The mapping names no Billing Meter; give its meterId and meterEventName.",
    "last_not_pushed_yet": "The last value needs a `last` meter, which is not pushed to yet.",
}


def _open_quantity(stream: PushStream) -> Decimal:
    return quantity_of(stream.open.delta, stream.scale) if stream.open else ZERO


def _open_push(stream: PushStream) -> Finding:
    push = stream.open
    assert push is not None
    amount = _open_quantity(stream)
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
    if stops:
        text = f"Stripe was not told {canonical(amount)}: {stops[0].message}"
        return Finding(Cause.REFUSED, amount, text)
    if facts.held:
        text = f"The writer holds back {canonical(amount)}: {facts.held}."
        return Finding(Cause.HELD, amount, text)
    if is_closed(facts.period, now):
        text = f"{canonical(amount)} were counted after the period's invoice was closed."
        return Finding(Cause.LATE_AFTER_CLOSE, amount, text)
    text = f"{canonical(amount)} wait for the writer's next run."
    return Finding(Cause.AWAITING_PUSH, amount, text)


# --- pushes and Stripe ----------------------------------------------------------------------------


def _between_pushes_and_stripe(facts: Facts) -> Iterator[Finding]:
    if facts.stripe is None:
        if facts.streams:
            yield Finding(Cause.NOT_READ, ZERO, "Stripe's summary was not read in this run.")
        return
    amount = EXACT.subtract(facts.pushed, facts.stripe.total)
    if amount == 0 or _arrived(facts, -amount):
        return
    if _may_lag(facts, amount):
        text = f"{canonical(amount)} of the last pushes are not in Stripe's summary yet."
        yield Finding(Cause.STRIPE_LAG, amount, text)
    elif amount > 0:
        text = f"Stripe accepted {canonical(amount)} that its summary does not hold."
        yield Finding(Cause.LOST_PUSH, amount, text)
    else:
        text = (
            f"Stripe's summary holds {canonical(-amount)} that this system never sent; look for"
            " other writers to the meter."
        )
        yield Finding(Cause.FOREIGN_WRITER, amount, text)


def _arrived(facts: Facts, surplus: Decimal) -> bool:
    """Whether Stripe is ahead by exactly the open pushes that may have reached it."""
    sent = [stream for stream in facts.streams if stream.open and stream.open.attempts]
    return bool(sent) and surplus == sum((_open_quantity(stream) for stream in sent), ZERO)


def _may_lag(facts: Facts, missing: Decimal) -> bool:
    """Whether the pushes of the last minutes can explain what is missing."""
    scales = {stream.key.id: stream.scale for stream in facts.streams}
    deltas = [quantity_of(push.delta, scales[_stream_id(push)]) for push in facts.recent]
    lowest = sum((delta for delta in deltas if delta < 0), ZERO)
    highest = sum((delta for delta in deltas if delta > 0), ZERO)
    return lowest <= missing <= highest


def _stream_id(push: Push) -> str:
    return push.identifier.split(".")[1]


# --- notes ----------------------------------------------------------------------------------------


def _notes(facts: Facts) -> Iterator[Finding]:
    remainder = EXACT.subtract(facts.counted, facts.tellable)
    if remainder and not facts.no_route:
        text = f"{canonical(remainder)} is less than Stripe is told in; the next push carries it."
        yield Finding(Cause.REMAINDER, remainder, text)
    held = facts.ledger.late.value(facts.aggregation)
    if held:
        text = f"{canonical(held)} of {facts.ledger.late.count} late events await approval."
        yield Finding(Cause.LATE_HELD, held, text)
