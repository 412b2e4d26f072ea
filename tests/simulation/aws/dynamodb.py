"""DynamoDB in memory: our tables, and the operations that our adapters send to them.

It answers as the low-level client would: the same shapes, the same errors, numbers in normal form.
What our product does not use is not here; an operation, a parameter or a syntax that is not known
raises `NotImplementedError`, so that no test passes on a guess. `tests/contract` compares it with
DynamoDB Local and moto.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from infra.tables import Table
from tests.simulation.aws import known, partiql
from tests.simulation.aws.errors import InvalidError, refusal
from tests.simulation.aws.expressions import NO_NAMES, changes_of, program_of, values_of
from tests.simulation.aws.items import Item, Row, Value, normal, row_of
from tests.simulation.aws.reading import asked_range, check_filter, entry_of, page_of, projected
from tests.simulation.aws.shelf import Entry, Key, Shelf
from tests.simulation.aws.stored_table import StoredTable
from tests.simulation.aws.weather import CLEAR, Weather
from tests.simulation.aws.writing import (
    PLANS,
    Write,
    attributes,
    changed,
    check_distinct,
    delete,
    key_in,
    key_of,
    put,
    put_row,
    standing,
    update,
)

KEYS_MAX = 100
"""Of one BatchGetItem."""
WRITES_MAX = 25
"""Of one BatchWriteItem or BatchExecuteStatement."""
ACTIONS_MAX = 100
"""Of one TransactWriteItems."""
ANSWER_BYTES_MAX = 16 * 1024 * 1024
"""Of one BatchGetItem; the rest comes back unprocessed."""
TOKEN_LIFETIME = timedelta(minutes=10)

_CONDITION_FAILED = "The conditional request failed"

type _Params = Mapping[str, Any]
type _Answer = dict[str, Any]
type _Parsed = tuple[partiql.Statement, list[Value], Row | None]


@dataclass(frozen=True, slots=True)
class Change:
    """One record of a table's stream: an item was written, and is not what it was before."""

    table: str
    event_name: str
    """`INSERT`, `MODIFY` or `REMOVE`."""
    keys: Item
    new_image: Item | None
    by_ttl: bool = False


class _NoTableError(Exception):
    pass


