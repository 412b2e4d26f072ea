"""The demo's input as usage events, and its plan of sending every event twice."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from local.access_log import Request, generate_log
from local.demo import Row
from local.demo_events import (
    BATCH,
    QUEUE_EVERY,
    YOUNGEST,
    SentEvent,
    deliveries,
    expectations,
    usage_events,
)
from metering.event import UsageEvent
from metering.period import CALENDAR_MONTHS
from metering.sent_event import parse

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
EARLY = [
    datetime(2026, 11, 1, 0, 10, tzinfo=UTC),
    datetime(2026, 11, 1, 0, 2, tzinfo=UTC),
    datetime(2026, 11, 1, 0, 0, 30, tzinfo=UTC),
    datetime(2026, 11, 1, tzinfo=UTC),
]


@pytest.fixture(scope="module")
def log() -> Sequence[Request]:
    return generate_log()


def a_request(line: int = 0, **fields: Any) -> Request:
    return replace(Request(line, 0, "cus_a", 10), **fields)


def instants(events: Sequence[SentEvent]) -> list[datetime]:
    return [datetime.fromisoformat(event["ts"]) for event in events]


# --- requests become events -----------------------------------------------------------------------


def test_a_request_is_a_call_and_its_response_is_egress() -> None:
    [call, egress] = usage_events([a_request(7)], "acme", NOW)

    assert call == {
        "tenantId": "acme",
        "metric": "api_calls",
        "customerRef": "cus_a",
        "quantity": 1,
        "ts": "2026-11-20T11:58:00.000Z",
        "idempotencyKey": "line-7-calls",
        "source": "etl",
    }
    assert egress == call | {
        "metric": "egress_bytes",
        "quantity": 10,
        "idempotencyKey": "line-7-bytes",
    }


def test_an_empty_response_is_no_egress(log: Sequence[Request]) -> None:
    assert [event["metric"] for event in usage_events([a_request(bytes=0)], "acme", NOW)] == [
        "api_calls"
    ]
    assert all(event["quantity"] > 0 for event in usage_events(log, "acme", NOW))


def test_every_event_has_a_key_of_its_own_and_is_valid(log: Sequence[Request]) -> None:
    events = usage_events(log, "acme", NOW)

    assert len({event["idempotencyKey"] for event in events}) == len(events)
    for event in events[::50]:
        sent = event | {"quantity": Decimal(event["quantity"])}
        assert isinstance(parse(sent, tenant=None, header_key=None), UsageEvent)


# --- in the running month -------------------------------------------------------------------------


def test_the_log_keeps_its_pace_and_ends_just_before_now(log: Sequence[Request]) -> None:
    latest = max(request.offset_s for request in log)
    events = usage_events(log, "acme", NOW)
    calls = [event for event in events if event["metric"] == "api_calls"]

    assert max(instants(events)) == NOW - YOUNGEST
    for request, at in zip(log, instants(calls), strict=True):
        kept = NOW - YOUNGEST - timedelta(seconds=latest - request.offset_s)
        assert abs(at - kept) <= timedelta(milliseconds=1)


@pytest.mark.parametrize("now", EARLY)
def test_early_in_a_month_the_log_is_pressed_into_it(log: Sequence[Request], now: datetime) -> None:
    at = instants(usage_events(log, "acme", now))
    month = CALENDAR_MONTHS.period_of(now)

    assert min(at) >= month.start
    assert max(at) <= max(now - YOUNGEST, month.start) <= now


def test_a_pressed_log_keeps_the_order_of_its_requests(log: Sequence[Request]) -> None:
    events = usage_events(log, "acme", EARLY[0])
    calls = [event for event in events if event["metric"] == "api_calls"]

    ranked = sorted(zip((request.offset_s for request in log), instants(calls), strict=True))

    assert [at for _, at in ranked] == sorted(instants(calls))
    assert len(set(instants(calls))) > 1_000


@pytest.mark.parametrize("offset_s", [0, 5, 4_000_000_000])
def test_a_log_of_one_instant_lies_just_before_now_wherever_it_began(offset_s: int) -> None:
    log = [a_request(0, offset_s=offset_s), a_request(1, offset_s=offset_s)]

    assert set(instants(usage_events(log, "acme", NOW))) == {NOW - YOUNGEST}


# --- what the log adds up to ----------------------------------------------------------------------


def test_the_expectation_is_the_logs_own_sum_per_metric_and_customer() -> None:
    log = [a_request(0, bytes=7), a_request(1, bytes=0), a_request(2, customer="cus_b", bytes=2)]

    expected = expectations(usage_events(log, "acme", NOW))

    calls, egress = expected["api_calls"], expected["egress_bytes"]
    assert (calls.events, calls.total) == (3, Decimal(3))
    assert calls.per_customer == {"cus_a": Decimal(2), "cus_b": Decimal(1)}
    assert (egress.events, egress.total) == (2, Decimal(9))
    assert egress.per_customer == {"cus_a": Decimal(7), "cus_b": Decimal(2)}


def test_the_expectation_of_the_whole_log_is_what_its_requests_add_up_to(
    log: Sequence[Request],
) -> None:
    expected = expectations(usage_events(log, "acme", NOW))

    assert expected["api_calls"].total == len(log)
    assert expected["egress_bytes"].total == sum(request.bytes for request in log)
    assert expected["api_calls"].per_customer == Counter(request.customer for request in log)


# --- every event twice ----------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, BATCH - 1, BATCH, BATCH + 1, 5 * BATCH, 14_000])
def test_every_event_is_planned_exactly_twice(count: int) -> None:
    events = [{"idempotencyKey": f"key-{number}"} for number in range(count)]

    planned = deliveries(events)
    copies = Counter(event["idempotencyKey"] for one in planned for event in one.events)

    assert len(copies) == count
    assert set(copies.values()) == {2}
    assert all(0 < len(one.events) <= BATCH for one in planned)


def test_some_batches_go_over_the_queue_and_their_second_copies_do_not() -> None:
    events = [{"idempotencyKey": f"key-{number}"} for number in range(20 * BATCH)]

    planned = deliveries(events)
    queued = [one.events for one in planned if one.over_queue]
    posted = [one.events for one in planned if not one.over_queue]

    assert len(queued) == -(-20 // QUEUE_EVERY)
    assert all(posted.count(batch) == 1 for batch in queued)


# --- the verdict ----------------------------------------------------------------------------------


def a_row(**fields: Any) -> Row:
    total = Decimal(30)
    row = Row(
        metric="api_calls",
        sent=20,
        accepted=10,
        duplicates=10,
        log=total,
        ledger=total,
        counters=total,
        pushed=total,
        stripe=total,
        customers=3,
        wrong_customers=0,
        expected_events=10,
    )
    return replace(row, **fields)


def test_a_metric_agrees_when_every_station_holds_the_logs_number() -> None:
    assert a_row().agrees


@pytest.mark.parametrize("station", ["log", "ledger", "counters", "pushed", "stripe"])
@pytest.mark.parametrize("off_by", ["0.000000000001", "-1"])
def test_a_station_that_is_off_by_anything_disagrees(station: str, off_by: str) -> None:
    assert not a_row(**{station: 30 + Decimal(off_by)}).agrees


@pytest.mark.parametrize(
    "wrong",
    [
        {"accepted": 11},
        {"accepted": 9},
        {"duplicates": 9},
        {"sent": 21},
        {"wrong_customers": 1},
        {"accepted": 9, "duplicates": 11},
    ],
)
def test_a_metric_disagrees_when_an_event_did_not_count_exactly_once(wrong: dict[str, int]) -> None:
    assert not a_row(**wrong).agrees
