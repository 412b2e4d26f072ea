"""Making, approving, reverting and listing adjustments.

An approval is written to the ledger first and to the record after. The ledger's condition lets one
entry per adjustment in, so approving twice, at once, or after a crash in between counts once; who
reads a record whose entry is in the ledger brings it up to date.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from itertools import islice
from typing import NamedTuple, Protocol

from metering import times
from metering.adjustment import (
    Adjustment,
    Reason,
    Status,
    approval_of,
    check_delta,
    child_of,
    decision_key,
    entry_of,
    fresh_id,
    held_as,
    held_key,
    id_of_request,
    instant_in,
    period_beginning,
    revert_key,
    revert_of,
)
from metering.counter import Aggregation
from metering.errors import (
    BadRequestError,
    ConflictError,
    InvariantBrokenError,
    NotFoundError,
    RetryableError,
)
from metering.event import LedgerEntry
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.ports import Appended, Clock, Ledger, Settings
from metering.threads import Threads
from metering.usage_report import effective_aggregation

LISTED_MAX = 20_000
"""How many adjustments one listing may look at."""
THREADS = 8
_ID_BYTES = 16


class AdjustmentStore(Protocol):
    """The records of adjustments; every read is consistent. All raise RetryableError."""

    def get(self, tenant: TenantId, adjustment_id: str) -> Adjustment | None:
        """The record with this id."""
        ...

    def of_tenant(
        self, tenant: TenantId, *, metric: Metric | None, customer: CustomerRef | None
    ) -> Iterator[Adjustment]:
        """A tenant's records in no order; of one metric and customer, or of all."""
        ...

    def add(self, adjustment: Adjustment) -> bool:
        """Keep a new record; False when its id is taken."""
        ...

    def approve(self, approved: Adjustment) -> bool:
        """Put an approved record in the place of the pending one; False when there is none."""
        ...

    def revert(self, reverted: Adjustment, child: Adjustment) -> bool:
        """Put a reverted record in the place of the approved one, and keep the revert's own.

        Both or nothing; False when there is no approved one.
        """
        ...


class Wanted(NamedTuple):
    """What a caller wants to be adjusted."""

    tenant: TenantId
    metric: Metric
    customer: CustomerRef
    period_start: date | datetime
    delta: Decimal
    reason: Reason
    request_id: str = ""
    note: str = ""


class Decision(NamedTuple):
    """An adjustment after a call that decides it."""

    adjustment: Adjustment
    is_new: bool
    """False: it had been decided that way before."""


class Approval(NamedTuple):
    """What became of one of several approvals."""

    id: str
    decision: Decision | None
    error: str = ""
    is_retryable: bool = False


@dataclass(frozen=True, slots=True)
class AdjustmentQuery:
    """Which of a tenant's adjustments, and which part of them, newest first."""

    tenant: TenantId
    metric: Metric | None
    customer: CustomerRef | None
    status: Status | None
    first: datetime | None
    """The earliest start of a period, itself included."""
    last: datetime | None
    """The latest start of a period, itself included."""
    offset: int
    limit: int

    def takes(self, adjustment: Adjustment) -> bool:
        """Whether an adjustment of the tenant, metric and customer is asked for."""
        return (
            self.status in {None, adjustment.status}
            and (self.first is None or self.first <= adjustment.period_start)
            and (self.last is None or adjustment.period_start <= self.last)
        )


class AdjustmentPage(NamedTuple):
    """The adjustments asked for, and how many there are in all."""

    adjustments: list[Adjustment]
    total: int


