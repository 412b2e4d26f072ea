"""Bills usage of closed periods apart: one invoice item per counter, closed period and step.

Every step is stored before the next begins, on the closed period's stream. Stripe is asked before
each attempt, so whoever comes back after a crash finds out how far it came.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from metering.close_steps import NO_INVOICE_AFTER, invoice_of
from metering.errors import NotFoundError, RetryableError
from metering.invoice_item import (
    ITEM_EVERY,
    InvoiceItem,
    ItemState,
    KnownItem,
    billed,
    id_of,
    is_due,
    is_overtaken,
    line_of,
    units_billed,
)
from metering.item_delivery import RETRY_LONGEST, after, needs_a_person, put_off, stamped
from metering.mapping import Customer
from metering.period_close import PeriodClose, PeriodState
from metering.ports import (
    Change,
    Clock,
    InvoiceItems,
    InvoiceLine,
    InvoiceLines,
    Invoices,
    InvoiceStatus,
    Prices,
    Pushes,
    SetupError,
)
from metering.pricing import Rate, UnpriceableError, cost_of_more
from metering.push import Held, Mode, PushStream, Stop, is_stopped
from metering.pusher import Happenings, Pauses
from metering.quantity import canonical, floor_scaled

log = logging.getLogger("metering.writer")

CANNOT_BILL = "cannot_bill"
"""Why a stream stops whose late usage no invoice item can bill."""
SKEW = timedelta(days=1)
"""How far our clock may be off Stripe's when its list of items is asked by time."""


class ApartPorts(NamedTuple):
    """What billing apart reads and writes at Stripe."""

    invoices: Invoices
    lines: InvoiceLines
    prices: Prices
    items: InvoiceItems


class Late(NamedTuple):
    """Usage of a closed period that no invoice bills."""

    own: PushStream
    """The closed period's stream."""
    others: Sequence[PushStream]
    """Those of the same usage beside it."""
    rest: Decimal
    """In the metric's unit; negative when the invoice billed too much."""
    close: PeriodClose | None
    customer: Customer


class NotBillableError(Exception):
    """Something about the period's invoice must be looked at by a person."""


class _Line(NamedTuple):
    """What the period's invoice bills of a meter."""

    rate: Rate
    units: Decimal


