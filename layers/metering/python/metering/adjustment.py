"""An adjustment: one correction of a counter's number in one billing period, and who decided it.

What counts is in the ledger: an approval is one entry more, a revert another. The record says who
wanted it and why. A late event that was held back is a pending adjustment too; it has no record
until somebody approves it.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum

from metering import quantity, times
from metering.counter import Aggregation, CounterKey
from metering.errors import BadRequestError
from metering.event import (
    RESERVED_KEYS,
    EntryKind,
    LedgerEntry,
    Source,
    UsageEvent,
    approval_key,
    approval_revert_key,
    canonical_json,
)
from metering.keys import digest, join
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.period import BillingCalendar, Span

LATE_ACTOR = "system:late-event"
"""Who wants a held late event to count."""
_STORED, _HELD = "adj_", "late_"
_MOMENT = timedelta(microseconds=1)


class Reason(StrEnum):
    """Why a number is corrected."""

    BACKFILL = "backfill"
    CORRECTION = "correction"
    PROMO = "promo"
    CREDIT = "credit"
    MANUAL = "manual"
    LATE_EVENT = "late_event"


class Status(StrEnum):
    """Where an adjustment stands; only an approved one counts."""

    PENDING = "pending"
    APPROVED = "approved"
    REVERTED = "reverted"


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A correction by `delta`, in the metric's unit, within the period that starts then."""

    id: str
    tenant: TenantId
    metric: Metric
    customer: CustomerRef
    period_start: datetime
    occurred_at: datetime
    """The instant of the period that it counts at, chosen once; of a late event its own."""
    delta: Decimal
    reason: Reason
    actor: str
    """Who made it: `api:<key prefix>`, or `LATE_ACTOR`."""
    created_at: datetime
    status: Status = Status.PENDING
    note: str = ""
    request_id: str = ""
    """The caller's own name for the request that made it; empty without one."""
    parent: str = ""
    """Of a revert: the id of what it takes back."""
    approved_by: str = ""
    approved_at: datetime | None = None
    approval_reason: str = ""
    reverted_by: str = ""
    reverted_at: datetime | None = None

    @property
    def counter(self) -> CounterKey:
        """The counter that it corrects."""
        return CounterKey(self.tenant, self.customer, self.metric)

    @property
    def is_held(self) -> bool:
        """Whether it is a late event that awaits approval: it stands in the ledger alone."""
        return self.reason is Reason.LATE_EVENT and self.status is Status.PENDING

    def approved(self, decision: LedgerEntry, reason: str = "") -> "Adjustment":
        """The same, as the entry of the ledger approved it."""
        return replace(
            self,
            status=Status.APPROVED,
            approved_by=decision.decided_by,
            approved_at=decision.received_at,
            approval_reason=reason,
        )

    def reverted(self, decision: LedgerEntry) -> "Adjustment":
        """The same, as the entry of the ledger took it back."""
        return replace(
            self,
            status=Status.REVERTED,
            reverted_by=decision.decided_by,
            reverted_at=decision.received_at,
        )


# --- ids ------------------------------------------------------------------------------------------


def id_of_request(tenant: TenantId, request_id: str) -> str:
    """The id of the one adjustment that a tenant's request makes, however often it is sent."""
    return _STORED + digest(join("request", tenant, request_id)).hex()


def fresh_id(random: bytes) -> str:
    """The id of an adjustment whose request has no name; 16 random bytes."""
    return _STORED + random.hex()


def held_id(key: IdempotencyKey) -> str:
    """The id of a held late event, from its idempotency key."""
    return _HELD + urlsafe_b64encode(key.encode()).decode().rstrip("=")


def held_key(adjustment_id: str) -> IdempotencyKey | None:
    """The idempotency key of the late event with this id; None for an id of another kind."""
    text = adjustment_id.removeprefix(_HELD)
    if text == adjustment_id:
        return None
    try:
        key = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except ValueError:
        return None
    # Base64 has several spellings of one text; an id has one.
    return IdempotencyKey(key) if held_id(IdempotencyKey(key)) == adjustment_id else None


# --- entries of the ledger ------------------------------------------------------------------------


def decision_key(adjustment: Adjustment) -> IdempotencyKey:
    """The key of the one ledger entry that makes an adjustment count."""
    held = held_key(adjustment.id)
    return approval_key(held) if held else IdempotencyKey(RESERVED_KEYS + adjustment.id)


def revert_key(adjustment: Adjustment) -> IdempotencyKey:
    """The key of the one ledger entry that takes it back."""
    held = held_key(adjustment.id)
    if held:
        return approval_revert_key(held)
    return IdempotencyKey(f"{RESERVED_KEYS}{adjustment.id}:revert")


def entry_of(adjustment: Adjustment, by: str, now: datetime) -> LedgerEntry:
    """What the approval of an adjustment puts into the ledger; not of a held late event.

    All but `by` and `now` follow from the adjustment, so it is the same whoever approves it.
    """
    event = UsageEvent(
        tenant=adjustment.tenant,
        key=decision_key(adjustment),
        metric=adjustment.metric,
        customer=adjustment.customer,
        resource=None,
        quantity=adjustment.delta,
        occurred_at=adjustment.occurred_at,
        meta=_meta(adjustment),
        source=Source.SYSTEM,
    )
    return _decision(event, EntryKind.ADJUSTMENT, by, now)