class Adjustments:
    """Corrects counters by decisions of people."""

    def __init__(
        self,
        store: AdjustmentStore,
        ledger: Ledger,
        settings: Settings,
        clock: Clock,
        random_bytes: Callable[[int], bytes],
        threads: Threads = ThreadPoolExecutor,
    ) -> None:
        self._store = store
        self._ledger = ledger
        self._settings = settings
        self._clock = clock
        self._random_bytes = random_bytes
        self._threads = threads

    # --- making -----------------------------------------------------------------------------------

    def create(self, wanted: Wanted, by: str) -> Adjustment:
        """A pending adjustment; the same request again answers the same one.

        Raises:
            BadRequestError: it may not be, or no billing period begins there.
            ConflictError: another adjustment was made under the request's id.
        """
        made = self._made(wanted, by)
        known = self._store.get(wanted.tenant, made.id) if wanted.request_id else None
        if known is None:
            self._check_delta(made)
            if self._store.add(made):
                return made
            known = self._store.get(wanted.tenant, made.id)
        if known is None or _content(known) != _content(made):
            raise ConflictError(
                f"requestId {wanted.request_id!r} made another adjustment; nothing was changed."
                " Send a new requestId if this is another one."
            )
        return self._settled([known])[0]

    def _made(self, wanted: Wanted, by: str) -> Adjustment:
        now = self._clock.now()
        calendar = self._settings.customer(wanted.tenant, wanted.customer).calendar
        period = period_beginning(calendar, wanted.period_start, now)
        if wanted.request_id:
            adjustment_id = id_of_request(wanted.tenant, wanted.request_id)
        else:
            adjustment_id = fresh_id(self._random_bytes(_ID_BYTES))
        return Adjustment(
            id=adjustment_id,
            tenant=wanted.tenant,
            metric=wanted.metric,
            customer=wanted.customer,
            period_start=period.start,
            occurred_at=instant_in(period, now),
            delta=wanted.delta,
            reason=wanted.reason,
            actor=by,
            created_at=now,
            note=wanted.note,
            request_id=wanted.request_id,
        )

    def _check_delta(self, adjustment: Adjustment) -> None:
        greatest = self._settings.tenant(adjustment.tenant).adjustment_max
        check_delta(adjustment.delta, greatest, self._aggregation(adjustment))

    def _aggregation(self, adjustment: Adjustment) -> Aggregation:
        tenant, metric = adjustment.tenant, adjustment.metric
        settings = self._settings.metric(tenant, metric)
        return effective_aggregation(settings, self._settings.active_mapping(tenant, metric))

    # --- approving --------------------------------------------------------------------------------

    def approve(self, tenant: TenantId, adjustment_id: str, by: str, reason: str = "") -> Decision:
        """Have an adjustment count, once.

        Raises:
            NotFoundError: the tenant has none with this id.
            BadRequestError: it was reverted, or may not be approved by this caller or any more.
            RetryableError: perhaps approved, perhaps not; approve it again.
        """
        found, held = self._find(tenant, adjustment_id)
        if found.status is Status.APPROVED:
            return Decision(found, is_new=False)
        if found.status is Status.REVERTED:
            raise BadRequestError(
                "It was approved and taken back; make a new adjustment", error="Already reverted"
            )
        self._check_approval(found, by)
        now = self._clock.now()
        # Where the ledger holds an approval already, this one finds that and completes its record.
        decision = approval_of(held, by, now) if held else entry_of(found, by, now)
        entry, is_new = self._append(decision)
        return Decision(self._approved(found, entry, reason), is_new)

    def _check_approval(self, pending: Adjustment, by: str) -> None:
        """Pass when this caller may approve it, and it still is what may be asked for."""
        if by == pending.actor and self._settings.tenant(pending.tenant).four_eyes:
            raise BadRequestError(
                f"{by} made this adjustment, so another must approve it (the tenant's settings"
                " have fourEyes on)",
                status=403,
                error="Forbidden",
            )
        if pending.is_held:
            return
        self._check_delta(pending)
        calendar = self._settings.customer(pending.tenant, pending.customer).calendar
        period = calendar.period_of(pending.occurred_at)
        if period.start != pending.period_start:
            raise ConflictError(
                "The customer's billing periods have changed since this adjustment was made: its"
                f" period would begin at {times.to_iso_ms(period.start)} now; make a new one"
            )

    def _append(self, decision: LedgerEntry) -> tuple[LedgerEntry, bool]:
        """Put a decision into the ledger; the one that stands there, and whether it is this one."""
        event = decision.event
        (outcome,) = self._ledger.append([decision])
        if outcome is Appended.FAILED:
            raise RetryableError("The ledger cannot be written now")
        standing = self._ledger.get(event.tenant, event.key)
        if standing is None or standing.event != event:
            raise InvariantBrokenError(f"{event.key} stands for another decision")
        is_ours = standing.decided_by == decision.decided_by
        return standing, outcome is Appended.ACCEPTED and is_ours

    def _approved(self, pending: Adjustment, decision: LedgerEntry, reason: str = "") -> Adjustment:
        """Record what the ledger holds; whoever comes second finds it recorded."""
        approved = pending.approved(decision, reason)
        keep = self._store.add if pending.is_held else self._store.approve
        return approved if keep(approved) else self._stored(pending)

    def _stored(self, known: Adjustment) -> Adjustment:
        stored = self._store.get(known.tenant, known.id)
        if stored is None:
            raise InvariantBrokenError(f"{known.id} was removed")
        return stored

    def approve_all(
        self, tenant: TenantId, ids: Iterable[str], by: str, reason: str
    ) -> list[Approval]:
        """Approve each by itself, in the order given, no id twice; none stops another."""

        def approve(adjustment_id: str) -> Approval:
            try:
                return Approval(adjustment_id, self.approve(tenant, adjustment_id, by, reason))
            except BadRequestError as error:
                return Approval(adjustment_id, None, error.message)
            except RetryableError as error:
                return Approval(adjustment_id, None, f"{error}; approve it again", True)  # noqa: FBT003 (the last field)

        with self._threads(THREADS, "approve") as pool:
            return list(pool.map(approve, dict.fromkeys(ids)))

    # --- reverting --------------------------------------------------------------------------------

    def revert(self, tenant: TenantId, adjustment_id: str, by: str, note: str = "") -> Decision:
        """Take an approved adjustment back: the total is again what it was without it.

        Answers the revert's own record.

        Raises:
            NotFoundError: the tenant has none with this id.
            BadRequestError: it is not approved, is a revert itself, or cannot be taken back.
            RetryableError: perhaps taken back, perhaps not; revert it again.
        """
        found = self.get(tenant, adjustment_id)
        self._check_revert(found)
        decision = self._ledger.get(tenant, decision_key(found))
        if decision is None:
            raise InvariantBrokenError(f"{found.id} is approved and not in the ledger")
        entry, is_new = self._append(revert_of(found, decision, by, self._clock.now()))
        return Decision(self._reverted(found, entry, note), is_new)

    def _check_revert(self, found: Adjustment) -> None:
        if found.status is not Status.APPROVED:
            raise BadRequestError(
                f"It is {found.status}", error="Only approved adjustments can be reverted"
            )
        if found.parent:
            raise BadRequestError(
                "It is a revert itself; make a new adjustment instead",
                error="A revert cannot be reverted",
            )
        aggregation = self._aggregation(found)
        is_lasting = aggregation in {Aggregation.MAX, Aggregation.LAST}
        if found.reason is Reason.LATE_EVENT and is_lasting:
            raise BadRequestError(
                f"The metric's {aggregation} may come from this event, and what it was before is"
                " not kept; make an adjustment with reason correction instead",
                error="Cannot be reverted",
            )

    def _reverted(self, approved: Adjustment, decision: LedgerEntry, note: str = "") -> Adjustment:
        """Record what the ledger holds; the revert's own record."""
        reverted, child = approved.reverted(decision), child_of(approved, decision, note)
        return child if self._store.revert(reverted, child) else self._stored(child)

    # --- reading ----------------------------------------------------------------------------------

    def get(self, tenant: TenantId, adjustment_id: str) -> Adjustment:
        """The adjustment with this id, as the ledger has it.

        Raises:
            NotFoundError: the tenant has none.
        """
        found, _ = self._find(tenant, adjustment_id)
        return self._settled([found])[0]

    def _find(self, tenant: TenantId, adjustment_id: str) -> tuple[Adjustment, LedgerEntry | None]:
        """An adjustment as its record says; one without a record, with the late event it is."""
        found = self._store.get(tenant, adjustment_id)
        if found is not None:
            return found, None
        key = held_key(adjustment_id)
        held = self._ledger.get(tenant, key) if key else None
        if held is None or not held.is_late:
            raise NotFoundError("No adjustment has this id")
        customer = self._settings.customer(tenant, held.event.customer)
        return held_as(held, customer.calendar), held

    def _settled(self, found: Sequence[Adjustment]) -> list[Adjustment]:
        """The same, each record brought up to date whose next decision is in the ledger already."""
        keys = {one.id: _next_key(one) for one in found}
        wanted = [key for key in keys.values() if key is not None]
        decisions = self._ledger.get_many(found[0].tenant, wanted) if wanted else {}
        settled = []
        for one in found:
            key = keys[one.id]
            decision = decisions.get(key) if key is not None else None
            settled.append(one if decision is None else self._completed(one, decision))
        return settled

    def _completed(self, found: Adjustment, decision: LedgerEntry) -> Adjustment:
        if found.status is Status.PENDING:
            return self._approved(found, decision)
        self._reverted(found, decision)
        return self._stored(found)

    def page(self, query: AdjustmentQuery) -> AdjustmentPage:
        """The adjustments that a query asks for, held late events among them, newest first.

        Raises:
            BadRequestError: 422, there are too many to look at.
        """
        found = [one for one in self._all(query) if query.takes(one)]
        found.sort(key=_age, reverse=True)
        part = found[query.offset : query.offset + query.limit]
        shown = self._settled(part) if part else []
        return AdjustmentPage([one for one in shown if query.takes(one)], len(found))

    def _all(self, query: AdjustmentQuery) -> list[Adjustment]:
        tenant, metric, customer = query.tenant, query.metric, query.customer
        stored = _bounded(self._store.of_tenant(tenant, metric=metric, customer=customer))
        if query.status not in {None, Status.PENDING}:
            return stored
        held = _bounded(self._ledger.held(tenant, metric=metric, customer=customer))
        customers = self._settings.customers(tenant, {one.event.customer for one in held})
        pending = (held_as(one, customers[one.event.customer].calendar) for one in held)
        decided = {one.id for one in stored if one.reason is Reason.LATE_EVENT}
        return stored + [one for one in pending if one.id not in decided]


def _bounded[T](lines: Iterable[T]) -> list[T]:
    found = list(islice(lines, LISTED_MAX + 1))
    if len(found) > LISTED_MAX:
        raise BadRequestError(
            f"There are more than {LISTED_MAX} adjustments; name a customerRef and a metric",
            status=422,
            error="Too much to read",
        )
    return found


def _age(adjustment: Adjustment) -> tuple[datetime, str]:
    return adjustment.created_at, adjustment.id


def _content(adjustment: Adjustment) -> tuple[object, ...]:
    """What makes two requests the same; not who sent them, nor when."""
    return (
        adjustment.counter,
        adjustment.period_start,
        adjustment.delta,
        adjustment.reason,
        adjustment.note,
    )


def _next_key(adjustment: Adjustment) -> IdempotencyKey | None:
    """Where the ledger would hold the decision that the record may not know yet."""
    match adjustment.status:
        case Status.PENDING:
            return decision_key(adjustment)
        case Status.APPROVED if not adjustment.parent:
            return revert_key(adjustment)
    return None
