"""What runs, and behind which trigger."""

import json
from typing import Any

import pytest

from infra.environment import API_URL, environment_of
from infra.functions import (
    AGGREGATOR,
    FUNCTIONS,
    INGEST_QUEUE,
    Function,
    Http,
    Queue,
    Schedule,
)
from tests.infra.conftest import Synthesized
from tests.infra.template import ACCOUNT, REGION, Resource

SCHEDULED = [one for one in FUNCTIONS if isinstance(one.trigger, Schedule)]


def _name(function: Function) -> str:
    return function.name


def _deployed(stacks: Synthesized, function: Function) -> Resource:
    name = stacks.deployment.prefix + function.name
    return stacks.pipeline.one("AWS::Lambda::Function", FunctionName=name)


# --- functions ------------------------------------------------------------------------------------


def test_there_are_our_functions_and_no_others(stacks: Synthesized) -> None:
    made = {one.properties["FunctionName"] for one in stacks.pipeline.all("AWS::Lambda::Function")}

    assert made == {stacks.deployment.prefix + one.name for one in FUNCTIONS}


@pytest.mark.parametrize("function", FUNCTIONS, ids=_name)
def test_a_function_is_deployed_as_it_is_described(stacks: Synthesized, function: Function) -> None:
    made = _deployed(stacks, function).properties

    assert made["Handler"] == f"functions.{function.name}.handler.handler"
    assert made["MemorySize"] == function.memory_mb
    assert made["Timeout"] == function.timeout_s
    assert (made["Runtime"], made["Architectures"]) == ("python3.13", ["arm64"])
    traced = {"Mode": "Active"} if stacks.deployment.tracing else None
    assert made.get("TracingConfig") == traced
    logs = stacks.pipeline.one(
        "AWS::Logs::LogGroup", LogGroupName=f"/aws/lambda/{made['FunctionName']}"
    )
    assert logs.properties["RetentionInDays"] == stacks.deployment.log_days
    assert made["LoggingConfig"] == {
        "LogFormat": "JSON",
        "ApplicationLogLevel": "INFO",
        "SystemLogLevel": "WARN",
        "LogGroup": f"<{logs.logical_id}>",
    }


@pytest.mark.parametrize("function", FUNCTIONS, ids=_name)
def test_a_function_is_told_its_environment(stacks: Synthesized, function: Function) -> None:
    made = _deployed(stacks, function).properties["Environment"]["Variables"]
    symbols = {
        API_URL: stacks.pipeline.resolved(stacks.pipeline.raw["Outputs"]["ApiUrl"]["Value"]),
        "${AWS::AccountId}": ACCOUNT,
        "${AWS::Region}": REGION,
    }

    expected = environment_of(function, stacks.deployment)
    for symbol, value in symbols.items():
        expected = {name: text.replace(symbol, value) for name, text in expected.items()}
    assert made == expected


@pytest.mark.parametrize("function", FUNCTIONS, ids=_name)
def test_only_who_calls_stripe_unpacks_its_sdk(stacks: Synthesized, function: Function) -> None:
    layers = {
        f"<{one.logical_id}>": one.properties["Description"]
        for one in stacks.pipeline.all("AWS::Lambda::LayerVersion")
    }
    held = {layers[one] for one in _deployed(stacks, function).properties["Layers"]}

    expected = {"Packages of every function"} | (
        {"Stripe's SDK"} if function.calls_stripe else set()
    )
    assert held == expected


def test_who_calls_stripe_is_known() -> None:
    callers = {one.name for one in FUNCTIONS if one.calls_stripe}

    assert callers == {"writer", "period_closer", "reconciler", "api"}


def test_a_deployment_without_its_canary_has_nothing_of_it(bare: Synthesized) -> None:
    made = [one.logical_id for stack in bare.templates.values() for one in stack.all()]

    assert len(made) > 100
    assert [one for one in made if "canary" in one.lower()] == []


