"""Each function may do on AWS what it does, and nothing else.

Everything that functions ask of DynamoDB and of Secrets Manager is recorded: in simulated worlds of
every kind, and on every route and door that no world uses. The record is compared with the table
both ways. What was used and not granted would be an AccessDenied in production; what was granted
and never used is a hole that nobody needs.
"""

import ast
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from infra import permission_page
from infra.deployments import DEV, PROD
from infra.environment import environment_of, secret_name
from infra.functions import AGGREGATOR, FUNCTIONS, INGEST_QUEUE, STRIPE_WEBHOOK, Function
from infra.permissions import (
    ARCHIVE_BUCKET,
    FAILURES_BUCKET,
    PERMISSIONS,
    BucketResource,
    Everything,
    IndexResource,
    ObjectsResource,
    Only,
    OwnLogs,
    Permission,
    QueueResource,
    Resource,
    SecretResource,
    StreamResource,
    TableResource,
    statements_of,
)
from infra.tables import TABLES
from tests.infra.driven_deployment import DrivenDeployment, routes
from tests.infra.driven_operations import drive_archiver, drive_canary
from tests.infra.iam_recorder import ADAPTERS, Needed, Recorder, hear_world, needed_for
from tests.simulation.draw import Kind, draw

CLOSING = (100, 198, 234, 254, 757, 846, 953, 969, 1111, 1144, 1146, 1318, 1353, 1494)
BILLING = (45, 46, 75, 134, 357, 385, 410, 416, 849, 1192, 2240)
COUNTING = (3, 57, 62, 64, 65, 79, 91)
"""Worlds that were chosen for what they reach: each call of each function in three, where a
hundred worlds had so many."""
BY_OPERATORS = {
    ("stripe_claims", "DynamoStripeClaims.release"): "`stripemeter tenant release`",
    ("tenant_rates", "DynamoTenantRates.put_limits"): "`stripemeter tenant limits`",
}
"""Methods of adapters that no function uses: people do, with rights of their own."""
LISTING_IS_OFF = {"GET /v1/events": 501}
CALLS = frozenset(
    {
        *("get_item", "put_item", "update_item", "delete_item", "query", "scan", "get_paginator"),
        *("batch_get_item", "batch_write_item", "transact_write_items", "transact_get_items"),
        *("batch_execute_statement", "execute_statement", "execute_transaction"),
        *("describe_table", "describe_continuous_backups", "describe_export"),
        "export_table_to_point_in_time",
    }
)
CLIENTS = {"_client", "_dynamodb", "client", "dynamodb"}
CHANGES_WHAT_STANDS = {
    f"dynamodb:{action}"
    for action in ("UpdateItem", "DeleteItem", "BatchWriteItem", "PartiQLUpdate", "PartiQLDelete")
}
EVERY_FUNCTION = pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.name)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was recorded with the event index and without it, and what each route answered."""

    with_index: Recorder
    without: Recorder
    answered: dict[str, int]
    answered_without: dict[str, int]

    @property
    def both(self) -> tuple[tuple[Recorder, Only], ...]:
        return (self.with_index, Only.NO_EVENT_INDEX), (self.without, Only.EVENT_INDEX)


@pytest.fixture(scope="module")
def seen() -> Iterator[Seen]:
    """Nothing is logged meanwhile: what is driven here goes wrong on purpose."""
    logging.disable(logging.CRITICAL)
    yield _recorded()
    logging.disable(logging.NOTSET)


def _recorded() -> Seen:
    with_index, without = Recorder(), Recorder()
    for seed in (*CLOSING, *BILLING, *COUNTING):
        hear_world(with_index, seed)
    driven = DrivenDeployment(with_index)
    driven.drive()
    unindexed = DrivenDeployment(without, event_index=False)
    unindexed.drive()
    drive_canary(with_index)
    drive_archiver(with_index)
    return Seen(with_index, without, driven.answered, unindexed.answered)


def needs(held: tuple[Permission, ...]) -> set[Needed]:
    return {(action, one.on) for one in held for action in one.actions}


def text(found: set[Needed]) -> list[str]:
    return sorted(f"{action} on {resource}" for action, resource in found)


# --- used and granted -----------------------------------------------------------------------------


@EVERY_FUNCTION
def test_whatever_a_function_does_was_granted(function: Function, seen: Seen) -> None:
    for recorder, other in seen.both:
        held = tuple(one for one in statements_of(function) if one.only is not other)

        refused = recorder.uses.get(function.name, set()) - needs(held)

        assert not refused, f"AccessDenied in production: {text(refused)}"


@EVERY_FUNCTION
def test_whatever_was_granted_is_used(function: Function, seen: Seen) -> None:
    recorded = tuple(one for one in statements_of(function) if one.unrecorded is None)
    used = {need for recorder, _ in seen.both for need in recorder.uses.get(function.name, ())}

    assert not text(needs(recorded) - used)


def test_the_worlds_are_of_every_kind() -> None:
    for kind, seeds in (
        (Kind.CLOSING, CLOSING),
        (Kind.BILLING, BILLING),
        (Kind.COUNTING, COUNTING),
    ):
        assert {draw(seed).kind for seed in seeds} == {kind}
    assert any(draw(seed).restores for seed in BILLING)


def test_every_route_was_answered_well_while_recording(seen: Seen) -> None:
    assert set(seen.answered) == set(seen.answered_without) == routes()
    assert {route: status for route, status in seen.answered.items() if status >= 300} == {}
    unwell = {route: status for route, status in seen.answered_without.items() if status >= 300}
    assert unwell == LISTING_IS_OFF


def test_every_method_that_calls_dynamodb_was_recorded(seen: Seen) -> None:
    reached = {
        (module, method.replace(".<locals>", ""))
        for recorder, _ in seen.both
        for methods in recorder.methods.values()
        for module, method in methods
    }
    callers = {
        (path.stem, method)
        for path in ADAPTERS.glob("*.py")
        for method in callers_in(ast.parse(path.read_text()))
    }

    assert len(callers) > 60
    assert callers - reached == BY_OPERATORS.keys()


def callers_in(node: ast.AST, name: str = "") -> Iterator[str]:
    """The functions and methods that call the client, by qualified names."""
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.FunctionDef(name=own) | ast.ClassDef(name=own):
                yield from callers_in(child, f"{name}.{own}" if name else own)
            case ast.Call(func=ast.Attribute(value=value, attr=attr)) if (
                attr in CALLS and ast.unparse(value).rpartition(".")[2] in CLIENTS
            ):
                yield name
                yield from callers_in(child, name)
            case _:
                yield from callers_in(child, name)


def test_no_adapter_calls_the_client_in_a_way_that_nobody_looks_for() -> None:
    for path in ADAPTERS.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(
                ("self._client", "self._dynamodb")
            ):
                assert node.attr in CALLS | {"exceptions"}, f"{path.name}: {ast.unparse(node)}"


# --- what nobody may ------------------------------------------------------------------------------


@EVERY_FUNCTION
def test_nobody_can_change_or_remove_what_stands_in_the_ledger(function: Function) -> None:
    allowed = {
        action
        for one in statements_of(function)
        if getattr(one.on, "table", None) == "events"
        for action in one.actions
    }

    assert not allowed & CHANGES_WHAT_STANDS


def test_who_takes_usage_can_write_nothing_but_usage_its_rate_and_quarantine() -> None:
    for name in ("ingest", "ingest_queue"):
        written = {
            one.on.table
            for one in PERMISSIONS[name]
            if isinstance(one.on, TableResource)
            and any(action.endswith(("PutItem", "UpdateItem", "Insert")) for action in one.actions)
        }
        assert written <= {"events", "quarantine", "rates"}


@EVERY_FUNCTION
def test_no_permission_is_wider_than_its_reason(function: Function) -> None:
    for one in statements_of(function):
        assert one.why
        assert not any("*" in action for action in one.actions)
        if isinstance(one.on, Everything):
            services = {action.partition(":")[0] for action in one.actions}
            assert services == {"xray"} or one.actions == ("dynamodb:ListStreams",)


@EVERY_FUNCTION
def test_no_action_is_granted_twice(function: Function) -> None:
    granted = [(action, one.on) for one in statements_of(function) for action in one.actions]

    assert len(granted) == len(set(granted))


# --- the table itself -----------------------------------------------------------------------------


def test_every_function_stands_in_the_table_and_nothing_else() -> None:
    assert list(PERMISSIONS) == [one.name for one in FUNCTIONS]


@EVERY_FUNCTION
def test_every_resource_is_one_that_there_is(function: Function) -> None:
    for one in statements_of(function):
        assert is_there(one.on), one


def is_there(resource: Resource) -> bool:
    tables = {one.name: one for one in TABLES}
    match resource:
        case IndexResource(table, index):
            return index in {one.name for one in tables[table].indexes}
        case StreamResource(table):
            return tables[table].has_stream
        case QueueResource(name):
            queue, rule = INGEST_QUEUE.trigger, STRIPE_WEBHOOK.also
            return name in {getattr(queue, "name", ""), getattr(rule, "dead_letter_name", "")}
        case BucketResource(name) | ObjectsResource(bucket=name):
            return name in {FAILURES_BUCKET, ARCHIVE_BUCKET}
        case SecretResource() | OwnLogs() | Everything():
            return True
        case _:
            return resource.table in tables


@EVERY_FUNCTION
def test_a_function_that_may_read_a_secret_is_told_its_name(function: Function) -> None:
    deployment = replace(PROD, shadow=True)
    told = set(environment_of(function, deployment).values())

    for one in statements_of(function, deployment):
        if isinstance(one.on, SecretResource):
            assert secret_name(deployment, one.on.name) in told


def test_a_deployment_is_granted_only_what_it_has() -> None:
    held = {one.on for function in FUNCTIONS for one in statements_of(function, DEV)}

    assert not DEV.event_index
    assert not DEV.shadow
    assert IndexResource("events", "by_counter") not in held
    assert SecretResource("stripe-shadow-key") not in held
    assert IndexResource("events", "by_held") in held


@EVERY_FUNCTION
def test_every_function_writes_its_own_log_and_traces(function: Function) -> None:
    held = needs(statements_of(function))

    assert {action for action, resource in held if resource == OwnLogs()} == {
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }
    assert {action for action, _ in held if action.startswith("xray:")} == {
        "xray:PutTraceSegments",
        "xray:PutTelemetryRecords",
    }


def test_the_aggregator_reads_its_stream_and_keeps_what_is_discarded() -> None:
    held = needs(statements_of(AGGREGATOR))

    for action in ("DescribeStream", "GetRecords", "GetShardIterator"):
        assert (f"dynamodb:{action}", StreamResource("events")) in held
    assert ("s3:PutObject", ObjectsResource(FAILURES_BUCKET)) in held
    assert ("s3:ListBucket", BucketResource(FAILURES_BUCKET)) in held


def test_only_the_queues_function_takes_its_messages() -> None:
    for function in FUNCTIONS:
        takes = {action for action, _ in needs(statements_of(function)) if "sqs:R" in action}
        assert bool(takes) is (function is INGEST_QUEUE)


def test_the_page_of_permissions_says_what_the_table_says() -> None:
    page = Path(permission_page.__file__).parents[1] / "docs/permissions.md"

    assert page.read_text() == permission_page.page(), "run `python -m infra.permission_page`"


# --- what a call needs ----------------------------------------------------------------------------


def test_a_transaction_needs_its_parts() -> None:
    on = {"TableName": "billing"}
    parts = [{"Put": on}, {"Update": on}, {"Delete": on}, {"ConditionCheck": {"TableName": "s"}}]

    found = list(needed_for("TransactWriteItems", {"TransactItems": parts}))

    billing = TableResource("billing")
    assert found == [
        ("dynamodb:PutItem", billing),
        ("dynamodb:UpdateItem", billing),
        ("dynamodb:DeleteItem", billing),
        ("dynamodb:ConditionCheckItem", TableResource("s")),
    ]


@pytest.mark.parametrize(
    ("statement", "needed"),
    [
        ("INSERT INTO \"t\" VALUE {'pk': ?}", ("PartiQLInsert", TableResource("t"))),
        ('UPDATE "t" SET a = ? WHERE pk = ?', ("PartiQLUpdate", TableResource("t"))),
        ('DELETE FROM "t" WHERE pk = ?', ("PartiQLDelete", TableResource("t"))),
        ('SELECT a, b FROM "t" WHERE pk = ?', ("PartiQLSelect", TableResource("t"))),
        ('SELECT a FROM "t"."i" WHERE pk = ?', ("PartiQLSelect", IndexResource("t", "i"))),
        ('EXISTS(SELECT * FROM "t" WHERE pk = ?)', ("PartiQLSelect", TableResource("t"))),
    ],
)
def test_a_statement_needs_its_verb(statement: str, needed: tuple[str, Resource]) -> None:
    (found,) = needed_for("BatchExecuteStatement", {"Statements": [{"Statement": statement}]})

    assert found == (f"dynamodb:{needed[0]}", needed[1])


def test_a_statement_that_nobody_can_read_is_no_guess() -> None:
    with pytest.raises(NotImplementedError):
        list(needed_for("ExecuteStatement", {"Statement": "MERGE INTO t"}))


def test_an_index_is_asked_by_its_own_name() -> None:
    asked = {"TableName": "events", "IndexName": "by_held"}

    assert list(needed_for("Query", asked)) == [
        ("dynamodb:Query", IndexResource("events", "by_held"))
    ]
