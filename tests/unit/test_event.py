"""What a client may send as a usage event, and what makes two of them the same."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from metering.errors import Refusal
from metering.event import Source, UsageEvent, canonical_json, key_from_header
from metering.ingest_request import read_json
from metering.names import IdempotencyKey
from metering.sent_event import parse
from tests.builders import DEMO, a_sent_event

TIME_FAULT = (
    "ts: must be an RFC 3339 date-time with an offset, such as 2026-11-20T12:00:00Z"
)  # fmt: skip
TOO_BIG = "quantity: has more than 15 integer digits; report it in a larger unit"


def taken(header_key: str | None = None, **changes: Any) -> UsageEvent:
    """What becomes of an event that is valid, sent as JSON like any other."""
    parsed = judged(a_sent_event(**changes), header_key)
    assert isinstance(parsed, UsageEvent), parsed
    return parsed


def refusal(**changes: Any) -> str:
    parsed = judged(a_sent_event(**changes))
    assert isinstance(parsed, Refusal), parsed
    return parsed.message


def judged(sent: object, header_key: str | None = None) -> UsageEvent | Refusal:
    raw = read_json(json.dumps(sent).encode())
    key = IdempotencyKey(header_key) if header_key else None
    return parse(raw, tenant=None, header_key=key)


# --- what is taken --------------------------------------------------------------------------------


def test_an_event_is_taken_as_it_was_sent() -> None:
    event = taken(
        metric="egress_bytes",
        customerRef="cus_9",
        resourceId="server-1",
        quantity="12345678901234.123457",
        ts="2026-11-20T12:00:00.25+01:00",
        meta={"b": 2, "a": [1.50, None, True]},
        idempotencyKey="once",
        source="etl",
    )

    assert event == UsageEvent(
        tenant=DEMO,
        key=IdempotencyKey("once"),
        metric=event.metric,
        customer=event.customer,
        resource="server-1",
        quantity=Decimal("12345678901234.123457"),
        occurred_at=datetime(2026, 11, 20, 11, 0, 0, 250_000, tzinfo=UTC),
        meta='{"a":[1.5,null,true],"b":2}',
        source=Source.ETL,
    )
    assert (event.metric, event.customer) == ("egress_bytes", "cus_9")


def test_the_names_that_python_clients_send_serve_as_well() -> None:
    snake = {
        "tenant_id": "demo",
        "metric": "api_calls",
        "customer_ref": "cus_A",
        "resource_id": "r",
        "quantity": 1,
        "ts": "2026-11-20T11:00:00Z",
        "idempotency_key": "k",
    }

    assert judged(snake) == taken(idempotencyKey="k", resourceId="r")


def test_what_an_event_does_not_need_may_be_left_away_or_empty() -> None:
    bare = taken(idempotencyKey="k")

    assert (bare.resource, bare.meta, bare.source) == (None, "{}", Source.HTTP)
    assert taken(idempotencyKey="k", resourceId="", meta=None, surplus="dropped") == bare
    assert taken(idempotencyKey="k", resourceId=None, meta={}) == bare


@pytest.mark.parametrize(
    "key", ["a|b", "#", "a:b", "nul\0byte", "😀", "k" * 255, "😀" * 255, "../..", "' OR 1=1", " "]
)
def test_any_valid_text_may_be_a_key(key: str) -> None:
    assert taken(idempotencyKey=key).key == key


def test_meta_may_take_four_kibibytes() -> None:
    fits = {"a": "x" * (4096 - len('{"a":""}'))}

    assert len(taken(meta=fits).meta) == 4096
    assert refusal(meta={"a": fits["a"] + "x"}) == "meta: Meta too large (4097 bytes > 4096)"


def test_the_bytes_of_meta_count_and_not_its_characters() -> None:
    assert "Meta too large (4108 bytes" in refusal(meta={"a": "é" * 2050})


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"metric": ...}, "metric: Required"),
        ({"metric": 5}, "metric: must be a string"),
        ({"metric": ""}, "metric: String must contain at least 1 character(s)"),
        ({"metric": "m" * 101}, "metric: String must contain at most 100 character(s), got 101"),
        ({"metric": "a\0b"}, "metric: must not contain control or invisible characters"),
        ({"customerRef": ...}, "customerRef: Required"),
        ({"customerRef": None}, "customerRef: must be a string"),
        (
            {"customerRef": "c" * 256},
            "customerRef: String must contain at most 255 character(s), got 256",
        ),
        ({"customerRef": "a\nb"}, "customerRef: must not contain control or invisible characters"),
        (
            {"customerRef": "a\u200b"},
            "customerRef: must not contain control or invisible characters",
        ),
        ({"quantity": ...}, "quantity: Required"),
        ({"quantity": None}, "quantity: must be a number or a numeric string"),
        ({"quantity": True}, "quantity: must be a number or a numeric string"),
        ({"quantity": 0}, "quantity: Number must be greater than 0"),
        ({"quantity": -1}, "quantity: Number must be greater than 0"),
        ({"quantity": float("nan")}, "quantity: must be a finite number"),
        ({"quantity": "NaN"}, "quantity: must be a finite number"),
        ({"quantity": float("inf")}, "quantity: must be a finite number"),
        ({"quantity": "1e400"}, TOO_BIG),
        ({"quantity": 10**15}, TOO_BIG),
        (
            {"quantity": "0.1234567890123"},
            "quantity: has more than 12 decimals; round it or report it in a smaller unit",
        ),
        ({"ts": ...}, "ts: Required"),
        ({"ts": "2026-11-20T11:00:00"}, TIME_FAULT),
        ({"ts": 1795176000}, TIME_FAULT),
        ({"ts": "2026-02-30T11:00:00Z"}, "ts: names no real instant"),
        ({"meta": [1]}, "meta: must be an object"),
        ({"meta": {"a": float("nan")}}, "meta: must be plain JSON and valid Unicode"),
        ({"meta": {"a": "\ud800"}}, "meta: must be plain JSON and valid Unicode"),
        ({"idempotencyKey": 5}, "idempotencyKey: must be a string"),
        (
            {"idempotencyKey": "k" * 256},
            "idempotencyKey: String must contain at most 255 character(s), got 256",
        ),
        (
            {"idempotencyKey": "half \ud83d"},
            "idempotencyKey: must be valid Unicode (it holds half a surrogate pair)",
        ),
        ({"resourceId": 5}, "resourceId: must be a string"),
        ({"source": "x"}, "source: Input should be 'sdk', 'http', 'etl', 'import' or 'system'"),
        ({"tenantId": ...}, "tenantId: Required"),
        ({"tenantId": ""}, "tenantId: String must contain at least 1 character(s)"),
        (
            {"metric": ..., "quantity": 0},
            "metric: Required; quantity: Number must be greater than 0",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong_and_where(changes: dict[str, Any], reason: str) -> None:
    assert refusal(**changes) == reason


@pytest.mark.parametrize("sent", [None, 5, "text", [], True])
def test_an_event_must_be_an_object(sent: object) -> None:
    assert judged(sent) == Refusal("invalid_event", "event: must be an object")


def test_meta_nested_beyond_reason_is_refused_like_any_other_fault() -> None:
    nested: object = {}
    for _ in range(5_000):
        nested = [nested]
    sent = a_sent_event() | {"meta": {"a": nested}}

    parsed = parse(sent | {"quantity": Decimal(1)}, tenant=None, header_key=None)

    assert parsed == Refusal("invalid_event", "meta: must be plain JSON and valid Unicode")


@pytest.mark.parametrize("name", ["tenantId", "customerRef", "metric"])
def test_a_name_too_long_for_the_tables_keys_is_refused_at_the_door(name: str) -> None:
    longest = {"tenantId": 100, "customerRef": 255, "metric": 100}[name]

    assert "bytes" in refusal(**{name: "😀" * longest})


# --- identity -------------------------------------------------------------------------------------


def test_all_spellings_of_one_event_have_one_content() -> None:
    one = taken(quantity=1.1, ts="2026-11-20T11:00:00Z", meta={"a": 1, "b": {"c": 100}})
    other = taken(
        quantity="1.100", ts="2026-11-20T12:00:00.000+01:00", meta={"b": {"c": 1e2}, "a": 1.0}
    )

    assert one.content_hash() == other.content_hash()


def test_where_an_event_came_from_is_no_part_of_its_content() -> None:
    assert taken(source="sdk").content_hash() == taken(source="import").content_hash()


@pytest.mark.parametrize(
    "change",
    [
        {"metric": "other"},
        {"customerRef": "cus_B"},
        {"resourceId": "r"},
        {"quantity": 2},
        {"ts": "2026-11-20T11:00:00.000001Z"},
        {"meta": {"a": 1}},
    ],
)
def test_events_that_differ_in_anything_differ_in_content(change: dict[str, Any]) -> None:
    assert taken(**change).content_hash() != taken().content_hash()


def test_what_is_stored_with_a_content_hash_today_is_a_duplicate_for_ever() -> None:
    event = taken(quantity="2.50", meta={"b": 1, "a": "é"}, resourceId="r")

    assert event.content_hash().hex() == "5d788340219a8821907d2ca1ec9275a2"


# --- keys that clients did not send ---------------------------------------------------------------


def test_an_event_without_a_key_is_known_by_all_of_its_content() -> None:
    first = taken(idempotencyKey=...)

    assert first.key.startswith("evt_")
    assert len(first.key) == len("evt_") + 32
    assert taken(idempotencyKey="").key == taken(idempotencyKey=None).key == first.key
    assert taken(idempotencyKey=..., quantity=1.0).key == first.key
    assert taken(idempotencyKey=..., quantity=2).key != first.key
    assert taken(idempotencyKey=..., tenantId="other").key != first.key


def test_names_that_hold_a_separator_do_not_share_a_derived_key() -> None:
    one = taken(idempotencyKey=..., metric="a|b", customerRef="c")
    other = taken(idempotencyKey=..., metric="a", customerRef="b|c")

    assert one.key != other.key


def test_an_instant_too_fine_to_keep_needs_a_key() -> None:
    assert refusal(idempotencyKey=..., ts="2026-11-20T11:00:00.0000001Z") == (
        "ts: is finer than a microsecond, so it cannot tell this event from its neighbour;"
        " send an idempotencyKey"
    )
    assert taken(ts="2026-11-20T11:00:00.0000001Z").occurred_at.microsecond == 0


def test_the_requests_key_serves_an_event_without_one() -> None:
    assert taken("from-header", idempotencyKey=...).key == "from-header"
    assert taken("from-header", idempotencyKey="own").key == "own"


def test_each_of_several_keyless_events_has_its_place_in_its_key() -> None:
    keys = {key_from_header(header, position) for header in ("h", "h1") for position in range(20)}

    assert len(keys) == 40


# --- canonical JSON -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spellings", "text"),
    [
        (["1", "1.0", "1e0", "10e-1"], "1"),
        (["0", "-0", "0.0", "0e5000", "-0e-9999"], "0"),
        (["1e5000", "10e4999", "0.1e5001"], "1E+5000"),
        (["-1.50", "-15e-1"], "-1.5"),
        (['{"b":1,"a":{}}', '{ "a" : { } , "b" : 1.0 }'], '{"a":{},"b":1}'),
        (['"\\u00e9"', '"é"'], '"é"'),
        (["[ ]"], "[]"),
        (["true"], "true"),
        (['"1"'], '"1"'),
    ],
)
def test_json_of_one_meaning_has_one_text(spellings: list[str], text: str) -> None:
    assert {canonical_json(read_json(spelling.encode())) for spelling in spellings} == {text}


def test_what_json_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="datetime is not JSON"):
        canonical_json(datetime(2026, 11, 20, tzinfo=UTC))


def test_a_different_tenant_or_key_does_not_change_the_content() -> None:
    event = taken()

    assert replace(event, key=IdempotencyKey("x")).content_hash() == event.content_hash()
