"""What only the in-memory DynamoDB has: weather, a stream of changes, a refusal to guess."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from infra.tables import TABLES
from tests.conftest import SetClock
from tests.contract.scripts import BILLING, ITEM, KEY, QUARANTINE, at, n, s
from tests.simulation.aws.client import Client
from tests.simulation.aws.dynamodb import Change, MemoryDynamoDB
from tests.simulation.aws.weather import Clear

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
OF_P: dict[str, Any] = {
    "KeyConditionExpression": "pk = :pk",
    "ExpressionAttributeValues": {":pk": s("p")},
}


@dataclass(frozen=True, slots=True)
class Rough(Clear):
    """The weather that a test is about."""

    delay: timedelta = timedelta(0)
    age: timedelta = timedelta(0)
    page: int | None = None
    left: int = 0
    error: str | None = None
    ttl: timedelta = timedelta(0)

    def index_delay(self) -> timedelta:
        return self.delay

    def read_age(self) -> timedelta:
        return self.age

    def page_items(self) -> int | None:
        return self.page

    def unprocessed(self, n: int) -> int:
        return self.left

    def statement_errors(self) -> str | None:
        return self.error

    def ttl_delay(self) -> timedelta:
        return self.ttl


Make = Callable[..., tuple[MemoryDynamoDB, Client]]


@pytest.fixture
def make(clock: SetClock) -> Make:
    def made(**weather: Any) -> tuple[MemoryDynamoDB, Client]:
        memory = MemoryDynamoDB(TABLES, now=clock.now, weather=Rough(**weather))
        return memory, Client(memory.execute)

    return made


def put(client: Client, item: dict[str, Any], table: str = BILLING) -> None:
    client.put_item(TableName=table, Item=item)


# --- weather --------------------------------------------------------------------------------------


def test_an_index_shows_a_write_later(make: Make, clock: SetClock) -> None:
    _, client = make(delay=5 * SECOND)
    put(client, at("p", "1", gp=s("t"), gs=s("1")), QUARANTINE)

    def seen() -> list[str]:
        answer = client.query(
            TableName=QUARANTINE,
            IndexName="by_tenant",
            KeyConditionExpression="gp = :t",
            ExpressionAttributeValues={":t": s("t")},
        )
        return [item["gs"]["S"] for item in answer["Items"]]

    assert seen() == []
    clock.advance(4 * SECOND)
    put(client, at("p", "1", gp=s("t"), gs=s("2")), QUARANTINE)
    clock.advance(SECOND)
    assert seen() == ["1"]
    clock.advance(4 * SECOND)
    assert seen() == ["2"]


def test_writes_to_one_item_never_overtake_each_other_in_an_index(clock: SetClock) -> None:
    delays = iter([10 * SECOND, SECOND])

    class Changing(Clear):
        def index_delay(self) -> timedelta:
            return next(delays)

    client = Client(MemoryDynamoDB(TABLES, now=clock.now, weather=Changing()).execute)
    put(client, at("p", "1", gp=s("t"), gs=s("1")), QUARANTINE)
    put(client, at("p", "1", gp=s("t"), gs=s("2")), QUARANTINE)

    clock.advance(20 * SECOND)

    found = client.query(
        TableName=QUARANTINE,
        IndexName="by_tenant",
        KeyConditionExpression="gp = :t",
        ExpressionAttributeValues={":t": s("t")},
    )
    assert [item["gs"]["S"] for item in found["Items"]] == ["2"]


def test_a_read_that_does_not_ask_for_consistency_may_be_old(make: Make, clock: SetClock) -> None:
    _, client = make(age=5 * SECOND, read_age_max=10 * SECOND)
    put(client, at("p", "s", v=n("1")))
    clock.advance(6 * SECOND)
    put(client, at("p", "s", v=n("2")))
    put(client, at("p", "t"))

    def read(*, consistent: bool) -> list[Any]:
        kind = {"ConsistentRead": consistent}
        keys = {BILLING: {"Keys": [KEY]} | kind}
        return [
            client.get_item(TableName=BILLING, Key=KEY, **kind)["Item"]["v"],
            client.batch_get_item(RequestItems=keys)["Responses"][BILLING][0]["v"],
            len(client.query(TableName=BILLING, **OF_P, **kind)["Items"]),
            len(client.scan(TableName=BILLING, **kind)["Items"]),
        ]

    assert read(consistent=True) == [n("2"), n("2"), 2, 2]
    assert read(consistent=False) == [n("1"), n("1"), 1, 1]
    clock.advance(5 * SECOND)
    assert read(consistent=False) == [n("2"), n("2"), 2, 2]


def test_an_old_read_may_still_find_what_was_deleted(make: Make, clock: SetClock) -> None:
    _, client = make(age=5 * SECOND, read_age_max=5 * SECOND)
    put(client, ITEM)
    clock.advance(6 * SECOND)
    client.delete_item(TableName=BILLING, Key=KEY)

    assert "Item" in client.get_item(TableName=BILLING, Key=KEY)
    assert "Item" not in client.get_item(TableName=BILLING, Key=KEY, ConsistentRead=True)


def test_pages_may_end_anywhere_and_all_of_them_hold_all(make: Make) -> None:
    _, client = make(page=2)
    for number in range(5):
        put(client, at("p", str(number)))

    pages = list(client.get_paginator("query").paginate(TableName=BILLING, **OF_P))
    scanned = list(client.get_paginator("scan").paginate(TableName=BILLING))

    assert [len(page["Items"]) for page in pages] == [2, 2, 1]
    assert [item["sk"]["S"] for page in pages for item in page["Items"]] == list("01234")
    assert len({item["sk"]["S"] for page in scanned for item in page["Items"]}) == 5


def test_a_scan_that_goes_on_while_items_come_and_go_misses_none_that_stayed(make: Make) -> None:
    _, client = make(page=3)
    for number in range(20):
        put(client, at(f"p{number}", "s"))
    pages = client.get_paginator("scan").paginate(TableName=BILLING)
    found = [item["pk"]["S"] for item in next(pages)["Items"]]

    for number in range(20, 40):
        put(client, at(f"p{number}", "s"))
    client.delete_item(TableName=BILLING, Key=at(found[-1], "s"))
    found += [item["pk"]["S"] for page in pages for item in page["Items"]]

    assert len(set(found)) == len(found)
    assert {f"p{number}" for number in range(20)} <= set(found)


def test_a_page_ends_at_one_megabyte(make: Make) -> None:
    _, client = make()
    for number in range(4):
        put(client, at("p", str(number), h=s("x" * 399_000)))

    pages = list(client.get_paginator("query").paginate(TableName=BILLING, **OF_P))

    assert [len(page["Items"]) for page in pages] == [3, 1]


def test_some_of_a_batch_may_be_left_undone(make: Make) -> None:
    _, client = make(left=2)
    requests = [{"PutRequest": {"Item": at("p", str(number))}} for number in range(3)]

    written = client.batch_write_item(RequestItems={BILLING: requests})
    keys = {BILLING: {"Keys": [at("p", "0"), at("p", "1")], "ConsistentRead": True}}
    read = client.batch_get_item(RequestItems=keys)

    assert written["UnprocessedItems"] == {BILLING: requests[1:]}
    assert read["Responses"] == {BILLING: [at("p", "0")]}
    assert read["UnprocessedKeys"] == {BILLING: {"Keys": [at("p", "1")], "ConsistentRead": True}}


def test_a_statement_may_fail_alone_and_is_not_done(make: Make) -> None:
    memory, client = make(error="ThrottlingError")
    statement = {
        "Statement": f"INSERT INTO \"{BILLING}\" VALUE {{'pk': ?, 'sk': ?}}",
        "Parameters": [s("p"), s("s")],
    }

    (response,) = client.batch_execute_statement(Statements=[statement])["Responses"]

    assert response["Error"]["Code"] == "ThrottlingError"
    assert memory.items(BILLING) == []


def test_expired_items_go_when_the_weather_lets_them(make: Make, clock: SetClock) -> None:
    memory, client = make(ttl=timedelta(hours=48))
    changes: list[Change] = []
    put(client, ITEM | {"expires": n(str(int(NOW.timestamp())))})
    put(client, at("p", "kept", expires=n(str(int((NOW + timedelta(days=9)).timestamp())))))
    memory.subscribe(changes.append)

    clock.advance(timedelta(hours=47))
    assert memory.expire() == 0
    clock.advance(timedelta(hours=1))
    assert memory.expire() == 1

    assert changes == [Change(BILLING, "REMOVE", KEY, None, by_ttl=True)]
    assert [item["sk"]["S"] for item in memory.items(BILLING)] == ["kept"]
    assert memory.expire() == 0


def test_an_item_whose_end_was_put_off_stays(make: Make, clock: SetClock) -> None:
    memory, client = make()
    put(client, ITEM | {"expires": n(str(int(NOW.timestamp()) + 10))})
    put(client, ITEM | {"expires": n(str(int(NOW.timestamp()) + 100))})

    clock.advance(50 * SECOND)

    assert memory.expire() == 0
    clock.advance(50 * SECOND)
    assert memory.expire() == 1


# --- the stream -----------------------------------------------------------------------------------


def test_every_change_is_told_and_what_changes_nothing_is_not(make: Make) -> None:
    memory, client = make()
    changes: list[Change] = []
    memory.subscribe(changes.append)

    put(client, at("p", "s", v=n("1.1")))
    put(client, at("p", "s", v=n("1.100")))
    client.update_item(
        TableName=BILLING,
        Key=KEY,
        UpdateExpression="ADD v :zero",
        ExpressionAttributeValues={":zero": n("0")},
    )
    put(client, at("p", "s", v=n("2")))
    client.delete_item(TableName=BILLING, Key=KEY)
    client.delete_item(TableName=BILLING, Key=KEY)

    assert changes == [
        Change(BILLING, "INSERT", KEY, at("p", "s", v=n("1.1"))),
        Change(BILLING, "MODIFY", KEY, at("p", "s", v=n("2"))),
        Change(BILLING, "REMOVE", KEY, None),
    ]


def test_a_refused_transaction_tells_nothing(make: Make) -> None:
    memory, client = make()
    changes: list[Change] = []
    memory.subscribe(changes.append)
    put_item = {"TableName": BILLING, "Item": ITEM}
    refused = put_item | {"Item": at("q", "q"), "ConditionExpression": "attribute_exists(pk)"}

    with pytest.raises(client.exceptions.TransactionCanceledException):
        client.transact_write_items(TransactItems=[{"Put": put_item}, {"Put": refused}])

    assert changes == []
    assert memory.items(BILLING) == []


def test_a_tokens_transaction_may_be_done_again_after_ten_minutes(
    make: Make, clock: SetClock
) -> None:
    memory, client = make()
    change: dict[str, Any] = {
        "TableName": BILLING,
        "Key": KEY,
        "UpdateExpression": "ADD v :one",
        "ExpressionAttributeValues": {":one": n("1")},
    }

    def send() -> Any:
        client.transact_write_items(TransactItems=[{"Update": change}], ClientRequestToken="once")
        item = memory.item(BILLING, KEY)
        assert item is not None
        return item["v"]

    assert send() == n("1")
    clock.advance(timedelta(minutes=9, seconds=59))
    assert send() == n("1")
    clock.advance(SECOND)
    assert send() == n("2")


# --- nobody shares what is stored -----------------------------------------------------------------


def test_what_callers_do_to_their_items_changes_nothing_stored(make: Make) -> None:
    _, client = make()
    mine: dict[str, Any] = ITEM | {"b": {"M": {"x": n("1")}}, "parts": {"L": [s("a")]}}
    put(client, mine)

    mine["b"]["M"]["x"] = n("2")
    mine["parts"]["L"].append(s("b"))
    mine["h"] = s("other")
    answered = client.get_item(TableName=BILLING, Key=KEY, ConsistentRead=True)["Item"]
    answered["b"]["M"]["y"] = n("3")
    answered["parts"]["L"].clear()
    del answered["h"]

    again = client.get_item(TableName=BILLING, Key=KEY, ConsistentRead=True)["Item"]
    assert again["b"] == {"M": {"x": n("1")}}
    assert again["parts"] == {"L": [s("a")]}
    assert again["h"] == ITEM["h"]


# --- nothing is guessed ---------------------------------------------------------------------------

UNKNOWN: tuple[tuple[str, dict[str, Any]], ...] = (
    ("DescribeTable", {"TableName": BILLING}),
    ("GetItem", {"TableName": BILLING, "Key": KEY, "AttributesToGet": ["h"]}),
    ("PutItem", {"TableName": BILLING, "Item": ITEM, "ReturnConsumedCapacity": "TOTAL"}),
    ("PutItem", {"TableName": BILLING, "Item": ITEM | {"set": {"SS": ["a"]}}}),
    ("UpdateItem", {"TableName": BILLING, "Key": KEY, "UpdateExpression": "SET b.x = h"}),
    (
        "UpdateItem",
        {"TableName": BILLING, "Key": KEY, "UpdateExpression": "SET l = list_append(a, b)"},
    ),
    ("UpdateItem", {"TableName": BILLING, "Key": KEY, "UpdateExpression": "DELETE a :b"}),
    ("Scan", {"TableName": BILLING, "Segment": 0, "TotalSegments": 2}),
    ("BatchExecuteStatement", {"Statements": [{"Statement": f'SELECT * FROM "{BILLING}"'}]}),
)


@pytest.mark.parametrize(("operation", "params"), UNKNOWN)
def test_what_the_product_has_never_sent_is_refused_loudly(
    operation: str, params: dict[str, Any], make: Make
) -> None:
    memory, client = make()
    put(client, ITEM)

    with pytest.raises(NotImplementedError):
        memory.execute(operation, params)


@pytest.mark.parametrize("value", [{"N": 1.5}, {"N": 1}, {"S": 1}, {"B": "text"}, {"BOOL": 1}])
def test_a_value_of_the_wrong_python_type_is_a_fault_of_ours(
    value: dict[str, Any], make: Make
) -> None:
    _, client = make()

    with pytest.raises(TypeError):
        put(client, ITEM | {"value": value})
