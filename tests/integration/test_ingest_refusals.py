"""Bad input over HTTPS: refused with its reason, and never at its neighbours' cost."""

import json
from typing import Any

import pytest

from metering.wiring import Wiring
from tests.builders import a_sent_event
from tests.readers import ledger_of, post, send

LIST_WANTED = {"error": "Error", "message": "body must be an object with a list 'events'"}


# --- requests that cannot be looked at ------------------------------------------------------------


@pytest.mark.parametrize(
    "body", ["", "{", '{"events": [}', "nonsense", '{"events": []} x', "[" * 100_000, "\x00"]
)
def test_a_body_that_is_no_json_is_refused_as_a_whole(wiring: Wiring, body: str) -> None:
    answer = post(body)

    assert (answer.status, answer.body["error"]) == (400, "SyntaxError")
    assert answer.body["message"].startswith("The body is not JSON: ")


@pytest.mark.parametrize(
    "body", ["[]", "5", "null", '"text"', "{}", '{"events": {}}', '{"events": null}']
)
def test_a_body_without_a_list_of_events_is_refused(wiring: Wiring, body: str) -> None:
    answer = post(body)

    assert (answer.status, answer.body) == (400, LIST_WANTED)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "events: Array must contain at least 1 element(s)"),
        (1001, "events: Array must contain at most 1000 element(s), got 1001"),
    ],
)
def test_a_request_has_from_one_to_a_thousand_events(
    wiring: Wiring, number: int, text: str
) -> None:
    answer = send(*[a_sent_event()] * number)

    assert answer.status == 400
    assert answer.body == {
        "accepted": 0,
        "duplicates": 0,
        "conflicts": 0,
        "requestId": "request-1",
        "results": [],
        "errors": [{"index": -1, "error": text}],
    }
    assert ledger_of(wiring) == []


@pytest.mark.parametrize("surplus", [0, 1])
def test_a_body_takes_up_to_one_mebibyte(wiring: Wiring, surplus: int) -> None:
    body = json.dumps({"events": [a_sent_event(surplus="")]})
    filled = body.replace(
        '"surplus": ""', f'"surplus": "{"x" * (1_048_576 - len(body) + surplus)}"'
    )

    answer = post(filled)

    if surplus:
        assert answer.status == 413
        assert answer.body == {
            "error": "Payload Too Large",
            "message": "Request body is too large: 1048577 bytes, at most 1048576; send fewer"
            " events at a time",
        }
    else:
        assert answer.statuses == ["accepted"]


@pytest.mark.parametrize("key", ["k" * 256, "half \ud800"])
def test_a_requests_key_that_no_event_may_have_is_refused(wiring: Wiring, key: str) -> None:
    answer = send(a_sent_event(idempotencyKey=...), headers={"idempotency-key": key})

    assert (answer.status, answer.body["error"]) == (400, "Error")
    assert ledger_of(wiring) == []


# --- events that are refused alone ----------------------------------------------------------------

