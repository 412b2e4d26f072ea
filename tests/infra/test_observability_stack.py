"""Who is told when something is wrong, and what the dashboard shows."""

import json
from dataclasses import replace
from typing import Any

from infra.alarms import Alarm, Kind, Metric, Severity, alarms_of
from infra.dashboard import STATIONS, WIDTH
from infra.functions import AGGREGATOR
from metering.adapters.emf import RULES
from tests.infra.conftest import Synthesized


def _symbols(stacks: Synthesized) -> dict[str, str]:
    (api,) = stacks.pipeline.all("AWS::ApiGatewayV2::Api")
    (mapping,) = (
        one
        for one in stacks.pipeline.all("AWS::Lambda::EventSourceMapping")
        if "TumblingWindowInSeconds" in one.properties
    )
    return {
        "${api}": f"<{api.logical_id}>",
        f"${{{AGGREGATOR.name}-mapping}}": f"<{mapping.logical_id}>",
    }


def _dimensions(metric: Metric, stacks: Synthesized) -> list[dict[str, str]]:
    named = metric.dimension(stacks.deployment)
    symbols = _symbols(stacks)
    return [
        {"Name": str(kind), "Value": symbols.get(value, value)} for kind, value in named.items()
    ]


def _as_cloudwatch_has_it(alarm: Alarm, stacks: Synthesized) -> dict[str, Any]:
    """A row of the table, as a template writes it."""
    topic = _topic(stacks, alarm.severity)
    written: dict[str, Any] = {
        "AlarmName": stacks.deployment.prefix + alarm.name,
        "AlarmDescription": f"{alarm.says} What to do: docs/runbook.md#{alarm.section}",
        "Threshold": alarm.threshold,
        "ComparisonOperator": alarm.comparison.value,
        "EvaluationPeriods": alarm.periods,
        "TreatMissingData": alarm.missing.value,
        "AlarmActions": [topic],
        "OKActions": [topic],
    }
    if not alarm.expression:
        (metric,) = alarm.metrics.values()
        kind = "ExtendedStatistic" if metric.statistic.startswith("p") else "Statistic"
        one = {"Namespace": metric.namespace, "MetricName": metric.name, "Period": alarm.period_s}
        dimensions = _dimensions(metric, stacks)
        return written | one | {kind: metric.statistic, "Dimensions": dimensions}
    queries = [
        {
            "Id": name,
            "ReturnData": False,
            "MetricStat": {
                "Period": alarm.period_s,
                "Stat": metric.statistic,
                "Metric": {
                    "Namespace": metric.namespace,
                    "MetricName": metric.name,
                    "Dimensions": _dimensions(metric, stacks),
                },
            },
        }
        for name, metric in alarm.metrics.items()
    ]
    result = {"Id": "result", "Expression": alarm.expression, "Label": alarm.name}
    return written | {"Metrics": [*queries, result | {"ReturnData": True}]}


def _topic(stacks: Synthesized, severity: Severity) -> str:
    name = stacks.deployment.prefix + severity
    return f"<{stacks.observability.one('AWS::SNS::Topic', TopicName=name).logical_id}>"


def test_the_alarms_are_those_of_the_table(stacks: Synthesized) -> None:
    made = {
        one.properties["AlarmName"]: {
            name: value for name, value in one.properties.items() if name != "Tags"
        }
        for one in stacks.observability.all("AWS::CloudWatch::Alarm")
    }
    said = {
        stacks.deployment.prefix + alarm.name: _as_cloudwatch_has_it(alarm, stacks)
        for alarm in alarms_of(stacks.deployment)
    }

    assert made == said
    assert len(made) > 40


def test_every_alarm_watches_something_that_is_deployed(stacks: Synthesized) -> None:
    prefix = stacks.deployment.prefix
    names = {
        Kind.FUNCTION: _names(stacks.pipeline, "AWS::Lambda::Function", "FunctionName"),
        Kind.QUEUE: _names(stacks.pipeline, "AWS::SQS::Queue", "QueueName"),
        Kind.TABLE: _names(stacks.data, "AWS::DynamoDB::Table", "TableName"),
    }

    for alarm in alarms_of(stacks.deployment):
        for metric in alarm.metrics.values():
            if metric.kind in names:
                assert prefix + metric.of in names[metric.kind], alarm.name


