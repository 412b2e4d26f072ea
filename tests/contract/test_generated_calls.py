"""Sequences of calls that nobody thought of, to DynamoDB Local and in memory."""

from functools import partial
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from infra.tables import TABLES
from local import dynamodb_local
from tests.contract.mirror import Mirror
from tests.contract.scripts import ALL_OLD, BILLING, Step, Values, at, n, s
from tests.contract.services import NOW, attempt, method_of
from tests.simulation.aws.dynamodb import MemoryDynamoDB

PREFIX = "generated-"
TABLE = PREFIX + BILLING
KEYS = [at("p", "1"), at("p", "2"), at("q", "1")]
NUMBERS = ["0", "1", "-1", "1.50", "7", "123456789012.000001"]

keys = st.sampled_from(KEYS)
numbers = st.sampled_from(NUMBERS).map(n)
values = st.one_of(numbers, st.sampled_from(["", "a", "ab", "é"]).map(s))
contents = st.dictionaries(st.sampled_from(["a", "c", "version"]), values)
items = st.builds(lambda key, content: key | content, keys, contents)

TESTS = [
    "attribute_exists(pk)",
    "attribute_not_exists(pk)",
    "version = :v",
    "a <> :v",
    "a < :v",
    "c BETWEEN :v AND :v",
    "attribute_not_exists(pk) OR version = :v",
    "NOT a >= :v AND attribute_exists(c)",
]
UPDATES = [
    "SET a = :u",
    "SET a = c, c = a",
    "ADD version :u",
    "SET version = if_not_exists(version, :u) + :u",
    "SET c = :u REMOVE a",
    "REMOVE version",
]


def guarded(params: Values, test: str, value: Values, more: Values) -> Values:
    """A write under a condition; only those values are sent that are used."""
    used = more | ({":v": value} if ":v" in test else {})
    given = {"ExpressionAttributeValues": used} if used else {}
    return {"TableName": TABLE, "ConditionExpression": test} | ALL_OLD | given | params


def update_params(key: Values, update: str, test: str, value: Values, amount: Values) -> Values:
    used = {":u": amount} if ":u" in update else {}
    return guarded({"Key": key, "UpdateExpression": update}, test, value, used)


def place_of(action: Values) -> str:
    """Which item an action of a transaction is about."""
    (content,) = action.values()
    named = content.get("Item") or content["Key"]
    return str([named["pk"], named["sk"]])


tests = st.sampled_from(TESTS)
puts = st.builds(lambda item, test, v: guarded({"Item": item}, test, v, {}), items, tests, values)
deletes = st.builds(lambda key, test, v: guarded({"Key": key}, test, v, {}), keys, tests, values)
updates = st.builds(update_params, keys, st.sampled_from(UPDATES), tests, values, numbers)
actions = st.one_of(
    puts.map(lambda params: {"Put": params}),
    deletes.map(lambda params: {"Delete": params}),
    deletes.map(lambda params: {"ConditionCheck": params}),
)
steps: st.SearchStrategy[Step] = st.one_of(
    puts.map(lambda params: ("PutItem", params | {"ReturnValues": "ALL_OLD"})),
    deletes.map(lambda params: ("DeleteItem", params | {"ReturnValues": "ALL_OLD"})),
    updates.map(lambda params: ("UpdateItem", params | {"ReturnValues": "ALL_NEW"})),
    # DynamoDB Local looks whether one item is named twice only after the conditions.
    st.lists(actions, min_size=1, max_size=3, unique_by=place_of).map(
        lambda chosen: ("TransactWriteItems", {"TransactItems": chosen})
    ),
)


@pytest.fixture(scope="module")
def local(dynamodb_endpoint: str) -> Any:
    client = dynamodb_local.client(dynamodb_endpoint)
    dynamodb_local.create_tables(client, prefix=PREFIX)
    return client


@settings(max_examples=60, phases=[Phase.generate, Phase.shrink])
@given(st.lists(steps, min_size=1, max_size=12))
def test_any_writes_are_answered_alike_and_leave_the_same(local: Any, calls: list[Step]) -> None:
    mirror = Mirror(local, MemoryDynamoDB(TABLES, prefix=PREFIX, now=lambda: NOW))
    clear = [{"DeleteRequest": {"Key": key}} for key in KEYS]
    mirror.batch_write_item(RequestItems={TABLE: clear})

    for operation, params in calls:
        # What is refused is compared like what is answered.
        attempt(partial(getattr(mirror, method_of(operation)), **params))
    mirror.scan(TableName=TABLE, ConsistentRead=True)

    assert mirror.differences == []
