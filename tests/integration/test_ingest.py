"""Usage events over HTTPS into the ledger: what is accepted, and what is the same event again."""

import json
from base64 import b64encode
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from functions.ingest.handler import handler
from local import dynamodb_local
from metering.config import Config
from metering.mapping import LatePolicy, MetricSettings
from metering.names import IdempotencyKey, Metric, TenantId
from metering.wiring import Wiring, using
from tests.builders import DEMO, a_sent_event, an_http_request
from tests.conftest import SetClock
from tests.readers import ledger_of, post, send

API_CALLS = Metric("api_calls")
ACME = TenantId("acme")


def key(text: str) -> IdempotencyKey:
    return IdempotencyKey(text)


# --- accepted -------------------------------------------------------------------------------------


def test_an_accepted_event_stands_in_the_ledger_as_it_was_sent(
    wiring: Wiring, clock: SetClock
) -> None:
    sent = a_sent_event(
        idempotencyKey="once", resourceId="r-1", meta={"path": "/"}, quantity="2.50", source="sdk"
    )

    answer = send(sent)

    assert answer.status == 200
    assert answer.body == {
        "accepted": 1,
        "duplicates": 0,
        "conflicts": 0,
        "requestId": "request-1",
        "results": [{"idempotencyKey": "once", "status": "accepted"}],
    }
    [entry] = ledger_of(wiring)
    assert (entry.event.metric, entry.event.customer, entry.event.resource) == (
        "api_calls",
        "cus_A",
        "r-1",
    )
    assert (entry.event.quantity, entry.event.meta) == (Decimal("2.5"), '{"path":"/"}')
    assert entry.event.occurred_at == datetime(2026, 11, 20, 11, tzinfo=UTC)
    assert entry.received_at == clock.now()
    assert not entry.is_late
    assert wiring.ledger.get(DEMO, key("once")) == entry


def test_a_thousand_events_of_one_request_are_all_accepted(wiring: Wiring) -> None:
    answer = send(*(a_sent_event() for _ in range(1000)))

    assert answer.body["accepted"] == 1000
    assert len(ledger_of(wiring)) == 1000


def test_every_digit_of_a_quantity_reaches_the_ledger(wiring: Wiring) -> None:
    body = json.dumps({"events": [a_sent_event(quantity="Q"), a_sent_event(quantity=1)]})

    post(body.replace('"Q"', "12345678901234.123457"))

    quantities = {entry.event.quantity for entry in ledger_of(wiring)}
    assert quantities == {Decimal("12345678901234.123457"), Decimal(1)}


def test_the_python_clients_names_are_understood(wiring: Wiring) -> None:
    answer = send(
        {
            "tenant_id": "demo",
            "metric": "api_calls",
            "customer_ref": "cus_A",
            "quantity": "5",
            "ts": "2026-11-20T11:00:00+00:00",
            "idempotency_key": "py",
        }
    )

    assert answer.body["results"] == [{"idempotencyKey": "py", "status": "accepted"}]


def test_a_body_that_the_gateway_encoded_is_read_like_any_other(wiring: Wiring) -> None:
    body = json.dumps({"events": [a_sent_event(customerRef="Zoë")]}, ensure_ascii=False)
    request = an_http_request("") | {
        "body": b64encode(body.encode()).decode(),
        "isBase64Encoded": True,
    }

    assert handler(request, None)["statusCode"] == 200
    assert ledger_of(wiring)[0].event.customer == "Zoë"


def test_the_clients_request_id_comes_back(wiring: Wiring) -> None:
    answer = send(a_sent_event(), headers={"x-request-id": "their-own"})

    assert answer.body["requestId"] == "their-own"


def test_events_are_taken_where_the_event_index_is_switched_off(
    config: Config, clock: SetClock, dynamodb_endpoint: str
) -> None:
    bare = replace(config, table_prefix=config.table_prefix + "bare-", event_index=False)
    client = dynamodb_local.client(dynamodb_endpoint)
    dynamodb_local.create_tables(client, prefix=bare.table_prefix, event_index=False)

    with using(Wiring(bare, clock=clock)) as wiring:
        assert send(a_sent_event(), a_sent_event()).statuses == ["accepted", "accepted"]
        assert len(ledger_of(wiring)) == 2


