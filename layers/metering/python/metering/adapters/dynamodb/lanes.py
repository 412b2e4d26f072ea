"""The writing side of the `counters` table: lanes by compare-and-set, directory, change marks."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from metering import times
from metering.adapters.dynamodb.calls import STATEMENTS_MAX, MapOver
from metering.adapters.dynamodb.counter_item import (
    Item,
    buckets_value,
    lane_item_key,
    read_lane,
)
from metering.adapters.dynamodb.counters import (
    CHANGED_SHARDS,
    changed_days,
    changed_part,
    changed_partition,
    directory_partition,
    slot_of,
)
from metering.counter import BucketKey, CounterKey
from metering.errors import RetryableError
from metering.keys import join, shard_of
from metering.lane import Advance, Lane, LaneKey
from metering.ports import Clock, Refused, WriteFailed, Written

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

KEYS_MAX = 100
"""Of one BatchGetItem."""
MARKS_KEPT_FOR = timedelta(days=35)
"""As long as Stripe takes usage: a writer that was away for weeks still finds every change."""
REMEMBERED_MAX = 50_000
"""Counters and marks a warm process remembers to have written, so as not to write them again."""
HOUR = timedelta(hours=1)


class DynamoLanes:
    """The `Lanes` port on DynamoDB."""

    def __init__(
        self,
        client: "DynamoDBClient",
        table: str,
        *,
        clock: Clock,
        changed_slot: timedelta,
        map_calls: MapOver = map,
    ) -> None:
        self._client = client
        self._table = table
        self._map_calls = map_calls
        self._clock = clock
        self._changed_slot = changed_slot
        self._listed: dict[CounterKey, datetime] = {}
        self._marked: dict[BucketKey, datetime] = {}
        self._parts_listed: set[str] = set()
        self._insert = f"INSERT INTO \"{table}\" VALUE {{'pk': ?, 'sk': ?, 'h': ?, 'u': ?, 'b': ?}}"
        # `h = previous`, never `h < new`: a write that comes late would pass the latter.
        self._update = (
            f'UPDATE "{table}" SET h = ? SET u = ? SET b = ? '  # noqa: S608 (bound values)
            "WHERE pk = ? AND sk = ? AND h = ? AND attribute_not_exists(fv)"
        )

    # --- lanes ------------------------------------------------------------------------------------

    def read(self, keys: Sequence[LaneKey]) -> dict[LaneKey, Lane]:
        """See `Lanes.read`."""
        lanes = dict.fromkeys(keys, Lane())
        for chunk in batched(keys, KEYS_MAX, strict=False):
            wanted = {_name(lane_item_key(key)): key for key in chunk}
            for item in self._items(list(chunk)):
                lanes[wanted[_name(item)]] = read_lane(item)
        return lanes

    def _items(self, keys: Sequence[LaneKey]) -> Iterator[Item]:
        request: dict[str, Any] = {
            self._table: {"Keys": [lane_item_key(key) for key in keys], "ConsistentRead": True}
        }
        try:
            answer = self._client.batch_get_item(RequestItems=request)
        except (BotoCoreError, ClientError) as error:
            raise RetryableError("lanes could not be read for now") from error
        if answer.get("UnprocessedKeys"):
            raise RetryableError("lanes could not all be read for now")
        yield from answer["Responses"].get(self._table, [])

    def write(self, steps: Sequence[tuple[LaneKey, Advance]]) -> list[Written]:
        """See `Lanes.write`. One write unit per step."""
        chunks = batched(steps, STATEMENTS_MAX, strict=False)
        return [outcome for part in self._map_calls(self._write, chunks) for outcome in part]

    def _write(self, steps: Sequence[tuple[LaneKey, Advance]]) -> list[Written]:
        now = times.to_text(self._clock.now())
        statements = [self._statement(key, step, now) for key, step in steps]
        try:
            answer = self._client.batch_execute_statement(Statements=statements)  # type: ignore[arg-type]
        except (BotoCoreError, ClientError):
            return [WriteFailed()] * len(steps)
        return [
            _written(step, response)
            for (_, step), response in zip(steps, answer["Responses"], strict=True)
        ]

    def _statement(self, key: LaneKey, step: Advance, now: str) -> dict[str, Any]:
        item_key = lane_item_key(key)
        after = step.after
        state = [{"S": after.position}, {"S": now}, buckets_value(after.buckets)]
        if not step.before.position:
            return {"Statement": self._insert, "Parameters": [*item_key.values(), *state]}
        return {
            "Statement": self._update,
            "Parameters": [*state, *item_key.values(), {"S": step.before.position}],
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }

    # --- directory and marks ----------------------------------------------------------------------

    def list_counters(self, newest: Mapping[CounterKey, datetime]) -> None:
        """See `Lanes.list_counters`. One write unit per new counter, and then one an hour."""
        bounds = {counter: slot_of(at, HOUR) + HOUR for counter, at in newest.items()}
        unknown = {
            counter: bound for counter, bound in bounds.items() if counter not in self._listed
        }
        present = self._insert_lines(unknown)
        outgrown = {
            counter: bound
            for counter, bound in bounds.items()
            if counter in present or self._listed.get(counter, bound) < bound
        }
        self._raise_lines(outgrown)
        _remember(self._listed, unknown | outgrown)

    def _insert_lines(self, bounds: Mapping[CounterKey, datetime]) -> set[CounterKey]:
        """List counters for the first time; returns those that are listed already."""
        text = f"INSERT INTO \"{self._table}\" VALUE {{'pk': ?, 'sk': ?, 'newest': ?}}"
        statements = [
            {"Statement": text, "Parameters": [*_line_key(counter), {"S": times.to_text(bound)}]}
            for counter, bound in bounds.items()
        ]
        codes = self._execute(statements, expected="DuplicateItem")
        return {counter for counter, code in zip(bounds, codes, strict=True) if code}

    def _raise_lines(self, bounds: Mapping[CounterKey, datetime]) -> None:
        """Raise the bound of listed counters; a greater one stays, for another shard set it."""
        text = f'UPDATE "{self._table}" SET newest = ? WHERE pk = ? AND sk = ? AND newest < ?'  # noqa: S608 (bound values)
        statements = []
        for counter, bound in bounds.items():
            value = {"S": times.to_text(bound)}
            statements.append(
                {"Statement": text, "Parameters": [value, *_line_key(counter), value]}
            )
        self._execute(statements, expected="ConditionalCheckFailed")

    def mark_changed(self, buckets: Collection[BucketKey]) -> None:
        """See `Lanes.mark_changed`.

        One write unit per bucket and slot of time, and up to 8 a slot to list where the marks are.
        """
        # The slot is taken after the lanes were written: no write is later than its mark's slot.
        now = self._clock.now()
        slot = slot_of(now, self._changed_slot)
        unmarked = [bucket for bucket in buckets if self._marked.get(bucket) != slot]
        marks = [_mark(bucket, slot) for bucket in unmarked]
        parts = {mark.part for mark in marks} - self._parts_listed
        lines = [(changed_days(slot), part) for part in sorted(parts)]
        lines += [(changed_partition(mark.part), mark.sort_key) for mark in marks]
        self._insert_all(lines, expires_at=now + MARKS_KEPT_FOR)
        _remember(self._marked, dict.fromkeys(unmarked, slot))
        # Those of former slots are never looked up again.
        self._parts_listed = {part for part in self._parts_listed if _is_of(slot, part)} | parts

    def _insert_all(self, lines: Sequence[tuple[str, str]], *, expires_at: datetime) -> None:
        text = f"INSERT INTO \"{self._table}\" VALUE {{'pk': ?, 'sk': ?, 'expires': ?}}"
        expires = {"N": str(int(expires_at.timestamp()))}
        statements = [
            {"Statement": text, "Parameters": [{"S": partition}, {"S": sort_key}, expires]}
            for partition, sort_key in lines
        ]
        self._execute(statements, expected="DuplicateItem")

    def _execute(self, statements: Sequence[dict[str, Any]], *, expected: str) -> list[str | None]:
        """Run statements; the code of each that met the `expected` refusal, None where it took."""
        chunks = batched(statements, STATEMENTS_MAX, strict=False)
        codes = [code for part in self._map_calls(self._codes, chunks) for code in part]
        if any(code not in {None, expected} for code in codes):
            raise RetryableError("the counters table refused some writes for now")
        return codes

    def _codes(self, statements: Sequence[dict[str, Any]]) -> list[str | None]:
        try:
            answer = self._client.batch_execute_statement(Statements=list(statements))  # type: ignore[arg-type]
        except (BotoCoreError, ClientError) as error:
            raise RetryableError("the counters table refused for now") from error
        return [response.get("Error", {}).get("Code") for response in answer["Responses"]]


def _written(step: Advance, response: Mapping[str, Any]) -> Written:
    error = response.get("Error")
    if error is None:
        return step.after
    if error.get("Code") == "ConditionalCheckFailed" and "Item" in error:
        return Refused(read_lane(error["Item"]))
    # An INSERT that met a lane answers DuplicateItem and does not say what stands there: the
    # batch comes again, and reads it.
    return WriteFailed()


def _name(item: Item) -> tuple[str, str]:
    return item["pk"]["S"], item["sk"]["S"]


def _line_key(counter: CounterKey) -> list[dict[str, str]]:
    partition = directory_partition(counter.tenant, counter.customer)
    return [{"S": partition}, {"S": join(counter.customer, counter.metric)}]


class _Mark(NamedTuple):
    part: str
    sort_key: str


def _mark(bucket: BucketKey, slot: datetime) -> _Mark:
    sort_key = join(*bucket.counter, times.to_text(bucket.bucket))
    return _Mark(changed_part(slot, shard_of(sort_key, CHANGED_SHARDS)), sort_key)


def _is_of(slot: datetime, part: str) -> bool:
    return part.startswith(f"{times.to_text(slot)}#")


def _remember[K](memory: dict[K, datetime], written: Mapping[K, datetime]) -> None:
    if len(memory) + len(written) > REMEMBERED_MAX:
        memory.clear()
    memory.update(written)
