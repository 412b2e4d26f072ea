import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from infra.functions import INGEST_QUEUE, Queue
from local import queues
from local.environment import Environment
from local.handlers import Loaded
from local.queues import QueueMapping, QueueSettings
from tests.local.helpers import an_event, wait_for

_prefixes = (f"q{number}-" for number in itertools.count())
QUEUE = INGEST_QUEUE.trigger


class Mapped:
    """A queue mapping under test, its queue and its dead-letter queue in moto."""

    def __init__(self, endpoint: str) -> None:
        assert isinstance(QUEUE, Queue)
        self.sqs = queues.client(endpoint)
        prefix = next(_prefixes)
        self.url = queues.create_queue(self.sqs, QUEUE, timeout_s=30, prefix=prefix)
        self.dead_url = self.sqs.get_queue_url(QueueName=prefix + QUEUE.dead_letter_name)[
            "QueueUrl"
        ]
        self._mapping: QueueMapping | None = None

    def send(self, *bodies: str) -> None:
        for body in bodies:
            self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def start(self, handler: Callable[[Any, Any], Any], *, batch_size: int = 100) -> QueueMapping:
        settings = QueueSettings(
            self.url,
            queues.arn_of(self.sqs, self.url),
            batch_size=batch_size,
            window_s=0.1,
            retry_after_s=0,
        )
        environment = Environment(Loaded(INGEST_QUEUE, handler))
        self._mapping = QueueMapping(self.sqs, environment, settings)
        self._mapping.start()
        return self._mapping

    def stop(self) -> None:
        if self._mapping:
            self._mapping.stop()


@pytest.fixture
def mapped(sqs_endpoint: str) -> Iterator[Mapped]:
    under_test = Mapped(sqs_endpoint)
    yield under_test
    under_test.stop()


class Recorder:
    """A handler that notes bodies and fails what it is told to, so many times."""

    def __init__(self, failing: dict[str, int] | None = None) -> None:
        self.batches: list[list[str]] = []
        self.events: list[Any] = []
        self._failing = dict(failing or {})

    def __call__(self, event: Any, context: Any) -> Any:
        self.events.append(event)
        self.batches.append(sorted(record["body"] for record in event["Records"]))
        failures = []
        for record in event["Records"]:
            if self._failing.get(record["body"], 0) > 0:
                self._failing[record["body"]] -= 1
                failures.append({"itemIdentifier": record["messageId"]})
        return {"batchItemFailures": failures}


def test_messages_are_gathered_over_several_receives_into_one_batch(mapped: Mapped) -> None:
    handler = Recorder()
    bodies = [f"m{number:02d}" for number in range(25)]
    mapped.send(*bodies)

    mapping = mapped.start(handler)
    wait_for(lambda: mapping.is_caught_up(0.0))

    assert handler.batches == [bodies]


def test_a_record_has_the_shape_of_lambdas_own(mapped: Mapped) -> None:
    real = an_event("sqs-batch")["Records"][0]
    handler = Recorder()
    mapped.send("hello")

    mapping = mapped.start(handler)
    wait_for(lambda: mapping.is_caught_up(0.0))

    [record] = handler.events[0]["Records"]
    assert record.keys() == real.keys()
    assert record["attributes"].keys() >= {"ApproximateReceiveCount", "SentTimestamp"}
    assert record["attributes"]["ApproximateReceiveCount"] == "1"
    assert record["eventSourceARN"].endswith("usage-events")


def test_only_the_reported_message_comes_again(mapped: Mapped) -> None:
    handler = Recorder({"b": 1})
    mapped.send("a", "b", "c")

    mapping = mapped.start(handler)
    wait_for(lambda: mapping.is_caught_up(0.0))

    assert handler.batches == [["a", "b", "c"], ["b"]]
    assert (mapping.tally.messages, mapping.tally.failures) == (3, 1)


def test_a_message_that_fails_five_times_goes_to_the_dead_letter_queue(mapped: Mapped) -> None:
    handler = Recorder({"poison": 99})
    mapped.send("poison", "good")

    mapping = mapped.start(handler)
    wait_for(lambda: mapping.is_caught_up(0.0))

    assert sum("poison" in batch for batch in handler.batches) == 5
    dead = mapped.sqs.receive_message(QueueUrl=mapped.dead_url)["Messages"]
    assert [message["Body"] for message in dead] == ["poison"]


def test_a_raising_function_brings_the_whole_batch_back(mapped: Mapped) -> None:
    seen: list[list[str]] = []

    def handler(event: Any, context: Any) -> Any:
        seen.append(sorted(record["body"] for record in event["Records"]))
        if len(seen) == 1:
            raise RuntimeError("the ledger is down")

    mapped.send("a", "b")
    mapping = mapped.start(handler)
    wait_for(lambda: mapping.is_caught_up(0.0))

    assert seen == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize(
    "answer",
    [
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"id": "a"}]},
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
    ],
)
def test_a_report_that_names_no_message_fails_all(answer: Any) -> None:
    with pytest.raises(queues.UnusableResponseError):
        queues.failed_ids(answer, {"a", "b"})


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, "fine"])
def test_a_response_that_reports_nothing_means_success(answer: Any) -> None:
    assert queues.failed_ids(answer, {"a"}) == set()


def test_the_queue_is_set_up_as_on_aws(mapped: Mapped) -> None:
    answer = mapped.sqs.get_queue_attributes(QueueUrl=mapped.url, AttributeNames=["All"])

    assert answer["Attributes"]["VisibilityTimeout"] == "185"
    redrive = json.loads(answer["Attributes"]["RedrivePolicy"])
    assert redrive["maxReceiveCount"] == 5
    assert redrive["deadLetterTargetArn"].endswith("usage-events-dead")