def test_concurrency_is_reserved_only_where_it_is_asked_for(full: Synthesized) -> None:
    reserved = {
        one.properties["FunctionName"]: one.properties["ReservedConcurrentExecutions"]
        for one in full.pipeline.all("AWS::Lambda::Function")
        if "ReservedConcurrentExecutions" in one.properties
    }

    assert reserved == {"stripemeter-full-writer": 1}


# --- the HTTP API ---------------------------------------------------------------------------------


def test_every_route_leads_to_its_function(stacks: Synthesized) -> None:
    targets = {
        f"integrations/<{one.logical_id}>": one.properties["IntegrationUri"]
        for one in stacks.pipeline.all("AWS::ApiGatewayV2::Integration")
    }
    routes = {
        one.properties["RouteKey"]: targets[one.properties["Target"]]
        for one in stacks.pipeline.all("AWS::ApiGatewayV2::Route")
    }

    assert routes == {
        route: f"<{_deployed(stacks, one).logical_id}.Arn>"
        for one in FUNCTIONS
        if isinstance(one.trigger, Http)
        for route in one.trigger.routes
    }


def test_requests_and_answers_have_the_shape_that_handlers_know(stacks: Synthesized) -> None:
    for one in stacks.pipeline.all("AWS::ApiGatewayV2::Integration"):
        assert one.properties["PayloadFormatVersion"] == "2.0"


def test_the_api_is_throttled_and_logs_no_header(stacks: Synthesized) -> None:
    (stage,) = stacks.pipeline.all("AWS::ApiGatewayV2::Stage")
    written = json.loads(stage.properties["AccessLogSettings"]["Format"])

    assert stage.properties["DefaultRouteSettings"] == {
        "ThrottlingRateLimit": stacks.deployment.requests_per_s,
        "ThrottlingBurstLimit": stacks.deployment.requests_burst,
    }
    assert {"requestId", "route", "status", "ms"} <= written.keys()
    assert not any("header" in value.lower() for value in written.values())


def test_the_api_has_the_name_that_the_deployment_gives_it(
    prod: Synthesized, full: Synthesized
) -> None:
    outputs = full.pipeline.resolved(full.pipeline.raw["Outputs"])

    assert full.pipeline.all("AWS::ApiGatewayV2::DomainName")[0].properties["DomainName"] == (
        "usage.example.com"
    )
    assert outputs["ApiUrl"]["Value"] == "https://usage.example.com"
    assert "DomainTarget" in outputs
    assert prod.pipeline.all("AWS::ApiGatewayV2::DomainName") == []


# --- the queue ------------------------------------------------------------------------------------


def test_the_queue_waits_long_enough_and_gives_up_to_dead_letters(stacks: Synthesized) -> None:
    trigger = INGEST_QUEUE.trigger
    assert isinstance(trigger, Queue)
    queue = _queue(stacks, trigger.name).properties
    dead = _queue(stacks, trigger.dead_letter_name)

    assert queue["VisibilityTimeout"] == 6 * INGEST_QUEUE.timeout_s + trigger.batching_window_s
    assert queue["RedrivePolicy"] == {
        "deadLetterTargetArn": f"<{dead.logical_id}.Arn>",
        "maxReceiveCount": trigger.receives_max,
    }


def _queue(stacks: Synthesized, name: str) -> Resource:
    return stacks.pipeline.one("AWS::SQS::Queue", QueueName=stacks.deployment.prefix + name)


def test_every_queue_is_encrypted_and_reached_over_tls_only(stacks: Synthesized) -> None:
    queues = stacks.pipeline.all("AWS::SQS::Queue")
    refused = {
        queue
        for policy in stacks.pipeline.all("AWS::SQS::QueuePolicy")
        for queue in policy.properties["Queues"]
        if _refuses_plain_text(policy.properties["PolicyDocument"])
    }

    assert all(one.properties["SqsManagedSseEnabled"] is True for one in queues)
    assert refused == {f"<{one.logical_id}>" for one in queues}


