"""Cancelling at Stripe what others wrote to one of our totals, once a person has approved it.

A correction changes what Stripe holds and nothing of what was used: it goes out as a push of its
own, and the stream's accepted total stays as it is. So what others wrote, and what cancels it, come
to nothing together, and accepted and summary agree again.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import NamedTuple

from metering.counter import CounterKey
from metering.errors import BadRequestError, ConflictError, NotFoundError, RetryableError
from metering.names import TenantId
from metering.period_close import takes_usage_until
from metering.ports import Billing, Clock, PeriodCloses, Pushes
from metering.push import Correction, PushStream, StreamKind
from metering.quantity import EXACT, canonical
from metering.reconciler import Examined, Reconciler
from metering.reconciliation import Cause
from metering.stripe_totals import total_of

READS_MAX = 50
CORRECTIONS_MAX = 100
"""Of one stream: more are the sign of a writer that nobody has stopped."""
CANCELLED = frozenset({Cause.FOREIGN_WRITER, Cause.DUPLICATE})
"""Causes of which Stripe holds something that we did not mean to tell it."""


class Asked(NamedTuple):
    """What a person wants cancelled."""

    month: str
    """`YYYY-MM`, in which the billing period begins."""
    amount: Decimal
    """By how much what Stripe holds is to change, in the metric's unit; as it was proposed."""
    reason: str
    counter: CounterKey | None = None
    stream_id: str = ""
    """Names the stream where `counter` is None, or has several."""


class CorrectionPorts(NamedTuple):
    """What approving a correction needs beside the reconciler."""

    pushes: Pushes
    billing: Billing
    closes: PeriodCloses
    clock: Clock


class Corrections:
    """Takes a tenant's approvals."""

    def __init__(self, ports: CorrectionPorts, reconciler: Reconciler) -> None:
        self._ports = ports
        self._reconciler = reconciler

    def approve(self, tenant: TenantId, asked: Asked, *, by: str) -> PushStream:
        """Have an amount cancelled, and answer the stream as stored; the writer sends it next.

        Stripe is looked at once more: no more is cancelled than its minutes prove to be too much.

        Raises:
            NotFoundError: the tenant has no such stream in that month.
            BadRequestError: the amount is no whole number of what Stripe is told in, or 0.
            ConflictError: it is not proven, the period is closed, or something is under way.
            RetryableError: Stripe or a table cannot answer now, or the stream was just changed.
        """
        streams = list(self._ports.pushes.of_month(tenant, asked.month))
        stream = self._stream(streams, asked)
        units = _units(asked.amount, stream.scale)
        self._refuse_unfit(stream, streams)
        _refuse_unproven(asked.amount, self._proven(stream, asked.month))
        made = Correction(units, self._ports.clock.now(), by, asked.reason)
        approved = replace(stream, corrections=(*stream.corrections, made), is_due=True)
        stored = self._ports.pushes.store(approved)
        if stored is None:
            raise RetryableError("the stream was changed at the same time; look again")
        return stored

    def _stream(self, streams: Sequence[PushStream], asked: Asked) -> PushStream:
        life = self._ports.billing.mode, self._ports.pushes.incarnation()
        found = [
            one
            for one in streams
            if (one.key.target.mode, one.key.incarnation) == life
            and asked.counter in {None, one.key.counter}
            and asked.stream_id in {"", one.key.id}
        ]
        if not found:
            raise NotFoundError(f"nothing was told to Stripe of that in {asked.month}")
        if len(found) > 1:
            ids = ", ".join(sorted(one.key.id for one in found))
            raise ConflictError(f"it has several streams; name one by streamId: {ids}")
        return found[0]

    def _refuse_unfit(self, stream: PushStream, streams: Sequence[PushStream]) -> None:
        """Refuse where a correction could not be told, or nobody knows what it would be of."""
        period, counter = stream.key.period, stream.key.counter
        close = self._ports.closes.of(counter.tenant, counter.customer, period)
        if self._ports.clock.now() >= takes_usage_until(period, close):
            raise ConflictError("the period is closed: correct the bill by a credit note")
        if stream.kind is not StreamKind.DELTA:
            raise ConflictError(
                f"its usage is set ({stream.kind}), not added: what others wrote is no surplus"
            )
        if stream.correction_due or len(stream.corrections) >= CORRECTIONS_MAX:
            raise ConflictError("a correction is on its way, or there were too many")
        if any(one.open for one in streams if total_of(one) == total_of(stream)):
            raise ConflictError("a push is under way that Stripe may hold already; try again")
        if any(one for one in streams if _is_beside(one, stream)):
            raise ConflictError("its usage was told in several streams; cancel it by hand")

    def _proven(self, stream: PushStream, month: str) -> Decimal:
        """What should change at Stripe by what its minutes show now, in the metric's unit."""
        counter = stream.key.counter
        found = self._reconciler.examine(counter.tenant, month, counter, reads_max=READS_MAX)
        start = stream.key.period.start
        examined = next((one for one in found if one.row.period.start == start), None)
        if examined is None or not _is_read_whole(examined):
            raise RetryableError("Stripe's minutes could not all be read; try again")
        proven = Decimal(0)
        for one in examined.row.findings:
            proven = EXACT.add(proven, one.amount) if one.cause in CANCELLED else proven
        return proven


def _is_read_whole(examined: Examined) -> bool:
    return examined.evidence is not None and examined.evidence.is_complete


def _is_beside(one: PushStream, stream: PushStream) -> bool:
    """Whether another stream of this life tells the same usage."""
    ours, theirs = stream.key, one.key
    return theirs.id != ours.id and (
        theirs.counter == ours.counter
        and theirs.period.start == ours.period.start
        and theirs.target.mode is ours.target.mode
        and theirs.incarnation == ours.incarnation
    )


def _units(amount: Decimal, scale: int) -> int:
    units = amount.scaleb(scale, EXACT)
    if units == 0 or units != units.to_integral_value():
        raise BadRequestError(
            f"amount: must be a whole number of 10^-{scale} and not 0", error="Validation Error"
        )
    return int(units)


def _refuse_unproven(amount: Decimal, proven: Decimal) -> None:
    is_towards = (amount < 0) == (proven < 0)
    if proven and is_towards and abs(amount) <= abs(proven):
        return
    raise ConflictError(
        f"Stripe's minutes prove that {canonical(proven)} should change, not {canonical(amount)}"
    )
