"""Counting what a handler's calls of DynamoDB take, in DynamoDB's units.

Reads are told by DynamoDB itself: each is made to answer its consumed capacity. Writes are told for
single items only, neither for PartiQL statements nor rightly for transactions (DynamoDB Local
answers 2 units for one of any size), so they are computed from the items that leave: a unit per
KB begun, twice that in a transaction, once more for each index that the item stands in.
"""

import json
import re
import time
from base64 import b64decode
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from decimal import Decimal
from threading import Lock
from typing import TYPE_CHECKING, Any

from infra.tables import TABLES

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

type Item = Mapping[str, Any]

KB = 1024
_READS = ("GetItem", "BatchGetItem", "Query", "Scan", "TransactGetItems")
_WRITES = (
    "PutItem",
    "UpdateItem",
    "DeleteItem",
    "BatchWriteItem",
    "BatchExecuteStatement",
    "TransactWriteItems",
)
_PLACES = re.compile(r"'?(\w+)'?\s*(?::|=|<)\s*\?")
"""The name before each `?` of a statement: `'pk': ?` of an INSERT, `h = ?` of an UPDATE."""
_INDEX_KEYS = {table.name: [index.partition_key for index in table.indexes] for table in TABLES}


class UnitMeter:
    """What the calls of one client have taken since it was made or `reset`."""

    def __init__(self, client: "DynamoDBClient", *, event_index: bool) -> None:
        self._indexes = dict(_INDEX_KEYS) if event_index else _INDEX_KEYS | {"events": ["lp"]}
        self._lock = Lock()
        self.reset()
        for name in _READS:
            client.meta.events.register_first(f"before-parameter-build.dynamodb.{name}", _ask)
            client.meta.events.register(f"after-call.dynamodb.{name}", self._note_read)
        for name in _WRITES:
            client.meta.events.register_last(f"before-call.dynamodb.{name}", self._note_write)

    def reset(self) -> None:
        """Begin anew."""
        self.read: Counter[str] = Counter()
        """Read units by table, in thousandths, since units come in halves and counters count."""
        self.written: Counter[str] = Counter()
        """Write units by table, indexes included."""
        self.items: Counter[str] = Counter()
        """Items written, by table."""
        self.spent_s = 0.0
        """CPU of this counting itself."""

    def _note_read(self, parsed: Mapping[str, Any], **_: object) -> None:
        began = time.thread_time()
        told = parsed.get("ConsumedCapacity", ())
        parts = [told] if isinstance(told, Mapping) else told
        with self._lock:
            for part in parts:
                self.read[part["TableName"]] += round(1000 * part["CapacityUnits"])
            self.spent_s += time.thread_time() - began

    def _note_write(self, params: Mapping[str, Any], **_: object) -> None:
        began = time.thread_time()
        writes = list(_written(json.loads(params["body"])))
        with self._lock:
            for table, item, times in writes:
                self.written[table] += times * self._units(table, item)
                self.items[table] += 1
            self.spent_s += time.thread_time() - began

    def _units(self, table: str, item: Item) -> int:
        stands_in = sum(1 for key in self._indexes[table] if key in item)
        return units_of(item) * (1 + stands_in)


def _ask(params: MutableMapping[str, Any], **_: object) -> None:
    params["ReturnConsumedCapacity"] = "TOTAL"


def _written(body: Mapping[str, Any]) -> Iterator[tuple[str, Item, int]]:
    """Table, item and how many times it is charged, of each write of a request."""
    if "Statements" in body:
        for one in body["Statements"]:
            yield _table_of(one["Statement"]), _item_of(one), 1
    elif "TransactItems" in body:
        for action in body["TransactItems"]:
            (one,) = action.values()
            yield one["TableName"], _item_in(one), 2
    elif "RequestItems" in body:
        for table, requests in body["RequestItems"].items():
            for (one,) in (request.values() for request in requests):
                yield table, _item_in(one), 1
    else:
        yield body["TableName"], _item_in(body), 1


def _table_of(statement: str) -> str:
    return statement.split('"', 2)[1]


def _item_of(statement: Mapping[str, Any]) -> Item:
    """What a PartiQL statement writes; every one of ours names all attributes of its item."""
    names = _PLACES.findall(statement["Statement"])
    return dict(zip(names, statement["Parameters"], strict=True))


def _item_in(write: Mapping[str, Any]) -> Item:
    """What a write names of its item: all of it in a put; key and new values in an update."""
    if "Item" in write:
        item: Item = write["Item"]
        return item
    return {**write["Key"], **write.get("ExpressionAttributeValues", {})}


def units_of(item: Item) -> int:
    """Write units of an item in its table: one for each KB begun."""
    return -(-size_of(item) // KB)


def size_of(item: Item) -> int:
    """Bytes of an item as DynamoDB counts them (AWS, "DynamoDB item sizes and formats")."""
    return sum(len(name.encode()) + _size_of_value(value) for name, value in item.items())


def _size_of_value(typed: Item) -> int:
    ((kind, value),) = typed.items()
    match kind:
        case "S":
            return len(value.encode())
        case "N":
            return _size_of_number(value)
        case "B":
            return len(b64decode(value)) if isinstance(value, str) else len(value)
        case "BOOL" | "NULL":
            return 1
        case "M":
            return 3 + sum(
                1 + len(name.encode()) + _size_of_value(one) for name, one in value.items()
            )
        case "L":
            return 3 + sum(1 + _size_of_value(one) for one in value)
    raise ValueError(f"an attribute of type {kind} is written, whose size nobody told us")


def _size_of_number(text: str) -> int:
    """About a byte for two significant digits, one more, and one where it is negative."""
    sign, digits, _ = Decimal(text).normalize().as_tuple()
    return (len(digits) + 1) // 2 + 1 + sign
