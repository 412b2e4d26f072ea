"""The simulation's SQS queue and its event source mapping do what AWS says, and no more."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import md5
from pathlib import Path
from random import Random
from typing import Any

import pytest

from infra.functions import Queue as QueueSettings
from tests.simulation.aws.mapping import Failure
from tests.simulation.aws.queue import Queue, QueueFaults, QueueInvocation

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
VISIBILITY = timedelta(minutes=3)
SETTINGS = QueueSettings("usage-events", "usage-events-dead", 10, 5, receives_max=3)
STEPS_MAX = 1_000

type Function = Callable[[QueueInvocation], Any]


def a_queue(*bodies: str, faults: QueueFaults | None = None, seed: int = 1) -> Queue:
    queue = Queue(SETTINGS, VISIBILITY, Random(seed), faults=faults or QueueFaults())
    for body in bodies:
        queue.send(body, NOON)
    return queue


def names(count: int) -> list[str]:
    return [f"body-{number:02d}" for number in range(count)]


def bodies_of(invocation: QueueInvocation) -> list[str]:
    return [record["body"] for record in invocation.event["Records"]]


def first_batch(queue: Queue, at: datetime = NOON + 5 * SECOND) -> QueueInvocation:
    (invocation,) = queue.due(at)
    return invocation


def report(invocation: QueueInvocation, *bodies: str) -> dict[str, Any]:
    records = [one for one in invocation.event["Records"] if one["body"] in bodies]
    return {"batchItemFailures": [{"itemIdentifier": one["messageId"]} for one in records]}


def run(queue: Queue, function: Function, now: datetime = NOON) -> list[str]:
    """Deliver until no message is left; all bodies in the order of their receives."""
    received: list[str] = []
    for _ in range(STEPS_MAX):
        at = queue.due_at()
        if at is None:
            return received
        now = max(now, at)
        for invocation in queue.due(now):
            received += bodies_of(invocation)
            queue.finished(invocation, function(invocation), now)
    raise AssertionError(f"not through after {STEPS_MAX} steps")


def test_a_message_has_the_shape_in_which_lambda_hands_it_over() -> None:
    example = json.loads(Path("events/sqs-batch.json").read_text())["Records"][0]

    (record,) = json.loads(json.dumps(first_batch(a_queue(example["body"])).event))["Records"]

    assert record.keys() == example.keys()
    assert record["attributes"].keys() == example["attributes"].keys()
    same = ("body", "md5OfBody", "messageAttributes", "eventSource", "eventSourceARN", "awsRegion")
    assert {name: record[name] for name in same} == {name: example[name] for name in same}
    assert record["md5OfBody"] == md5(example["body"].encode()).hexdigest()


def test_in_a_perfect_world_each_message_comes_once_in_full_batches() -> None:
    queue = a_queue(*names(25))

    assert [len(bodies_of(one)) for one in queue.due(NOON)] == [10, 10]
    assert run(a_queue(*names(25)), lambda _: None) == names(25)


def test_a_message_is_seen_after_its_delay() -> None:
    queue = a_queue()
    queue.send("late", NOON, delay=HOUR)

    assert queue.due(NOON + HOUR - SECOND) == []
    assert queue.due_at() == NOON + HOUR + 5 * SECOND
    assert bodies_of(first_batch(queue, NOON + HOUR + 5 * SECOND)) == ["late"]


def test_a_message_under_way_is_not_received_beside_those_that_wait() -> None:
    queue = a_queue("early")
    first_batch(queue)
    queue.send("later", NOON + 6 * SECOND)

    assert bodies_of(first_batch(queue, NOON + 11 * SECOND)) == ["later"]


def test_a_failed_message_comes_again_when_its_visibility_timeout_is_over() -> None:
    queue = a_queue(*names(3))
    batch = first_batch(queue)
    queue.finished(batch, report(batch, "body-01"), NOON + 6 * SECOND)

    assert queue.due(NOON + VISIBILITY) == []
    again = first_batch(queue, NOON + VISIBILITY + 10 * SECOND)
    assert bodies_of(again) == ["body-01"]
    (record,) = again.event["Records"]
    assert record["attributes"]["ApproximateReceiveCount"] == "2"


@pytest.mark.parametrize(
    "answer",
    [
        Failure("killed"),
        {"batchItemFailures": [{"itemIdentifier": "unknown"}]},
        {"batchItemFailures": [{"itemIdentifier": ""}]},
        {"batchItemFailures": [{"id": "1"}]},
    ],
)
def test_without_a_usable_answer_all_messages_come_again(answer: object) -> None:
    queue = a_queue(*names(3))
    queue.finished(first_batch(queue), answer, NOON + 6 * SECOND)

    assert bodies_of(first_batch(queue, NOON + HOUR)) == names(3)


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}])
def test_no_reported_failure_deletes_all(answer: object) -> None:
    queue = a_queue(*names(3))
    queue.finished(first_batch(queue), answer, NOON + 6 * SECOND)

    assert queue.is_drained


def test_a_message_dies_after_its_last_receive_and_comes_back_as_a_new_one_when_redriven() -> None:
    queue = a_queue("poison", "good")
    received = run(queue, lambda batch: report(batch, "poison"))

    assert Counter(received) == {"poison": SETTINGS.receives_max, "good": 1}
    (dead,) = queue.dead
    assert queue.redrive(NOON + 30 * HOUR) == 1
    (record,) = first_batch(queue, NOON + 31 * HOUR).event["Records"]
    assert (record["body"], record["attributes"]["ApproximateReceiveCount"]) == ("poison", "1")
    assert record["messageId"] != dead.id
    assert queue.dead == []


def test_a_message_whose_work_outlasts_its_visibility_comes_again_beside_it() -> None:
    queue = a_queue("slow")
    slow = first_batch(queue)
    again = first_batch(queue, NOON + HOUR)

    queue.finished(slow, None, NOON + HOUR)
    assert not queue.is_drained
    queue.finished(again, None, NOON + HOUR)
    assert queue.is_drained


def test_a_duplicate_has_the_same_id_and_comes_though_the_message_was_deleted() -> None:
    queue = a_queue("a", faults=QueueFaults(duplicate=1.0))
    first = first_batch(queue)
    queue.faults = QueueFaults()
    queue.finished(first, None, NOON + 6 * SECOND)

    again = first_batch(queue, NOON + HOUR)
    assert again.event["Records"][0]["messageId"] == first.event["Records"][0]["messageId"]
    queue.finished(again, None, NOON + HOUR)
    assert queue.is_drained


def test_messages_may_come_in_any_order_and_in_smaller_batches() -> None:
    queue = a_queue(*names(30), faults=QueueFaults(shuffle=1.0, recut=1.0))

    received = run(queue, lambda _: None)

    assert received != names(30)
    assert sorted(received) == names(30)


@pytest.mark.parametrize("seed", range(8))
def test_whatever_fails_every_message_is_taken_at_least_once_or_dead(seed: int) -> None:
    random = Random(seed)
    faults = QueueFaults(duplicate=0.2, shuffle=0.5, recut=0.3)
    queue = a_queue(*names(60), faults=faults, seed=seed)
    taken: set[str] = set()

    def function(batch: QueueInvocation) -> Any:
        bodies = bodies_of(batch)
        failed = random.sample(bodies, random.randint(0, len(bodies) // 2))
        if random.random() < 0.3:
            return Failure("killed")
        taken.update(body for body in bodies if body not in failed)
        return report(batch, *failed)

    run(queue, function)

    assert taken | {message.body for message in queue.dead} == set(names(60))
    queue.redrive(NOON + 30 * HOUR)
    queue.faults = QueueFaults()
    run(queue, lambda batch: taken.update(bodies_of(batch)), NOON + 30 * HOUR)
    assert taken == set(names(60))
    assert queue.is_drained
