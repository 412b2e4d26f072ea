"""Compares a lived month with what must have come of it, number by number."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import stripe

from local.month import model
from local.month.draw import LATENESS_HOURS, METRICS, DrawnMetric
from local.month.model import Line
from local.month.run import Lived
from local.stripe.state import INVOICE, METER, PRICE
from metering.period import Span
from metering.reconciliation import NOTES, UNEXPLAINED, Cause, Row, Status

ZERO = Decimal(0)
METRIC = {one.name: one for one in METRICS}


@dataclass(frozen=True, slots=True)
class Compared:
    """A customer's use of a metric in a period, by everybody who has a number of it."""

    line: Line
    expected: Decimal
    """By the model."""
    row: Row | None
    """By the product's last report."""
    stripe: Decimal
    """What the stand-in's own books hold, in the metric's unit."""
    invoiced: Decimal | None
    """What finalized invoices bill; None without one."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that was compared, and every wrong that was found, as sentences."""

    compared: tuple[Compared, ...]
    wrongs: tuple[str, ...]


def check(lived: Lived) -> Outcome:
    """Compare everything."""
    compared = tuple(_compared(lived))
    wrongs = [
        *_of_run(lived),
        *(wrong for one in compared for wrong in _of_line(one, lived)),
        *_of_totals(compared),
    ]
    return Outcome(compared, tuple(wrongs))


# --- bringing the numbers together ----------------------------------------------------------------


def _compared(lived: Lived) -> Iterator[Compared]:
    cuts = _cuts(lived)
    expected = _expected(lived, cuts)
    rows = {_line_of(row): row for row in _rows(lived)}
    at_stripe = _at_stripe(lived, cuts)
    invoiced = _invoiced(lived, cuts)
    lines = expected.keys() | rows.keys() | at_stripe.keys()
    for line in sorted(lines):
        yield Compared(
            line,
            expected.get(line, ZERO),
            rows.get(line),
            at_stripe.get(line, ZERO),
            invoiced.get(line),
        )


def _expected(lived: Lived, cuts: Mapping[str, Sequence[datetime]]) -> dict[Line, Decimal]:
    done = lived.acts.done
    books = model.Books(
        done.events,
        done.received_at,
        done.approved_at,
        [(one.customer, one.metric, one.counts_at, one.delta) for one in done.corrections],
        cuts,
    )
    return model.totals(
        books,
        {one.name: one.aggregation for one in METRICS},
        lambda name: not METRIC[name].counts_late,
        timedelta(hours=LATENESS_HOURS),
    )


def _cuts(lived: Lived) -> dict[str, list[datetime]]:
    """Where each customer's periods begin: as Stripe said, and by months where it said nothing."""
    cuts: dict[str, list[datetime]] = {}
    for customer in lived.month.customers:
        starts = set(lived.starts.get(customer.ref, set()))
        first = min(starts, default=None)
        ended_at = lived.ended_at.get(customer.ref)
        starts |= {ended_at} if ended_at else set()
        starts |= {
            month
            for month in _months(lived)
            if first is None or month < first or (ended_at is not None and month > ended_at)
        }
        cuts[customer.ref] = sorted(starts)
    return cuts


def _months(lived: Lived) -> Iterator[datetime]:
    month = (lived.month.start - timedelta(days=100)).replace(day=1)
    while month < lived.world.clock.now():
        yield month
        month = (month + timedelta(days=32)).replace(day=1)


def _rows(lived: Lived) -> Iterator[Row]:
    for month in _months(lived):
        report = lived.world.eye.reports.latest(lived.world.tenant, f"{month:%Y-%m}")
        if report is not None:
            yield from report.rows


def _line_of(row: Row) -> Line:
    return Line(str(row.counter.customer), str(row.counter.metric), row.period.start)


def _at_stripe(lived: Lived, cuts: Mapping[str, Sequence[datetime]]) -> dict[Line, Decimal]:
    """What Stripe's books hold: sums, or of a `last` meter the newest value."""
    ref_of = {known: ref for ref, known in lived.account.customers.items()}
    account = lived.world.core.world.account()
    held: dict[Line, Decimal] = defaultdict(Decimal)
    for event in sorted(account.events(), key=lambda one: (one.timestamp, one.number)):
        if event.cancelled_from is not None:
            continue
        ref = ref_of[event.customer]
        at = datetime.fromtimestamp(event.timestamp, UTC)
        line = Line(ref, event.event_name, max(one for one in cuts[ref] if one <= at))
        value = event.value.scaleb(-METRIC[event.event_name].scale)
        if METRIC[event.event_name].formula == "last":
            held[line] = value
        else:
            held[line] += value
    return dict(held)