class MemoryDynamoDB:
    """All tables of a deployment."""

    def __init__(
        self,
        tables: Iterable[Table],
        *,
        prefix: str = "",
        now: Callable[[], datetime],
        indexes: bool = True,
        weather: Weather = CLEAR,
    ) -> None:
        self._tables = {
            prefix + table.name: StoredTable(table, prefix + table.name, weather, indexes=indexes)
            for table in tables
        }
        self._now = now
        self._weather = weather
        self._listeners: list[Callable[[Change], None]] = []
        self._tokens: dict[str, tuple[datetime, Any]] = {}
        self._operations: dict[str, Callable[[_Params], _Answer]] = {
            "GetItem": self._get_item,
            "Query": self._query,
            "Scan": self._scan,
            "PutItem": lambda params: self._write_item(put, "PutItem", params),
            "UpdateItem": lambda params: self._write_item(update, "UpdateItem", params),
            "DeleteItem": lambda params: self._write_item(delete, "DeleteItem", params),
            "BatchGetItem": self._batch_get_item,
            "BatchWriteItem": self._batch_write_item,
            "BatchExecuteStatement": self._batch_execute_statement,
            "TransactWriteItems": self._transact_write_items,
        }

    def execute(self, operation: str, params: _Params) -> _Answer:
        """Do what a call asks for.

        Raises:
            ClientError: DynamoDB would refuse it, in the form in which the client says so.
            NotImplementedError: our product has not asked for such a thing yet.
        """
        known.check(operation, params)
        try:
            return self._operations[operation](params)
        except InvalidError as error:
            raise refusal("ValidationException", str(error), operation) from None
        except _NoTableError:
            message = "Cannot do operations on a non-existent table"
            raise refusal("ResourceNotFoundException", message, operation) from None

    # --- for those who look on ---

    def subscribe(self, listener: Callable[[Change], None]) -> None:
        """Tell `listener` of each change, in the order in which they are made."""
        self._listeners.append(listener)

    def items(self, table: str) -> list[Item]:
        """All items of a table as they are stored; for reading alone."""
        return [row.item for row in self._tables[table].own.rows.values()]

    def item(self, table: str, key: Item) -> Item | None:
        """The item at a key as it is stored; for reading alone."""
        stored = self._tables[table]
        row = stored.own.rows.get(key_of(stored, key))
        return row.item if row else None

    def snapshot(self, table: str) -> dict[Key, Row]:
        """A backup of a table: rows are replaced and never changed."""
        return dict(self._tables[table].own.rows)

    def restore(self, table: str, backup: Mapping[Key, Row]) -> None:
        """A table as it was at its backup; nobody is told of a change, as no stream is."""
        self._tables[table].restore(backup, self._now())

    def expire(self) -> int:
        """Delete what has expired, as late as the weather said; how many items that were."""
        now, deleted = self._now(), 0
        for table in self._tables.values():
            for key in table.expired(now):
                self._commit([Write(table, key, table.own.rows[key], None)], by_ttl=True)
                deleted += 1
        return deleted

    # --- single items ---

    def _table(self, name: str) -> StoredTable:
        try:
            return self._tables[name]
        except KeyError:
            raise _NoTableError from None

    def _get_item(self, params: _Params) -> _Answer:
        table = self._table(params["TableName"])
        row = self._row(table, key_of(table, params["Key"]), params)
        program = program_of(params)
        if row is None:
            return {}
        return {"Item": projected(row, program, params.get("ExpressionAttributeNames", NO_NAMES))}

    def _row(self, table: StoredTable, key: Key, params: _Params) -> Row | None:
        if not params.get("ConsistentRead") and (age := self._weather.read_age()):
            return table.row_at(key, self._now() - age)
        return table.own.rows.get(key)

    def _write_item(
        self, plan: Callable[[StoredTable, _Params], Write], operation: str, params: _Params
    ) -> _Answer:
        write = plan(self._table(params["TableName"]), params)
        if not write.holds:
            code, more = "ConditionalCheckFailedException", standing(write, params)
            raise refusal(code, _CONDITION_FAILED, operation, **more)
        self._commit([write])
        return attributes(write, params)

    def _commit(self, writes: Sequence[Write], *, by_ttl: bool = False) -> None:
        now = self._now()
        changes = [write for write in writes if write.changes]
        for write in changes:
            write.table.set(write.key, write.after, now)
        if self._listeners:
            for write in changes:
                change = _change(write, by_ttl=by_ttl)
                for listener in self._listeners:
                    listener(change)

    # --- queries and scans ---

    def _query(self, params: _Params) -> _Answer:
        table = self._table(params["TableName"])
        shelf = self._shelf(table, params)
        names = params.get("ExpressionAttributeNames", NO_NAMES)
        program = program_of(params)
        check_filter(program, shelf, names)
        partition, within = asked_range(program.key, shelf, names, values_of(params))
        entries = shelf.of_partition(partition, within)
        forward = params.get("ScanIndexForward", True)
        if start := params.get("ExclusiveStartKey"):
            _, entry = entry_of(start, shelf, key_in(table, start))
            after, before = bisect_right(entries, entry), bisect_left(entries, entry)
            entries = entries[after:] if forward else entries[:before]
        return self._page(table, shelf, entries if forward else reversed(entries), params)

    def _scan(self, params: _Params) -> _Answer:
        table = self._table(params["TableName"])
        shelf = self._shelf(table, params)
        start = params.get("ExclusiveStartKey")
        after = entry_of(start, shelf, key_in(table, start)) if start else None
        return self._page(table, shelf, shelf.scanned(after), params)

    def _shelf(self, table: StoredTable, params: _Params) -> Shelf:
        name, is_consistent = params.get("IndexName"), params.get("ConsistentRead")
        if name is None:
            age = None if is_consistent else self._weather.read_age()
            return table.at(self._now() - age) if age else table.own
        if name not in table.indexes:
            raise InvalidError(f"The table does not have the specified index: {name}")
        if is_consistent:
            raise InvalidError("Consistent reads are not supported on global secondary indexes")
        return table.indexes[name].seen(self._now())

    def _page(
        self, table: StoredTable, shelf: Shelf, entries: Iterable[Entry], params: _Params
    ) -> _Answer:
        limits = [one for one in (params.get("Limit"), self._weather.page_items()) if one]
        answer, ended_at = page_of(entries, shelf, params, min(limits, default=None))
        if ended_at is not None:
            names = dict.fromkeys([*table.key_names, shelf.partition_key, shelf.sort_key])
            answer["LastEvaluatedKey"] = {name: ended_at.item[name] for name in names if name}
        return answer

    # --- batches ---

    def _batch_get_item(self, params: _Params) -> _Answer:
        asked = params["RequestItems"]
        wanted = list(self._wanted(asked))
        if not 0 < len(wanted) <= KEYS_MAX:
            raise InvalidError("Too many items requested for the BatchGetItem call")
        responses: dict[str, list[Item]] = {name: [] for name in asked}
        left: dict[str, Any] = {}
        done, size = self._done(len(wanted)), 0
        for number, (table, key, place) in enumerate(wanted):
            request = asked[table.name]
            if number >= done or size > ANSWER_BYTES_MAX:
                left.setdefault(table.name, request | {"Keys": []})["Keys"].append(key)
            elif row := self._row(table, place, request):
                names = request.get("ExpressionAttributeNames", NO_NAMES)
                responses[table.name].append(projected(row, program_of(request), names))
                size += row.size
        return {"Responses": responses, "UnprocessedKeys": left}

    def _wanted(self, asked: _Params) -> Iterator[tuple[StoredTable, Item, Key]]:
        """The keys asked for, each with its table."""
        for name, request in asked.items():
            known.check("BatchGetItem's table", request)
            table = self._table(name)
            places = [key_of(table, key) for key in request["Keys"]]
            check_distinct(places, "Provided list of item keys contains duplicates")
            for key, place in zip(request["Keys"], places, strict=True):
                yield table, key, place

    def _done(self, requests: int) -> int:
        """How many of a batch's requests are done now."""
        return max(1, requests - self._weather.unprocessed(requests))

    def _batch_write_item(self, params: _Params) -> _Answer:
        asked = params["RequestItems"]
        requests = [(name, one) for name, several in asked.items() for one in several]
        if not 0 < len(requests) <= WRITES_MAX:
            raise InvalidError("Too many items requested for the BatchWriteItem call")
        writes = [self._planned(name, request) for name, request in requests]
        places = [(write.table.name, write.key) for write in writes]
        check_distinct(places, "Provided list of item keys contains duplicates")
        done = self._done(len(writes))
        for write in writes[:done]:
            self._commit([write])
        left: dict[str, Any] = {}
        for name, request in requests[done:]:
            left.setdefault(name, []).append(request)
        return {"UnprocessedItems": left}

    def _planned(self, table: str, request: _Params) -> Write:
        ((kind, content),) = request.items()
        known.check(kind, content)
        return PLANS[kind](self._table(table), content)

    # --- PartiQL ---

    def _batch_execute_statement(self, params: _Params) -> _Answer:
        statements = params["Statements"]
        if not 0 < len(statements) <= WRITES_MAX:
            raise InvalidError("Member must have length less than or equal to 25")
        parsed = [_parsed(one) for one in statements]
        places = [self._place(statement, given) for statement, given, _ in parsed]
        check_distinct(places, "Provided list of item keys contains duplicates")
        return {
            "Responses": [
                {"TableName": one[0].table} | self._execute_statement(one, request)
                for one, request in zip(parsed, statements, strict=True)
            ]
        }

    def _place(self, statement: partiql.Statement, given: Sequence[Value]) -> tuple[str, ...]:
        """The table and the key that a statement writes to."""
        names = self._tables[statement.table].key_names if statement.table in self._tables else ()
        key = partiql.key_values(statement, given, names)
        return statement.table, *(value.get("S", "") for value in key.values())

    def _execute_statement(self, parsed: _Parsed, request: _Params) -> _Answer:
        """Nothing, or the error of this statement alone."""
        if code := self._weather.statement_errors():
            return _failed(code, "Not now")
        statement, given, row = parsed
        try:
            partiql.check_count(statement, given)
            table = self._table(statement.table)
            if isinstance(statement, partiql.Update):
                return self._guarded_update(table, statement, given, request)
            assert row is not None
            return self._insert(table, row)
        except InvalidError as error:
            return _failed("ValidationError", str(error))
        except _NoTableError:
            return _failed("ResourceNotFound", "Requested resource not found")

    def _insert(self, table: StoredTable, row: Row) -> _Answer:
        write = put_row(table, row)
        if write.before is not None:
            return _failed("DuplicateItem", "Duplicate primary key exists in table")
        self._commit([write])
        return {}

    def _guarded_update(
        self,
        table: StoredTable,
        statement: partiql.Update,
        given: Sequence[Value],
        request: _Params,
    ) -> _Answer:
        values = {f":{number}": one for number, one in enumerate(given, start=1)}
        key_item = partiql.key_values(statement, given, table.key_names)
        key = key_of(table, key_item)
        before = table.own.rows.get(key)
        if before is None or not statement.condition(before.item, NO_NAMES, values):
            more = standing(Write(table, key, before, before), request)
            return _failed("ConditionalCheckFailed", _CONDITION_FAILED, **more)
        changes = changes_of(before.item, statement.actions, NO_NAMES, values)
        self._commit([changed(table, key, before, changes, key_item)])
        return {}

    # --- transactions ---

    def _transact_write_items(self, params: _Params) -> _Answer:
        actions = params["TransactItems"]
        if not 0 < len(actions) <= ACTIONS_MAX:
            raise InvalidError("Member must have length less than or equal to 100")
        token = params.get("ClientRequestToken")
        if token is not None and self._is_done(token, actions):
            return {}
        writes = [self._planned_action(action) for action in actions]
        places = [(write.table.name, write.key) for write in writes]
        check_distinct(places, "Transaction request cannot include multiple operations on one item")
        if not all(write.holds for write in writes):
            raise _cancelled(writes, actions)
        self._commit(writes)
        if token is not None:
            self._tokens[token] = (self._now() + TOKEN_LIFETIME, actions)
        return {}

    def _planned_action(self, action: _Params) -> Write:
        ((kind, content),) = action.items()
        known.check(kind, content)
        return PLANS[kind](self._table(content["TableName"]), content)

    def _is_done(self, token: str, actions: Any) -> bool:
        if token not in self._tokens:
            return False
        until, done = self._tokens[token]
        if until <= self._now():
            return False
        if done != actions:
            code = "IdempotentParameterMismatchException"
            message = "The token of an earlier request came with other parameters"
            raise refusal(code, message, "TransactWriteItems")
        return True


