"""What the `events` table's stream hands to Lambda, read back into ledger entries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import InvalidOperation
from typing import Any

from metering.adapters.dynamodb.ledger_item import from_item
from metering.errors import InvariantBrokenError
from metering.event import LedgerEntry
from metering.keys import digest
from metering.lane import Record, Unreadable, position_of


@dataclass(frozen=True, slots=True)
class StreamBatch:
    """One batch of one shard; `sequence_numbers` gives Lambda's own text for a position."""

    shard: str
    records: tuple[Record, ...]
    unreadable: tuple[Unreadable, ...]
    sequence_numbers: Mapping[str, str]


def read_batch(event: Mapping[str, Any]) -> StreamBatch:
    """The batch of an invocation.

    Raises:
        InvariantBrokenError: no shard id: the event source mapping lacks a tumbling window.
    """
    inserts = [record for record in event.get("Records", ()) if record["eventName"] == "INSERT"]
    read = [_read(record["dynamodb"]) for record in inserts]
    numbers = [record["dynamodb"]["SequenceNumber"] for record in inserts]
    return StreamBatch(
        shard=_shard(event),
        records=tuple(record for record in read if isinstance(record, Record)),
        unreadable=tuple(record for record in read if isinstance(record, Unreadable)),
        sequence_numbers={position_of(number): number for number in numbers},
    )


def _read(change: Mapping[str, Any]) -> Record | Unreadable:
    position = position_of(change["SequenceNumber"])
    image = change.get("NewImage", {})
    try:
        return Record(position, _with_offsets(from_item(image)))
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        reason = f"not a ledger entry: {type(error).__name__} {error}"
        return Unreadable(position, reason, json.dumps(image, default=str))


def _with_offsets(entry: LedgerEntry) -> LedgerEntry:
    """The same entry; a time without an offset compares with no other and would stop the stream."""
    if entry.event.occurred_at.tzinfo is None or entry.received_at.tzinfo is None:
        raise ValueError("a time without an offset")
    return entry


def _shard(event: Mapping[str, Any]) -> str:
    """Stream and shard. A table made anew has a new stream, whose numbers compare with no other."""
    try:
        shard_id, stream = event["shardId"], event["eventSourceARN"]
    except KeyError as missing:
        raise InvariantBrokenError(
            f"the stream's event has no {missing}; the event source mapping needs"
            " TumblingWindowInSeconds"
        ) from None
    return f"{digest(stream, size=6).hex()}#{shard_id}"
