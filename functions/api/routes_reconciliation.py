"""`/v1/reconciliation`: whether Stripe was told what was metered, and why not where it was not.

Of each month only the latest report is shown.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import AfterValidator, Field, WithJsonSchema

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, CustomerQuery, MetricName, Quantity, TenantQuery, When
from functions.api.routing import new_router, serve, success
from metering import quantity, reconciliation_summary, wiring
from metering.auth import Scope
from metering.counter import CounterKey
from metering.errors import BadRequestError, NotFoundError
from metering.evidence import MinuteSeen, SpanSeen
from metering.names import CustomerRef, Metric, TenantId
from metering.parity import ShadowDifference, differences, shadowed_rows
from metering.period import month_named
from metering.push import Role, quantity_of
from metering.reconciler import Examined
from metering.reconciliation import Finding, Look, Proposal, Repair, Report, Row, Status
from metering.reconciliation_summary import Drift

router = new_router()

READ = (Scope.PROJECT_READ, Scope.RECONCILIATION_READ)
WRITE = (Scope.PROJECT_WRITE, Scope.RECONCILIATION_WRITE)
MONTHS_MAX = 36
READS_MAX = 50
"""Summaries asked of Stripe while a caller waits; the scheduled runs read the rest."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


MONTH_PATTERN = r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])$"


def _month(value: str) -> str:
    if not re.fullmatch(MONTH_PATTERN, value):
        raise ValueError("must be a month, YYYY-MM")
    return value


def _or_csv(model: Any) -> dict[str, Any]:
    """What the document says of an answer that comes as JSON or, asked for, as a CSV file."""
    said = success(model)
    said["content"]["text/csv"] = {"schema": {"type": "string"}}
    said["headers"] = {
        "content-disposition": {
            "description": "Of CSV: the file's name.",
            "schema": {"type": "string"},
        }
    }
    return said


Month = Annotated[
    str, AfterValidator(_month), WithJsonSchema({"type": "string", "pattern": MONTH_PATTERN})
]


class LookState(Body):
    """An hour or a minute at Stripe."""

    start: When
    end: When
    expected: Quantity
    """What our pushes put there."""
    seen: Quantity
    """What Stripe holds there."""
    identifier: str
    """Of the push that is stamped with this minute; empty for an hour, or a minute of nobody's."""
    first_seen_at: When | None
    """When it was first seen to lack the push; a second look an hour later confirms it."""


class FindingState(Body):
    """One cause of a difference."""

    cause: str
    amount: Quantity
    explanation: str
    is_settled: bool
    """Whether what was to be done about it is done or decided."""
    looks: list[LookState]
    """The hours and minutes that show it."""


class RowState(Body):
    """One customer's metric in one billing period; quantities in the metric's unit."""

    id: str
    """The report's."""
    role: Role
    """`shadow`: what a test account was told, and holds."""
    tenant_id: str
    metric: str
    customer_ref: str
    subscription_item_id: str
    period_start: When
    period_end: When
    local_total: Quantity
    """The ledger, recounted."""
    counted_total: Quantity
    pushed_total: Quantity
    stripe_total: Quantity | None
    """Null when Stripe was not asked or has no such meter."""
    invoiced_total: Quantity | None
    """What the period's invoice bills; null while there is none."""
    invoice: str
    diff: Quantity
    """The ledger less Stripe."""
    status: str
    cause: str
    """The first finding's; empty when there is nothing to say."""
    explanation: str
    findings: list[FindingState]
    created_at: When


class RowDetails(Body):
    """A row as it is now, with its hours and minutes at Stripe."""

    row: RowState
    is_complete: bool
    """Whether the reads allowed for one question sufficed to look into every hour that differs."""
    hours: list[LookState]
    """Every hour in which something was told or is held."""
    minutes: list[LookState]
    """The minutes that hold something else than was told."""


class RowsNow(Body):
    """A customer's metric in the billing periods that begin in a month."""

    period: str
    rows: list[RowDetails]


class Suggestion(Body):
    """What a person could do about a difference; no run does it by itself."""

    metric: str
    customer_ref: str
    period_start: When
    cause: str
    amount: Quantity
    """By how much what Stripe was told should change."""
    explanation: str


class RepairState(Body):
    """A difference that the run put right by itself."""

    metric: str
    customer_ref: str
    period_start: When
    cause: str
    amount: Quantity
    identifier: str
    """Of the push that was taken back."""
    explanation: str


class RowSummary(Body):
    """How many rows, and how bad."""

    total: int
    ok: int
    investigating: int
    resolved: int
    max_diff: Quantity


