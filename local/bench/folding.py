"""Handing ledger entries to the aggregator, as the ledger's stream does."""

from collections.abc import Iterable
from itertools import batched
from typing import Any

type Record = dict[str, Any]


def stream_record(number: int, image: dict[str, Any]) -> Record:
    """The record of a stored item, the `number`-th of its shard."""
    change = {"SequenceNumber": f"{number + 1:021}", "NewImage": image}
    return {"eventName": "INSERT", "dynamodb": change}


def fold(records: Iterable[Record], size: int, shard: str = "shardId-1") -> None:
    """Have them counted, so many in one invocation."""
    from functions.aggregator.handler import handler  # noqa: PLC0415 (after the wiring)

    for batch in batched(records, size, strict=False):
        answer = handler(
            {"Records": list(batch), "shardId": shard, "eventSourceARN": "arn:bench"}, None
        )
        assert not answer["batchItemFailures"], answer