class Apart:
    """Takes closed periods' streams through the steps for one thread."""

    def __init__(
        self,
        ports: ApartPorts,
        pushes: Pushes,
        clock: Clock,
        mode: Mode,
        pauses: Pauses,
        happenings: Happenings,
    ) -> None:
        self._ports = ports
        self._pushes = pushes
        self._clock = clock
        self._mode = mode
        self._pauses = pauses
        self._happenings = happenings

    # --- planning ---

    def bill(self, late: Late) -> Held | None:
        """Plan an item for usage that came too late, and send it; why not, where it waits."""
        now = self._clock.now()
        if is_stopped(late.own, now):
            return Held.STOPPED
        if _is_fresh(late, now):
            self._look_again(late)
            return Held.LATE_AFTER_CLOSE
        try:
            return self._bill(late, now)
        except (NotBillableError, SetupError) as error:
            self._stop(late, error, now)
            return Held.STOPPED
        except RetryableError as error:
            log.warning("late usage of %s waits: %s", late.own.key.counter, error)
            self._look_again(late)
            self._happenings.held["unavailable"] += 1
            return None

    def _bill(self, late: Late, now: datetime) -> Held | None:
        invoice = self._invoice(late, now)
        if invoice is None:
            self._look_again(late)
            return Held.LATE_AFTER_CLOSE
        if not invoice:
            return Held.NO_INVOICE
        item = self._planned(late, invoice, now)
        stored = self._store(replace(late.own, item=item, is_due=False, stopped=None), late)
        if stored is not None:
            self._log("planned", stored, item)
            self.settle(stored)
        return None

    def _invoice(self, late: Late, now: datetime) -> str | None:
        """The period's final invoice; empty when there is none, None while it is not final.

        A period that ended long ago, and had no usage then, was never closed by us.
        """
        close, period = late.close, late.own.key.period
        if close is not None:
            return close.invoice if close.state is PeriodState.CLOSED else None
        if now < period.end + NO_INVOICE_AFTER:
            return None
        subscription = late.customer.calendar.era_of(period.start).subscription
        if not subscription:
            return ""
        account = late.own.key.target.account
        found = invoice_of(period, self._ports.invoices.of_subscription(subscription, account))
        if found is None:
            return ""
        return None if found.status is InvoiceStatus.DRAFT else found.id

    def _look_again(self, late: Late) -> None:
        """Have the writer come back to the stream though its counter does not change."""
        if not late.own.is_due:
            self._store(replace(late.own, is_due=True), late)

    def _stop(self, late: Late, error: Exception, now: datetime) -> None:
        """Wait for a person; where only our key is wrong, for an hour."""
        until = now + RETRY_LONGEST if isinstance(error, SetupError) else None
        stop = Stop(CANNOT_BILL, str(error), now, until)
        log.warning("late usage of %s is not billed: %s", late.own.key.counter, error)
        self._store(replace(late.own, stopped=stop, is_due=False), late)

    def _planned(self, late: Late, invoice: str, now: datetime) -> InvoiceItem:
        own = late.own
        line = self._line(own, invoice)
        told = self._told(own, invoice, line)
        mark = line_of(own.key.target, own.key.period)
        apart = units_billed(self._known(own), mark)
        units, step = floor_scaled(late.rest, own.scale), _next_step(late)
        return InvoiceItem(
            id=id_of(own.key.target, own.key.counter, own.key.period, step),
            step=step,
            line=mark,
            units=units,
            units_before=apart,
            amount=cost_of_more(line.rate, Decimal(told + apart), Decimal(units)),
            currency=line.rate.currency,
            price_id=line.rate.price_id,
            invoice=invoice,
            description=_description(late, invoice),
            planned_at=now,
        )

    def _line(self, own: PushStream, invoice: str) -> _Line:
        """What the period's invoice bills of the stream's meter, and by which price.

        Raises:
            NotBillableError: it bills none, or not by one price that we can read.
        """
        account = own.key.target.account
        try:
            if self._ports.invoices.invoice(invoice, account).status is InvoiceStatus.VOID:
                raise NotBillableError(f"{invoice} is void: the period's usage is not billed")
            lines = self._ports.lines.lines(invoice, account)
            lines = [line for line in lines if _is_of(line, own)]
            rate = self._ports.prices.rate(_price_of(lines, own, invoice), account)
        except (NotFoundError, UnpriceableError) as error:
            raise NotBillableError(f"{invoice}: {error}") from error
        return _Line(rate, sum((line.quantity for line in lines), Decimal(0)))

    def _told(self, own: PushStream, invoice: str, line: _Line) -> int:
        """How many units Stripe was told for the line, by all counters that feed it.

        Raises:
            NotBillableError: the line bills another number, so its price of more is not known.
        """
        told = 0
        for find in (self._of_customer, self._of_month):
            others = (one.accepted for one in find(own) if _feeds_with(one, own))
            told = own.accepted + sum(others)
            if line.units == max(told, 0):
                return told
        raise NotBillableError(
            f"{invoice} bills {canonical(line.units)} units of {own.meter_id} where {told}"
            " were told: settle that first"
        )

    def _of_customer(self, own: PushStream) -> Iterator[PushStream]:
        tenant, customer, _ = own.key.counter
        for streams in self._pushes.of_customer(tenant, customer, own.key.period).values():
            yield from streams

    def _of_month(self, own: PushStream) -> Iterator[PushStream]:
        """Several customers of ours may be one at Stripe."""
        return self._pushes.of_month(own.key.counter.tenant, f"{own.key.period.start:%Y-%m}")

    def _known(self, stream: PushStream) -> list[KnownItem]:
        target = stream.key.target
        since = stream.key.period.end - SKEW
        return self._ports.items.of_customer(target.customer, since, target.account)

    # --- sending ---

    def settle(self, stream: PushStream) -> PushStream | None:
        """Do what the open item needs now, if anything; None when the stream is not ours now."""
        item, target = stream.item, stream.key.target
        if item is None:
            return stream
        is_ours = target.mode is self._mode and not self._pauses.hold(target.account, target.mode)
        if not is_ours or not is_due(item, self._clock.now()):
            self._happenings.held["waiting"] += 1
            return stream
        try:
            return self._settle(stream, item)
        except (RetryableError, SetupError) as error:
            self._happenings.held["unavailable"] += 1
            later = put_off(item, str(error), self._clock.now())
            return self._keep(stream, later, "unavailable")

    def _settle(self, stream: PushStream, item: InvoiceItem) -> PushStream | None:
        known = self._known(stream)
        found = next((one for one in known if one.id == item.id), None)
        if found is not None:
            return self._keep(stream, billed(item, found, self._clock.now()), "found")
        if is_overtaken(item, known):
            return self._store(replace(stream, item=None, is_due=True))
        return self._send(stream, item)

    def _send(self, stream: PushStream, item: InvoiceItem) -> PushStream | None:
        sent = stamped(item, self._clock.now())
        if sent is None:
            self._happenings.held["waiting"] += 1
            return stream
        stored = self._store(replace(stream, item=sent))
        if stored is None:
            return None
        target = stream.key.target
        answer = self._ports.items.add(sent, target.customer, stream.key.period, target.account)
        if needs_a_person(answer):
            log.warning("Stripe refuses the invoice item %s: %s", sent.id, answer)
        return self._keep(stored, after(sent, answer, self._clock.now()), type(answer).__name__)

    def _keep(self, stream: PushStream, item: InvoiceItem, answer: str) -> PushStream | None:
        """Store what became of the open item."""
        changed = replace(stream, item=item)
        if item.state is ItemState.BILLED:
            changed = replace(stream, item=None, items=(*stream.items, item))
        stored = self._store(changed)
        if stored is not None:
            self._happenings.billed_apart += item.state is ItemState.BILLED
            self._log(item.state, stored, item, answer=answer)
        return stored

    def _store(self, stream: PushStream, late: Late | None = None) -> PushStream | None:
        customer = late.customer if late and not stream.version else None
        (stored,) = self._pushes.store_all([Change(stream, customer=customer)])
        if stored is None:
            self._happenings.held["another_writer"] += 1
            self._happenings.must_return = True
        return stored

    def _log(self, decision: str, stream: PushStream, item: InvoiceItem, **facts: Any) -> None:
        line: dict[str, Any] = {"decision": f"item_{decision}", "tenant": stream.key.counter.tenant}
        line |= {"metric": stream.key.counter.metric, "item": item.id, "units": item.units}
        line |= {"amount": item.amount, "currency": item.currency, "stripe": item.stripe_id}
        line |= facts | {"error": item.last_error}
        log.info("%s", json.dumps({name: value for name, value in line.items() if value != ""}))


