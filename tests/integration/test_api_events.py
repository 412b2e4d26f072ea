"""Listing the ledger over many counters, and what became of one event."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from metering import event_list
from metering.counter import CounterKey
from metering.event import LedgerEntry, Source
from metering.names import CustomerRef, IdempotencyKey, Metric
from metering.period import Span
from metering.ports import Quarantined
from metering.wiring import Wiring, using
from tests.api_client import Answer, Api, api_of, meter
from tests.builders import DEMO, NOON, a_sent_event, an_entry

HOUR = timedelta(hours=1)


@pytest.fixture
def api(wiring: Wiring) -> Api:
    return Api()


def ids(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.text
    return [event["id"] for event in answer.body["events"]]


def some_usage(wiring: Wiring) -> None:
    """Five events: b, d of cus_A api_calls; c of cus_A egress; a, e of cus_B api_calls."""
    meter(
        wiring,
        [
            an_entry("1", key="a", customer="cus_B", at=NOON - 5 * HOUR),
            an_entry("2", key="b", at=NOON - 4 * HOUR),
            an_entry("3", key="c", metric="egress", at=NOON - 3 * HOUR),
            an_entry("4", key="d", at=NOON - 2 * HOUR),
            an_entry("5", key="e", customer="cus_B", at=NOON - 1 * HOUR),
        ],
    )


def test_an_event_is_shown_whole(wiring: Wiring, api: Api) -> None:
    entry = an_entry("12345678901234.123457", key="k", at=NOON + timedelta(microseconds=5))
    sent = replace(entry.event, resource="r1", meta='{"a":1}', source=Source.SDK)
    meter(wiring, [replace(entry, event=sent, is_late=True)])

    answer = api.get("/v1/events", tenantId="demo")

    assert '"quantity":12345678901234.123457,' in answer.text
    assert answer.body == {
        "total": 1,
        "totalIsExact": True,
        "events": [
            {
                "id": "k",
                "tenantId": "demo",
                "metric": "api_calls",
                "customerRef": "cus_A",
                "resourceId": "r1",
                "quantity": Decimal("12345678901234.123457"),
                "timestamp": "2026-11-20T12:00:00.000005Z",
                "meta": '{"a":1}',
                "source": "sdk",
                "receivedAt": "2026-11-20T12:00:00.000Z",
                "late": True,
                "kind": "usage",
                "decidedBy": None,
            }
        ],
    }


@pytest.mark.parametrize(
    ("query", "expected", "total"),
    [
        ({}, "edcba", 5),
        ({"sortDir": "asc"}, "abcde", 5),
        ({"customerRef": "cus_A"}, "dcb", 3),
        ({"metric": "api_calls"}, "edba", 4),
        ({"metric": "api_calls", "customerRef": "cus_A"}, "db", 2),
        ({"metric": "unheard"}, "", 0),
        ({"limit": "2"}, "ed", 5),
        ({"limit": "2", "offset": "2"}, "cb", 5),
        ({"limit": "2", "offset": "4"}, "a", 5),
        ({"offset": "9"}, "", 5),
        ({"startTime": "2026-11-20T08:00:00Z"}, "edcb", 4),
        ({"startTime": "2026-11-20T08:00:00.000001Z"}, "edc", 3),
        ({"endTime": "2026-11-20T08:00:00Z"}, "ba", 2),
        ({"startTime": "2026-11-20T08:00:00Z", "endTime": "2026-11-20T08:00:00Z"}, "b", 1),
        ({"startTime": "2026-11-20T08:00:00Z", "limit": "1"}, "e", 4),
        ({"sort": "customerRef", "sortDir": "asc"}, "dbcea", 5),
        ({"sort": "metric"}, "ceadb", 5),
        ({"source": "http"}, "edcba", 5),
        ({"source": "sdk"}, "", 0),
    ],
)
def test_a_listing_holds_what_was_asked_for(
    wiring: Wiring, api: Api, query: dict[str, str], expected: str, total: int
) -> None:
    some_usage(wiring)

    answer = api.get("/v1/events", **({"tenantId": "demo"} | query))

    assert "".join(ids(answer)) == expected
    assert answer.body["total"] == total
    assert answer.body["totalIsExact"] is True


def test_a_listing_sorted_by_source_shows_each_sources_newest_first(
    wiring: Wiring, api: Api
) -> None:
    entries = [
        an_entry(key="h1", at=NOON - 3 * HOUR),
        an_entry(key="s1", at=NOON - 2 * HOUR),
        an_entry(key="h2", at=NOON - 1 * HOUR),
    ]
    entries[1] = replace(entries[1], event=replace(entries[1].event, source=Source.SDK))
    meter(wiring, entries)

    assert ids(api.get("/v1/events", tenantId="demo", sort="source")) == ["s1", "h2", "h1"]


def test_pages_neither_repeat_nor_lose_events_at_one_instant(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry(key=f"k{n}", customer=f"c{n % 3}", at=NOON) for n in range(12)])

    pages = [
        ids(api.get("/v1/events", tenantId="demo", limit=5, offset=offset)) for offset in (0, 5, 10)
    ]

    assert sorted(key for page in pages for key in page) == sorted(f"k{n}" for n in range(12))


def test_another_tenants_events_are_not_noticed(wiring: Wiring) -> None:
    some_usage(wiring)
    meter(wiring, [an_entry("9", key="theirs", tenant="other")])

    assert ids(api_of(wiring, "other").get("/v1/events")) == ["theirs"]
    assert api_of(wiring, "third").get("/v1/events").body == {
        "total": 0,
        "totalIsExact": True,
        "events": [],
    }


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"limit": "101"}, "query.limit"),
        ({"limit": "0"}, "query.limit"),
        ({"limit": "x"}, "query.limit"),
        ({"offset": "-1"}, "query.offset"),
        ({"sort": "quantity"}, "query.sort"),
        ({"sortDir": "up"}, "query.sortDir"),
        ({"source": "moon"}, "query.source"),
        ({"startTime": "yesterday"}, "RFC 3339"),
    ],
)
def test_a_wrong_listing_is_refused_with_what_is_wrong(
    api: Api, query: dict[str, str], message: str
) -> None:
    answer = api.get("/v1/events", **({"tenantId": "demo"} | query))

    assert answer.status == 400
    assert answer.body["error"] == "Validation Error"
    assert message in answer.body["message"]


def test_reading_too_much_is_refused_with_how_to_ask_for_less(
    wiring: Wiring, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_usage(wiring)
    monkeypatch.setattr(event_list, "ENTRIES_MAX", 3)

    answer = api.get("/v1/events", tenantId="demo", offset=3)

    assert answer.status == 422
    assert answer.body["error"] == "Too much to read"
    assert "Name a customerRef" in answer.body["message"]


def test_a_page_with_a_gap_is_never_shown(
    wiring: Wiring, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_usage(wiring)
    monkeypatch.setattr(event_list, "ENTRIES_MAX", 4)

    # Four entries fit, but the fourth newest is not among the four that are read first.
    assert api.get("/v1/events", tenantId="demo", limit=4).status == 422
    assert ids(api.get("/v1/events", tenantId="demo", limit=2)) == ["e", "d"]


def test_a_total_that_would_cost_too_much_says_that_it_is_not_exact(
    wiring: Wiring, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_usage(wiring)
    monkeypatch.setattr(event_list, "ENTRIES_MAX", 4)

    answer = api.get("/v1/events", tenantId="demo", limit=2, startTime="2026-11-20T00:00:00Z")

    assert ids(answer) == ["e", "d"]
    assert (answer.body["total"], answer.body["totalIsExact"]) == (2, False)


def test_too_many_counters_are_refused_too(
    wiring: Wiring, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    some_usage(wiring)
    monkeypatch.setattr(event_list, "COUNTERS_MAX", 2)

    assert api.get("/v1/events", tenantId="demo", sortDir="asc").status == 422
    assert ids(api.get("/v1/events", tenantId="demo", customerRef="cus_A")) == ["d", "c", "b"]


def test_a_page_of_the_newest_opens_only_the_counters_that_may_hold_them(wiring: Wiring) -> None:
    meter(
        wiring,
        [an_entry(key=f"k{age}", customer=f"c{age}", at=NOON - age * HOUR) for age in range(1, 9)],
    )
    known = list(wiring.counters.known(DEMO))
    opened = []

    def entries_of(counter: CounterKey) -> Iterator[LedgerEntry]:
        opened.append(counter.customer)
        return wiring.ledger.of_counter(counter, event_list.ALL_TIME, newest_first=True)

    entries = event_list.newest_first(known, entries_of)

    assert [next(entries).event.key for _ in range(2)] == ["k1", "k2"]
    assert len(known) == 8
    assert opened == ["c1", "c2", "c3"]


def test_where_the_index_is_off_a_listing_says_so(wiring: Wiring) -> None:
    meter(wiring, [an_entry("1")])
    without_index = Wiring(
        replace(wiring.config, event_index=False), clock=wiring.clock, dynamodb=wiring.dynamodb
    )

    with using(without_index):
        answer = Api().get("/v1/events", tenantId="demo")

    assert answer.status == 501
    assert answer.body["error"] == "Event index is off"


# --- trace ----------------------------------------------------------------------------------------


def trace(api: Api, key: str) -> Answer:
    return api.get("/v1/events/trace", tenantId="demo", idempotencyKey=key)


def test_a_counted_event_is_traced_into_its_counter(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry("2.5", key="k"), an_entry("1", at=NOON - HOUR)])

    body = trace(api, "k").body

    assert body["outcome"] == "counted"
    assert body["event"]["id"] == "k"
    assert body["event"]["receivedAt"] == "2026-11-20T12:00:00.000Z"
    assert body["counter"] == {
        "metric": "api_calls",
        "customerRef": "cus_A",
        "bucketStart": "2026-11-20T00:00:00.000Z",
        "bucketEnd": "2026-11-21T00:00:00.000Z",
        "periodStart": "2026-11-01T00:00:00.000Z",
        "periodEnd": "2026-12-01T00:00:00.000Z",
        "count": 2,
        "sum": Decimal("3.5"),
        "watermark": "2026-11-20T12:00:00.000Z",
        "lateCount": 0,
    }
    assert body["streams"] == []
    assert body["setAside"] == []


def test_an_event_on_its_way_is_accepted_and_not_yet_counted(wiring: Wiring, api: Api) -> None:
    wiring.ledger.append([an_entry("1", key="first")])
    assert trace(api, "first").body["outcome"] == "accepted"

    meter(wiring, [an_entry("1", key="second")])

    assert trace(api, "first").body["outcome"] == "accepted"


def test_a_late_event_is_held(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry("1", key="k", at=NOON - timedelta(days=9), is_late=True)])

    assert trace(api, "k").body["outcome"] == "held_as_late"
    assert trace(api, "k").body["counter"]["lateCount"] == 1


def test_a_conflict_is_shown_with_the_event_that_stands(wiring: Wiring, api: Api) -> None:
    wiring.ingest.take([a_sent_event(idempotencyKey="k", quantity=1)], tenant=DEMO)
    wiring.ingest.take([a_sent_event(idempotencyKey="k", quantity=2)], tenant=DEMO)

    body = trace(api, "k").body

    assert body["event"]["quantity"] == 1
    assert [item["kind"] for item in body["setAside"]] == ["conflict"]
    assert '"quantity":2' in body["setAside"][0]["payload"]


def test_an_event_that_was_refused_is_known(wiring: Wiring, api: Api) -> None:
    refused = Quarantined(
        id="x",
        tenant=DEMO,
        key=IdempotencyKey("k"),
        kind="invalid_event",
        reason="quantity: Number must be greater than 0",
        origin="sqs:1",
        payload="{}",
        recorded_at=datetime(2026, 11, 20, 11, tzinfo=UTC),
    )
    wiring.quarantine.put([refused])

    body = trace(api, "k").body

    assert body["outcome"] == "refused"
    assert (body["event"], body["counter"], body["streams"]) == (None, None, [])
    assert body["setAside"][0]["reason"] == "quantity: Number must be greater than 0"
    assert body["setAside"][0]["recordedAt"] == "2026-11-20T11:00:00.000Z"


def test_a_key_that_nobody_sent_is_not_found(wiring: Wiring, api: Api) -> None:
    meter(wiring, [an_entry("1", key="theirs", tenant="other")])

    answer = trace(api, "theirs")

    assert answer.status == 404
    assert answer.body["error"] == "Not found"
    assert "theirs" in answer.body["message"]


@pytest.mark.parametrize("key", ["a|b", "#", "nul\x00", "\U0001f600", "x" * 255, "a,b", "a&b=c+d"])
def test_hostile_keys_are_traced_like_others(wiring: Wiring, api: Api, key: str) -> None:
    meter(wiring, [an_entry("1", key=key)])

    assert trace(api, key).body["event"]["id"] == key


def test_the_pushes_since_the_receipt_are_shown_with_their_state(wiring: Wiring, api: Api) -> None:
    received = NOON - HOUR
    meter(wiring, [an_entry("2.5", key="k", at=received, received_at=received)])
    a_pushed_stream(wiring)

    (stream,) = trace(api, "k").body["streams"]

    assert stream["meterEventName"] == "calls"
    assert stream["stripeCustomer"] == "cus_A"
    assert stream["mode"] == "test"
    assert stream["accepted"] == Decimal("2.5")
    assert [(push["state"], push["delta"]) for push in stream["pushes"]] == [
        ("accepted", Decimal("1.5")),
    ]


def a_pushed_stream(wiring: Wiring) -> None:
    """One push before the receipt, one after."""
    from metering import push  # noqa: PLC0415

    counter = CounterKey(DEMO, CustomerRef("cus_A"), Metric("api_calls"))
    target = push.Target("", push.Mode.TEST, "calls", "cus_A")
    period = Span(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
    stream = push.PushStream(push.StreamKey(target, counter, period), "mtr_1", scale=1)
    for desired, at in ((10, NOON - 2 * HOUR), (25, NOON)):
        planned = push.plan(stream, desired, at, at, closes_at=period.end)
        assert isinstance(planned, push.PushStream)
        stored = wiring.pushes.store(planned)
        assert stored is not None
        closed = push.close(
            push.stamp(stored, at), push.PushState.ACCEPTED, at, resolution="answered"
        )
        after = wiring.pushes.store(closed.stream, closed.push)
        assert after is not None
        stream = after
