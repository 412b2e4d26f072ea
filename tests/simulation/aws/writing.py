"""What a write would do to one item: planned first, so that many can be done together or not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tests.simulation.aws.errors import InvalidError
from tests.simulation.aws.expressions import (
    NO_NAMES,
    changed_names,
    changes_of,
    program_of,
    values_of,
)
from tests.simulation.aws.items import Item, Row, row_of, text_size
from tests.simulation.aws.shelf import Key
from tests.simulation.aws.stored_table import StoredTable

PARTITION_KEY_BYTES_MAX = 2048
SORT_KEY_BYTES_MAX = 1024
SAFE_LENGTH = SORT_KEY_BYTES_MAX // 4
"""No text of so many characters is too long for a key."""


@dataclass(slots=True)
class Write:
    """What one item is to become; where its condition does not `hold`, it stays as it is."""

    table: StoredTable
    key: Key
    before: Row | None
    after: Row | None
    holds: bool = True

    @property
    def changes(self) -> bool:
        """Whether anything is other than before; DynamoDB streams nothing else."""
        if self.before is None or self.after is None:
            return self.before is not self.after
        return self.before is not self.after and self.before.item != self.after.item


def put(table: StoredTable, params: Mapping[str, Any]) -> Write:
    """Put a whole item in the place of what stands at its key."""
    write = put_row(table, row_of(params["Item"]))
    write.holds = _holds(write.before, params)
    return write


def put_row(table: StoredTable, row: Row) -> Write:
    """The same without a condition."""
    key = key_in(table, row.item)
    _check_index_keys(table, row)
    return Write(table, key, table.own.rows.get(key), row)


def delete(table: StoredTable, params: Mapping[str, Any]) -> Write:
    """Take the item away."""
    key = key_of(table, params["Key"])
    before = table.own.rows.get(key)
    return Write(table, key, before, None, _holds(before, params))


def check(table: StoredTable, params: Mapping[str, Any]) -> Write:
    """Leave the item as it is."""
    key = key_of(table, params["Key"])
    before = table.own.rows.get(key)
    return Write(table, key, before, before, _holds(before, params))


def update(table: StoredTable, params: Mapping[str, Any]) -> Write:
    """Change some attributes of the item, or of an empty one."""
    key = key_of(table, params["Key"])
    before = table.own.rows.get(key)
    program, values = program_of(params), values_of(params)
    names = params.get("ExpressionAttributeNames", NO_NAMES)
    item = before.item if before else {}
    if program.condition and not program.condition(item, names, values):
        return Write(table, key, before, before, holds=False)
    changes = changes_of(item, program.actions, names, values)
    return changed(table, key, before, changes, params["Key"])


def changed(
    table: StoredTable,
    key: Key,
    before: Row | None,
    changes: Mapping[str, Any],
    key_item: Mapping[str, Any],
) -> Write:
    """An updated item in its own place; `key_item` is what it begins with where nothing stands."""
    if any(name in changes for name in table.key_names):
        raise InvalidError("Cannot update attribute. This attribute is part of the key")
    after = (before or row_of(key_item)).changed(changes)
    _check_index_keys(table, after)
    return Write(table, key, before, after)


PLANS: dict[str, Callable[[StoredTable, Mapping[str, Any]], Write]] = {
    "Put": put,
    "Update": update,
    "Delete": delete,
    "ConditionCheck": check,
    "PutRequest": put,
    "DeleteRequest": delete,
}


def _holds(before: Row | None, params: Mapping[str, Any]) -> bool:
    program = program_of(params)
    if program.condition is None:
        return True
    item = before.item if before else {}
    names = params.get("ExpressionAttributeNames", NO_NAMES)
    return program.condition(item, names, values_of(params))


# --- answers --------------------------------------------------------------------------------------


def standing(write: Write, params: Mapping[str, Any]) -> dict[str, Item]:
    """What stands where a condition did not hold, if the request wants to know."""
    if write.before and params.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD":
        return {"Item": write.before.copy()}
    return {}


def attributes(write: Write, params: Mapping[str, Any]) -> dict[str, Item]:
    """What the request wants to know of an item before or after it was written."""
    wanted = params.get("ReturnValues", "NONE")
    if wanted == "NONE":
        return {}
    extent, side = wanted.split("_")
    row = write.before if side == "OLD" else write.after
    item = row.copy() if row else {}
    if extent == "UPDATED":
        names = params.get("ExpressionAttributeNames", NO_NAMES)
        updated = changed_names(program_of(params).actions, names)
        item = {name: item[name] for name in updated if name in item}
    return {"Attributes": item} if item else {}


# --- keys -----------------------------------------------------------------------------------------


def check_distinct(keys: Sequence[Any], message: str) -> None:
    """Refuse requests that name one item twice."""
    if len(set(keys)) != len(keys):
        raise InvalidError(message)


def key_of(table: StoredTable, key: Mapping[str, Any]) -> Key:
    """The key in a request, which may hold nothing else."""
    if len(key) != len(table.key_names):
        raise InvalidError("The provided key element does not match the schema")
    return key_in(table, key)


def key_in(table: StoredTable, item: Mapping[str, Any]) -> Key:
    """The key in an item."""
    partition, sort = table.own.partition_key, table.own.sort_key
    first = _key_text(item, partition, PARTITION_KEY_BYTES_MAX)
    return first, _key_text(item, sort, SORT_KEY_BYTES_MAX) if sort else ""


def _key_text(item: Mapping[str, Any], name: str, size_max: int) -> str:
    if name not in item:
        raise InvalidError(f"One or more parameter values were invalid: Missing the key {name}")
    text: str = item[name].get("S", "")
    if not text:
        raise InvalidError(f"One or more parameter values are not valid: the key {name} is no text")
    if len(text) > SAFE_LENGTH and text_size(text) > size_max:
        raise InvalidError(
            f"The key {name} has exceeded the maximum size limit of {size_max} bytes"
        )
    return text


def _check_index_keys(table: StoredTable, row: Row) -> None:
    """An item may lack an index's key, and is then not in it; what it has must be a key."""
    for index in table.indexes.values():
        partition, sort = index.shelf.partition_key, index.shelf.sort_key or ""
        if partition in row.item:
            _key_text(row.item, partition, PARTITION_KEY_BYTES_MAX)
        if sort in row.item:
            _key_text(row.item, sort, SORT_KEY_BYTES_MAX)
