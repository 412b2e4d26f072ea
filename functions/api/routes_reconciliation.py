"""`/v1/reconciliation`: whether Stripe was told what was metered, and why not where it was not.

Of each month only the latest report is shown.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import AfterValidator, Field, WithJsonSchema

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, Quantity, TenantQuery, When
from functions.api.routing import new_router, serve
from metering import quantity, reconciliation_summary, wiring
from metering.auth import Scope
from metering.errors import BadRequestError
from metering.names import Metric
from metering.period import month_named
from metering.reconciliation import Report, Row, Status
from metering.reconciliation_summary import Drift

router = new_router()

READ = (Scope.PROJECT_READ, Scope.RECONCILIATION_READ)
WRITE = (Scope.PROJECT_WRITE, Scope.RECONCILIATION_WRITE)
MONTHS_MAX = 36
READS_MAX = 50
"""Summaries asked of Stripe while a caller waits; the scheduled runs read the rest."""
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def _month(value: str) -> str:
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", value) or value < "0001":
        raise ValueError("must be a month, YYYY-MM")
    return value


Month = Annotated[
    str, AfterValidator(_month), WithJsonSchema({"type": "string", "format": "YYYY-MM"})
]


class FindingState(Body):
    """One cause of a difference."""

    cause: str
    amount: Quantity
    explanation: str


class RowState(Body):
    """One customer's metric in one billing period; quantities in the metric's unit."""

    id: str
    """The report's."""
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
    diff: Quantity
    """The ledger less Stripe."""
    status: str
    findings: list[FindingState]
    created_at: When


class RowSummary(Body):
    """How many rows, and how bad."""

    total: int
    ok: int
    investigating: int
    resolved: int
    max_diff: Quantity


class PeriodReport(Body):
    """A month's latest report."""

    period: str
    reports: list[RowState]
    suggested_adjustments: list[str]
    """Empty: what the ledger holds is never bent to what Stripe says."""
    summary: RowSummary


@serve(router, "GET /v1/reconciliation/<period>", PeriodReport, tag="reconciliation")
def period_report(
    period: Annotated[Month, Path()],
    tenant_id: TenantQuery = None,
    format_: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response[Any]:
    """The latest report on the billing periods that begin in a month."""
    tenant = call.current().tenant_with(*READ)
    report = wiring.current().reports.latest(tenant, period)
    rows = report.rows if report else ()
    if format_ == "csv":
        lines = [_csv_line(row, period) for row in rows]
        return _csv(_CSV_HEADER, lines, f"reconciliation_{tenant}_{period}.csv")
    states = [_row(report, row) for row in rows] if report else []
    return answer(
        PeriodReport(
            period=period, reports=states, suggested_adjustments=[], summary=_summary(rows)
        )
    )


def _row(report: Report, row: Row) -> RowState:
    return RowState(
        id=report.id,
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
        diff=row.difference,
        status=row.status,
        findings=[
            FindingState(cause=one.cause, amount=one.amount, explanation=one.explanation)
            for one in row.findings
        ],
        created_at=report.created_at,
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


@serve(router, "GET /v1/reconciliation/summary", ReconciliationSummary, tag="reconciliation")
def summary(
    period_start: Annotated[Month, Query(alias="periodStart")],
    period_end: Annotated[Month, Query(alias="periodEnd")],
    tenant_id: TenantQuery = None,
    format_: Annotated[Literal["json", "csv"], Query(alias="format")] = "json",
) -> Response[Any]:
    """Drift per metric over the latest reports of a range of months, both included."""
    tenant = call.current().tenant_with(*READ)
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


@serve(router, "POST /v1/reconciliation/run", RunAnswer, tag="reconciliation", status=202)
def run(sent: Annotated[RunRequest, FromBody()]) -> Response[Any]:
    """Reconcile the caller's tenant now."""
    tenant = call.current().tenant_with(*WRITE)
    month = sent.period or f"{wiring.current().clock.now():%Y-%m}"
    report = wiring.current().reconciler.run(tenant, month, reads_max=READS_MAX)
    message = "Reconciliation done"
    return answer(RunAnswer(message=message, job_id=report.id, period=month), 202)


# --- CSV ------------------------------------------------------------------------------------------

_CSV_HEADER = (
    *("subscription_item_id", "period", "local", "stripe", "drift_abs", "drift_pct", "status"),
    *("metric", "customer_ref", "cause"),
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