# --- the same event again -------------------------------------------------------------------------


@pytest.mark.parametrize("neighbours", [0, 3])
def test_the_second_identical_event_is_a_duplicate(
    wiring: Wiring, clock: SetClock, neighbours: int
) -> None:
    sent = a_sent_event()
    send(sent)
    clock.advance(timedelta(milliseconds=1))

    answer = send(sent, *(a_sent_event() for _ in range(neighbours)))

    assert answer.statuses == ["duplicate"] + ["accepted"] * neighbours
    assert (answer.status, answer.body["duplicates"]) == (200, 1)
    assert len(ledger_of(wiring)) == 1 + neighbours


def test_a_retry_next_year_is_still_a_duplicate(wiring: Wiring, clock: SetClock) -> None:
    sent = a_sent_event()
    send(sent)
    clock.advance(timedelta(days=365))

    assert send(sent).statuses == ["duplicate"]


def test_a_retry_spelled_otherwise_is_a_duplicate(wiring: Wiring, clock: SetClock) -> None:
    send(a_sent_event(idempotencyKey="k", quantity=1.1, ts="2026-11-20T11:00:00Z"))
    clock.advance(timedelta(seconds=1))

    again = a_sent_event(idempotencyKey="k", quantity="1.10", ts="2026-11-20T12:00:00.000+01:00")

    assert send(again).statuses == ["duplicate"]


@pytest.mark.parametrize(
    "change",
    [{"quantity": 2}, {"ts": "2026-11-20T11:00:01Z"}, {"customerRef": "cus_B"}, {"meta": {"a": 1}}],
)
def test_the_same_key_with_other_content_is_a_conflict_and_changes_nothing(
    wiring: Wiring, clock: SetClock, change: dict[str, object]
) -> None:
    send(a_sent_event(idempotencyKey="k"))
    before = ledger_of(wiring)
    clock.advance(timedelta(seconds=1))

    answer = send(a_sent_event(idempotencyKey="k", **change), a_sent_event(idempotencyKey="l"))

    text = (
        "Idempotency key 'k' is taken by an event with other content; nothing was changed."
        " Send a new key if this is another event."
    )
    assert (answer.status, answer.body["conflicts"]) == (200, 1)
    assert answer.body["results"] == [
        {"idempotencyKey": "k", "status": "conflict", "error": text},
        {"idempotencyKey": "l", "status": "accepted"},
    ]
    assert answer.errors == [(0, text)]
    assert ledger_of(wiring)[:1] == before


def test_a_conflicting_event_is_kept_to_be_looked_at(wiring: Wiring, clock: SetClock) -> None:
    send(a_sent_event(idempotencyKey="k", quantity=1))
    clock.advance(timedelta(seconds=1))
    for _ in range(2):
        send(a_sent_event(idempotencyKey="k", quantity=2))

    [kept] = wiring.quarantine.of_key(DEMO, key("k"))

    assert kept.kind == "conflict"
    assert json.loads(kept.payload)["quantity"] == 2


def test_of_one_event_twice_in_a_request_one_is_accepted(wiring: Wiring) -> None:
    sent = a_sent_event(idempotencyKey="k")

    answer = send(sent, a_sent_event(idempotencyKey="l"), sent, sent)

    assert answer.statuses == ["accepted", "accepted", "duplicate", "duplicate"]
    assert (answer.body["accepted"], answer.body["duplicates"]) == (2, 2)
    assert [entry.event.key for entry in ledger_of(wiring)] == ["k", "l"]


def test_of_one_key_twice_in_a_request_with_other_content_the_first_is_accepted(
    wiring: Wiring,
) -> None:
    answer = send(
        a_sent_event(idempotencyKey="k", quantity=1),
        a_sent_event(idempotencyKey="k", quantity=2),
        a_sent_event(idempotencyKey="k", quantity=1),
    )

    assert answer.statuses == ["accepted", "conflict", "duplicate"]
    assert [entry.event.quantity for entry in ledger_of(wiring)] == [Decimal(1)]