class ShadowDifferenceState(Body):
    """What the primary and the shadow were told, where it is not the same."""

    metric: str
    customer_ref: str
    period_start: When
    cause: str
    primary: Quantity
    shadow: Quantity
    amount: Quantity
    """How much more the primary was told."""
    explanation: str


class ShadowReport(Body):
    """The test account's side of a month: its latest report, and how it differs."""

    reports: list[RowState]
    differences: list[ShadowDifferenceState]
    repairs: list[RepairState]
    summary: RowSummary


class PeriodReport(Body):
    """A month's latest report."""

    period: str
    reports: list[RowState]
    suggested_adjustments: list[Suggestion]
    """Of what Stripe was told: what the ledger holds is never bent to what Stripe says."""
    repairs: list[RepairState]
    summary: RowSummary
    shadow: ShadowReport | None
    """Of mappings with a shadow; null while there was none. No sum above includes it."""


@serve(
    router,
    "GET /v1/reconciliation/<period>",
    PeriodReport,
    scopes=READ,
    tag="reconciliation",
    responses={200: _or_csv(PeriodReport)},
)
def period_report(
    period: Annotated[Month, Path()],
    tenant_id: TenantQuery = None,
    format_: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
    role: Annotated[Role, Query()] = Role.PRIMARY,
) -> Response[Any]:
    """The latest report on the billing periods that begin in a month.

    `role` is for CSV alone, which holds the rows of one role; JSON has both.
    """
    tenant = call.current().owner()
    report = wiring.current().reports.latest(tenant, period)
    shadow = wiring.current().shadow_reports.latest(tenant, period)
    if format_ == "csv":
        return _csv_of(report if role is Role.PRIMARY else shadow, tenant, period, role)
    return answer(_both(period, report, shadow))


def _csv_of(report: Report | None, tenant: TenantId, period: str, role: Role) -> Response[Any]:
    rows = () if report is None else report.rows if role is Role.PRIMARY else shadowed_rows(report)
    mark = "" if role is Role.PRIMARY else f"_{role}"
    name = f"reconciliation{mark}_{tenant}_{period}.csv"
    return _csv(_CSV_HEADER, [_csv_line(row, period) for row in rows], name)


def _both(period: str, report: Report | None, shadow: Report | None) -> PeriodReport:
    """What the primary's report says, if there is one, and beside it the shadow's."""
    rows = report.rows if report else ()
    return PeriodReport(
        period=period,
        reports=[_row(report, row) for row in rows] if report else [],
        suggested_adjustments=[_suggestion(one) for one in report.proposals] if report else [],
        repairs=[_repair(one) for one in report.repairs] if report else [],
        summary=_summary(rows),
        shadow=_shadow(shadow, rows),
    )


def _shadow(report: Report | None, primary: Sequence[Row]) -> ShadowReport | None:
    if report is None:
        return None
    rows = shadowed_rows(report)
    return ShadowReport(
        reports=[_row(report, row) for row in rows],
        differences=[_difference(one) for one in differences(primary, rows)],
        repairs=[_repair(one) for one in report.repairs],
        summary=_summary(rows),
    )


def _difference(one: ShadowDifference) -> ShadowDifferenceState:
    return ShadowDifferenceState(
        metric=one.counter.metric,
        customer_ref=one.counter.customer,
        period_start=one.period.start,
        cause=one.cause,
        primary=one.primary,
        shadow=one.shadow,
        amount=one.amount,
        explanation=one.explanation,
    )


def _suggestion(proposal: Proposal) -> Suggestion:
    return Suggestion(
        metric=proposal.counter.metric,
        customer_ref=proposal.counter.customer,
        period_start=proposal.period.start,
        cause=proposal.cause,
        amount=proposal.amount,
        explanation=proposal.text,
    )


def _repair(repair: Repair) -> RepairState:
    return RepairState(
        metric=repair.counter.metric,
        customer_ref=repair.counter.customer,
        period_start=repair.period.start,
        cause=repair.cause,
        amount=repair.amount,
        identifier=repair.identifier,
        explanation=repair.text,
    )


def _row(report: Report, row: Row) -> RowState:
    return _row_state(report.id, report.created_at, row, report.role)


def _row_state(
    report_id: str, created_at: datetime, row: Row, role: Role = Role.PRIMARY
) -> RowState:
    return RowState(
        id=report_id,
        role=role,
        tenant_id=row.counter.tenant,
        metric=row.counter.metric,
        customer_ref=row.counter.customer,
        subscription_item_id=row.subscription_item_id,
        period_start=row.period.start,
        period_end=row.period.end,
        local_total=row.ledger,
        counted_total=row.counted,
        pushed_total=row.pushed,
        stripe_total=row.stripe,
        invoiced_total=row.invoiced,
        invoice=row.invoice.invoice if row.invoice else "",
        diff=row.difference,
        status=row.status,
        cause=row.cause,
        explanation=row.explanation,
        findings=[_finding(one) for one in row.findings],
        created_at=created_at,
    )


