"""`/v1/adjustments`: corrections of usage, who made them, who approved them and took them back."""

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import BeforeValidator, Field, WithJsonSchema

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, CustomerFilter, MetricFilter, Quantity, TenantQuery, When
from functions.api.routing import new_router, serve
from metering import quantity, sent_event, times, wiring
from metering.adjustment import Adjustment, Reason, Status
from metering.adjustments import AdjustmentQuery, Approval, Decision, Wanted
from metering.auth import Scope
from metering.errors import BadRequestError
from metering.names import CustomerRef, Metric, TenantId

router = new_router()

APPROVALS_MAX = 1000
NOTE_CHARACTERS_MAX = 1000


def _start(value: object) -> date | datetime:
    """A UTC date or an RFC 3339 date-time, told apart by how they are written."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        return times.parse_rfc3339(value)
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("names no real date") from None


Start = Annotated[
    date | datetime,
    BeforeValidator(_start),
    WithJsonSchema(
        {
            "type": "string",
            "description": "A UTC date, 2026-11-01, or a date-time, 2026-11-01T00:00:00Z.",
        }
    ),
]
Note = Annotated[str, Field(max_length=NOTE_CHARACTERS_MAX)]
ID_CHARACTERS_MAX = 1500
AdjustmentPath = Annotated[str, Path(max_length=ID_CHARACTERS_MAX)]
AdjustmentId = Annotated[str, Field(min_length=1, max_length=ID_CHARACTERS_MAX)]


class NewAdjustment(Body):
    """What is to be corrected, and why."""

    tenant_id: str | None = None
    metric: Annotated[str, BeforeValidator(sent_event.metric_named)]
    customer_ref: Annotated[str, BeforeValidator(sent_event.customer_named)]
    period_start: Start
    """Where one of the customer's billing periods begins."""
    delta: Annotated[
        Decimal,
        BeforeValidator(quantity.parse_delta),
        WithJsonSchema(
            {"type": "number", "not": {"const": 0}, "description": "Of either sign, never 0."}
        ),
    ]
    """Added to the period's number, whatever the metric's aggregation."""
    reason: Literal["backfill", "correction", "promo", "credit", "manual"]
    request_id: Annotated[str, Field(min_length=1, max_length=255)] | None = None
    """The same again makes no second adjustment."""
    note: Note = ""


class AdjustmentState(Body):
    """An adjustment as it stands."""

    id: str
    """`adj_...`; of a late event that was held back `late_...`."""
    tenant_id: str
    metric: str
    customer_ref: str
    period_start: When
    delta: Quantity
    """Of a late event its quantity."""
    reason: str
    actor: str
    """Who made it: `api:<key prefix>`, or `system:late-event`."""
    status: str
    """`pending`, `approved` or `reverted`."""
    approved_by: str | None
    approved_at: When | None
    approval_reason: str | None
    reverted_by: str | None
    reverted_at: When | None
    parent_adjustment_id: str | None
    """Of a revert: what it takes back."""
    request_id: str | None
    note: str | None
    created_at: When


class AdjustmentPage(Body):
    """Part of a tenant's adjustments, newest first."""

    total: int
    adjustments: list[AdjustmentState]


class MadeAdjustment(AdjustmentState):
    """An adjustment that was made, or had been by the same request."""

    ok: Literal[True] = True


class DecidedAdjustment(MadeAdjustment):
    """An adjustment after a decision; of a revert the revert's own."""

    already: bool
    """True: it had been so before, and nothing was changed."""