BAD = [
    ('"metric": 5', "metric: must be a string"),
    (f'"metric": "{"m" * 101}"', "metric: String must contain at most 100 character(s), got 101"),
    ('"metric": "a\\u0000b"', "metric: must not contain control or invisible characters"),
    (
        f'"customerRef": "{"c" * 256}"',
        "customerRef: String must contain at most 255 character(s), got 256",
    ),
    ('"customerRef": "a\\tb"', "customerRef: must not contain control or invisible characters"),
    ('"customerRef": ["cus_A"]', "customerRef: must be a string"),
    ('"quantity": 0', "quantity: Number must be greater than 0"),
    ('"quantity": -1', "quantity: Number must be greater than 0"),
    ('"quantity": NaN', "quantity: must be a finite number"),
    ('"quantity": "NaN"', "quantity: must be a finite number"),
    ('"quantity": -Infinity', "quantity: must be a finite number"),
    (
        '"quantity": 1e400',
        "quantity: has more than 15 integer digits; report it in a larger unit",
    ),
    ('"quantity": 1e99999999999999999999', "quantity: must be a finite number"),
    ('"quantity": 1e-99999999999999999999', "quantity: must be a finite number"),
    (
        '"quantity": 1234567890123456',
        "quantity: has more than 15 integer digits; report it in a larger unit",
    ),
    (
        '"quantity": 0.1234567890123',
        "quantity: has more than 12 decimals; round it or report it in a smaller unit",
    ),
    ('"quantity": "five"', "quantity: must be a number or a numeric string"),
    ('"quantity": {}', "quantity: must be a number or a numeric string"),
    (
        '"ts": "2026-11-20T11:00:00"',
        "ts: must be an RFC 3339 date-time with an offset, such as 2026-11-20T12:00:00Z",
    ),
    ('"ts": "2026-11-20T13:00:01Z"', "Event timestamp too far in the future"),
    (f'"meta": {{"a": "{"x" * 4097}"}}', "meta: Meta too large (4105 bytes > 4096)"),
    (f'"meta": {{"a": {"[" * 1500}{"]" * 1500}}}', "meta: must be plain JSON and valid Unicode"),
    (
        '"idempotencyKey": "half \\ud83d"',
        "idempotencyKey: must be valid Unicode (it holds half a surrogate pair)",
    ),
    (
        f'"idempotencyKey": "{"k" * 256}"',
        "idempotencyKey: String must contain at most 255 character(s), got 256",
    ),
]


def changed(change: str) -> str:
    """A valid event in which one field is overwritten by literal JSON."""
    return json.dumps(a_sent_event())[:-1] + f", {change}}}"


@pytest.mark.parametrize(("change", "reason"), BAD, ids=[change[:40] for change, _ in BAD])
def test_a_bad_event_is_refused_alone_with_its_own_place_and_reason(
    wiring: Wiring, change: str, reason: str
) -> None:
    good = [json.dumps(a_sent_event()) for _ in range(2)]

    answer = post(f'{{"events": [{good[0]}, {changed(change)}, {good[1]}]}}')

    assert (answer.status, answer.body["accepted"]) == (200, 2)
    assert answer.statuses == ["accepted", "error", "accepted"]
    assert answer.errors == [(1, reason)]
    assert answer.body["results"][1]["error"] == reason
    assert len(ledger_of(wiring)) == 2


@pytest.mark.parametrize("event", [None, 5, "text", [], [{}], True])
def test_what_is_no_event_at_all_is_refused_alone(wiring: Wiring, event: object) -> None:
    answer = send(event, a_sent_event())

    assert answer.statuses == ["error", "accepted"]
    assert answer.errors == [(0, "event: must be an object")]


def test_results_come_in_the_events_order_each_error_with_its_own_index(wiring: Wiring) -> None:
    bad: dict[str, Any] = a_sent_event(quantity=0)
    twice = a_sent_event(idempotencyKey="twice")
    other = a_sent_event(idempotencyKey="twice", quantity=9)

    answer = send(bad, twice, None, other, twice, bad, a_sent_event(idempotencyKey="last"))

    assert answer.statuses == [
        "error",
        "accepted",
        "error",
        "conflict",
        "duplicate",
        "error",
        "accepted",
    ]
    assert [index for index, _ in answer.errors] == [0, 2, 3, 5]
    assert [result["idempotencyKey"] for result in answer.body["results"]] == [
        "",
        "twice",
        "",
        "twice",
        "twice",
        "",
        "last",
    ]
    assert (answer.body["accepted"], answer.body["duplicates"]) == (2, 1)


def test_a_request_of_nothing_but_bad_events_is_a_bad_request(wiring: Wiring) -> None:
    answer = send(a_sent_event(quantity=0), None)

    assert answer.status == 400
    assert answer.statuses == ["error", "error"]
    assert "retryable" not in answer.body["results"][0]