def _refuses_plain_text(policy: dict[str, Any]) -> bool:
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    return any(
        (one["Effect"], one.get("Condition")) == ("Deny", condition) for one in policy["Statement"]
    )


def test_every_queue_has_dead_letters_or_holds_them(stacks: Synthesized) -> None:
    for queue in stacks.pipeline.all("AWS::SQS::Queue"):
        holds_them = queue.properties["QueueName"].endswith("-dead")
        assert holds_them != ("RedrivePolicy" in queue.properties), queue.logical_id
        days = 14 if holds_them else 7
        assert queue.properties["MessageRetentionPeriod"] == days * 24 * 3600


# --- event source mappings ------------------------------------------------------------------------


def test_the_ledgers_stream_is_read_exactly_so(stacks: Synthesized) -> None:
    mapping = _mapping(stacks, AGGREGATOR)

    arn = mapping.pop("EventSourceArn")
    assert arn.startswith("<EventsTable")
    assert arn.endswith(".StreamArn>")
    assert mapping == {
        "FunctionName": f"<{_deployed(stacks, AGGREGATOR).logical_id}.Arn>",
        "StartingPosition": "TRIM_HORIZON",
        "BatchSize": 10_000,
        "MaximumBatchingWindowInSeconds": 5,
        "TumblingWindowInSeconds": 60,
        "ParallelizationFactor": 1,
        "BisectBatchOnFunctionError": True,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "MaximumRetryAttempts": -1,
        "MaximumRecordAgeInSeconds": 82_800,
        "FilterCriteria": {"Filters": [{"Pattern": '{"eventName":["INSERT"]}'}]},
        "DestinationConfig": {
            "OnFailure": {
                "Destination": f"arn:aws:s3:::{stacks.deployment.prefix}failures-{ACCOUNT}-{REGION}"
            }
        },
        "MetricsConfig": {"Metrics": ["EventCount"]},
    }


def test_the_queue_is_read_exactly_so(stacks: Synthesized) -> None:
    trigger = INGEST_QUEUE.trigger
    assert isinstance(trigger, Queue)

    assert _mapping(stacks, INGEST_QUEUE) == {
        "FunctionName": f"<{_deployed(stacks, INGEST_QUEUE).logical_id}.Arn>",
        "EventSourceArn": f"<{_queue(stacks, trigger.name).logical_id}.Arn>",
        "BatchSize": 100,
        "MaximumBatchingWindowInSeconds": 5,
        "FunctionResponseTypes": ["ReportBatchItemFailures"],
        "ScalingConfig": {"MaximumConcurrency": stacks.deployment.queue_concurrency},
    }


def _mapping(stacks: Synthesized, function: Function) -> dict[str, Any]:
    target = f"<{_deployed(stacks, function).logical_id}.Arn>"
    mapping = stacks.pipeline.one("AWS::Lambda::EventSourceMapping", FunctionName=target)
    return {name: value for name, value in mapping.properties.items() if name != "Tags"}


def test_a_stream_has_two_readers_at_most(stacks: Synthesized) -> None:
    readers = [
        one
        for one in stacks.pipeline.all()
        if one.kind in {"AWS::Lambda::EventSourceMapping", "AWS::Pipes::Pipe"}
        and "StreamArn" in str(one.properties)
    ]

    assert len(readers) == 1 + stacks.deployment.warehouse


