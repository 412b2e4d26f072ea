"""Reports and their summary: only the latest run counts, and nothing cancels."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from metering.adapters import prometheus
from metering.auth import Scope
from metering.counter import CounterKey
from metering.names import CustomerRef, Metric, TenantId
from metering.period import Span
from metering.reconciliation import Cause, Finding, Proposal, Repair, Report, Row, Status
from metering.wiring import Wiring
from tests.api_client import Answer, Api, api_of, meter
from tests.billing_world import BillingWorld
from tests.builders import NOON, an_entry
from tests.fake_billing import FakeBilling

ACME = TenantId("acme")
NOVEMBER = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


@pytest.fixture
def api(wiring: Wiring) -> Api:
    wiring.billing = FakeBilling()
    return api_of(wiring, "acme")


def a_row(
    ledger: str,
    stripe: str | None,
    *,
    customer: str = "cus_A",
    metric: str = "api_calls",
    status: Status = Status.OK,
) -> Row:
    difference = Decimal(ledger) - Decimal(stripe or 0)
    findings = (Finding(Cause.AWAITING_PUSH, difference, "Not told yet."),) if difference else ()
    return Row(
        counter=CounterKey(ACME, CustomerRef(customer), Metric(metric)),
        period=NOVEMBER,
        subscription_item_id="si_1",
        ledger=Decimal(ledger),
        counted=Decimal(ledger),
        pushed=Decimal(stripe or 0),
        stripe=Decimal(stripe) if stripe is not None else None,
        stripe_read_at=NOON if stripe is not None else None,
        findings=findings,
        status=status,
    )


def save(
    wiring: Wiring,
    rows: Sequence[Row],
    *,
    at: datetime = NOON,
    month: str = "2026-11",
    tenant: TenantId = ACME,
) -> None:
    report = Report(f"rep-{tenant}-{at:%d%H}-{month}", tenant, month, at, tuple(rows), 0)
    wiring.reports.save(report)


def body(answer: Answer) -> Any:
    assert answer.status == 200, answer.text
    return answer.body


def test_a_months_report_holds_each_rows_numbers_and_causes(wiring: Wiring, api: Api) -> None:
    wrong = a_row("12345678901234.123457", "2", customer="c", status=Status.INVESTIGATE)
    save(wiring, [a_row("5", "5"), wrong, a_row("1", None, metric="unmapped")])

    found = body(api.get("/v1/reconciliation/2026-11"))

    assert found["period"] == "2026-11"
    assert found["suggestedAdjustments"] == []
    assert found["summary"] == {
        "total": 3,
        "ok": 2,
        "investigating": 1,
        "resolved": 0,
        "maxDiff": Decimal("12345678901232.123457"),
    }
    assert found["reports"][1] == {
        "id": "rep-acme-2012-2026-11",
        "role": "primary",
        "tenantId": "acme",
        "metric": "api_calls",
        "customerRef": "c",
        "subscriptionItemId": "si_1",
        "periodStart": "2026-11-01T00:00:00.000Z",
        "periodEnd": "2026-12-01T00:00:00.000Z",
        "localTotal": Decimal("12345678901234.123457"),
        "countedTotal": Decimal("12345678901234.123457"),
        "pushedTotal": 2,
        "stripeTotal": 2,
        "invoicedTotal": None,
        "invoice": "",
        "diff": Decimal("12345678901232.123457"),
        "status": "investigate",
        "cause": "awaiting_push",
        "explanation": "Not told yet.",
        "findings": [
            {
                "cause": "awaiting_push",
                "amount": Decimal("12345678901232.123457"),
                "explanation": "Not told yet.",
                "isSettled": False,
                "looks": [],
            }
        ],
        "createdAt": "2026-11-20T12:00:00.000Z",
    }
    assert found["reports"][2]["stripeTotal"] is None


def test_what_was_repaired_and_what_is_proposed_stand_beside_the_rows(
    wiring: Wiring, api: Api
) -> None:
    row = a_row("5", "5")
    about = (row.counter, row.period)
    repair = Repair(*about, Cause.ASYNC_REJECTED, Decimal(7), "u1.x.1", "Taken back.")
    proposal = Proposal(*about, Cause.FOREIGN_WRITER, Decimal("-2.5"), "Find the writer.")
    report = Report("rep-1", ACME, "2026-11", NOON, (row,), 0, (repair,), (proposal,))
    wiring.reports.save(report)

    found = body(api.get("/v1/reconciliation/2026-11"))

    common = {
        "metric": "api_calls",
        "customerRef": "cus_A",
        "periodStart": "2026-11-01T00:00:00.000Z",
    }
    assert found["suggestedAdjustments"] == [
        common
        | {
            "cause": "foreign_writer",
            "amount": Decimal("-2.5"),
            "explanation": "Find the writer.",
        }
    ]
    assert found["repairs"] == [
        common
        | {
            "cause": "async_rejected",
            "amount": 7,
            "identifier": "u1.x.1",
            "explanation": "Taken back.",
        }
    ]
    assert wiring.reports.latest(ACME, "2026-11") == report


def test_one_row_is_looked_at_now_hour_by_hour_and_minute_by_minute(
    billing: BillingWorld,
) -> None:
    billing.map()
    billing.stand_in.add_customers(["cus_A"])
    billing.use("10")
    billing.write()
    billing.advance(2 * timedelta(hours=1))
    at = NOON + timedelta(minutes=25)
    billing.stand_in.send_foreign_event("api_calls", "cus_A", "3", timestamp=int(at.timestamp()))
    demo = api_of(billing.wiring, "demo")
    asked = {"customerRef": "cus_A", "metric": "api_calls"}

    found = body(demo.get("/v1/reconciliation/2026-11/rows", **asked))

    (row,) = found["rows"]
    nobody = {"identifier": "", "firstSeenAt": None}
    assert (row["row"]["cause"], row["row"]["status"]) == ("foreign_writer", "investigate")
    assert row["isComplete"]
    assert row["hours"] == [
        nobody
        | {
            "start": "2026-11-20T12:00:00.000Z",
            "end": "2026-11-20T13:00:00.000Z",
            "expected": 10,
            "seen": 13,
        }
    ]
    assert row["minutes"] == [
        nobody
        | {
            "start": "2026-11-20T12:25:00.000Z",
            "end": "2026-11-20T12:26:00.000Z",
            "expected": 0,
            "seen": 3,
        }
    ]
    assert body(demo.get("/v1/reconciliation/2026-11"))["reports"] == []
    unknown = demo.get("/v1/reconciliation/2026-11/rows", **(asked | {"metric": "other"}))
    assert unknown.status == 404
    assert "no usage of other by cus_A" in unknown.body["message"]


def test_only_the_latest_run_is_shown_and_summed(wiring: Wiring, api: Api) -> None:
    for hour in range(3):
        save(wiring, [a_row("40", "40")], at=NOON + timedelta(hours=hour))

    report = body(api.get("/v1/reconciliation/2026-11"))
    summary = body(
        api.get("/v1/reconciliation/summary", periodStart="2026-11", periodEnd="2026-11")
    )

    assert [row["id"] for row in report["reports"]] == ["rep-acme-2014-2026-11"]
    assert summary["overall"]["local"] == 40
    assert summary["overall"]["drift_pct"] == 0


def test_a_month_without_a_report_is_empty(api: Api) -> None:
    found = body(api.get("/v1/reconciliation/2026-10"))

    assert found["reports"] == []
    assert found["summary"]["total"] == 0


def test_another_tenants_reports_are_not_noticed(wiring: Wiring, api: Api) -> None:
    save(wiring, [a_row("9", "9")], tenant=TenantId("other"))

    assert body(api.get("/v1/reconciliation/2026-11"))["reports"] == []


def test_errors_of_opposite_signs_do_not_cancel(wiring: Wiring, api: Api) -> None:
    save(wiring, [a_row("10", "13", customer="a"), a_row("13", "10", customer="b")])

    summary = body(
        api.get("/v1/reconciliation/summary", periodStart="2026-11", periodEnd="2026-11")
    )

    assert summary["perMetric"] == [
        {
            "metric": "api_calls",
            "local": 23,
            "stripe": 23,
            "drift_abs": 6,
            "drift_pct": Decimal("0.260869565"),
            "items": 2,
        }
    ]


def test_metrics_of_different_units_are_not_added_up(wiring: Wiring, api: Api) -> None:
    save(wiring, [a_row("10", "8"), a_row("500", "500", metric="bytes")])
    save(wiring, [a_row("1", None)], month="2026-10")

    summary = body(
        api.get("/v1/reconciliation/summary", periodStart="2026-09", periodEnd="2026-11")
    )

    assert (summary["periodStart"], summary["periodEnd"]) == ("2026-09", "2026-11")
    assert [(one["metric"], one["local"], one["stripe"]) for one in summary["perMetric"]] == [
        ("api_calls", 11, 8),
        ("bytes", 500, 500),
    ]
    assert summary["overall"] == {
        "local": None,
        "stripe": None,
        "drift_abs": None,
        "drift_pct": Decimal("0.375"),
        "metrics": 2,
        "items": 3,
    }


def rows_of(answer: Answer) -> list[list[str]]:
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    return list(csv.reader(io.StringIO(answer.text)))


def test_a_report_as_csv_begins_with_the_peers_columns(wiring: Wiring, api: Api) -> None:
    save(wiring, [a_row("10", "8", customer="=cmd()", status=Status.INVESTIGATE)])

    answer = api.get("/v1/reconciliation/2026-11", format="csv")

    assert rows_of(answer) == [
        [
            "subscription_item_id",
            "period",
            "local",
            "stripe",
            "drift_abs",
            "drift_pct",
            "status",
            "metric",
            "customer_ref",
            "cause",
            "ledger",
            "counter",
            "pushed",
            "invoiced",
            "invoice",
            "explanation",
        ],
        [
            "si_1",
            "2026-11",
            "10",
            "8",
            "2",
            "0.25",
            "investigate",
            "api_calls",
            "'=cmd()",
            "awaiting_push",
            "10",
            "10",
            "8",
            "",
            "",
            "Not told yet.",
        ],
    ]
    name = 'attachment; filename="reconciliation_acme_2026-11.csv"'
    assert answer.headers["Content-Disposition"] == name


def test_a_summary_as_csv_ends_with_the_total(wiring: Wiring, api: Api) -> None:
    save(wiring, [a_row("10", "8"), a_row("0", "0", metric="bytes")])
    months = {"periodStart": "2026-11", "periodEnd": "2026-11"}

    answer = api.get("/v1/reconciliation/summary", format="csv", **months)

    assert rows_of(answer) == [
        ["metric", "local", "stripe", "drift_abs", "drift_pct", "items"],
        ["api_calls", "10", "8", "2", "0.25", "1"],
        ["bytes", "0", "0", "0", "0", "1"],
        ["TOTAL", "", "", "", "0.25", "2"],
    ]


@pytest.mark.parametrize(
    ("path", "query", "message"),
    [
        ("/v1/reconciliation/2026-13", {}, "path.period"),
        ("/v1/reconciliation/november", {}, "must be a month, YYYY-MM"),
        ("/v1/reconciliation/0000-01", {}, "must be a month, YYYY-MM"),
        ("/v1/reconciliation/2026-11", {"format": "xml"}, "query.format"),
        ("/v1/reconciliation/summary", {"periodStart": "2026-11"}, "query.periodEnd"),
        (
            "/v1/reconciliation/summary",
            {"periodStart": "2026-11", "periodEnd": "2026-10"},
            "lies before",
        ),
        (
            "/v1/reconciliation/summary",
            {"periodStart": "2020-01", "periodEnd": "2026-10"},
            "more than 36 months",
        ),
    ],
)
def test_a_wrong_question_is_refused(
    api: Api, path: str, query: dict[str, str], message: str
) -> None:
    answer = api.get(path, **query)

    assert answer.status == 400
    assert message in answer.body["message"]


def test_a_run_answers_for_its_own_tenant_and_leaves_one_report(wiring: Wiring, api: Api) -> None:
    wiring.metrics = prometheus.PrometheusMetrics()
    meter(wiring, [an_entry("2.5", tenant="acme"), an_entry("7", tenant="other")])

    answer = api.post("/v1/reconciliation/run", {})

    assert answer.status == 202
    assert answer.body["message"] == "Reconciliation done"
    assert answer.body["period"] == "2026-11"
    report = body(api.get("/v1/reconciliation/2026-11"))
    assert [(row["id"], row["localTotal"]) for row in report["reports"]] == [
        (answer.body["jobId"], Decimal("2.5"))
    ]
    assert report["reports"][0]["findings"][0]["cause"] == "unmapped"
    exposition = wiring.metrics.exposition()
    assert exposition is not None
    assert "recon_runs_total 1.0" in exposition[1]
    assert 'reconciliation_diff_abs{meter="api_calls"} 2.5' in exposition[1]


def test_a_run_of_another_month_is_asked_for_by_name(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry("1", tenant="acme", at=NOON - timedelta(days=30))])

    answer = api.post("/v1/reconciliation/run", {"period": "2026-10"})

    assert answer.body["period"] == "2026-10"
    assert body(api.get("/v1/reconciliation/2026-10"))["summary"]["total"] == 1
    assert api.post("/v1/reconciliation/run", {"period": "soon"}).status == 400


def test_reading_does_not_allow_running(wiring: Wiring, api: Api) -> None:
    reader = api_of(wiring, "acme", Scope.RECONCILIATION_READ)

    assert reader.get("/v1/reconciliation/2026-11").status == 200
    assert reader.post("/v1/reconciliation/run", {}).status == 403
