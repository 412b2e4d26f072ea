"""Ingest while DynamoDB has trouble: nothing is lost, nothing counts twice, neighbours stand."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

import pytest

from metering.names import IdempotencyKey
from metering.wiring import Wiring, using
from tests.builders import DEMO, a_sent_event
from tests.conftest import SetClock
from tests.faults import Deaths, FaultyClient, broken, dying, throttled, timed_out
from tests.readers import ledger_of, send

RETRY = "Not stored for now; send the same event again with the same key"


@pytest.fixture
def faulty(wiring: Wiring) -> Iterator[FaultyClient]:
    """What the handler's DynamoDB client does, a test says."""
    client = FaultyClient(wiring.dynamodb)
    with using(over(wiring, client)):
        yield client


def over(wiring: Wiring, client: FaultyClient) -> Wiring:
    """Another process of the deployment, with its settings in the cache."""
    config = replace(wiring.config, settings_cache_s=30)
    return Wiring(config, clock=wiring.clock, dynamodb=client.client)


def some_events(number: int) -> list[dict[str, object]]:
    return [a_sent_event(idempotencyKey=f"k-{at:04}") for at in range(number)]


@pytest.mark.parametrize(
    "code", ["ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError"]
)
def test_one_throttled_statement_of_25_fails_its_event_alone(
    wiring: Wiring, faulty: FaultyClient, clock: SetClock, code: str
) -> None:
    sent = some_events(25)
    faulty.refuse_statements({7: code})

    answer = send(*sent)

    assert answer.status == 200
    assert (answer.body["accepted"], answer.errors) == (24, [(7, RETRY)])
    assert answer.body["results"][7] == {
        "idempotencyKey": "k-0007",
        "status": "error",
        "error": RETRY,
        "retryable": True,
    }
    assert len(ledger_of(wiring)) == 24

    clock.advance(timedelta(seconds=1))
    again = send(*sent)

    assert again.statuses == ["duplicate"] * 7 + ["accepted"] + ["duplicate"] * 17
    assert len(ledger_of(wiring)) == 25


@pytest.mark.parametrize(
    "code",
    [
        "ThrottlingError",
        "TransactionConflict",
        "ItemCollectionSizeLimitExceeded",
        "RequestLimitExceeded",
        "AccessDenied",
    ],
)
def test_a_single_event_whose_statement_fails_is_to_be_sent_again_and_the_log_says_why(
    wiring: Wiring, faulty: FaultyClient, caplog: pytest.LogCaptureFixture, code: str
) -> None:
    faulty.refuse_statements({0: code})

    answer = send(*some_events(1))

    assert (answer.status, answer.errors) == (503, [(0, RETRY)])
    assert ledger_of(wiring) == []
    assert code in caplog.text


def test_a_call_that_fails_says_why_in_the_log(
    faulty: FaultyClient, caplog: pytest.LogCaptureFixture
) -> None:
    faulty.fail("batch_execute_statement", throttled())

    assert send(*some_events(1)).status == 503

    assert "ThrottlingException" in caplog.text


@pytest.mark.parametrize("error", [throttled(), broken(), timed_out()])
def test_one_failing_call_of_four_fails_its_25_events_alone(
    wiring: Wiring, faulty: FaultyClient, error: Exception
) -> None:
    faulty.fail("batch_execute_statement", error, at={2})

    answer = send(*some_events(100))

    assert answer.status == 200
    assert answer.statuses == ["accepted"] * 25 + ["error"] * 25 + ["accepted"] * 50
    assert [index for index, _ in answer.errors] == list(range(25, 50))
    assert len(ledger_of(wiring)) == 75


@pytest.mark.parametrize("number", [1, 30])
@pytest.mark.parametrize("error", [throttled(), broken(), timed_out()])
def test_when_nothing_can_be_stored_the_request_is_to_be_sent_again(
    wiring: Wiring, faulty: FaultyClient, error: Exception, number: int
) -> None:
    faulty.fail("batch_execute_statement", error)

    answer = send(*some_events(number))

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.errors == [(index, RETRY) for index in range(number)]
    assert all(result["retryable"] for result in answer.body["results"])
    assert ledger_of(wiring) == []


@pytest.mark.parametrize("number", [1, 30])
def test_a_write_whose_answer_was_lost_is_not_guessed_and_its_retry_is_a_duplicate(
    wiring: Wiring, faulty: FaultyClient, clock: SetClock, number: int
) -> None:
    calls = {1} if number == 1 else {1, 2}
    faulty.fail("batch_execute_statement", timed_out(), at=calls, after_effect=True)
    sent = some_events(number)

    first = send(*sent)
    clock.advance(timedelta(seconds=1))
    again = send(*sent)

    assert first.statuses == ["error"] * number
    assert again.statuses == ["duplicate"] * number
    assert len(ledger_of(wiring)) == number