def _names(template: Any, kind: str, name: str) -> set[str]:
    return {one.properties[name] for one in template.all(kind)}


def test_every_queue_of_dead_letters_has_an_alarm(stacks: Synthesized) -> None:
    queues = _names(stacks.pipeline, "AWS::SQS::Queue", "QueueName")
    watched = {
        stacks.deployment.prefix + metric.of
        for alarm in alarms_of(stacks.deployment)
        for metric in alarm.metrics.values()
        if metric.kind is Kind.QUEUE
    }

    assert {name for name in queues if name.endswith("-dead")} <= watched


def test_there_is_no_alarm_for_what_is_not_deployed(dev: Synthesized) -> None:
    without = replace(dev.deployment, canary=False)

    assert not any("canary" in alarm.name for alarm in alarms_of(without))


def test_topics_are_encrypted_with_a_key_that_alarms_may_use(stacks: Synthesized) -> None:
    (key,) = stacks.observability.all("AWS::KMS::Key")
    users = [
        statement["Principal"].get("Service")
        for statement in key.properties["KeyPolicy"]["Statement"]
    ]

    assert "cloudwatch.amazonaws.com" in users
    assert key.properties["EnableKeyRotation"] is True
    for topic in stacks.observability.all("AWS::SNS::Topic"):
        assert topic.properties["KmsMasterKeyId"] == f"<{key.logical_id}.Arn>"


def test_alarms_may_publish_and_nobody_in_plain_text(stacks: Synthesized) -> None:
    policies = stacks.observability.all("AWS::SNS::TopicPolicy")

    assert len(policies) == 2
    for policy in policies:
        statements = policy.properties["PolicyDocument"]["Statement"]
        allowed = [one["Principal"] for one in statements if one["Effect"] == "Allow"]
        refused = [one["Condition"] for one in statements if one["Effect"] == "Deny"]
        assert allowed == [{"Service": "cloudwatch.amazonaws.com"}]
        assert refused == [{"Bool": {"aws:SecureTransport": "false"}}]


def test_the_address_that_is_given_hears_both_topics(prod: Synthesized, full: Synthesized) -> None:
    told = {
        one.properties["TopicArn"]: one.properties["Endpoint"]
        for one in full.observability.all("AWS::SNS::Subscription")
    }

    address = "oncall@example.com"
    assert told == {_topic(full, Severity.WARN): address, _topic(full, Severity.PAGE): address}
    assert prod.observability.all("AWS::SNS::Subscription") == []


def test_a_topic_that_exists_takes_all_alarms_instead_of_ours(bare: Synthesized) -> None:
    told = {
        topic
        for one in bare.observability.all("AWS::CloudWatch::Alarm")
        for topic in one.properties["AlarmActions"]
    }

    assert told == {bare.deployment.alarm_topic_arn}
    assert bare.observability.all("AWS::SNS::Topic") == []
    assert bare.observability.all("AWS::KMS::Key") == []


def test_the_dashboard_shows_the_way_from_left_to_right(stacks: Synthesized) -> None:
    (dashboard,) = stacks.observability.all("AWS::CloudWatch::Dashboard")
    widgets = json.loads(dashboard.properties["DashboardBody"])["widgets"]
    headings = sorted(
        (one["x"], one["properties"]["markdown"].split()[1])
        for one in widgets
        if one["type"] == "text"
    )

    assert [name for _, name in headings] == [
        "Ingest",
        "Ledger",
        "Stream",
        "Counters",
        "Writer",
        "Stripe",
        "Reconciler",
    ]
    assert sum(station.width for station in STATIONS) == WIDTH
    state = next(one for one in widgets if one["type"] == "alarm")
    assert len(state["properties"]["alarms"]) == len(alarms_of(stacks.deployment))


def test_the_dashboard_has_no_line_that_nobody_writes() -> None:
    ours = [
        metric.name
        for station in STATIONS
        for graph in station.graphs
        for metric in graph.lines.values()
        if metric.kind is Kind.DEPLOYMENT
    ]

    assert len(ours) > 15
    assert [name for name in ours if name not in RULES] == []