def _parsed(request: _Params) -> _Parsed:
    """A statement, its parameters in normal form, and the item that it inserts."""
    known.check("BatchExecuteStatement's statement", request)
    statement = partiql.statement_of(request["Statement"])
    parameters = request.get("Parameters", ())
    if isinstance(statement, partiql.Update) or len(parameters) != statement.parameters:
        return statement, [normal(one) for one in parameters], None
    row = row_of(dict(zip(statement.places, parameters, strict=True)))
    return statement, list(row.item.values()), row


def _change(write: Write, *, by_ttl: bool) -> Change:
    row = write.after or write.before
    assert row is not None
    name = "INSERT" if write.before is None else "MODIFY" if write.after else "REMOVE"
    image = write.after.copy() if write.after else None
    return Change(write.table.name, name, write.table.key_of(row.item), image, by_ttl)


def _failed(code: str, message: str, **more: Any) -> _Answer:
    return {"Error": {"Code": code, "Message": message} | more}


def _cancelled(writes: Sequence[Write], actions: Sequence[_Params]) -> ClientError:
    reasons = [_reason(write, action) for write, action in zip(writes, actions, strict=True)]
    codes = ", ".join(reason["Code"] for reason in reasons)
    message = (
        f"Transaction cancelled, please refer cancellation reasons for specific reasons [{codes}]"
    )
    code = "TransactionCanceledException"
    return refusal(code, message, "TransactWriteItems", CancellationReasons=reasons)


def _reason(write: Write, action: _Params) -> dict[str, Any]:
    if write.holds:
        return {"Code": "None"}
    (content,) = action.values()
    reason = {"Code": "ConditionalCheckFailed", "Message": _CONDITION_FAILED}
    return reason | standing(write, content)