def _finding(finding: Finding) -> FindingState:
    return FindingState(
        cause=finding.cause,
        amount=finding.amount,
        explanation=finding.explanation,
        is_settled=finding.is_settled,
        looks=[_look(look) for look in finding.looks],
    )


def _look(look: Look) -> LookState:
    return LookState(
        start=look.span.start,
        end=look.span.end,
        expected=look.expected,
        seen=look.seen,
        identifier=look.identifier,
        first_seen_at=look.first_seen_at,
    )


def _summary(rows: Sequence[Row]) -> RowSummary:
    statuses = [row.status for row in rows]
    return RowSummary(
        total=len(rows),
        ok=statuses.count(Status.OK),
        investigating=statuses.count(Status.INVESTIGATE),
        resolved=statuses.count(Status.RESOLVED),
        max_diff=max((abs(row.difference) for row in rows), default=Decimal(0)),
    )


# --- one row, now ---------------------------------------------------------------------------------


@serve(
    router,
    "GET /v1/reconciliation/<period>/rows",
    RowsNow,
    scopes=READ,
    tag="reconciliation",
    may={502},
)
def rows_now(
    period: Annotated[Month, Path()],
    customer_ref: CustomerQuery,
    metric: Annotated[MetricName, Query()],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """One customer's metric read anew, with its hours and minutes at Stripe; nothing is kept.

    At most 50 requests for reading are made to Stripe.
    """
    tenant = call.current().owner()
    counter = CounterKey(tenant, CustomerRef(customer_ref), Metric(metric))
    found = wiring.current().reconciler.examine(tenant, period, counter, reads_max=READS_MAX)
    if not found:
        raise NotFoundError(
            f"no usage of {metric} by {customer_ref} in a billing period that begins in {period}"
        )
    return answer(RowsNow(period=period, rows=[_details(one) for one in found]))


def _details(one: Examined) -> RowDetails:
    evidence = one.evidence
    return RowDetails(
        row=_row_state("", wiring.current().clock.now(), one.row),
        is_complete=evidence is not None and evidence.is_complete,
        hours=[_span(hour, one.scale) for hour in evidence.hours] if evidence else [],
        minutes=[_minute(minute, one.scale) for minute in evidence.minutes] if evidence else [],
    )


def _span(hour: SpanSeen, scale: int) -> LookState:
    return _look(Look(hour.span, quantity_of(hour.expected, scale), quantity_of(hour.seen, scale)))


def _minute(minute: MinuteSeen, scale: int) -> LookState:
    identifier = minute.told.push.identifier if minute.told else ""
    expected, seen = quantity_of(minute.expected, scale), quantity_of(minute.seen, scale)
    return _look(Look(minute.span, expected, seen, identifier))


# --- summary --------------------------------------------------------------------------------------


class MetricDrift(Body):
    """A metric over all months asked for; the names are the peer's."""

    metric: str
    local: Quantity
    stripe: Quantity
    drift_abs: Annotated[Quantity, Field(alias="drift_abs")]
    drift_pct: Annotated[Quantity, Field(alias="drift_pct")]
    items: int


class OverallDrift(Body):
    """All metrics together; sums of different units mean nothing and are null."""

    local: Quantity | None
    stripe: Quantity | None
    drift_abs: Annotated[Quantity | None, Field(alias="drift_abs")]
    drift_pct: Annotated[Quantity, Field(alias="drift_pct")]
    """The greatest of any metric."""
    metrics: int
    items: int


class ReconciliationSummary(Body):
    """The latest reports of some months together."""

    period_start: str
    period_end: str
    per_metric: list[MetricDrift]
    overall: OverallDrift


@serve(
    router,
    "GET /v1/reconciliation/summary",
    ReconciliationSummary,
    scopes=READ,
    tag="reconciliation",
    responses={200: _or_csv(ReconciliationSummary)},
)
def summary(
    period_start: Annotated[Month, Query(alias="periodStart")],
    period_end: Annotated[Month, Query(alias="periodEnd")],
    tenant_id: TenantQuery = None,
    format_: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response[Any]:
    """Drift per metric over the latest reports of a range of months, both included."""
    tenant = call.current().owner()
    reports = [
        report
        for month in _months(period_start, period_end)
        if (report := wiring.current().reports.latest(tenant, month)) is not None
    ]
    drifts = reconciliation_summary.per_metric(reports)
    overall = _overall(list(drifts.values()))
    if format_ == "csv":
        name = f"reconciliation_summary_{tenant}_{period_start}_{period_end}.csv"
        return _csv(_SUMMARY_HEADER, _summary_lines(drifts, overall), name)
    return answer(_summary_state(period_start, period_end, drifts, overall))


def _months(first: str, last: str) -> list[str]:
    if last < first:
        raise BadRequestError("periodEnd: lies before periodStart", error="Validation Error")
    months = [first]
    while months[-1] < last:
        months.append(f"{month_named(months[-1]).end:%Y-%m}")
        if len(months) > MONTHS_MAX:
            raise BadRequestError(
                f"periodEnd: more than {MONTHS_MAX} months; ask in parts", error="Validation Error"
            )
    return months


def _overall(drifts: Sequence[Drift]) -> OverallDrift:
    alone = drifts[0] if len(drifts) == 1 else None
    return OverallDrift(
        local=alone.local if alone else None,
        stripe=alone.stripe if alone else None,
        drift_abs=alone.drift if alone else None,
        drift_pct=max((one.ratio for one in drifts), default=Decimal(0)),
        metrics=len(drifts),
        items=sum(one.rows for one in drifts),
    )


def _summary_state(
    first: str, last: str, drifts: dict[Metric, Drift], overall: OverallDrift
) -> ReconciliationSummary:
    per_metric = [
        MetricDrift(
            metric=metric,
            local=one.local,
            stripe=one.stripe,
            drift_abs=one.drift,
            drift_pct=one.ratio,
            items=one.rows,
        )
        for metric, one in drifts.items()
    ]
    return ReconciliationSummary(
        period_start=first, period_end=last, per_metric=per_metric, overall=overall
    )


# --- running --------------------------------------------------------------------------------------


class RunRequest(Body):
    """Which month to reconcile; the present one when it is left out."""

    tenant_id: str | None = None
    period: Month | None = None


class RunAnswer(Body):
    """The run is done; its report stands under its period."""

    message: str
    job_id: str
    """The report's id."""
    period: str


@serve(
    router,
    "POST /v1/reconciliation/run",
    RunAnswer,
    scopes=WRITE,
    tag="reconciliation",
    status=202,
    may={502},
)
def run(sent: Annotated[RunRequest, FromBody()]) -> Response[Any]:
    """Reconcile the caller's tenant now."""
    tenant = call.current().owner()
    month = sent.period or f"{wiring.current().clock.now():%Y-%m}"
    report = wiring.current().reconciler.run(tenant, month, reads_max=READS_MAX)
    message = "Reconciliation done"
    return answer(RunAnswer(message=message, job_id=report.id, period=month), 202)


# --- CSV ------------------------------------------------------------------------------------------

_CSV_HEADER = (
    *("subscription_item_id", "period", "local", "stripe", "drift_abs", "drift_pct", "status"),
    *("metric", "customer_ref", "cause"),
    *("ledger", "counter", "pushed", "invoiced", "invoice", "explanation"),
)
_SUMMARY_HEADER = ("metric", "local", "stripe", "drift_abs", "drift_pct", "items")


def _csv_line(row: Row, period: str) -> list[str]:
    drift = abs(row.difference)
    return [
        row.subscription_item_id,
        period,
        _number(row.ledger),
        _number(row.stripe),
        _number(drift),
        _number(reconciliation_summary.ratio(drift, row.stripe or Decimal(0))),
        row.status,
        _harmless(row.counter.metric),
        _harmless(row.counter.customer),
        row.cause,
        _number(row.ledger),
        _number(row.counted),
        _number(row.pushed),
        _number(row.invoiced),
        row.invoice.invoice if row.invoice else "",
        _harmless(row.explanation),
    ]


def _summary_lines(drifts: dict[Metric, Drift], overall: OverallDrift) -> Iterable[list[str]]:
    for metric, one in drifts.items():
        numbers = map(_number, (one.local, one.stripe, one.drift, one.ratio))
        yield [_harmless(metric), *numbers, str(one.rows)]
    totals = (overall.local, overall.stripe, overall.drift_abs, overall.drift_pct)
    yield ["TOTAL", *map(_number, totals), str(overall.items)]


def _number(value: Decimal | None) -> str:
    return "" if value is None else quantity.canonical(value)


def _harmless(text: str) -> str:
    """Tenants' names must not become formulas in whoever's spreadsheet opens the file."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def _csv(header: Sequence[str], lines: Iterable[Sequence[str]], name: str) -> Response[Any]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    safe_name = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    headers = {"Content-Disposition": f'attachment; filename="{safe_name}"'}
    return Response(200, "text/csv; charset=utf-8", text.getvalue(), headers)
