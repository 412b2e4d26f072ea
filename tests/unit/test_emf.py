"""Numbers leave for CloudWatch as one line an invocation, under few names and one dimension."""

import inspect
import json
import subprocess
import sys
from typing import Any, get_args

import pytest

from infra.functions import FUNCTIONS, Schedule
from metering import delivery
from metering.adapters.emf import RULES, EmfMetrics
from metering.pusher import name_of
from metering.reconciliation import Cause
from metering.telemetry import DEFINITIONS
from metering.webhook import Reason


@pytest.fixture
def metrics() -> EmfMetrics:
    return EmfMetrics("prod")


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_an_invocations_counts_are_added_up_and_written_once(
    metrics: EmfMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    for meter in ("api_calls", "egress_bytes"):
        metrics.count("events_ingested_total", 40, meter=meter)
    metrics.count("events_duplicate_total", meter="api_calls")
    assert lines(capsys) == []

    metrics.flush()

    (line,) = lines(capsys)
    about = line.pop("_aws")["CloudWatchMetrics"]
    assert line == {"deployment": "prod", "EventsAccepted": [80.0], "EventsDuplicate": [1.0]}
    assert about == [
        {
            "Namespace": "StripeMeter",
            "Dimensions": [["deployment"]],
            "Metrics": [
                {"Name": "EventsAccepted", "Unit": "Count"},
                {"Name": "EventsDuplicate", "Unit": "Count"},
            ],
        }
    ]


def test_the_next_invocation_begins_with_nothing(
    metrics: EmfMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics.count("events_ingested_total", 40, meter="api_calls")
    metrics.flush()
    metrics.flush()
    metrics.count("events_ingested_total", 2, meter="api_calls")
    metrics.flush()

    assert [line["EventsAccepted"] for line in lines(capsys)] == [[40.0], [2.0]]


def test_a_service_name_in_the_environment_is_no_second_dimension(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POWERTOOLS_SERVICE_NAME", "ingest")
    metrics = EmfMetrics("prod")
    metrics.count("events_conflict_total", meter="api_calls")
    metrics.flush()

    (line,) = lines(capsys)
    assert line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] == [["deployment"]]
    assert "service" not in line


def test_labels_choose_the_metric(metrics: EmfMetrics, capsys: pytest.CaptureFixture[str]) -> None:
    for answer in ("accepted", "already_exists", "rate_limited", "outcome_unknown", "refused"):
        metrics.count("pushes_total", 2, role="primary", answer=answer)
    metrics.count("pushes_held_total", 3, role="primary", reason="account_paused")
    metrics.count("pushes_held_total", 5, role="shadow", reason="no_shadow_key")
    metrics.flush()

    (line,) = lines(capsys)
    del line["_aws"], line["deployment"]
    assert line == {
        "PushesAccepted": [4.0],
        "StripeRateLimited": [2.0],
        "StripeUnreachable": [2.0],
        "StripeRefused": [2.0],
        "CountersHeld": [3.0],
        "AccountPaused": [3.0],
    }


def test_of_a_gauge_the_last_value_counts_and_labels_are_added_up(
    metrics: EmfMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics.gauge("oldest_unsent_usage_seconds", 30)
    metrics.gauge("oldest_unsent_usage_seconds", 20)
    metrics.gauge("reconciliation_rows", 9, cause="meter_inactive")
    metrics.gauge("reconciliation_rows", 1, cause="meter_inactive")
    metrics.gauge("reconciliation_rows", 2, cause="two_subscriptions")
    metrics.flush()

    (line,) = lines(capsys)
    assert line["OldestUnsentUsage"] == [20.0]
    assert line["RowsSetUpWrong"] == [3.0]
    units = {one["Name"]: one["Unit"] for one in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]}
    assert units == {"OldestUnsentUsage": "Seconds", "RowsSetUpWrong": "None"}


def test_what_no_alarm_needs_is_not_written(
    metrics: EmfMetrics, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics.observe("ingest_latency_ms", 12)
    metrics.count("http_requests_total", method="GET", route="/health", status_code="200")
    metrics.gauge("reconciliation_diff_abs", 3, meter="api_calls")
    metrics.flush()

    assert lines(capsys) == []
    assert metrics.exposition() is None


def test_every_rule_names_a_number_a_label_and_values_that_exist() -> None:
    known: dict[str, set[str]] = {
        "cause": {str(one) for one in Cause},
        "answer": {name_of(_made(kind)) for kind in get_args(delivery.Answer.__value__)},
        "outcome": {str(one) for one in Reason},
        "retryable": {"yes", "no"},
        "role": {"primary"},
        "reason": {"account_paused"},
        "function": {one.name for one in FUNCTIONS if isinstance(one.trigger, Schedule)},
    }
    for metric, rule in RULES.items():
        definition = DEFINITIONS[rule.source]
        assert not rule.label or rule.label in definition.labels, metric
        assert rule.values <= known.get(rule.label, set()), metric


def _made(kind: type) -> Any:
    fields = inspect.signature(kind).parameters
    return kind(*["" for one in fields.values() if one.default is one.empty])


def test_every_answer_of_stripes_is_counted_once() -> None:
    answers = [name_of(_made(kind)) for kind in get_args(delivery.Answer.__value__)]
    taken = [one for rule in RULES.values() if rule.source == "pushes_total" for one in rule.values]

    assert sorted(taken) == sorted(answers)


def test_every_schedule_has_a_heartbeat() -> None:
    scheduled = {one.name for one in FUNCTIONS if isinstance(one.trigger, Schedule)}
    beats = {one for rule in RULES.values() if rule.source == "runs_total" for one in rule.values}

    assert beats == scheduled


def test_the_metrics_stay_few_for_each_is_billed() -> None:
    assert len(RULES) <= 35


def test_prometheus_is_not_imported_where_numbers_go_to_cloudwatch() -> None:
    script = (
        "import sys; from metering.config import Config; from metering.wiring import Wiring;"
        " Wiring(Config.from_environment({'METRICS': 'emf', 'DEPLOYMENT': 'dev'})).metrics.flush();"
        " sys.exit('prometheus_client' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
