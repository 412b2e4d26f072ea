"""Events over SQS: the forms of a message, and where those end that cannot be taken."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from infra.functions import INGEST_QUEUE, Queue
from local import dynamodb_local, queues
from local.stack import Stack
from tests.e2e.shop import Shop, from_json

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

DEAD_WITHIN_S = 20.0


def test_a_message_holds_one_event_an_array_or_an_object_with_events(shop: Shop) -> None:
    one, two, three = (shop.event(quantity=n) for n in (1, 20, 300))
    shop.queues(one)
    shop.queues([two, three])
    shop.queues({"events": shop.events(3, quantity=1000)})
    shop.is_counted()

    assert shop.counted() == 3321
    assert shop.usage()["api_calls"]["count"] == 6


def test_an_event_is_the_same_event_over_both_doors(shop: Shop) -> None:
    first, second = shop.event(quantity=5), shop.event(quantity=7)
    shop.sends(first)
    shop.queues([first, second, second])
    shop.is_counted()
    body = shop.sends(second, first | {"quantity": 6})
    shop.queues(second | {"quantity": 8})
    shop.is_counted()

    assert (body["duplicates"], body["conflicts"]) == (1, 1)
    assert shop.counted() == 12
    [conflict] = shop.trace(second)["setAside"]
    assert from_json(conflict["payload"])["quantity"] == 8


def test_a_message_that_holds_no_events_ends_in_quarantine_whole(shop: Shop) -> None:
    texts = ["{", "hello", "[]", "17", '[{"tenantId": "a"}, 17]', '{"events": 1}', "null"]
    for text in texts:
        shop.queues(text)
        shop.queues(shop.event(quantity=2))
    shop.is_counted()

    newest = shop.wiring().quarantine.newest(None, len(texts))
    assert sorted(item.payload for item in newest) == sorted(texts)
    assert {item.kind for item in newest} == {"unparseable"}
    assert all(item.reason for item in newest)
    assert shop.counted() == 2 * len(texts), "no neighbour is held up"


def test_an_event_that_is_none_spares_its_neighbours_and_is_traced(shop: Shop) -> None:
    bad = shop.event(quantity=0)
    shop.queues([shop.event(quantity=4), bad, shop.event(quantity=5)])
    shop.is_counted()

    assert shop.counted() == 9
    trace = shop.trace(bad)
    assert (trace["outcome"], trace["event"], trace["counter"]) == ("refused", None, None)
    [item] = trace["setAside"]
    assert item["kind"] == "invalid_event"
    assert "quantity" in item["reason"]
    assert json.loads(item["payload"])["idempotencyKey"] == bad["idempotencyKey"]


def test_a_message_that_fails_five_times_ends_among_the_dead_letters(
    shop: Shop, stack: Stack
) -> None:
    unreadable = f"{{ {shop.tenant}"
    with no_quarantine(shop):
        shop.queues(unreadable)
        shop.queues(shop.event(quantity=6))
        dead = dead_letter(stack)

    shop.is_counted()
    assert dead == unreadable
    assert shop.counted() == 6, "its neighbour counts, and once"


@contextmanager
def no_quarantine(shop: Shop) -> Iterator[None]:
    """Its table is gone for a while, so that nothing can be set aside."""
    dynamodb = shop.wiring().dynamodb
    dynamodb.delete_table(TableName="quarantine")
    try:
        yield
    finally:
        dynamodb_local.create_tables(dynamodb)


def dead_letter(stack: Stack) -> str:
    """The next message that was given up."""
    assert isinstance(INGEST_QUEUE.trigger, Queue)
    sqs = queues.client(stack.sqs_endpoint)
    url = sqs.get_queue_url(QueueName=INGEST_QUEUE.trigger.dead_letter_name)["QueueUrl"]
    deadline = time.monotonic() + DEAD_WITHIN_S
    while not (received := sqs.receive_message(QueueUrl=url).get("Messages")):
        assert time.monotonic() < deadline, stack.status()["queues"]
        time.sleep(0.1)
    sqs.delete_message(QueueUrl=url, ReceiptHandle=received[0]["ReceiptHandle"])
    return received[0]["Body"]