def test_a_key_sent_a_thousand_times_in_a_request_is_one_event(wiring: Wiring) -> None:
    answer = send(*[a_sent_event(idempotencyKey="k")] * 1000)

    assert (answer.body["accepted"], answer.body["duplicates"]) == (1, 999)
    assert len(ledger_of(wiring)) == 1


# --- keys -----------------------------------------------------------------------------------------


def test_each_tenant_has_keys_of_its_own(wiring: Wiring) -> None:
    answer = send(
        a_sent_event(idempotencyKey="evt-1"),
        a_sent_event(idempotencyKey="evt-1", tenantId="acme"),
    )

    assert answer.statuses == ["accepted", "accepted"]
    assert (len(ledger_of(wiring)), len(ledger_of(wiring, ACME))) == (1, 1)


def test_tenant_and_key_do_not_run_into_each_other(wiring: Wiring) -> None:
    answer = send(
        a_sent_event(tenantId="a|b", idempotencyKey="c"),
        a_sent_event(tenantId="a", idempotencyKey="b|c"),
        a_sent_event(tenantId="a:b", idempotencyKey="c"),
        a_sent_event(tenantId="a", idempotencyKey="b:c"),
        a_sent_event(tenantId="a#1", idempotencyKey="c"),
        a_sent_event(tenantId="a", idempotencyKey="1#c"),
    )

    assert answer.statuses == ["accepted"] * 6


def test_two_real_events_of_one_millisecond_are_two_events(wiring: Wiring) -> None:
    answer = send(
        a_sent_event(idempotencyKey=..., quantity=1), a_sent_event(idempotencyKey=..., quantity=2)
    )

    assert answer.statuses == ["accepted", "accepted"]
    assert sum(entry.event.quantity for entry in ledger_of(wiring)) == 3


def test_an_event_without_a_key_may_be_retried(wiring: Wiring, clock: SetClock) -> None:
    sent = a_sent_event(idempotencyKey=...)
    first = send(sent)
    clock.advance(timedelta(minutes=1))

    again = send(sent)

    assert again.statuses == ["duplicate"]
    assert again.body["results"][0]["idempotencyKey"] == first.body["results"][0]["idempotencyKey"]


@pytest.mark.parametrize(
    "hostile",
    ["a|b", "#", "a#b", "nul\0byte", "😀", "k" * 255, "😀" * 255, "5:demo", "\x7f", "\u202e"],
)
def test_hostile_keys_are_keys_like_any_other(
    wiring: Wiring, clock: SetClock, hostile: str
) -> None:
    sent = a_sent_event(idempotencyKey=hostile)
    assert send(sent).statuses == ["accepted"]
    clock.advance(timedelta(seconds=1))

    assert send(sent, a_sent_event()).statuses == ["duplicate", "accepted"]
    found = wiring.ledger.get(DEMO, key(hostile))
    assert found is not None
    assert found.event.key == hostile


def test_the_requests_key_is_the_key_of_its_one_keyless_event(
    wiring: Wiring, clock: SetClock
) -> None:
    sent = [a_sent_event(idempotencyKey="own"), a_sent_event(idempotencyKey=...)]
    header = {"idempotency-key": "from-header"}

    send(*sent, headers=header)
    clock.advance(timedelta(seconds=1))
    again = send(*sent, headers=header)

    assert [entry.event.key for entry in ledger_of(wiring)] == ["from-header", "own"]
    assert again.statuses == ["duplicate", "duplicate"]


def test_of_several_keyless_events_each_gets_a_key_of_its_own(
    wiring: Wiring, clock: SetClock
) -> None:
    sent = [a_sent_event(idempotencyKey=...)] * 3 + [a_sent_event(idempotencyKey="own")]
    header = {"idempotency-key": "from-header"}

    first = send(*sent, headers=header)
    clock.advance(timedelta(seconds=1))
    again = send(*sent, headers=header)
    other = send(*sent, headers={"idempotency-key": "another"})

    assert first.statuses == ["accepted"] * 4
    assert again.statuses == ["duplicate"] * 4
    assert other.statuses == ["accepted"] * 3 + ["duplicate"]
    assert len(ledger_of(wiring)) == 7


