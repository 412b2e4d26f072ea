"""DynamoDB stream of the ledger: fold new entries into counters.

The event source mapping must have a tumbling window (it makes Lambda tell the shard), one batch
per shard at a time, and partial batch responses. Nothing is kept in the window's `state`: batches
repeat within a window too.
"""

from collections.abc import Mapping
from typing import Any

from functions.invocation import invocation
from metering import wiring
from metering.adapters.dynamodb.stream import read_batch


@invocation
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Fold one batch; answers from which record the stream must come again, if any."""
    if not event.get("Records"):
        return _answer()  # the last call of a window that brought nothing
    batch = read_batch(event)
    folded = wiring.current().aggregator.fold(batch.shard, batch.records, batch.unreadable)
    if folded.failed_from is None:
        return _answer()
    return _answer(batch.sequence_numbers[folded.failed_from])


def _answer(*failed: str) -> dict[str, Any]:
    failures = [{"itemIdentifier": sequence_number} for sequence_number in failed]
    # Without `state` a windowed invocation counts as failed.
    return {"state": {}, "batchItemFailures": failures}
