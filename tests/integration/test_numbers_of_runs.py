"""What runs of the functions leave for CloudWatch: heartbeats, what waits, and what differs."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from functions.archiver.handler import handler as archive
from functions.canary.handler import handler as check
from functions.ingest.handler import handler as ingest
from functions.invocation import invocation
from functions.lane_folder.handler import handler as fold_lanes
from functions.period_closer.handler import handler as close_periods
from functions.rebuilder.handler import handler as rebuild
from functions.writer.handler import handler as write
from infra.functions import CANARY, PERIOD_CLOSER, WRITER
from metering.adapters.emf import EmfMetrics
from metering.period import NEVER, Span
from metering.period_close import PeriodClose, PeriodState, is_overdue
from metering.push import Stop
from metering.reconciliation import Cause, Finding, Report, Row, Status
from metering.telemetry import CountedReports, NoMetrics
from metering.wiring import Wiring, using
from tests.billing_world import MINUTE, NOVEMBER, BillingWorld, Context
from tests.builders import DEMO, NOON, a_counter, a_sent_event, an_http_request

type Numbers = Callable[[], dict[str, float]]


@pytest.fixture
def numbers(capsys: pytest.CaptureFixture[str]) -> Numbers:
    """What the invocations since the last look have written, one line each at most."""

    def read() -> dict[str, float]:
        lines = [one for one in capsys.readouterr().out.splitlines() if '"_aws"' in one]
        found: dict[str, float] = {}
        for line in map(json.loads, lines):
            found |= {name: sum(value) for name, value in line.items() if isinstance(value, list)}
        return found

    return read


def on_cloudwatch(wiring: Wiring) -> Wiring:
    wiring.__dict__["metrics"] = EmfMetrics("prod")
    return wiring


def test_one_request_to_ingest_leaves_one_line(
    wiring: Wiring, capsys: pytest.CaptureFixture[str]
) -> None:
    on_cloudwatch(wiring)
    event = a_sent_event(idempotencyKey="k")

    ingest(an_http_request({"events": [event, event, event | {"quantity": 2}, {}]}), None)

    (line,) = capsys.readouterr().out.splitlines()
    told = {name: value for name, value in json.loads(line).items() if name[0] == "E"}
    assert told == {
        "EventsAccepted": [1.0],
        "EventsDuplicate": [1.0],
        "EventsConflict": [1.0],
        "EventsRefused": [1.0],
        "EventsQuarantined": [1.0],
    }


def test_an_invocation_that_raises_leaves_its_numbers(wiring: Wiring, numbers: Numbers) -> None:
    on_cloudwatch(wiring)

    @invocation
    def fails(_event: object, _context: object) -> None:
        wiring.metrics.count("events_conflict_total", meter="api_calls")
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        fails({}, None)
    assert numbers() == {"EventsConflict": 1}


def test_scheduled_runs_that_ended_well_leave_their_heartbeat(
    billing: BillingWorld, numbers: Numbers
) -> None:
    on_cloudwatch(billing.wiring)
    fold_lanes({}, None)
    assert numbers() == {"LaneFolderRan": 1}
    rebuild({}, None)
    assert numbers() == {"RebuilderRan": 1}
    rebuild({"tenantId": "demo"}, None)
    assert numbers() == {}
    write({}, Context(WRITER))
    assert numbers()["WriterRan"] == 1
    close_periods({}, Context(PERIOD_CLOSER))
    assert numbers() == {"PeriodCloserRan": 1, "ClosesHeld": 0, "ClosesOverdue": 0}
    billing.reconcile()
    assert numbers()["ReconcilerRan"] == 1
    billing.reconcile(tenantId=DEMO, period="2026-11")
    assert "ReconcilerRan" not in numbers()


class Fake:
    """A canary, or an archiver, that always answers the same."""

    def __init__(self, **told: object) -> None:
        self._told = told

    def run(self, *_: object) -> dict[str, object]:
        return self._told


def test_canary_and_archiver_leave_their_heartbeats(wiring: Wiring, numbers: Numbers) -> None:
    on_cloudwatch(wiring)
    assert check({}, Context(CANARY)) == {"canary": "off"}
    assert numbers() == {}
    wiring.__dict__ |= {"canary": Fake(canary="agrees"), "archiver": Fake(repeated=[])}

    check({}, Context(CANARY))
    assert numbers() == {"CanaryRan": 1}
    archive({}, None)
    assert numbers() == {"ArchiverRan": 1}


def test_an_archiver_whose_exports_fail_leaves_no_heartbeat(
    wiring: Wiring, numbers: Numbers
) -> None:
    on_cloudwatch(wiring)
    wiring.__dict__ |= {"archiver": Fake(repeated=["2026-11-01T0300--2026-11-02T0300"])}

    archive({}, None)

    assert numbers() == {}


def test_a_run_that_could_tell_stripe_nothing_leaves_no_heartbeat(
    wiring: Wiring, numbers: Numbers
) -> None:
    with using(on_cloudwatch(Wiring(wiring.config, clock=wiring.clock))):
        assert "skipped" in write({}, Context(WRITER))
        assert "skipped" in close_periods({}, Context(PERIOD_CLOSER))["closing"]

    assert numbers() == {}


def test_the_writer_tells_what_waits_for_stripe(billing: BillingWorld, numbers: Numbers) -> None:
    on_cloudwatch(billing.wiring)
    billing.map()
    billing.customer("cus_A")
    billing.use("10")
    billing.write()
    (stream,) = billing.wiring.pushes.streams(a_counter(), NOVEMBER)
    stop = Stop("ambiguous_minute", "look", NOON, None)
    assert billing.wiring.pushes.store(replace(stream, stopped=stop)) is not None
    numbers()
    billing.advance(30 * MINUTE)

    billing.write()

    found = numbers()
    assert found["WriterRan"] == 1
    assert found["StreamsStopped"] == 1
    assert found["OldestUnsentUsage"] == 1800
    assert found["OldestUnresolvedPush"] == 0
    assert found["LateUsageEndsIn"] == (NOVEMBER.end - NOON).total_seconds() - 1800


# --- what differs ---------------------------------------------------------------------------------


class Kept(NoMetrics):
    """Remembers the gauges."""

    def __init__(self) -> None:
        self.gauges: dict[str, float] = {}

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name + "".join(f"/{one}" for one in labels.values())] = value


class NoReports:
    """Keeps nothing."""

    def save(self, report: Report) -> None:
        """Nothing is kept."""

    def latest(self, *_: Any) -> None:
        """None."""


def a_report(*findings: Finding, month: str = "2026-11") -> Report:
    row = Row(
        counter=a_counter(),
        period=NOVEMBER,
        subscription_item_id="",
        ledger=Decimal(10),
        counted=Decimal(10),
        pushed=Decimal(10),
        stripe=Decimal(3),
        stripe_read_at=NOON,
        findings=findings,
        status=Status.INVESTIGATE,
    )
    return Report("rec_1", DEMO, month, NOON, (row,), 0)


def test_drift_is_the_greatest_difference_that_time_will_not_mend() -> None:
    metrics = Kept()
    reports = CountedReports(NoReports(), metrics)

    reports.save(a_report(Finding(Cause.IN_FLIGHT, Decimal(7), "Under way.")))
    assert metrics.gauges["reconciliation_drift_abs"] == 0

    lost = Finding(Cause.LOST_PUSH, Decimal(-7), "Lost.")
    settled = Finding(Cause.FOREIGN_WRITER, Decimal(90), "Cancelled.", is_settled=True)
    reports.save(a_report(lost, settled))
    assert metrics.gauges["reconciliation_drift_abs"] == 7
    assert metrics.gauges["reconciliation_unexplained_rows"] == 1

    reports.save(a_report(month="2026-10"))
    assert metrics.gauges["reconciliation_drift_abs"] == 7, "the other month still differs"

    reports.save(a_report())
    assert metrics.gauges["reconciliation_drift_abs"] == 0


def a_close(**changes: Any) -> PeriodClose:
    period = Span(NOON - timedelta(days=30), NOON)
    close = PeriodClose(DEMO, a_counter().customer, period, PeriodState.CLOSING, NOON)
    return replace(close, **changes)


@pytest.mark.parametrize(
    ("close", "after"),
    [
        (a_close(), timedelta(days=5)),
        (a_close(invoice="in_1"), timedelta(hours=13)),
        (a_close(invoice="in_1", finalizes_at=NOON + timedelta(days=2)), timedelta(hours=60)),
        (a_close(invoice="in_1", finalizes_at=NEVER), timedelta(hours=13)),
    ],
)
def test_a_close_is_overdue_when_stripe_should_long_have_finalized(
    close: PeriodClose, after: timedelta
) -> None:
    assert not is_overdue(close, NOON + after - MINUTE)
    assert is_overdue(close, NOON + after)
    assert not is_overdue(replace(close, is_held=True), NOON + after)
    assert not is_overdue(replace(close, state=PeriodState.CLOSED), NOON + after)


def test_the_closer_tells_how_many_closes_are_held_and_overdue(
    billing: BillingWorld, numbers: Numbers
) -> None:
    on_cloudwatch(billing.wiring)
    closes = billing.wiring.period_closes
    later = NOON + timedelta(days=300)
    assert closes.store(a_close(is_held=True, invoice="in_1", next_look_at=later)) is not None
    before = Span(NOON - timedelta(days=70), NOON - timedelta(days=40))
    assert closes.store(a_close(period=before, next_look_at=later)) is not None

    list(closes.unfinished())
    billing.wiring.metrics.flush()

    assert numbers() == {"ClosesHeld": 1, "ClosesOverdue": 1}
