"""Usage events from the queue: each message taken, set aside with its reason, or received again."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from functions.ingest_queue.handler import handler
from metering.names import IdempotencyKey
from metering.ports import Quarantined
from metering.wiring import Wiring, using
from tests.builders import DEMO, a_queue_batch, a_sent_event
from tests.conftest import SetClock
from tests.faults import Deaths, FaultyClient, dying, throttled, timed_out
from tests.readers import ledger_of


def deliver(*bodies: object) -> list[str]:
    """Hand messages `m-1`, `m-2`, ... to the function; the ids of those that come again."""
    failures = handler(a_queue_batch(*bodies), None)["batchItemFailures"]
    return [failure["itemIdentifier"] for failure in failures]


def set_aside(wiring: Wiring) -> list[Quarantined]:
    """What the quarantine keeps of unknown tenants, oldest message first."""
    return sorted(wiring.quarantine.newest(None, 100), key=lambda item: item.id)


def over(wiring: Wiring, client: FaultyClient) -> Wiring:
    """Another process of the deployment, with its settings in the cache."""
    config = replace(wiring.config, settings_cache_s=30)
    return Wiring(config, clock=wiring.clock, dynamodb=client.client)


@pytest.fixture
def faulty(wiring: Wiring) -> Iterator[FaultyClient]:
    client = FaultyClient(wiring.dynamodb)
    with using(over(wiring, client)):
        yield client


# --- what is taken --------------------------------------------------------------------------------


def test_a_message_holds_one_event_an_array_or_an_object_with_events(wiring: Wiring) -> None:
    again = deliver(
        a_sent_event(idempotencyKey="a"),
        [a_sent_event(idempotencyKey="b"), a_sent_event(idempotencyKey="c")],
        {"events": [a_sent_event(idempotencyKey="d")]},
    )

    assert again == []
    assert [entry.event.key for entry in ledger_of(wiring)] == ["a", "b", "c", "d"]
    assert set_aside(wiring) == []


def test_every_digit_survives_the_queue(wiring: Wiring) -> None:
    body = json.dumps(a_sent_event(quantity="Q")).replace('"Q"', "12345678901234.123457")

    deliver(body)

    assert [entry.event.quantity for entry in ledger_of(wiring)] == [
        Decimal("12345678901234.123457")
    ]


def test_a_message_received_twice_counts_once(wiring: Wiring, clock: SetClock) -> None:
    sent = [a_sent_event(), a_sent_event(idempotencyKey=...)]
    deliver(sent)
    clock.advance(timedelta(minutes=5))

    assert deliver(sent, sent) == []
    assert len(ledger_of(wiring)) == 2
    assert set_aside(wiring) == []


def test_more_than_a_thousand_events_of_one_batch_are_taken(wiring: Wiring) -> None:
    sent = [a_sent_event() for _ in range(260)]

    with using(over(wiring, FaultyClient(wiring.dynamodb))):
        assert deliver(sent, sent, sent, sent, a_sent_event()) == []
    assert len(ledger_of(wiring)) == 261


# --- what is set aside ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    ["", "not JSON", "{", "[]", '{"events": []}', '{"events": 5}', "5", "null", '["text"]', "[[]]"],
)
def test_what_is_no_message_of_ours_is_quarantined_whole_and_acknowledged(
    wiring: Wiring, body: str
) -> None:
    assert deliver(body, a_sent_event()) == []

    [kept] = set_aside(wiring)
    assert (kept.kind, kept.payload, kept.origin) == ("unparseable", body, "sqs:m-1")
    assert kept.reason
    assert kept.recorded_at == wiring.clock.now()
    assert len(ledger_of(wiring)) == 1


def test_a_message_of_a_mebibyte_that_does_not_compress_is_quarantined_whole(
    wiring: Wiring,
) -> None:
    noise = random.Random(7).randbytes(1_048_576 // 2).hex()

    assert deliver(noise, a_sent_event()) == []

    [kept] = set_aside(wiring)
    assert kept.payload == noise
    assert len(ledger_of(wiring)) == 1


@pytest.mark.parametrize("body", ['"half \ud800"', "\ud83d", '{"a":"\udfff"}'])
def test_a_message_that_is_no_unicode_is_quarantined_like_any_other(
    wiring: Wiring, body: str
) -> None:
    assert deliver(body, a_sent_event()) == []

    [kept] = set_aside(wiring)
    assert kept.payload == body


def test_an_invalid_event_is_quarantined_under_its_key_while_its_neighbours_count(
    wiring: Wiring,
) -> None:
    good, bad = a_sent_event(), a_sent_event(idempotencyKey="bad", quantity=0)

    assert deliver([good, bad], a_sent_event()) == []

    [kept] = wiring.quarantine.of_key(DEMO, IdempotencyKey("bad"))
    assert (kept.kind, kept.tenant, kept.key) == ("invalid_event", "demo", "bad")
    assert kept.reason == "quantity: Number must be greater than 0"
    assert kept.origin == "sqs:m-1"
    assert json.loads(kept.payload)["quantity"] == 0
    assert len(ledger_of(wiring)) == 2
    assert set_aside(wiring) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"tenantId": ...},
        {"idempotencyKey": ...},
        {"idempotencyKey": 5},
        {"idempotencyKey": "k" * 300},
        {"idempotencyKey": "half \ud800"},
        {"tenantId": "t" * 300},
        {"tenantId": ["demo"]},
        {"meta": {"deep": None}},
        {"customerRef": "\ud800"},
        {"quantity": float("nan")},
    ],
)
def test_an_invalid_event_is_kept_however_odd_it_is(
    wiring: Wiring, changes: dict[str, object]
) -> None:
    bad = {"quantity": "none"} | a_sent_event(**changes)

    assert deliver(bad | {"quantity": float("nan")}, a_sent_event()) == []

    tenants = wiring.quarantine.newest(DEMO, 10) + wiring.quarantine.newest(None, 10)
    assert [item.kind for item in tenants] == ["invalid_event"]
    assert len(ledger_of(wiring)) == 1


@pytest.mark.parametrize("depth", [1_000, 9_900, 200_000])
def test_an_event_nested_beyond_reason_is_kept_and_does_not_hold_up_its_neighbours(
    wiring: Wiring, depth: int
) -> None:
    nested = f'{{"idempotencyKey": "deep", "meta": {{"a": {"[" * depth}{"]" * depth}}}}}'

    assert deliver(nested, a_sent_event()) == []

    [kept] = set_aside(wiring)
    assert kept.payload.count("[") == depth
    assert len(ledger_of(wiring)) == 1


def test_an_exponent_beyond_reason_refuses_its_own_event(wiring: Wiring) -> None:
    body = json.dumps([a_sent_event(quantity="Q", idempotencyKey="huge"), a_sent_event()])

    assert deliver(body.replace('"Q"', "1e99999999999999999999")) == []

    [kept] = wiring.quarantine.of_key(DEMO, IdempotencyKey("huge"))
    assert kept.reason == "quantity: must be a finite number"
    assert len(ledger_of(wiring)) == 1


def test_a_conflict_is_quarantined_and_acknowledged(wiring: Wiring, clock: SetClock) -> None:
    deliver(a_sent_event(idempotencyKey="k", quantity=1))
    clock.advance(timedelta(seconds=1))

    assert deliver(a_sent_event(idempotencyKey="k", quantity=2)) == []

    assert [kept.kind for kept in wiring.quarantine.of_key(DEMO, IdempotencyKey("k"))] == [
        "conflict"
    ]
    assert [entry.event.quantity for entry in ledger_of(wiring)] == [1]


def test_a_bad_message_received_again_is_kept_once(wiring: Wiring) -> None:
    for _ in range(2):
        deliver("nonsense", a_sent_event(tenantId=..., quantity=0))

    assert [item.id for item in set_aside(wiring)] == ["sqs-m-1", "sqs-m-2-0"]


# --- what comes again -----------------------------------------------------------------------------


def test_only_the_messages_whose_events_failed_for_now_come_again(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    faulty.refuse_statements({1: "ThrottlingError", 4: "InternalServerError"})
    messages = [[a_sent_event(), a_sent_event()] for _ in range(4)]

    assert deliver(*messages) == ["m-1", "m-3"]
    assert len(ledger_of(wiring)) == 6

    assert deliver(*messages) == []
    assert len(ledger_of(wiring)) == 8


def test_when_the_ledger_is_down_every_message_with_events_comes_again(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    faulty.fail("batch_execute_statement", timed_out(), at={1})

    assert deliver(a_sent_event(), "nonsense", a_sent_event()) == ["m-1", "m-3"]
    assert len(set_aside(wiring)) == 1


def test_when_settings_are_down_every_message_with_events_comes_again(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    faulty.fail("get_item", throttled(), at={1})

    assert deliver(a_sent_event(), "nonsense", a_sent_event()) == ["m-1", "m-3"]
    assert ledger_of(wiring) == []


def test_a_message_that_the_quarantine_refuses_comes_again(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    faulty.fail("put_item", throttled(), at={1, 3})  # of: the unparseable one, the two invalid
    invalid = [[a_sent_event(quantity=0), a_sent_event()] for _ in range(2)]
    messages = [invalid[0], "nonsense", invalid[1], a_sent_event()]

    assert deliver(*messages) == ["m-2", "m-3"]
    assert len(ledger_of(wiring)) == 3

    assert deliver(*messages) == []
    assert len(wiring.quarantine.newest(DEMO, 10)) == 2
    assert len(set_aside(wiring)) == 1
    assert len(ledger_of(wiring)) == 3


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_queue_function_killed_at_any_call_is_mended_by_the_next_receive(
    wiring: Wiring, clock: SetClock, *, after_effect: bool
) -> None:
    deaths = Deaths(wiring.dynamodb, after_effect=after_effect)
    stored = 0
    for mortal in deaths:
        messages: list[object] = [
            [a_sent_event(), a_sent_event(quantity=0)],
            "nonsense",
            a_sent_event(),
        ]
        with using(over(wiring, mortal)), dying():
            deliver(*messages)
        clock.advance(timedelta(seconds=1))

        assert deliver(*messages) == []

        stored += 2
        assert len(ledger_of(wiring)) == stored
        assert len(wiring.quarantine.newest(DEMO, 200)) == stored // 2
        assert [item.payload for item in set_aside(wiring)] == ["nonsense"]
    assert deaths.number >= len(["the events", "the invalid one", "the unparseable one"])
