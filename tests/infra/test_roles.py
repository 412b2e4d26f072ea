"""What the roles hold, against the table of permissions, both ways."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from infra.environment import bucket_name, environment_of, secret_name
from infra.functions import FUNCTIONS, INGEST, INGEST_QUEUE, Function
from infra.permissions import (
    BucketResource,
    Everything,
    ExportResource,
    IndexResource,
    ObjectsResource,
    OwnLogs,
    QueueResource,
    Resource,
    SecretResource,
    StreamResource,
    TableResource,
    statements_of,
)
from tests.infra.conftest import Synthesized
from tests.infra.template import ACCOUNT, REGION

OTHERS = {
    "SchedulesRole": {"lambda:InvokeFunction", "sqs:SendMessage"},
    "WarehousePipeRole": {
        "dynamodb:DescribeStream",
        "dynamodb:GetRecords",
        "dynamodb:GetShardIterator",
        "dynamodb:ListStreams",
        "firehose:PutRecord",
        "firehose:PutRecordBatch",
        "sqs:SendMessage",
    },
    "WarehouseDeliveryRole": {
        "s3:GetBucketLocation",
        "s3:ListBucket",
        "s3:ListBucketMultipartUploads",
        "s3:PutObject",
        "s3:AbortMultipartUpload",
        "logs:PutLogEvents",
    },
}
"""Roles that are no function's, and all that each may do."""


def _policies(stacks: Synthesized) -> dict[str, list[dict[str, Any]]]:
    """The statements of each role by the logical id without its hash."""
    return {
        role.logical_id[:-8]: [
            statement
            for policy in role.properties.get("Policies", ())
            for statement in policy["PolicyDocument"]["Statement"]
        ]
        for role in stacks.pipeline.all("AWS::IAM::Role")
    }


def _of(stacks: Synthesized, function: Function) -> list[dict[str, Any]]:
    construct = function.name.title().replace("_", "")
    return _policies(stacks)[f"{construct}FunctionRole"]


def _pairs(statements: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    for one in statements:
        assert one["Effect"] == "Allow"
        assert not one.keys() & {"NotAction", "NotResource"}
        for action in _several(one["Action"]):
            for resource in _several(one["Resource"]):
                yield action, resource


def _several(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.name)
def test_a_role_holds_what_the_table_says_and_no_more(
    stacks: Synthesized, function: Function
) -> None:
    said = {
        (action, _arn(permission.on, function, stacks))
        for permission in statements_of(function, stacks.deployment)
        for action in permission.actions
    }

    assert set(_pairs(_of(stacks, function))) == said


def _arn(resource: Resource, function: Function, stacks: Synthesized) -> str:  # noqa: C901, PLR0911
    """Written out here once more, so that a slip in the app does not excuse itself."""
    prefix = stacks.deployment.prefix
    match resource:
        case TableResource(table):
            return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{prefix}{table}"
        case IndexResource(table, index):
            return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{prefix}{table}/index/{index}"
        case ExportResource(table):
            return f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{prefix}{table}/export/*"
        case StreamResource("events"):
            name = f"{prefix}events"
            table_id = stacks.data.one("AWS::DynamoDB::Table", TableName=name).logical_id
            return f"<{table_id}.StreamArn>"
        case QueueResource(name):
            return f"arn:aws:sqs:{REGION}:{ACCOUNT}:{prefix}{name}"
        case SecretResource(name):
            named = secret_name(stacks.deployment, name)
            return f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{named}-??????"
        case BucketResource(name):
            return _bucket(name, stacks)
        case ObjectsResource(bucket, begins_with):
            return f"{_bucket(bucket, stacks)}/{begins_with}*"
        case OwnLogs():
            group = f"/aws/lambda/{prefix}{function.name}"
            return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{group}:*"
        case Everything():
            return "*"
    raise AssertionError(resource)


def _bucket(name: str, stacks: Synthesized) -> str:
    named = bucket_name(stacks.deployment, name)
    named = named.replace("${AWS::AccountId}", ACCOUNT).replace("${AWS::Region}", REGION)
    return f"arn:aws:s3:::{named}"


def test_every_role_is_a_functions_or_known(stacks: Synthesized) -> None:
    ours = {f"{one.name.title().replace('_', '')}FunctionRole" for one in FUNCTIONS}
    others = set(OTHERS) if stacks.deployment.warehouse else {"SchedulesRole"}

    assert _policies(stacks).keys() == ours | others
    for name in others:
        assert {action for action, _ in _pairs(_policies(stacks)[name])} == OTHERS[name]


def test_nothing_gives_a_role_more_than_its_own_policy(stacks: Synthesized) -> None:
    assert stacks.pipeline.all("AWS::IAM::Policy") == []
    assert stacks.pipeline.all("AWS::IAM::ManagedPolicy") == []
    for role in stacks.pipeline.all("AWS::IAM::Role"):
        assert "ManagedPolicyArns" not in role.properties


def test_no_action_is_granted_by_a_wildcard(stacks: Synthesized) -> None:
    actions = {
        action for statements in _policies(stacks).values() for action, _ in _pairs(statements)
    }

    assert len(actions) > 5
    assert [one for one in actions if not re.fullmatch(r"[a-z0-9]+:[A-Za-z0-9]+", one)] == []


def test_everything_is_granted_only_where_there_is_nothing_narrower(stacks: Synthesized) -> None:
    everywhere = {
        action
        for statements in _policies(stacks).values()
        for action, resource in _pairs(statements)
        if resource == "*"
    }

    traces = {"xray:PutTraceSegments", "xray:PutTelemetryRecords"}
    assert everywhere == {"dynamodb:ListStreams"} | (traces if stacks.deployment.tracing else set())


@pytest.mark.parametrize("function", [INGEST, INGEST_QUEUE], ids=lambda one: one.name)
def test_ingest_can_only_append_to_the_ledger(stacks: Synthesized, function: Function) -> None:
    ledger = f"table/{stacks.deployment.prefix}events"
    on_ledger = {action for action, resource in _pairs(_of(stacks, function)) if ledger in resource}

    changes = re.compile(r"Update|Delete|BatchWrite|PartiQL(?!Insert)|Transact")
    assert [action for action in on_ledger if changes.search(action)] == []


def test_a_secret_is_read_only_by_whom_it_concerns(full: Synthesized) -> None:
    readers: dict[str, set[str]] = {}
    for function in FUNCTIONS:
        for action, resource in _pairs(_of(full, function)):
            if action.startswith("secretsmanager:"):
                short = resource.rpartition("/")[2].removesuffix("-??????")
                readers.setdefault(short, set()).add(function.name)

    callers = {one.name for one in FUNCTIONS if one.calls_stripe}
    assert readers["stripe-key"] == callers | {"stripe_webhook"}
    assert readers["stripe-shadow-key"] == {"writer", "reconciler", "api"}
    assert readers["stripe-webhook"] == {"stripe_webhook"}
    assert readers["canary-key"] == {"canary"}


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.name)
def test_a_function_may_read_the_secrets_that_it_is_told_of(
    stacks: Synthesized, function: Function
) -> None:
    prefix = f"stripemeter/{stacks.deployment.name}/"
    told = {
        value
        for value in environment_of(function, stacks.deployment).values()
        if value.startswith(prefix)
    }
    granted = {
        resource.rpartition(":")[2].removesuffix("-??????")
        for action, resource in _pairs(_of(stacks, function))
        if action == "secretsmanager:GetSecretValue"
    }

    assert granted == told