# --- schedules ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", SCHEDULED, ids=_name)
def test_a_schedule_runs_its_function_and_loses_no_start(
    stacks: Synthesized, function: Function
) -> None:
    name = stacks.deployment.prefix + function.name
    schedule = stacks.pipeline.one("AWS::Scheduler::Schedule", Name=name).properties
    dead = _queue(stacks, "schedules-dead")
    assert isinstance(function.trigger, Schedule)
    every_s = stacks.deployment.schedules_s.get(function.name, function.trigger.every_s)

    assert _seconds(schedule["ScheduleExpression"]) == every_s
    assert schedule["State"] == "ENABLED"
    target = schedule["Target"]
    assert target["Arn"] == f"<{_deployed(stacks, function).logical_id}.Arn>"
    assert target["DeadLetterConfig"] == {"Arn": f"<{dead.logical_id}.Arn>"}
    assert target["RetryPolicy"] == {
        "MaximumRetryAttempts": 3,
        "MaximumEventAgeInSeconds": min(every_s, 6 * 3600),
    }


def _seconds(expression: str) -> int:
    number, unit = expression.removeprefix("rate(").removesuffix(")").split()
    return int(number) * {"minute": 60, "hour": 3600, "day": 86_400}[unit.rstrip("s")]


@pytest.mark.parametrize("function", SCHEDULED, ids=_name)
def test_a_failed_run_is_repeated_only_where_the_next_one_is_far(
    stacks: Synthesized, function: Function
) -> None:
    target = f"<{_deployed(stacks, function).logical_id}>"
    attempts = stacks.pipeline.one("AWS::Lambda::EventInvokeConfig", FunctionName=target)
    assert isinstance(function.trigger, Schedule)
    every_s = stacks.deployment.schedules_s.get(function.name, function.trigger.every_s)

    assert attempts.properties["MaximumRetryAttempts"] == (2 if every_s >= 3600 else 0)


def test_no_schedule_is_without_its_function(stacks: Synthesized) -> None:
    schedules = stacks.pipeline.all("AWS::Scheduler::Schedule")

    assert len(schedules) == len(SCHEDULED)


def test_the_deployment_says_how_often_its_reconciler_runs(
    prod: Synthesized, full: Synthesized
) -> None:
    def expression(stacks: Synthesized) -> str:
        name = f"{stacks.deployment.prefix}reconciler"
        found = stacks.pipeline.one("AWS::Scheduler::Schedule", Name=name)
        return str(found.properties["ScheduleExpression"])

    assert (expression(prod), expression(full)) == ("rate(1 hour)", "rate(15 minutes)")


# --- Stripe's event bus, the warehouse ------------------------------------------------------------


def test_stripes_events_come_over_the_bus_that_is_theirs(
    prod: Synthesized, full: Synthesized
) -> None:
    (rule,) = full.pipeline.all("AWS::Events::Rule")
    dead = _queue(full, "stripe-events-dead")

    assert rule.properties["EventBusName"] == "aws.partner/stripe.com/ed_test_1"
    assert rule.properties["EventPattern"] == {"source": [{"prefix": "aws.partner/stripe.com/"}]}
    (target,) = rule.properties["Targets"]
    assert target["DeadLetterConfig"] == {"Arn": f"<{dead.logical_id}.Arn>"}
    assert prod.pipeline.all("AWS::Events::Rule") == []


def test_the_warehouse_hears_of_new_entries_only(full: Synthesized) -> None:
    (pipe,) = full.pipeline.all("AWS::Pipes::Pipe")
    (delivery,) = full.pipeline.all("AWS::KinesisFirehose::DeliveryStream")
    dead = _queue(full, "warehouse-dead")
    source = pipe.properties["SourceParameters"]

    assert source["FilterCriteria"] == {"Filters": [{"Pattern": '{"eventName": ["INSERT"]}'}]}
    assert source["DynamoDBStreamParameters"]["DeadLetterConfig"] == {
        "Arn": f"<{dead.logical_id}.Arn>"
    }
    assert pipe.properties["Target"] == f"<{delivery.logical_id}.Arn>"
    bucket = f"arn:aws:s3:::stripemeter-full-warehouse-{ACCOUNT}-{REGION}"
    written = delivery.properties["ExtendedS3DestinationConfiguration"]
    assert written["BucketARN"] == bucket