@pytest.mark.parametrize("number", [1, 25])
def test_the_client_librarys_own_retry_of_a_write_is_no_duplicate(
    wiring: Wiring, faulty: FaultyClient, number: int
) -> None:
    """botocore sends a call again when the answer is lost; the second try meets the first."""
    real = wiring.dynamodb.batch_execute_statement
    faulty.around("batch_execute_statement", lambda call, go: (real(**call.request), go())[1])

    answer = send(*some_events(number))

    assert answer.statuses == ["accepted"] * number
    assert len(ledger_of(wiring)) == number


@pytest.mark.parametrize("neighbours", [0, 24])
def test_the_client_librarys_own_retry_does_not_hide_a_conflict(
    wiring: Wiring, faulty: FaultyClient, clock: SetClock, neighbours: int
) -> None:
    """Received at the very same instant as the event that holds its key, and yet another event."""
    send(a_sent_event(idempotencyKey="k", quantity=1))

    answer = send(a_sent_event(idempotencyKey="k", quantity=2), *some_events(neighbours))

    assert answer.statuses == ["conflict"] + ["accepted"] * neighbours


def test_a_taken_key_whose_event_cannot_be_read_is_neither_duplicate_nor_conflict(
    wiring: Wiring, faulty: FaultyClient, clock: SetClock
) -> None:
    sent = some_events(3)
    send(*sent)
    clock.advance(timedelta(seconds=1))
    faulty.fail("batch_get_item", throttled(), at={1})

    answer = send(*sent, a_sent_event())

    assert answer.statuses == ["error", "error", "error", "accepted"]
    assert send(*sent).statuses == ["duplicate"] * 3


def test_what_dynamodb_left_unread_is_to_be_sent_again(
    wiring: Wiring, faulty: FaultyClient, clock: SetClock
) -> None:
    sent = some_events(3)
    send(*sent)
    clock.advance(timedelta(seconds=1))
    events = wiring.table("events")

    def only_first(call: object, go: object) -> dict[str, object]:
        answer = go()  # type: ignore[operator]
        read = [item for item in answer["Responses"][events] if "k-0000" in item["pk"]["S"]]
        return {"Responses": {events: read}, "UnprocessedKeys": {events: {"Keys": []}}}

    faulty.around("batch_get_item", only_first)

    assert send(*sent).statuses == ["duplicate", "error", "error"]


def test_a_conflict_that_cannot_be_kept_is_to_be_sent_again(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    send(a_sent_event(idempotencyKey="k", quantity=1))
    other = a_sent_event(idempotencyKey="k", quantity=2)
    faulty.fail("put_item", throttled(), at={1})

    first, again = send(other), send(other)

    assert (first.status, first.statuses) == (503, ["error"])
    assert again.statuses == ["conflict"]
    assert len(wiring.quarantine.of_key(DEMO, IdempotencyKey("k"))) == 1


def test_a_copy_in_a_request_shares_the_trouble_of_its_original(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    sent = a_sent_event()
    faulty.fail("batch_execute_statement", throttled(), at={1})

    answer = send(sent, sent)

    assert answer.statuses == ["error", "error"]
    assert send(sent, sent).statuses == ["accepted", "duplicate"]


def test_settings_that_cannot_be_read_refuse_the_request_for_now(
    wiring: Wiring, faulty: FaultyClient
) -> None:
    faulty.fail("get_item", throttled(), at={1})

    answer = send(a_sent_event())

    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert answer.body["error"] == "Service Unavailable"
    assert send(a_sent_event()).status == 200


@pytest.mark.parametrize("after_effect", [False, True])
def test_an_ingest_function_killed_at_any_call_leaves_nothing_that_a_retry_does_not_mend(
    wiring: Wiring, clock: SetClock, *, after_effect: bool
) -> None:
    deaths = Deaths(wiring.dynamodb, after_effect=after_effect)
    stored = 0
    for mortal in deaths:
        sent = [a_sent_event() for _ in range(3)]
        sent.append(sent[0] | {"quantity": 5})
        with using(over(wiring, mortal)), dying():
            send(*sent)
        clock.advance(timedelta(seconds=1))

        answer = send(*sent)

        stored += 3
        assert set(answer.statuses[:3]) <= {"accepted", "duplicate"}
        assert answer.statuses[3] == "conflict"
        assert len(ledger_of(wiring)) == stored
    calls = ["settings", "three events", "the conflict", "what stands there", "its quarantine"]
    assert deaths.number == len(calls)
