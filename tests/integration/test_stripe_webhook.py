"""Stripe's webhooks, through both doors: kept once, before Stripe is told so, or refused whole."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from functions.stripe_webhook.handler import BUS_SOURCE, handler
from infra.functions import STRIPE_WEBHOOK
from metering.config import Config
from metering.errors import InvariantBrokenError, RetryableError
from metering.notice import Notice, NoticeKind
from metering.webhook import WebhookRefusedError
from metering.wiring import Wiring, using
from tests.builders import NOON
from tests.conftest import SetClock
from tests.faults import FaultyClient, broken, throttled, timed_out
from tests.stripe_events import (
    ON_BUS,
    REQUEST,
    SECRET,
    a_snapshot,
    a_thin_event,
    delivered,
    on_the_bus,
    signed,
    text_of,
)

SECOND = timedelta(seconds=1)


@pytest.fixture
def wired(config: Config, clock: SetClock) -> Iterator[Wiring]:
    """A deployment with a test key and a webhook secret."""
    config = replace(config, stripe_secret_key="sk_test_x", stripe_webhook_secrets=SECRET)
    with using(Wiring(config, clock=clock)) as made:
        yield made


def changed(wired: Wiring, **changes: Any) -> Wiring:
    config = replace(wired.config, **changes)
    return Wiring(config, clock=wired.clock, dynamodb=wired.dynamodb)


def post(event: dict[str, Any], *secrets: str, **how: Any) -> tuple[int, dict[str, Any]]:
    body = text_of(event)
    return sent(delivered(body, signed(body, *secrets), **how))


def sent(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    answer = handler(request, None)
    return answer["statusCode"], json.loads(answer["body"])


def waiting(wired: Wiring) -> list[Notice]:
    return list(wired.notices.waiting(*NoticeKind))


def ids(wired: Wiring) -> list[str]:
    return [notice.id for notice in waiting(wired)]


def stored(wired: Wiring) -> int:
    return wired.dynamodb.scan(TableName=wired.table("billing"))["Count"]


KEPT = {"received": True, "outcome": "kept"}


# --- what is taken --------------------------------------------------------------------------------


def test_the_example_of_a_webhook_is_kept(wired: Wiring) -> None:
    assert sent(REQUEST) == (200, KEPT)
    assert waiting(wired) == [
        Notice(
            id="evt_1SVQ2ELkdIwHu7ixQ0a1b2c3",
            kind=NoticeKind.INVOICE,
            type="invoice.created",
            object_id="in_1SVQ2DLkdIwHu7ixd4e5f6a7",
            customer="cus_ada",
            account="",
            is_live=False,
            created_at=NOON,
            received_at=NOON,
        )
    ]


def test_a_body_that_comes_in_base64_is_judged_by_its_bytes(wired: Wiring) -> None:
    event = a_snapshot(description="Größe")

    assert post(event, in_base64=True) == (200, KEPT)
    assert ids(wired) == [event["id"]]


def test_a_thin_event_comes_through_the_same_door(wired: Wiring) -> None:
    event = a_thin_event()

    assert post(event) == (200, KEPT)
    assert [(one.kind, one.object_id) for one in waiting(wired)] == [("meter_errors", event["id"])]


def test_the_same_event_twice_is_one_notice(wired: Wiring) -> None:
    event = a_snapshot()
    post(event)

    assert post(event) == (200, {"received": True, "outcome": "repeated"})
    assert ids(wired) == [event["id"]]


def test_an_event_that_was_acted_on_does_not_come_back(wired: Wiring, clock: SetClock) -> None:
    event = a_snapshot()
    post(event)
    (notice,) = waiting(wired)
    wired.notices.done(notice)
    clock.advance(timedelta(days=3))
    body = text_of(event)

    again = sent(delivered(body, signed(body, at=clock.now())))

    assert again == (200, {"received": True, "outcome": "repeated"})
    assert waiting(wired) == []


@pytest.mark.parametrize("secrets", ["whsec_new,whsec_old", "whsec_old, whsec_new"])
@pytest.mark.parametrize("signer", ["whsec_new", "whsec_old"])
def test_while_a_secret_is_rotated_both_sign(wired: Wiring, secrets: str, signer: str) -> None:
    with using(changed(wired, stripe_webhook_secrets=secrets)):
        assert post(a_snapshot(), signer) == (200, KEPT)


def test_an_api_key_means_nothing_here(wired: Wiring) -> None:
    body = text_of(a_snapshot())
    with using(changed(wired, auth=True)):
        assert sent(delivered(body, signed(body))) == (200, KEPT)
        request = delivered(body, None)
        request["headers"]["authorization"] = "Bearer sm_demo01.secret"
        assert sent(request)[0] == 400


# --- what is confirmed and not kept ---------------------------------------------------------------


def test_an_event_of_a_type_that_matters_nothing_is_confirmed(wired: Wiring) -> None:
    ignored = (200, {"received": True, "outcome": "unknown_type"})

    assert post(a_snapshot("charge.succeeded")) == ignored
    assert post(a_thin_event("v2.core.event_destination.ping")) == ignored
    assert stored(wired) == 0


@pytest.mark.parametrize(("key", "is_live"), [("sk_test_x", True), ("rk_live_x", False)])
def test_an_event_of_the_other_mode_is_confirmed_and_named(
    wired: Wiring, caplog: pytest.LogCaptureFixture, *, key: str, is_live: bool
) -> None:
    event = a_snapshot(livemode=is_live)
    with using(changed(wired, stripe_secret_key=key)):
        assert post(event) == (200, {"received": True, "outcome": "other_mode"})

    assert stored(wired) == 0
    assert event["id"] in caplog.text


def test_a_live_event_is_kept_where_the_key_is_live(wired: Wiring) -> None:
    with using(changed(wired, stripe_secret_key="rk_live_x")):
        assert post(a_snapshot(livemode=True)) == (200, KEPT)


# --- what is refused ------------------------------------------------------------------------------


def test_a_webhook_that_nobody_of_ours_signed_is_refused(wired: Wiring) -> None:
    status, answer = post(a_snapshot(), "whsec_other")

    assert (status, answer["code"]) == (400, "wrong_secret")
    assert "STRIPE_WEBHOOK_SECRETS_NAME" in answer["message"]
    assert stored(wired) == 0


def test_without_a_signature_it_is_refused(wired: Wiring) -> None:
    status, answer = sent(delivered(text_of(a_snapshot()), None))

    assert (status, answer["code"]) == (400, "no_signature")
    assert "Stripe-Signature" in answer["message"]
    assert stored(wired) == 0


def test_a_signature_of_another_shape_is_refused(wired: Wiring) -> None:
    assert sent(delivered(text_of(a_snapshot()), "v1=1"))[1]["code"] == "malformed_signature"


def test_a_body_changed_by_one_byte_is_refused(wired: Wiring) -> None:
    body = text_of(a_snapshot())

    status, answer = sent(delivered(body.replace("cus_ada", "cus_adb"), signed(body)))

    assert (status, answer["code"]) == (400, "wrong_secret")
    assert stored(wired) == 0


@pytest.mark.parametrize(
    ("away", "code"), [(-301, "too_old"), (-300, None), (299, None), (301, "from_future")]
)
def test_what_was_signed_too_far_from_now_is_refused(
    wired: Wiring, away: int, code: str | None
) -> None:
    event = a_snapshot()
    body = text_of(event)

    status, answer = sent(delivered(body, signed(body, at=NOON + away * SECOND)))

    assert (status, answer.get("code")) == ((400, code) if code else (200, None))
    assert ids(wired) == ([] if code else [event["id"]])


@pytest.mark.parametrize("body", ["", "nonsense", "[" * 100_000, "[]", "{}", '{"object":"event"}'])
def test_what_is_signed_and_no_event_is_refused(wired: Wiring, body: str) -> None:
    status, answer = sent(delivered(body, signed(body)))

    assert (status, answer["code"]) == (400, "not_an_event")
    assert stored(wired) == 0


# --- what Stripe must deliver again ---------------------------------------------------------------


@pytest.mark.parametrize(
    "error", [throttled(), broken(), timed_out()], ids=["throttled", "broken", "lost"]
)
@pytest.mark.parametrize("after_effect", [False, True])
def test_while_the_table_is_down_stripe_delivers_again_and_it_is_kept_once(
    wired: Wiring, error: Exception, *, after_effect: bool
) -> None:
    event = a_snapshot()
    down = FaultyClient(wired.dynamodb)
    down.fail("transact_write_items", error, after_effect=after_effect)
    with using(Wiring(wired.config, clock=wired.clock, dynamodb=down.client)):
        status, answer = post(event)

    assert (status, answer["error"]) == (503, "Service Unavailable")
    assert ids(wired) == ([event["id"]] if after_effect else [])

    outcome = "repeated" if after_effect else "kept"
    assert post(event) == (200, {"received": True, "outcome": outcome})
    assert ids(wired) == [event["id"]]


@pytest.mark.parametrize(
    ("missing", "named"),
    [
        ("stripe_webhook_secrets", "STRIPE_WEBHOOK_SECRETS_NAME"),
        ("stripe_secret_key", "Stripe key"),
    ],
)
def test_until_it_is_set_up_stripe_delivers_again(wired: Wiring, missing: str, named: str) -> None:
    with using(changed(wired, **{missing: None})):
        status, answer = post(a_snapshot())

    assert status == 503
    assert named in answer["message"]


@pytest.mark.parametrize("secrets", [",", "we_1SVQ", "sk_test_x", "whsec_", "whsec_a,b"])
def test_what_is_no_secret_signs_nothing(wired: Wiring, secrets: str) -> None:
    with using(changed(wired, stripe_webhook_secrets=secrets)):
        status, answer = post(a_snapshot(), "")

    assert status == 503
    assert "whsec_" in answer["message"]
    assert stored(wired) == 0


# --- the other door -------------------------------------------------------------------------------


def test_the_example_of_eventbridge_is_kept(wired: Wiring) -> None:
    assert handler(ON_BUS, None) == {"outcome": "kept"}
    assert [(one.kind, one.id) for one in waiting(wired)] == [
        ("meter_errors", ON_BUS["detail"]["id"])
    ]


def test_an_event_that_comes_through_both_doors_is_one_notice(wired: Wiring) -> None:
    event = a_snapshot()

    assert handler(on_the_bus(event), None) == {"outcome": "kept"}
    assert post(event)[1]["outcome"] == "repeated"
    assert handler(on_the_bus(event), None) == {"outcome": "repeated"}
    assert ids(wired) == [event["id"]]


def test_the_bus_knows_types_and_modes_as_well(wired: Wiring) -> None:
    assert handler(on_the_bus(a_snapshot("charge.succeeded")), None) == {"outcome": "unknown_type"}
    assert handler(on_the_bus(a_snapshot(livemode=True)), None) == {"outcome": "other_mode"}
    assert stored(wired) == 0


def test_what_the_bus_brings_and_cannot_be_taken_goes_to_its_dead_letters(wired: Wiring) -> None:
    with pytest.raises(WebhookRefusedError, match="no event of Stripe's"):
        handler(ON_BUS | {"detail": {}}, None)

    down = FaultyClient(wired.dynamodb)
    down.fail("transact_write_items", throttled())
    with (
        using(Wiring(wired.config, clock=wired.clock, dynamodb=down.client)),
        pytest.raises(RetryableError),
    ):
        handler(ON_BUS, None)


@pytest.mark.parametrize("source", ["aws.events", "partner/stripe.com", None])
def test_a_rule_that_lets_others_in_is_a_broken_set_up(wired: Wiring, source: str | None) -> None:
    with pytest.raises(InvariantBrokenError, match=BUS_SOURCE):
        handler(ON_BUS | {"source": source}, None)
    assert stored(wired) == 0


def test_nobody_outside_reaches_the_door_that_asks_for_no_signature(wired: Wiring) -> None:
    request = delivered(text_of(on_the_bus(a_snapshot())), None)

    assert sent(request | {"detail": a_snapshot(), "source": BUS_SOURCE})[0] == 400
    assert stored(wired) == 0


def test_the_rule_matches_what_the_function_takes() -> None:
    rule = STRIPE_WEBHOOK.also

    assert rule is not None
    assert rule.source_prefix == BUS_SOURCE
    assert rule.pattern == {"source": [{"prefix": BUS_SOURCE}]}
    assert ON_BUS["source"].startswith(rule.source_prefix)


# --- what operators see ---------------------------------------------------------------------------


def test_every_outcome_is_counted(wired: Wiring) -> None:
    before = counts(wired)
    event = a_snapshot()
    post(event)
    post(event)
    post(a_snapshot("charge.succeeded"))
    post(a_snapshot(), "whsec_other")
    with using(changed(wired, stripe_webhook_secrets=None)):
        post(a_snapshot())

    after = counts(wired)
    new = {name: count - before.get(name, 0) for name, count in after.items()}
    assert {name: count for name, count in new.items() if count} == {
        "kept": 1,
        "repeated": 1,
        "unknown_type": 1,
        "wrong_secret": 1,
        "not_kept": 1,
    }


def counts(wired: Wiring) -> dict[str, float]:
    exposition = wired.metrics.exposition()
    assert exposition is not None
    lines = [line for line in exposition[1].splitlines() if line.startswith("stripe_webhooks_tot")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def test_a_refused_webhook_leaves_a_line_for_operators(
    wired: Wiring, caplog: pytest.LogCaptureFixture
) -> None:
    post(a_snapshot(), "whsec_other")

    assert "refused" in caplog.text
    assert SECRET not in caplog.text


def test_the_examples_are_files_that_the_documents_can_show() -> None:
    folder = Path(__file__).parents[2] / "events"

    assert {path.name for path in folder.glob("*stripe*.json")} == {
        "http-stripe-webhook.json",
        "eventbridge-stripe.json",
    }