def _invoiced(lived: Lived, cuts: Mapping[str, Sequence[datetime]]) -> dict[Line, Decimal]:
    """What final invoices bill for usage, whatever prices it is billed by."""
    ref_of = {known: ref for ref, known in lived.account.customers.items()}
    account = lived.world.core.world.account()
    billed: dict[Line, Decimal] = defaultdict(Decimal)
    for invoice in account.all(INVOICE).values():
        if invoice["status"] not in {"open", "paid"}:
            continue
        ref = ref_of[invoice["customer"]]
        lines = lived.world.stripe.v1.invoices.line_items.list(invoice["id"])
        for line in lines.auto_paging_iter():
            metric = _metric_of(lived, line)
            if metric is not None:
                at = datetime.fromtimestamp(line.period.start, UTC)
                key = Line(ref, metric.name, max(one for one in cuts[ref] if one <= at))
                billed[key] += Decimal(str(line.quantity_decimal)).scaleb(-metric.scale)
    return dict(billed)


def _metric_of(lived: Lived, line: stripe.InvoiceLineItem) -> DrawnMetric | None:
    """The metric whose usage an invoice's line bills."""
    details = line.pricing.price_details if line.pricing else None
    if details is None:
        return None
    account = lived.world.core.world.account()
    price = account.all(PRICE)[str(details.price)]
    meter = account.all(METER)[price["recurring"]["meter"]]
    return METRIC[meter["event_name"]]


# --- judging --------------------------------------------------------------------------------------


def _of_run(lived: Lived) -> Iterator[str]:
    if not lived.is_quiet:
        needy = [one.key.id for one in lived.world.eye.pushes.in_need()]
        unfinished = [
            f"{one.customer} {one.period.start.isoformat()}: {one.message}"
            for one in lived.world.eye.period_closes.unfinished()
        ]
        yield f"the world did not become quiet: streams {needy}, closes {unfinished}"


def _of_line(one: Compared, lived: Lived) -> Iterator[str]:
    name = f"{one.line.customer} {one.line.metric} from {one.line.start.isoformat()}"
    row = one.row
    if row is None:
        if one.expected or one.stripe or one.invoiced:
            yield f"{name}: no report has a row of it, and {one.expected} were used"
        return
    told = one.stripe
    for number, what in ((row.ledger, "the ledger"), (row.counted, "the counter")):
        if number != one.expected:
            yield f"{name}: {what} holds {number}, expected {one.expected}"
    if row.pushed != told:
        yield f"{name}: we say that Stripe accepted {row.pushed}, its books hold {told}"
    yield from (f"{name}: {text}" for text in _of_invoice(one, row, lived))
    yield from (f"{name}: {text}" for text in _of_causes(row))


def _of_invoice(one: Compared, row: Row, lived: Lived) -> Iterator[str]:
    if one.invoiced is None:
        return
    said = row.invoiced
    if said is not None and said != one.invoiced:
        yield f"the report says {said} were billed, the invoices say {one.invoiced}"
    differs = max(row.pushed, ZERO) - one.invoiced
    named = _amount(row, Cause.INVOICE_DIFFERS)
    is_early = row.invoice is not None and row.invoice.invoice in lived.early
    cut_at = lived.acts.done.cut_short.get((one.line.customer, one.line.metric))
    is_cut = lived.month.rates.stripe > 0 and cut_at is not None and cut_at in _a_bit_longer(row)
    if differs and not ((is_early or is_cut) and named == differs):
        yield f"the invoice bills {one.invoiced}, Stripe was told {row.pushed}"


def _a_bit_longer(row: Row) -> Span:
    """The row's period and the minute after it: a period ends where somebody cuts it short."""
    return Span(row.period.start, row.period.end + timedelta(minutes=1))


def _of_causes(row: Row) -> Iterator[str]:
    """Every difference has a name, the names account for all of it, and nobody is asked for."""
    named = [
        _amount(row, Cause.LATE_AFTER_CLOSE),
        -_amount(row, Cause.CARRIED_IN),
        -_amount(row, Cause.STANDING),
        _amount(row, Cause.REMAINDER),
    ]
    differs = row.counted - row.pushed
    if differs != sum(named):
        yield f"{differs} of what was counted is not told, and the report names {sum(named)}"
    for finding in row.findings:
        is_judged = finding.cause is Cause.INVOICE_DIFFERS  # By `_of_invoice`, with its amount.
        is_settled = (
            finding.cause in NOTES or finding.is_settled or row.status is not Status.INVESTIGATE
        )
        if not is_judged and (finding.cause in UNEXPLAINED or not is_settled):
            yield f"{finding.cause}: {finding.explanation}"


def _amount(row: Row, cause: Cause) -> Decimal:
    return sum((one.amount for one in row.findings if one.cause is cause), ZERO)


def _of_totals(compared: Sequence[Compared]) -> Iterator[str]:
    """Over all periods Stripe holds what was used, but for less than a unit of it a period."""
    sums: dict[tuple[str, str], list[Compared]] = defaultdict(list)
    for one in compared:
        sums[one.line.customer, one.line.metric].append(one)
    for (customer, name), lines in sums.items():
        metric = METRIC[name]
        if metric.aggregation == "last":
            continue
        missing = sum((one.expected - one.stripe for one in lines), ZERO)
        unit = Decimal(1).scaleb(-metric.scale) if metric.digits > metric.scale else ZERO
        if not ZERO <= missing <= unit * len(lines):
            yield f"{customer} {name}: {missing} that was used is not at Stripe, in all periods"
