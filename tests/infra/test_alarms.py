"""The alarms are whole: each row is enough to make it, and each schedule and queue has its own."""

import re
from dataclasses import replace

import pytest

from infra import alarms
from infra.alarms import Alarm, Kind, Missing, Severity, alarms_of, beat_of, price_of
from infra.deployments import DEV, PROD
from infra.functions import FUNCTIONS, Schedule
from infra.tables import TABLES
from metering.adapters.emf import NAMESPACE, RULES

WHOLE = replace(PROD, shadow=True, warehouse=True, partner_event_bus="aws.partner/stripe.com/x")
"""A deployment with everything switched on."""
ROWS = alarms_of(WHOLE)


def named(name: str) -> Alarm:
    return next(one for one in ROWS if one.name == name)


def test_names_are_unique() -> None:
    assert len({one.name for one in ROWS}) == len(ROWS)


@pytest.mark.parametrize("alarm", ROWS, ids=lambda one: one.name)
def test_cloudwatch_takes_the_row(alarm: Alarm) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", alarm.name)
    assert alarm.says.endswith(".")
    assert (len(alarm.metrics) == 1) or alarm.expression
    assert all(re.fullmatch(r"[a-z]\w*", one) for one in alarm.metrics)
    assert all(one in alarm.expression for one in alarm.metrics if alarm.expression)
    assert alarm.period_s % 60 == 0
    longest = 86_400 if alarm.period_s < 3600 else 7 * 86_400
    assert alarm.period_s * alarm.periods <= longest


@pytest.mark.parametrize("alarm", ROWS, ids=lambda one: one.name)
def test_every_metric_is_written_by_somebody(alarm: Alarm) -> None:
    names = {one.name for one in FUNCTIONS}
    for metric in alarm.metrics.values():
        if metric.kind is Kind.DEPLOYMENT:
            assert metric.namespace == NAMESPACE
            assert metric.name in RULES
            assert metric.dimension(PROD) == {"deployment": "prod"}
        if metric.kind in {Kind.FUNCTION, Kind.MAPPING}:
            assert metric.of in names
        if metric.kind is Kind.TABLE:
            assert metric.of in {one.name for one in TABLES}
        if metric.kind is Kind.INDEX:
            assert metric.of in {
                f"{one.name}/{index.name}" for one in TABLES for index in one.indexes
            }


def test_dimensions_hold_the_deployments_names() -> None:
    (aggregator,) = named("counters-behind").metrics.values()
    (queue,) = named("usage-events-dead").metrics.values()
    (api,) = named("api-5xx").metrics.values()
    (mapping,) = named("failed-batches").metrics.values()
    (account,) = named("concurrency").metrics.values()

    assert aggregator.dimension(PROD) == {"FunctionName": "stripemeter-prod-aggregator"}
    assert queue.dimension(PROD) == {"QueueName": "stripemeter-prod-usage-events-dead"}
    assert api.dimension(PROD) == {"ApiId": "${api}"}
    assert mapping.dimension(PROD) == {"EventSourceMappingUUID": "${aggregator-mapping}"}
    assert account.dimension(PROD) == {}


def test_every_schedule_is_missed_when_it_falls_silent() -> None:
    silent = {one.name: one for one in ROWS if one.missing is Missing.BREACHING}

    scheduled = [one for one in FUNCTIONS if isinstance(one.trigger, Schedule)]
    assert len(silent) == len(scheduled)
    for function in scheduled:
        alarm = silent[f"{function.name.replace('_', '-')}-silent"]
        (metric,) = alarm.metrics.values()
        assert RULES[metric.name].values == {function.name}
        assert alarm.period_s >= function.timeout_s


def test_a_heartbeat_follows_the_deployments_schedule() -> None:
    slow = alarms_of(replace(PROD, schedules_s={"writer": 900}))

    assert named("writer-silent").period_s == 300
    assert next(one for one in slow if one.name == "writer-silent").period_s == 900
    assert beat_of(61) == (300, 3)
    assert beat_of(3600) == (3600, 3)
    assert beat_of(86_400) == (86_400, 2)


def test_iterator_age_warns_pages_and_names_the_rebuild() -> None:
    ages = [one for one in ROWS if "IteratorAge" in {m.name for m in one.metrics.values()}]

    assert [(one.threshold, one.severity, one.section) for one in ages] == [
        (300_000, Severity.WARN, "counters-fall-behind"),
        (3_600_000, Severity.PAGE, "counters-fall-behind"),
        (43_200_000, Severity.PAGE, "counters-must-be-rebuilt"),
    ]


def test_an_index_that_holds_its_table_up_is_watched_where_there_is_one() -> None:
    with_index = replace(PROD, event_index=True)
    watched = {one.name: one for one in alarms_of(with_index)}

    (metric,) = watched["events-by-counter-throttled"].metrics.values()
    assert metric.name == "WriteThrottleEvents"
    assert metric.dimension(with_index) == {
        "TableName": "stripemeter-prod-events",
        "GlobalSecondaryIndexName": "by_counter",
    }
    assert watched.keys() - {one.name for one in alarms_of(PROD)} == {"events-by-counter-throttled"}


def test_no_sum_waits_for_a_metric_that_may_never_have_been_written() -> None:
    reckoned = {one.name for one in ROWS if one.expression}

    assert reckoned == {"duplicates", "canary-differs"}


def test_what_a_deployment_lacks_is_not_watched() -> None:
    names = {one.name for one in alarms_of(replace(DEV, canary=False))}

    assert not names & {"canary-silent", "canary-late", "canary-differs", "canary-errors"}
    assert not names & {"shadow-differs", "warehouse-dead", "stripe-events-dead"}


def test_the_price_is_the_one_that_is_written_down() -> None:
    assert f"${price_of(PROD):.2f} for `prod`" in str(alarms.__doc__)
    assert price_of(DEV) == price_of(PROD)
