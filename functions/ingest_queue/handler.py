"""SQS: usage events from the queue into the ledger.

A message holds one event, an array of events, or `{"events": [...]}`. What cannot be taken is put
to quarantine with its reason and acknowledged; what failed for now comes back, and lands in the
dead-letter queue after five receives.
"""

from collections.abc import Mapping
from typing import Any

from functions.invocation import invocation
from metering import wiring
from metering.ingest_queue import Message


@invocation
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Take one batch of messages; answers those that must come again."""
    messages = [Message(record["messageId"], record["body"]) for record in event["Records"]]
    failed = wiring.current().ingest_queue.take(messages)
    return {"batchItemFailures": [{"itemIdentifier": message_id} for message_id in failed]}
