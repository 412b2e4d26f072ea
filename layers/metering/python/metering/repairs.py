"""What a reconciliation puts right by itself, and what it proposes to people.

Only one thing is safe to repair: a push that Stripe took and did not count, proven by two looks at
its own minute an hour apart, is taken back, so that its delta goes out under a new number, or its
value is set again under one. Nothing is told into a period that is closed, and nothing is ever sent
to undo what others wrote: both are proposed, and a person decides.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from metering.errors import RetryableError
from metering.evidence import MinuteSeen
from metering.facts import SUMMARY_LAG, Facts
from metering.names import Identifier
from metering.period_close import takes_usage_until
from metering.ports import Change, Pushes
from metering.push import (
    Push,
    PushState,
    PushStream,
    StreamKind,
    is_superseded,
    quantity_of,
    reject_async,
)
from metering.quantity import canonical
from metering.reconciliation import Cause, Finding, Proposal, Repair, Row, Status
from metering.recut import total_of
from metering.stripe_findings import is_confirmed, missing_at_stripe

log = logging.getLogger("metering.reconciler")


class Repairs:
    """The repairs of one run."""

    def __init__(self, pushes: Pushes, now: datetime) -> None:
        self._pushes = pushes
        self._now = now

    # --- what is missing ---

    def take_back(self, facts: Iterable[Facts]) -> list[Repair]:
        """Take back each push that was proven not to have counted, in periods that are open."""
        return [repair for one in facts for repair in self._of(one)]

    def _of(self, facts: Facts) -> Iterator[Repair]:
        if self._now >= takes_usage_until(facts.period, facts.close):
            return
        for one in facts.evidence.minutes if facts.evidence else ():
            if not self._is_proven(facts, one):
                continue
            try:
                repair = self._reject(facts, one)
            except RetryableError as error:
                log.warning("a push of %s is taken back later: %s", facts.counter, error)
                continue
            if repair is not None:
                yield repair

    def _is_proven(self, facts: Facts, one: MinuteSeen) -> bool:
        if one.told is None or not one.is_absent:
            return False
        name = one.told.push.identifier
        first = facts.evidence.first_looks.get(name) if facts.evidence else None
        return is_confirmed(first, self._now)

    def _reject(self, facts: Facts, one: MinuteSeen) -> Repair | None:
        """None when the stream or the push is not as it was when Stripe was looked at."""
        assert one.told is not None
        stream = self._stream(facts, one.told.stream_id)
        pushes = self._pushes.history(stream) if stream else []
        push = _taken(pushes, one.told.push.identifier)
        if stream is None or push is None or is_superseded(stream, push):
            return None
        error = facts.reported.get(push.identifier, "not in its minute on two looks an hour apart")
        before = _value_without(push, stream, pushes)
        stored = self._pushes.store(*reject_async(stream, push, self._now, error, before=before))
        if stored is None:
            return None
        amount = quantity_of(one.effect, stream.scale)
        text = _taken_back(stream, push, error)
        log.warning("%s", text)
        return Repair(
            facts.counter, facts.period, Cause.ASYNC_REJECTED, amount, push.identifier, text
        )

    def _stream(self, facts: Facts, stream_id: str) -> PushStream | None:
        streams = self._pushes.streams(facts.counter, facts.period)
        return next((one for one in streams if one.key.id == stream_id), None)

    # --- what is there ---

    def note_counted(self, facts: Iterable[Facts]) -> int:
        """Note of each stream whose total agrees which pushes Stripe has counted; how many."""
        changes = [Change(stream) for one in facts for stream in self._verified(one)]
        try:
            stored = self._pushes.store_all(changes)
        except RetryableError as error:
            log.warning("what was seen at Stripe is noted by a later run: %s", error)
            return 0
        return sum(one is not None for one in stored)

    def _verified(self, facts: Facts) -> Iterator[PushStream]:
        if facts.stripe is None or facts.stripe.told is not None or missing_at_stripe(facts) != 0:
            return
        for stream in facts.streams:
            last = stream.next_seq - 1
            is_old = stream.accepted_at and stream.accepted_at <= self._now - SUMMARY_LAG
            if is_old and stream.open is None and stream.counted_seq < last:
                yield replace(stream, counted_seq=last)


def _taken(pushes: Iterable[Push], name: Identifier) -> Push | None:
    taken = (PushState.ACCEPTED, PushState.COUNTED)
    return next((one for one in pushes if one.identifier == name and one.state in taken), None)


def _value_without(push: Push, stream: PushStream, pushes: Iterable[Push]) -> int | None:
    """What a stream whose values are set stands at without a push; None where deltas add up."""
    if stream.kind is StreamKind.DELTA:
        return None
    return total_of(stream.kind, [one for one in pushes if one.identifier != push.identifier])


def _taken_back(stream: PushStream, push: Push, error: str) -> str:
    value = canonical(quantity_of(int(push.value), stream.scale))
    if stream.kind is StreamKind.DELTA:
        what, again = f"{push.identifier} of {value}", "the amount is told again"
    else:
        what, again = f"{push.identifier}, which set {value},", "what is counted by now is set"
    return f"Push {what} was taken back ({error}); {again} under a new number."


# --- what people could do -------------------------------------------------------------------------


_ADVICE = {
    Cause.FOREIGN_WRITER: (
        "find and stop the other writer to the meter, then have the amount cancelled:"
        " POST /v1/reconciliation/corrections, while the period is open"
    ),
    Cause.DUPLICATE: (
        "have the amount cancelled while the period is open: POST /v1/reconciliation/corrections,"
        " or credit it afterwards"
    ),
    Cause.CLOCK_SHIFTED: (
        "check the clocks; move the amount to the period it belongs to by one negative and one"
        " positive meter event while both are open, or credit it afterwards"
    ),
    Cause.INVOICE_DIFFERS: "correct the customer's bill by a credit note or an invoice item",
    Cause.NEGATIVE_TOTAL: "credit the amount to the customer; Stripe carries nothing over",
}
_CLOSED_ADVICE = {
    Cause.LOST_PUSH: "bill the amount by an invoice item: its period is closed",
    Cause.ASYNC_REJECTED: "bill the amount by an invoice item: its period is closed",
}


def proposals_for(rows: Iterable[Row], closed: Sequence[Row]) -> list[Proposal]:
    """What a person could do about the rows' differences; `closed` are rows of closed periods."""
    names = {(row.counter, row.period) for row in closed}
    return [
        Proposal(row.counter, row.period, finding.cause, finding.amount, _advice_text(finding, how))
        for row in rows
        for finding in row.findings
        if (how := _advice(finding, is_closed=(row.counter, row.period) in names))
        and row.status is not Status.RESOLVED
    ]


def _advice(finding: Finding, *, is_closed: bool) -> str:
    how = _ADVICE.get(finding.cause, "")
    return how or (_CLOSED_ADVICE.get(finding.cause, "") if is_closed else "")


def _advice_text(finding: Finding, how: str) -> str:
    return f"{finding.explanation} To put it right: {how}."
