"""What a closing period comes to with each look at it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.close_steps import (
    AFTER_FINALIZATION,
    LOOK_EVERY,
    NO_INVOICE_AFTER,
    Look,
    invoice_of,
    line_trouble,
    step_after,
)
from metering.names import CustomerRef, TenantId
from metering.period import NEVER, Span
from metering.period_close import (
    CLOSE_GRACE,
    PeriodClose,
    PeriodState,
    deadline_of,
    held_from,
    takes_usage_until,
)
from metering.ports import Invoice, InvoiceStatus

START = datetime(2026, 11, 20, 13, 37, 42, tzinfo=UTC)
END = datetime(2026, 12, 20, 13, 37, 42, tzinfo=UTC)
FINAL = END + timedelta(hours=1)
DEADLINE = FINAL - timedelta(minutes=15)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
CLOSE = PeriodClose(
    TenantId("acme"),
    CustomerRef("ann"),
    Span(START, END),
    PeriodState.CLOSING,
    began_at=END,
    subscription="sub_1",
)
TROUBLE = "Stripe's summary of calls holds 10 of the 15 it was told"


def an_invoice(status: InvoiceStatus = InvoiceStatus.DRAFT, **changes: Any) -> Invoice:
    draft = Invoice(
        "in_1",
        "sub_1",
        status,
        "subscription_cycle",
        Span(START, END),
        advances=True,
        finalizes_at=FINAL,
    )
    return replace(draft, **changes)


def a_look(now: datetime, invoice: Invoice | None = None, trouble: str = "") -> Look:
    return Look(now, invoice, trouble)


# --- the deadline ---------------------------------------------------------------------------------


def test_a_draft_takes_usage_until_a_quarter_of_an_hour_before_it_is_final() -> None:
    assert deadline_of(CLOSE.period, FINAL) == DEADLINE
    assert takes_usage_until(CLOSE.period, replace(CLOSE, finalizes_at=FINAL)) == DEADLINE


def test_a_short_grace_leaves_a_quarter_of_it() -> None:
    assert deadline_of(CLOSE.period, END + 20 * MINUTE) == END + 15 * MINUTE
    assert deadline_of(CLOSE.period, END) == END


@pytest.mark.parametrize(
    ("close", "until"),
    [
        (None, END + CLOSE_GRACE),
        (replace(CLOSE, state=PeriodState.OPEN), END + CLOSE_GRACE),
        (CLOSE, END + CLOSE_GRACE),
        (replace(CLOSE, finalizes_at=FINAL, is_held=True), DEADLINE),
        (replace(CLOSE, finalizes_at=NEVER, is_held=True), NEVER),
        (replace(CLOSE, finalizes_at=NEVER), NEVER),
        (replace(CLOSE, state=PeriodState.CLOSED, closed_at=END + SECOND), END + SECOND),
        (replace(CLOSE, state=PeriodState.CLOSED, closed_at=None), END + CLOSE_GRACE),
    ],
)
def test_until_when_a_period_takes_usage(close: PeriodClose | None, until: datetime) -> None:
    assert takes_usage_until(CLOSE.period, close) == until


DRAFT = replace(CLOSE, invoice="in_1", finalizes_at=FINAL)


@pytest.mark.parametrize(
    ("close", "since"),
    [
        (DRAFT, DEADLINE),
        (replace(DRAFT, agreed_at=DEADLINE - SECOND), DEADLINE + 5 * MINUTE),
        (replace(DRAFT, agreed_at=DEADLINE), None),
        (replace(DRAFT, is_held=True), DEADLINE),
        (replace(DRAFT, is_held=True, agreed_at=DEADLINE), DEADLINE),
        (replace(DRAFT, is_held=True, finalizes_at=NEVER), None),
        (replace(DRAFT, finalizes_at=END + 20 * MINUTE), END + 15 * MINUTE),
        (replace(DRAFT, finalizes_at=NEVER), None),
        (replace(DRAFT, finalizes_at=None), None),
        (replace(DRAFT, invoice=""), None),
        (replace(DRAFT, state=PeriodState.CLOSED), None),
        (replace(DRAFT, state=PeriodState.OPEN), None),
    ],
)
def test_a_draft_is_held_first_where_it_is_not_known_in_time_what_it_would_bill(
    close: PeriodClose, since: datetime | None
) -> None:
    assert held_from(close) == since


# --- looks at a draft -----------------------------------------------------------------------------


def test_numbers_that_agree_are_looked_at_again_at_the_deadline() -> None:
    close = step_after(CLOSE, a_look(END + MINUTE, an_invoice()), holds=True).close

    assert (close.agreed_at, close.next_look_at) == (END + MINUTE, DEADLINE)
    assert (close.invoice, close.finalizes_at) == ("in_1", FINAL)


def test_numbers_that_do_not_agree_are_looked_at_again_soon_and_no_later_than_the_deadline() -> (
    None
):
    soon = step_after(CLOSE, a_look(END + MINUTE, an_invoice(), TROUBLE), holds=True)
    late = step_after(CLOSE, a_look(DEADLINE - MINUTE, an_invoice(), TROUBLE), holds=True)

    assert soon.close.next_look_at == END + MINUTE + LOOK_EVERY
    assert late.close.next_look_at == DEADLINE
    assert not soon.hold
    assert not late.hold


def test_at_the_deadline_a_draft_that_does_not_agree_is_held_with_an_alarm() -> None:
    step = step_after(CLOSE, a_look(DEADLINE, an_invoice(), TROUBLE), holds=True)

    assert (step.hold, step.alarm) == (True, f"in_1 is held: {TROUBLE}")
    assert (step.close.is_held, step.close.held_at) == (True, DEADLINE)
    assert step.close.agreed_at is None


def test_a_tenant_may_decide_that_it_is_not_held() -> None:
    step = step_after(CLOSE, a_look(DEADLINE, an_invoice(), TROUBLE), holds=False)

    assert (step.hold, step.close.is_held) == (False, False)
    assert step.alarm == f"in_1 is not held, as was decided: {TROUBLE}"
    assert step.close.next_look_at == FINAL + AFTER_FINALIZATION


def test_a_hold_that_stripe_did_not_hear_of_is_told_again() -> None:
    held = replace(CLOSE, is_held=True, held_at=DEADLINE, invoice="in_1", finalizes_at=FINAL)

    assert step_after(held, a_look(DEADLINE, an_invoice(), TROUBLE), holds=True).hold
    stopped = an_invoice(advances=False, finalizes_at=None)
    assert not step_after(held, a_look(DEADLINE, stopped, TROUBLE), holds=True).hold


def test_a_held_draft_that_agrees_is_released() -> None:
    held = replace(CLOSE, is_held=True, held_at=DEADLINE, invoice="in_1", finalizes_at=FINAL)
    stopped = an_invoice(advances=False, finalizes_at=None)

    step = step_after(held, a_look(FINAL, stopped), holds=True)

    assert (step.release, step.close.agreed_at) == (True, FINAL)


def test_a_release_that_was_not_recorded_is_found() -> None:
    """We died after Stripe heard of it."""
    held = replace(CLOSE, is_held=True, held_at=DEADLINE, invoice="in_1", finalizes_at=FINAL)

    step = step_after(held, a_look(FINAL - MINUTE, an_invoice()), holds=True)

    assert (step.release, step.hold) == (False, False)
    assert (step.close.is_held, step.close.released_at) == (False, FINAL - MINUTE)


def test_a_draft_that_somebody_else_holds_is_never_touched() -> None:
    theirs = an_invoice(advances=False, finalizes_at=None)

    agreed = step_after(CLOSE, a_look(FINAL, theirs), holds=True)
    not_agreed = step_after(CLOSE, a_look(FINAL, theirs, TROUBLE), holds=True)

    assert agreed.close.finalizes_at == not_agreed.close.finalizes_at == NEVER
    assert not any((agreed.hold, agreed.release, not_agreed.hold, not_agreed.release))


# --- the end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [InvoiceStatus.OPEN, InvoiceStatus.PAID, InvoiceStatus.VOID])
def test_a_final_invoice_closes_its_period_whatever_the_numbers(status: InvoiceStatus) -> None:
    held = replace(CLOSE, is_held=True, held_at=DEADLINE)
    final = an_invoice(status, advances=False, finalizes_at=None, finalized_at=FINAL)

    step = step_after(held, a_look(FINAL + MINUTE, final, TROUBLE), holds=True)

    assert (step.close.state, step.close.closed_at) == (PeriodState.CLOSED, FINAL)
    assert (step.close.is_held, step.close.next_look_at) == (False, None)
    assert step.alarm == f"in_1 is final, and {TROUBLE}"


def test_without_a_subscription_a_period_is_closed_an_hour_after_its_end() -> None:
    alone = replace(CLOSE, subscription="")

    waiting = step_after(alone, a_look(END + MINUTE), holds=True).close
    closed = step_after(alone, a_look(END + CLOSE_GRACE + MINUTE), holds=True).close

    assert (waiting.state, waiting.next_look_at) == (PeriodState.CLOSING, END + CLOSE_GRACE)
    assert (closed.state, closed.closed_at) == (PeriodState.CLOSED, END + CLOSE_GRACE)


def test_an_invoice_that_never_comes_is_waited_for_and_then_named() -> None:
    waiting = step_after(CLOSE, a_look(END + 3 * CLOSE_GRACE), holds=True)
    given_up = step_after(CLOSE, a_look(END + NO_INVOICE_AFTER), holds=True)

    assert waiting.close.state is PeriodState.CLOSING
    assert given_up.close.closed_at == END + CLOSE_GRACE
    assert given_up.alarm == "Stripe made no invoice of sub_1 for this period"


def test_a_draft_that_was_deleted_closes_its_period() -> None:
    known = replace(CLOSE, invoice="in_1", finalizes_at=FINAL)

    step = step_after(known, a_look(END + MINUTE), holds=True)

    assert (step.close.state, step.close.closed_at) == (PeriodState.CLOSED, END + MINUTE)
    assert "in_1 was deleted" in step.alarm


# --- invoices -------------------------------------------------------------------------------------


def test_the_invoice_of_a_period_is_the_one_that_ends_with_it() -> None:
    others = [
        an_invoice(id="in_first", reason="subscription_create", period=Span(END, END)),
        an_invoice(id="in_part", reason="subscription_threshold"),
        an_invoice(id="in_next", period=Span(END, END + timedelta(days=31))),
        an_invoice(id="in_item", reason="manual"),
        an_invoice(id="in_pending", reason="subscription_update", period=Span(END, END)),
        an_invoice(InvoiceStatus.VOID, id="in_void"),
    ]
    change = an_invoice(id="in_change", reason="subscription_update")

    assert invoice_of(CLOSE.period, [*others, an_invoice()]) == an_invoice()
    assert invoice_of(CLOSE.period, [*others, change, an_invoice()]) == an_invoice()
    assert invoice_of(CLOSE.period, [*others, change]) == change
    assert invoice_of(CLOSE.period, others) == others[-1]
    assert invoice_of(CLOSE.period, others[:-1]) is None


@pytest.mark.parametrize(
    ("told", "trouble"),
    [
        ({"price_1": "10"}, ""),
        ({"price_1": "15"}, "price_1 bills 10 where 15 was told"),
        ({"price_1": "10", "price_2": "1"}, "price_2 bills 0 where 1 was told"),
        ({"price_1": "10", "price_2": "-3"}, ""),
    ],
)
def test_an_invoice_that_bills_another_quantity_is_named(
    told: dict[str, str], trouble: str
) -> None:
    invoice = an_invoice(quantities={"price_1": Decimal(10)})

    found = line_trouble(invoice, {price: Decimal(text) for price, text in told.items()})

    assert found == trouble


def test_a_price_that_is_not_among_the_first_lines_is_not_judged() -> None:
    invoice = an_invoice(quantities={"price_1": Decimal(10)}, is_whole=False)

    assert line_trouble(invoice, {"price_1": Decimal(10), "price_2": Decimal(4)}) == ""