def test_an_empty_key_beside_the_other_spelling_counts_as_none(wiring: Wiring) -> None:
    odd = a_sent_event(idempotencyKey="") | {"idempotency_key": "unread"}

    answer = send(odd, odd, headers={"idempotency-key": "from-header"})

    assert answer.statuses == ["accepted", "accepted"]


# --- time -----------------------------------------------------------------------------------------


def test_an_event_up_to_an_hour_ahead_of_our_clock_is_taken(wiring: Wiring) -> None:
    assert send(a_sent_event(ts="2026-11-20T13:00:00Z")).statuses == ["accepted"]


@pytest.mark.parametrize("ahead", ["2026-11-20T13:00:01Z", "2026-11-20T13:00:00.000001Z"])
def test_an_event_more_than_an_hour_ahead_is_refused(wiring: Wiring, ahead: str) -> None:
    answer = send(a_sent_event(ts=ahead, idempotencyKey="k"), a_sent_event())

    assert answer.body["results"][0] == {
        "idempotencyKey": "k",
        "status": "error",
        "error": "Event timestamp too far in the future",
    }
    assert answer.statuses[1] == "accepted"
    assert len(ledger_of(wiring)) == 1


def test_an_event_within_its_metrics_lateness_is_not_late(wiring: Wiring) -> None:
    send(a_sent_event(ts="2026-11-18T12:00:00Z"))

    assert not ledger_of(wiring)[0].is_late


@pytest.mark.parametrize("ts", ["2026-11-18T11:59:59.999999Z", "1970-01-01T00:00:00Z"])
def test_a_late_event_is_kept_and_held_back_for_approval(wiring: Wiring, ts: str) -> None:
    answer = send(a_sent_event(ts=ts, idempotencyKey="k"))

    assert answer.body["results"] == [
        {"idempotencyKey": "k", "status": "accepted", "late": True}
    ]  # fmt: skip
    assert ledger_of(wiring)[0].is_late


def test_a_late_event_is_one_like_any_other_where_the_metric_says_so(wiring: Wiring) -> None:
    wiring.settings_store.put_metric(
        DEMO, MetricSettings(API_CALLS, late_policy=LatePolicy.COUNT)
    )  # fmt: skip

    answer = send(a_sent_event(ts="1970-01-01T00:00:00Z", idempotencyKey="k"))

    assert answer.body["results"] == [{"idempotencyKey": "k", "status": "accepted"}]
    assert not ledger_of(wiring)[0].is_late


def test_a_late_event_is_refused_where_the_metric_says_so(wiring: Wiring) -> None:
    wiring.settings_store.put_metric(
        DEMO,
        MetricSettings(API_CALLS, late_policy=LatePolicy.REJECT, lateness=timedelta(hours=1.5)),
    )

    answer = send(
        a_sent_event(ts="1970-01-01T00:00:00Z"),
        a_sent_event(ts="2026-11-20T10:30:00Z"),
        a_sent_event(ts="1970-01-01T00:00:00Z", metric="other"),
    )

    [(index, text)] = answer.errors
    assert index == 0
    assert text == (
        "Event is older than the 1.5 h that metric 'api_calls' takes (its latePolicy is 'reject')"
    )
    assert answer.statuses == ["error", "accepted", "accepted"]


def test_the_retry_of_an_event_that_has_become_too_old_is_a_duplicate(
    wiring: Wiring, clock: SetClock
) -> None:
    wiring.settings_store.put_metric(
        DEMO, MetricSettings(API_CALLS, late_policy=LatePolicy.REJECT)
    )  # fmt: skip
    sent = a_sent_event()
    send(sent)
    clock.advance(timedelta(days=365))

    assert send(sent).statuses == ["duplicate"]


def test_whether_a_retried_event_is_late_was_decided_when_it_was_first_received(
    wiring: Wiring, clock: SetClock
) -> None:
    sent = a_sent_event()
    send(sent)
    clock.advance(timedelta(days=30))

    answer = send(sent)

    assert answer.body["results"] == [
        {"idempotencyKey": sent["idempotencyKey"], "status": "duplicate"}
    ]
    assert not ledger_of(wiring)[0].is_late
