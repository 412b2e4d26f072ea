"""What became of usage that was counted after its period's invoice was closed."""

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

from metering.counter import Aggregation
from metering.facts import Facts, exact_sum
from metering.invoice_item import InvoiceItem
from metering.period_close import PeriodState
from metering.push import PushStream, Stop, StreamKind, is_stopped, quantity_of
from metering.quantity import canonical
from metering.reconciliation import Cause, Finding
from metering.tenant_settings import AfterClose


def told_later(facts: Facts) -> Iterator[Finding]:
    """What later periods tell, and invoice items bill, of this one."""
    if facts.carried_out:
        yield _carried_out(facts.carried_out)
    for stream in facts.of_all_lives:
        if stream.billed_apart or stream.items:
            yield _billed_apart(stream)
        if stream.item is not None:
            yield _on_its_way(stream, stream.item)


def _carried_out(amount: Decimal) -> Finding:
    text = (
        f"{canonical(amount)} were counted after the period's invoice was closed, and are told in"
        " a later period instead (policy carry_forward)."
    )
    return Finding(Cause.LATE_AFTER_CLOSE, amount, text, is_settled=True)


def _billed_apart(stream: PushStream) -> Finding:
    amount = stream.billed_apart
    named = ", ".join(f"{item.stripe_id} of {_money(item)}" for item in stream.items)
    text = (
        f"{canonical(amount)} were counted after the period's invoice was closed, and are billed"
        f" apart instead (policy invoice_item): {named}."
    )
    return Finding(Cause.LATE_AFTER_CLOSE, amount, text, is_settled=True)


def _on_its_way(stream: PushStream, item: InvoiceItem) -> Finding:
    amount = quantity_of(item.units, stream.scale)
    trouble = f" ({item.last_error})" if item.last_error else ""
    text = (
        f"{canonical(amount)} were counted after the period's invoice was closed; invoice item"
        f" {item.id} of {_money(item)} is under way{trouble}."
    )
    return Finding(Cause.LATE_AFTER_CLOSE, amount, text)


def _money(item: InvoiceItem) -> str:
    return f"{item.amount} {item.currency} (smallest unit)"


def not_told(facts: Facts, amount: Decimal, now: datetime) -> Finding:
    """What nothing was done about yet, or nothing will be."""
    policy = facts.after_close
    if not _adds_up(facts):
        policy = AfterClose.UNBILLED
    stop = next(filter(None, (_stop(one, now) for one in facts.streams)), None)
    outlook, is_settled = _TEXTS[policy], policy is AfterClose.UNBILLED
    if facts.close is not None and facts.close.is_trial:
        outlook, is_settled = "and are not billed: the period lay in a trial.", True
    elif policy is AfterClose.INVOICE_ITEM and stop is not None:
        outlook = f"and cannot be billed apart: {stop.message}."
    elif policy is AfterClose.INVOICE_ITEM and _has_no_invoice(facts):
        outlook, is_settled = _NO_INVOICE, True
    text = f"{canonical(amount)} were counted after the period's invoice was closed {outlook}"
    return Finding(Cause.LATE_AFTER_CLOSE, amount, text, is_settled=is_settled)


def _adds_up(facts: Facts) -> bool:
    """Only what adds up can be told in another period, or priced as more of the same.

    A last value that came after the close may have no stream: nothing of its period was ever told.
    """
    kinds = {stream.kind for stream in facts.streams}
    return facts.aggregation is not Aggregation.LAST and kinds <= {StreamKind.DELTA}


def _stop(stream: PushStream, now: datetime) -> Stop | None:
    return stream.stopped if is_stopped(stream, now) else None


def _has_no_invoice(facts: Facts) -> bool:
    close = facts.close
    return close is not None and close.state is PeriodState.CLOSED and not close.invoice


_TEXTS = {
    AfterClose.CARRY_FORWARD: "and will be told in the open period by the writer's next run.",
    AfterClose.INVOICE_ITEM: "and will be billed apart by an invoice item, at most one a day.",
    AfterClose.UNBILLED: "and are not billed (policy unbilled, or a value that does not add up).",
}
_NO_INVOICE = "and are not billed: no invoice bills the period, so none was too low by them."


def told_later_in_all(facts: Facts) -> Decimal:
    """How much of the period's usage `told_later` speaks of."""
    return exact_sum(finding.amount for finding in told_later(facts))