@serve(
    router,
    "GET /v1/adjustments",
    AdjustmentPage,
    scopes=(Scope.PROJECT_READ,),
    tag="adjustments",
    may={422, 501},
)
def list_adjustments(  # noqa: PLR0913, PLR0917 (one argument per query parameter)
    tenant_id: TenantQuery = None,
    metric: MetricFilter = None,
    customer: CustomerFilter = None,
    period_start: Annotated[Start | None, Query(alias="periodStart")] = None,
    period_end: Annotated[Start | None, Query(alias="periodEnd")] = None,
    status: Annotated[Status | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
    offset: Annotated[int, Query(ge=0)] = 0,
) -> Response[Any]:
    """List adjustments, newest first; late events that are held back are pending ones.

    `periodStart` and `periodEnd` bound the starts of the periods that are corrected.
    """
    tenant = call.current().owner()
    page = wiring.current().adjustments.page(
        AdjustmentQuery(
            tenant=tenant,
            metric=Metric(metric) if metric else None,
            customer=CustomerRef(customer) if customer else None,
            status=status,
            first=_bound(period_start, time.min),
            last=_bound(period_end, time.max),
            offset=offset,
            limit=limit,
        )
    )
    states = [AdjustmentState(**_fields(one)) for one in page.adjustments]
    return answer(AdjustmentPage(total=page.total, adjustments=states))


def _bound(start: date | datetime | None, of_day: time) -> datetime | None:
    """The instant that a bound names; of a day its first or its last."""
    if start is None or isinstance(start, datetime):
        return start
    return datetime.combine(start, of_day, UTC)


@serve(
    router,
    "GET /v1/adjustments/<adjustment_id>",
    AdjustmentState,
    scopes=(Scope.PROJECT_READ,),
    tag="adjustments",
)
def get_adjustment(adjustment_id: AdjustmentPath, tenant_id: TenantQuery = None) -> Response[Any]:
    """One adjustment by its id."""
    tenant = call.current().owner()
    found = wiring.current().adjustments.get(tenant, adjustment_id)
    return answer(AdjustmentState(**_fields(found)))


@serve(
    router,
    "POST /v1/adjustments",
    MadeAdjustment,
    scopes=(Scope.PROJECT_WRITE,),
    tag="adjustments",
    status=201,
    may={409},
)
def create_adjustment(sent: Annotated[NewAdjustment, FromBody()]) -> Response[Any]:
    """Make a pending adjustment; it counts once it is approved."""
    current = call.current()
    tenant = _valid(current.owner())
    wanted = Wanted(
        tenant=tenant,
        metric=Metric(sent.metric),
        customer=CustomerRef(sent.customer_ref),
        period_start=sent.period_start,
        delta=sent.delta,
        reason=Reason(sent.reason),
        request_id=sent.request_id or "",
        note=sent.note,
    )
    made = wiring.current().adjustments.create(wanted, _actor())
    return answer(MadeAdjustment(**_fields(made)), 201)


def _valid(tenant: TenantId) -> TenantId:
    """A tenant that a request names where no key proves one is checked like an event's."""
    try:
        return sent_event.tenant_named(tenant)
    except ValueError as error:
        raise BadRequestError(f"tenantId: {error}", error="Validation Error") from None


def _actor() -> str:
    """Who calls, as adjustments note it."""
    return f"api:{call.current().caller.key_prefix or 'anyone'}"


def _fields(adjustment: Adjustment) -> dict[str, Any]:
    return {
        "id": adjustment.id,
        "tenant_id": adjustment.tenant,
        "metric": adjustment.metric,
        "customer_ref": adjustment.customer,
        "period_start": adjustment.period_start,
        "delta": adjustment.delta,
        "reason": adjustment.reason,
        "actor": adjustment.actor,
        "status": adjustment.status,
        "approved_by": adjustment.approved_by or None,
        "approved_at": adjustment.approved_at,
        "approval_reason": adjustment.approval_reason or None,
        "reverted_by": adjustment.reverted_by or None,
        "reverted_at": adjustment.reverted_at,
        "parent_adjustment_id": adjustment.parent or None,
        "request_id": adjustment.request_id or None,
        "note": adjustment.note or None,
        "created_at": adjustment.created_at,
    }


# --- deciding -------------------------------------------------------------------------------------


class Revert(Body):
    """Why it is taken back."""

    tenant_id: str | None = None
    note: Note = ""


@serve(
    router,
    "POST /v1/adjustments/<adjustment_id>/approve",
    DecidedAdjustment,
    scopes=(Scope.PROJECT_WRITE,),
    tag="adjustments",
    may={409},
)
def approve_adjustment(adjustment_id: AdjustmentPath) -> Response[Any]:
    """Have a pending adjustment count, once however often it is approved."""
    tenant = call.current().owner()
    decision = wiring.current().adjustments.approve(tenant, adjustment_id, _actor())
    return answer(_decided(decision))


@serve(
    router,
    "POST /v1/adjustments/<adjustment_id>/revert",
    DecidedAdjustment,
    scopes=(Scope.PROJECT_WRITE,),
    tag="adjustments",
    may={409},
)
def revert_adjustment(
    adjustment_id: AdjustmentPath, sent: Annotated[Revert | None, FromBody()] = None
) -> Response[Any]:
    """Take an approved adjustment back: the total is again what it was without it."""
    tenant = call.current().owner()
    note = sent.note if sent else ""
    decision = wiring.current().adjustments.revert(tenant, adjustment_id, _actor(), note)
    return answer(_decided(decision))


def _decided(decision: Decision) -> DecidedAdjustment:
    return DecidedAdjustment(**_fields(decision.adjustment), already=not decision.is_new)


# --- many at once ---------------------------------------------------------------------------------


class Approvals(Body):
    """Which pending adjustments are approved, and why."""

    tenant_id: str | None = None
    adjustment_ids: Annotated[list[AdjustmentId], Field(min_length=1, max_length=APPROVALS_MAX)]
    reason: Note = ""


class ApprovalOutcome(Body):
    """What became of one."""

    id: str
    status: Literal["approved", "already", "failed"]
    error: str | None
    retryable: bool
    """Nothing is wrong with it; the same again may pass."""


class ApprovalsAnswer(Body):
    """What became of each, in the order of the request; an id that was sent twice stands once."""

    applied: int
    """How many were approved by this request."""
    failed: int
    results: list[ApprovalOutcome]


@serve(
    router,
    "POST /v1/reconciliation/adjustments",
    ApprovalsAnswer,
    scopes=(Scope.PROJECT_WRITE, Scope.RECONCILIATION_WRITE),
    tag="reconciliation",
)
def approve_adjustments(sent: Annotated[Approvals, FromBody()]) -> Response[Any]:
    """Approve many adjustments; each is decided by itself."""
    tenant = call.current().owner()
    approvals = wiring.current().adjustments.approve_all(
        tenant, sent.adjustment_ids, _actor(), sent.reason
    )
    results = [_outcome(one) for one in approvals]
    statuses = [one.status for one in results]
    return answer(
        ApprovalsAnswer(
            applied=statuses.count("approved"), failed=statuses.count("failed"), results=results
        )
    )


def _outcome(approval: Approval) -> ApprovalOutcome:
    status: Literal["approved", "already", "failed"] = "failed"
    if approval.decision is not None:
        status = "approved" if approval.decision.is_new else "already"
    return ApprovalOutcome(
        id=approval.id,
        status=status,
        error=approval.error or None,
        retryable=approval.is_retryable,
    )