def approval_of(held: LedgerEntry, by: str, now: datetime) -> LedgerEntry:
    """What the approval of a held late event puts into the ledger: the event itself again."""
    event = replace(held.event, key=approval_key(held.event.key))
    return _decision(event, EntryKind.APPROVAL, by, now)


def revert_of(adjustment: Adjustment, decision: LedgerEntry, by: str, now: datetime) -> LedgerEntry:
    """What takes a decision back: its negative, at the same instant."""
    event = replace(
        decision.event,
        key=revert_key(adjustment),
        quantity=decision.event.quantity.copy_negate(),
    )
    is_approval = decision.kind is EntryKind.APPROVAL
    kind = EntryKind.APPROVAL_REVERT if is_approval else EntryKind.ADJUSTMENT
    return _decision(event, kind, by, now)


def _decision(event: UsageEvent, kind: EntryKind, by: str, now: datetime) -> LedgerEntry:
    return LedgerEntry(event, received_at=now, is_late=False, kind=kind, decided_by=by)


def _meta(adjustment: Adjustment) -> str:
    return canonical_json(
        {
            "adjustmentId": adjustment.id,
            "reason": str(adjustment.reason),
            "actor": adjustment.actor,
            "periodStart": times.to_text(adjustment.period_start),
        }
    )


# --- what stands for what -------------------------------------------------------------------------


def held_as(entry: LedgerEntry, calendar: BillingCalendar) -> Adjustment:
    """A held late event as the pending adjustment that it is."""
    event = entry.event
    return Adjustment(
        id=held_id(event.key),
        tenant=event.tenant,
        metric=event.metric,
        customer=event.customer,
        period_start=calendar.period_of(event.occurred_at).start,
        occurred_at=event.occurred_at,
        delta=event.quantity,
        reason=Reason.LATE_EVENT,
        actor=LATE_ACTOR,
        created_at=entry.received_at,
    )


def child_of(parent: Adjustment, decision: LedgerEntry, note: str) -> Adjustment:
    """The record of a revert: the negative of what it takes back, approved by who took it back."""
    by, at = decision.decided_by, decision.received_at
    return Adjustment(
        id=_STORED + digest(join("revert", parent.tenant, parent.id)).hex(),
        tenant=parent.tenant,
        metric=parent.metric,
        customer=parent.customer,
        period_start=parent.period_start,
        occurred_at=parent.occurred_at,
        delta=parent.delta.copy_negate(),
        reason=Reason.CORRECTION,
        actor=by,
        created_at=at,
        status=Status.APPROVED,
        note=note,
        parent=parent.id,
        approved_by=by,
        approved_at=at,
    )


# --- what may be asked for ------------------------------------------------------------------------


def period_beginning(calendar: BillingCalendar, start: date | datetime, now: datetime) -> Span:
    """The billing period that begins at an instant, or on a UTC day (of several the last).

    Raises:
        BadRequestError: none begins there, or it lies ahead of now.
    """
    first, last = _instants_of(start)
    if first > now:
        raise BadRequestError(_AHEAD, error="Validation Error")
    period = calendar.period_of(last)
    if period.start < first:
        raise BadRequestError(
            f"periodStart: no billing period of this customer begins at {start.isoformat()}; the"
            f" one that holds it begins at {times.to_text(period.start)}",
            error="Validation Error",
        )
    if period.start > now:
        raise BadRequestError(_AHEAD, error="Validation Error")
    return period


_AHEAD = "periodStart: lies ahead; adjust that period once it has begun"


def _instants_of(start: date | datetime) -> Span:
    """The instant itself, or the first and the last one of a UTC day."""
    if isinstance(start, datetime):
        return Span(start, start)
    return Span(datetime.combine(start, time.min, UTC), datetime.combine(start, time.max, UTC))


def instant_in(period: Span, now: datetime) -> datetime:
    """When an adjustment of a period counts: now while it is open, later its last microsecond."""
    return min(now, period.end - _MOMENT)


def check_delta(delta: Decimal, greatest: Decimal, aggregation: Aggregation) -> None:
    """Pass when an adjustment by `delta` is allowed.

    Raises:
        BadRequestError: it is greater than the tenant allows, or a part of a count.
    """
    if abs(delta) > greatest:
        raise BadRequestError(
            f"delta: {quantity.canonical(delta)} is more than the {quantity.canonical(greatest)}"
            " that an adjustment may be; raise adjustmentMax in the tenant's settings if it is"
            " right",
            error="Validation Error",
        )
    if aggregation is Aggregation.COUNT and delta != delta.to_integral_value():
        raise BadRequestError(
            f"delta: {quantity.canonical(delta)} is no whole number, and the metric counts events",
            error="Validation Error",
        )