def _is_fresh(late: Late, now: datetime) -> bool:
    """Whether the last item is so young that what came since waits for the next."""
    newest = max((one.planned_at for one in _items(late)), default=None)
    return newest is not None and now < newest + ITEM_EVERY


def _next_step(late: Late) -> int:
    return 1 + max((one.step for one in _items(late)), default=0)


def _items(late: Late) -> Iterator[InvoiceItem]:
    for stream in (late.own, *late.others):
        if stream.key.target == late.own.key.target:
            yield from stream.items


def _is_of(line: InvoiceLine, own: PushStream) -> bool:
    period = own.key.period
    in_period = line.period.start < period.end and line.period.end > period.start
    return line.meter_id == own.meter_id and in_period


def _price_of(lines: Sequence[InvoiceLine], own: PushStream, invoice: str) -> str:
    prices = sorted({line.price_id for line in lines})
    if len(prices) == 1:
        return prices[0]
    if not prices:
        text = f"{invoice} has no line of {own.meter_id}: no subscription charges by it"
        raise NotBillableError(text)
    text = f"{invoice} bills {own.meter_id} by several prices: {', '.join(prices)}"
    raise NotBillableError(text)


def _feeds_with(one: PushStream, own: PushStream) -> bool:
    """Whether another stream's usage is on the same invoice line."""
    return (
        one.key.id != own.key.id
        and (one.key.target, one.meter_id) == (own.key.target, own.meter_id)
        and one.key.period.start == own.key.period.start
        and one.key.incarnation == own.key.incarnation
    )


def _description(late: Late, invoice: str) -> str:
    """What the customer reads on its invoice."""
    metric, period = late.own.key.counter.metric, late.own.key.period
    time = f"{period.start:%Y-%m-%d} to {period.end:%Y-%m-%d}"
    return f"{metric}: {canonical(late.rest)} used {time}, not on invoice {invoice}"
