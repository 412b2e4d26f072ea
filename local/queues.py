"""The event source mapping of an SQS queue, and the queues it needs.

Source: AWS, "Using Lambda with Amazon SQS". Unlike on AWS a failed message comes back after
`retry_after_s` and not only when its visibility timeout is over, so that nobody waits for minutes.
"""

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config as BotoConfig

from infra.functions import Queue
from local.dynamodb_local import ACCESS_KEY, REGION, SECRET_KEY
from local.environment import Environment

if TYPE_CHECKING:
    from types_boto3_sqs import SQSClient

RECEIVE_MAX = 10
"""The most that one call receives or deletes."""
POLL_S = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """How a queue's messages are batched."""

    url: str
    arn: str
    batch_size: int
    window_s: float
    retry_after_s: int = 1


@dataclass(slots=True)
class QueueTally:
    """What the mapping has come to."""

    invocations: int = 0
    messages: int = 0
    failures: int = 0
    last_error: str = ""


def client(endpoint: str) -> "SQSClient":
    """A client for the local queues."""
    return boto3.client(
        "sqs",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=BotoConfig(retries={"mode": "standard", "total_max_attempts": 3}),
    )


def arn_of(sqs: "SQSClient", url: str) -> str:
    """A queue's name as AWS writes it."""
    described = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
    return described["Attributes"]["QueueArn"]


def create_queue(sqs: "SQSClient", queue: Queue, *, timeout_s: int, prefix: str = "") -> str:
    """Make a queue and its dead-letter queue unless they are there; the queue's URL."""
    dead = sqs.create_queue(QueueName=prefix + queue.dead_letter_name)["QueueUrl"]
    redrive = {"deadLetterTargetArn": arn_of(sqs, dead), "maxReceiveCount": queue.receives_max}
    made = sqs.create_queue(
        QueueName=prefix + queue.name,
        Attributes={
            "VisibilityTimeout": str(queue.visibility_s(timeout_s=timeout_s)),
            "RedrivePolicy": json.dumps(redrive),
        },
    )
    return made["QueueUrl"]


class QueueMapping:
    """One queue's mapping to one function; `start` makes its thread, `stop` ends it."""

    def __init__(self, sqs: "SQSClient", environment: Environment, settings: QueueSettings) -> None:
        self._sqs = sqs
        self._environment = environment
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="queue", daemon=True)
        self._holding = 0
        self._found_empty_at = -1.0
        self.tally = QueueTally()

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """End after the batch under way; unfinished messages become visible again later."""
        self._stop.set()
        self._thread.join(within_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._once()
            except Exception as failed:
                log.exception("the queue cannot be served; trying again")
                self.tally.last_error = repr(failed)
                self._stop.wait(1.0)

    def _once(self) -> None:
        try:
            batch = self._gather()
            if batch:
                self._settle(batch, self._failed_ids(batch))
        finally:
            self._holding = 0

    # --- receiving ---

    def _gather(self) -> list[Any]:
        """Messages up to the batch size, or until the window after the first is over."""
        batch: list[Any] = []
        deadline = None
        while not self._stop.is_set() and len(batch) < self._settings.batch_size:
            if deadline is not None and time.monotonic() >= deadline:
                break
            received = self._receive(self._settings.batch_size - len(batch))
            batch += received
            if not received:
                if not batch:
                    self._stop.wait(POLL_S)
                    break
                self._stop.wait(POLL_S / 4)
            deadline = deadline or time.monotonic() + self._settings.window_s
        return batch

    def _receive(self, at_most: int) -> list[Any]:
        asked_at = time.monotonic()
        answer = self._sqs.receive_message(
            QueueUrl=self._settings.url,
            MaxNumberOfMessages=min(RECEIVE_MAX, at_most),
            MessageSystemAttributeNames=["All"],
            MessageAttributeNames=["All"],
        )
        messages = answer.get("Messages", [])
        self._holding += len(messages)
        if not messages and not self._holding:
            self._found_empty_at = asked_at
        return messages

    # --- delivering ---

    def _failed_ids(self, batch: Sequence[Any]) -> set[str]:
        """The ids of the messages to bring back; all of them when the function failed."""
        ids = {message["MessageId"] for message in batch}
        event = {"Records": [as_record(message, self._settings.arn) for message in batch]}
        self.tally.invocations += 1
        try:
            failed = failed_ids(self._environment.invoke(event), ids)
        except Exception as raised:
            log.exception("the queue's function failed on %d messages", len(batch))
            self.tally.last_error = repr(raised)
            failed = ids
        self.tally.failures += len(failed)
        self.tally.messages += len(ids) - len(failed)
        return failed

    def _settle(self, batch: Sequence[Any], failed: set[str]) -> None:
        done = [message for message in batch if message["MessageId"] not in failed]
        for start in range(0, len(done), RECEIVE_MAX):
            self._sqs.delete_message_batch(
                QueueUrl=self._settings.url,
                Entries=[
                    {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]}
                    for place, message in enumerate(done[start : start + RECEIVE_MAX])
                ],
            )
        for message in batch:
            if message["MessageId"] in failed:
                self._sqs.change_message_visibility(
                    QueueUrl=self._settings.url,
                    ReceiptHandle=message["ReceiptHandle"],
                    VisibilityTimeout=self._settings.retry_after_s,
                )

    # --- looking at it ---

    def depth(self) -> int:
        """Messages that wait, are being handled or come back later."""
        answer = self._sqs.get_queue_attributes(
            QueueUrl=self._settings.url,
            AttributeNames=[
                "ApproximateNumberOfMessages",
                "ApproximateNumberOfMessagesNotVisible",
                "ApproximateNumberOfMessagesDelayed",
            ],
        )
        return sum(int(number) for number in answer["Attributes"].values())

    def is_caught_up(self, since: float) -> bool:
        """Whether all that was sent before an instant (monotonic) has been handled."""
        return self._found_empty_at > since and self.depth() == 0

    def status(self) -> dict[str, Any]:
        """For people to look at."""
        return {
            "queue": self._settings.url,
            "depth": self.depth(),
            "invocations": self.tally.invocations,
            "messages": self.tally.messages,
            "failures": self.tally.failures,
            "last_error": self.tally.last_error,
        }


def as_record(message: Any, arn: str) -> dict[str, Any]:
    """A received message as Lambda hands it over."""
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message.get("Attributes", {}),
        "messageAttributes": {
            name: _attribute(value) for name, value in message.get("MessageAttributes", {}).items()
        },
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": arn,
        "awsRegion": REGION,
    }


def _attribute(value: Any) -> dict[str, Any]:
    record = {"stringListValues": [], "binaryListValues": [], "dataType": value["DataType"]}
    if "StringValue" in value:
        record["stringValue"] = value["StringValue"]
    return record


class UnusableResponseError(ValueError):
    """The function's answer names no message of the batch: all of it counts as failed."""


def failed_ids(answer: Any, ids: set[str]) -> set[str]:
    """Which messages a response reports as failed; none when it reports nothing.

    Raises:
        UnusableResponseError: an empty, wrongly named or unknown identifier.
    """
    reported = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    try:
        failed = {failure["itemIdentifier"] for failure in reported or ()}
    except (KeyError, TypeError) as wrong:
        raise UnusableResponseError(f"no itemIdentifier in {reported!r}") from wrong
    if not failed <= ids:
        raise UnusableResponseError(f"batchItemFailures names no message of the batch: {reported}")
    return failed
