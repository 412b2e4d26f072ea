"""What the invoices of billing periods bill for counters: the fifth number of a reconciliation.

An invoice is read once a run while it is a draft, and once more after it was finalized; then its
numbers stand in the report, and it is never read again.
"""

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from metering.drill_down import Reads
from metering.errors import NotFoundError, RetryableError
from metering.mapping import Mapping as MeterMapping
from metering.period_close import PeriodClose, PeriodState
from metering.ports import InvoiceLine, InvoiceLines, SetupError
from metering.quantity import EXACT
from metering.reconciliation import InvoiceNumber, Row
from metering.work import Work

log = logging.getLogger("metering.reconciler")


class Billed(NamedTuple):
    """A counter whose period has an invoice, and what Stripe was told of it."""

    work: Work
    mapping: MeterMapping
    close: PeriodClose
    told: Decimal


class InvoiceNumbers:
    """One run's reading of invoices."""

    def __init__(self, lines: InvoiceLines, reads: Reads) -> None:
        self._lines = lines
        self._reads = reads
        self._read: dict[tuple[str, str], list[InvoiceLine] | None] = {}

    def of(self, billed: Iterable[Billed], former: Mapping[Work, Row]) -> dict[Work, InvoiceNumber]:
        """What is billed for each counter; those whose invoice cannot be read now are left out.

        Where several counters feed one meter of one invoice, each is given what Stripe was told of
        it, and the first of them what the invoice bills more or less.
        """
        numbers: dict[Work, InvoiceNumber] = {}
        together: dict[tuple[str, str], list[Billed]] = defaultdict(list)
        for one in billed:
            kept = _kept(former.get(one.work), one.close)
            if kept is not None:
                numbers[one.work] = kept
            else:
                meter = one.mapping.meter_id or one.mapping.price_id
                together[one.close.invoice, meter].append(one)
        for group in together.values():
            numbers |= self._of_group(sorted(group, key=lambda one: one.work))
        return numbers

    def _of_group(self, group: Sequence[Billed]) -> dict[Work, InvoiceNumber]:
        first = group[0]
        lines = self._lines_of(first.close.invoice, first.mapping.stripe_account)
        if lines is None:
            return {}
        own = [line.quantity for line in lines if _is_of(line, first)]
        over = _sum(own).scaleb(-first.mapping.scale, EXACT) - _sum(one.told for one in group)
        numbers = {}
        for one in group:
            quantity = EXACT.add(one.told, over)
            is_final = one.close.state is PeriodState.CLOSED
            numbers[one.work] = InvoiceNumber(one.close.invoice, quantity, is_final)
            over = Decimal(0)
        return numbers

    def _lines_of(self, invoice: str, account: str) -> list[InvoiceLine] | None:
        key = invoice, account
        if key not in self._read:
            self._read[key] = self._ask(invoice, account)
        return self._read[key]

    def _ask(self, invoice: str, account: str) -> list[InvoiceLine] | None:
        if not self._reads.take(is_closing=True):
            return None
        try:
            return self._lines.lines(invoice, account)
        except (RetryableError, SetupError, NotFoundError) as error:
            log.warning("invoice %s is not read: %s", invoice, error)
            return None


def _kept(row: Row | None, close: PeriodClose) -> InvoiceNumber | None:
    number = row.invoice if row else None
    is_kept = number is not None and number.is_final and number.invoice == close.invoice
    return number if is_kept else None


def _is_of(line: InvoiceLine, one: Billed) -> bool:
    """Whether a line bills usage of the counter's meter in its period."""
    mapping, period = one.mapping, one.work.period
    named = (
        (line.meter_id, mapping.meter_id),
        (line.price_id, mapping.price_id),
        (line.subscription_item_id, mapping.subscription_item_id),
    )
    is_named = any(theirs and theirs == ours for theirs, ours in named)
    return is_named and line.period.start < period.end and line.period.end > period.start


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    total = Decimal(0)
    for number in numbers:
        total = EXACT.add(total, number)
    return total
