"""Texts that stand in ledgers: changed by one letter, what was counted would count again."""

import json
from decimal import Decimal
from typing import Any

import pytest

from metering.errors import Refusal
from metering.event import (
    UsageEvent,
    approval_key,
    approval_revert_key,
    approved_key,
    canonical_json,
    key_from_header,
)
from metering.ingest_request import read_json
from metering.names import IdempotencyKey
from metering.sent_event import customer_named, metric_named, parse, tenant_named
from tests.builders import a_sent_event


def judged(**changes: Any) -> UsageEvent | Refusal:
    body = json.dumps(a_sent_event(**changes))
    return parse(read_json(body.encode()), tenant=None, header_key=None)


def taken(**changes: Any) -> UsageEvent:
    event = judged(**changes)
    assert isinstance(event, UsageEvent), event
    return event


def refused(**changes: Any) -> str:
    refusal = judged(**changes)
    assert isinstance(refusal, Refusal)
    assert refusal.code == "invalid_event"
    return refusal.message


# --- keys and hashes ------------------------------------------------------------------------------


def test_a_decision_about_a_late_event_stands_at_its_key() -> None:
    late = IdempotencyKey("k")

    assert approval_key(late) == "adjustment:late:k"
    assert approval_revert_key(late) == "adjustment:late-revert:k"
    assert approved_key(approval_key(late)) == late


def test_the_keys_that_we_give_stay_what_they_are() -> None:
    assert key_from_header("h", 3) == "idem_5e0b0adac92f7a3009442279a4b8fce5"
    assert taken(idempotencyKey=...).key == "evt_a719093103bf58b69eb9a1cdeb4beb86"
    assert (
        taken(idempotencyKey=..., resourceId="r", meta={"a": 1}).key
        == "evt_0b4f099f97d602ac2ca0c76901de0f3f"
    )


def test_the_hash_of_an_event_without_a_resource_stays_what_it_is() -> None:
    assert taken().content_hash().hex() == "7be457882d8952ab84de0ed3b725d8a1"


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ('{"é":[1.50,"é",null,true,{}],"a":{"b":[]}}', '{"a":{"b":[]},"é":[1.5,"é",null,true,{}]}'),
        ('[[1,2],"\\ud83d\\ude00"]', '[[1,2],"😀"]'),
        ("1e4096", "1" + "0" * 4096),
        ("1e4097", "1E+4097"),
        ("-1e-4097", "-1E-4097"),
        ("0e9999", "0"),
    ],
)
def test_the_canonical_text_of_meta_stays_what_it_is(sent: str, text: str) -> None:
    assert canonical_json(read_json(sent.encode())) == text


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.5, "float is not JSON"),
        ({"a": Decimal("NaN")}, "NaN is not JSON"),
        ([Decimal("Infinity")], "Infinity is not JSON"),
    ],
)
def test_what_is_not_json_says_so(value: object, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{reason}$"):
        canonical_json(value)


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "longest"), [(tenant_named, 100), (metric_named, 100)])
def test_a_name_may_take_two_bytes_a_character(named: Any, longest: int) -> None:
    assert named("é" * longest) == "é" * longest
    with pytest.raises(ValueError, match="must take at most 200 bytes in UTF-8, got 400"):
        named("😀" * longest)


def test_a_name_is_what_was_given() -> None:
    assert (tenant_named("acme"), metric_named("calls"), customer_named("ann")) == (
        "acme",
        "calls",
        "ann",
    )
    assert customer_named("é" * 255) == "é" * 255
    assert refused(customerRef="é" * 254 + "😀") == (
        "customerRef: must take at most 510 bytes in UTF-8, got 512"
    )


def test_a_resource_and_a_key_are_bounded_in_characters_alone() -> None:
    assert taken(resourceId="😀" * 255).resource == "😀" * 255
    assert taken(idempotencyKey="\n" + "😀" * 254).key == "\n" + "😀" * 254
    assert "control or invisible" in refused(resourceId="a\nb")
    assert refused(tenantId=...) == "tenantId: Required"
    assert "finer than a microsecond" in refused(
        idempotencyKey=..., ts="2026-11-20T11:00:00.0000001Z"
    )


@pytest.mark.parametrize("half", [chr(0xD800), chr(0xDFFF), "a" + chr(0xDBFF)])
def test_half_a_surrogate_pair_is_no_name(half: str) -> None:
    assert refused(customerRef=half) == (
        "customerRef: must be valid Unicode (it holds half a surrogate pair)"
    )
