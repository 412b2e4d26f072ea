"""The failure table of the push protocol, row by row, end to end.

The real writer over DynamoDB Local and the Stripe stand-in, through the real SDK. Each row ends
with what Stripe holds, to the unit; with the push, how it ended and how that became known; and with
what an operator is shown meanwhile. The same rows as a matter of one stream stand in
`tests/unit/test_push_answers.py`.
"""

import json
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from threading import Thread
from typing import Any

import pytest

from functions.writer.handler import handler as write
from infra.functions import WRITER
from local.stripe.faults import LOCK_TIMEOUT, RATE_LIMIT_REASONS, FaultKind
from metering.adapters import stripe_client
from metering.names import Metric
from metering.notice import Notice
from metering.push import Mode, Push, PushState, Stop, StreamKey, Target
from metering.reconciliation import Cause, Status
from metering.stripe_event import read_event
from tests.api_client import Api
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld, Context, connected
from tests.builders import DEMO, NOON, a_counter, an_entry
from tests.faults import FaultyClient, timed_out
from tests.mortal import COMMIT, SEND, STAMP, Death, NoLease, write_and_die
from tests.stripe_events import a_thin_event

SENDING = "/v1/billing/meter_events"
TARGET = Target("", Mode.TEST, "api_calls", "cus_A")
IDENTIFIER = f"u1.{StreamKey(TARGET, a_counter(), NOVEMBER).id}.1"
BEFORE, AFTER = False, True


@pytest.fixture(autouse=True)
def _log_whole(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "metering.writer")


@pytest.fixture
def mapped(billing: BillingWorld) -> BillingWorld:
    """`api_calls` goes to a meter in whole units; `cus_A` and `cus_B` exist at Stripe."""
    billing.map()
    billing.stand_in.add_customers(["cus_A", "cus_B"])
    return billing


# --- what is seen ---------------------------------------------------------------------------------


def pushes(world: BillingWorld, customer: str = "cus_A") -> list[Push]:
    (history,) = world.wiring.pushes.of_period(a_counter(customer), NOVEMBER)
    return history.pushes


def outcomes(world: BillingWorld, customer: str = "cus_A") -> list[tuple[PushState, str]]:
    return [(push.state, push.resolution) for push in pushes(world, customer)]


ACCEPTED = (PushState.ACCEPTED, "answered")
REPLAYED = (PushState.ACCEPTED, "replayed")
DUPLICATE = (PushState.ACCEPTED, "duplicate")
REJECTED = (PushState.REJECTED, "answered")
FOUND = (PushState.ACCEPTED, "minute_window")
VOID = (PushState.VOID, "minute_window")


def keys(world: BillingWorld) -> list[str]:
    """The idempotency keys of all pushes that reached Stripe, in order."""
    sent = [one for one in world.stand_in.requests() if one["path"] == SENDING]
    return [one["idempotency_key"] for one in sent]


def alarms(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log raises an alarm about."""
    lines = [one for one in caplog.records if one.levelno == logging.WARNING]
    return [json.loads(one.message)["alarm"] for one in lines if one.message.startswith("{")]


def shown(status: str = "open") -> Any:
    """The one stream that the API shows an operator as open, or as stopped."""
    (stream,) = Api().get("/v1/pushes", tenantId="demo", status=status).body
    return stream


def is_settled(world: BillingWorld, total: int) -> bool:
    """Whether Stripe holds exactly that, and nothing waits for anybody."""
    assert world.told() == total
    assert world.stream().accepted == total
    assert Api().get("/v1/pushes", tenantId="demo").body == []
    return True


# --- 1 to 4: crashes ------------------------------------------------------------------------------


def test_row_01_a_crash_before_the_stamp_sends_nothing_and_the_next_run_plans_anew(
    mapped: BillingWorld,
) -> None:
    mapped.use("10")

    assert write_and_die(mapped, Death(*STAMP, BEFORE)).is_dead

    assert Api().get("/v1/pushes", tenantId="demo").body == []
    assert keys(mapped) == []
    mapped.use("1")
    mapped.advance(2 * MINUTE)
    mapped.write()
    assert is_settled(mapped, 11)
    assert outcomes(mapped) == [ACCEPTED]
    assert mapped.events() == 1


def test_row_01_a_push_that_was_planned_and_not_stamped_is_sent_as_it_is(
    mapped: BillingWorld,
) -> None:
    mapped.wiring.pushes.pause("", Mode.TEST, NOON + MINUTE, "Stripe refused our key")
    mapped.use("10")
    mapped.write()
    assert (shown()["open"]["state"], shown()["open"]["attempts"]) == ("planned", 0)
    mapped.use("1")
    mapped.advance(2 * MINUTE)

    assert write_and_die(mapped, Death("put_item", 1, BEFORE)).is_dead

    assert shown()["open"]["state"] == "planned"
    assert keys(mapped) == []
    mapped.advance(2 * MINUTE)
    mapped.write()
    assert is_settled(mapped, 11)
    assert [push.value for push in pushes(mapped)] == ["10", "1"]


def test_row_02_a_crash_after_the_stamp_and_before_the_request_leaves_is_sent_again(
    mapped: BillingWorld,
) -> None:
    mapped.use("10")

    assert write_and_die(mapped, Death(*SEND, BEFORE)).is_dead

    assert (shown()["open"]["state"], shown()["open"]["attempts"]) == ("sent", 1)
    assert mapped.told() == 0
    mapped.use("1")  # the value is frozen
    mapped.advance(2 * MINUTE)
    mapped.write()
    assert is_settled(mapped, 11)
    assert outcomes(mapped) == [ACCEPTED, ACCEPTED]
    assert [(push.value, push.attempts) for push in pushes(mapped)] == [("10", 2), ("1", 1)]
    assert keys(mapped)[0] == pushes(mapped)[0].identifier == IDENTIFIER


def test_row_03_a_crash_after_stripes_200_and_before_commit_ends_delivered_once(
    mapped: BillingWorld,
) -> None:
    mapped.use("10")

    assert write_and_die(mapped, Death(*SEND, AFTER)).is_dead

    assert (shown()["accepted"], shown()["open"]["state"]) == (0, "sent")
    assert mapped.told() == 10
    mapped.use("1")
    mapped.advance(2 * MINUTE)
    mapped.write()
    assert is_settled(mapped, 11)
    assert outcomes(mapped) == [REPLAYED, ACCEPTED]
    assert mapped.events() == 2


@pytest.mark.parametrize("after_effect", [BEFORE, AFTER], ids=["before", "after"])
def test_row_04_a_crash_during_commit_leaves_all_of_it_or_nothing(
    mapped: BillingWorld,
    after_effect: bool,  # noqa: FBT001 (a parameter of pytest)
) -> None:
    mapped.use("10")

    assert write_and_die(mapped, Death(*COMMIT, after_effect)).is_dead

    (push,) = pushes(mapped)
    stream = mapped.stream()
    whole = (PushState.ACCEPTED, None, 10) if after_effect else (PushState.SENT, push, 0)
    assert (push.state, stream.open, stream.accepted) == whole
    mapped.advance(2 * MINUTE)
    mapped.write_until_settled()
    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [ACCEPTED if after_effect else REPLAYED]
    assert mapped.events() == 1


def test_row_04_a_commit_whose_answer_is_lost_is_found_done(mapped: BillingWorld) -> None:
    mapped.use("10")
    faulty = FaultyClient(mapped.wiring.dynamodb)
    faulty.fail("transact_write_items", timed_out(), at={2}, after_effect=True)
    lossy = connected(mapped.wiring, mapped.stand_in)
    lossy._dynamodb = faulty.client

    run = lossy.writer.run("lossy", lambda: timedelta(seconds=55))

    assert run["held"] == {"unavailable": 1}
    mapped.write_until_settled()
    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [ACCEPTED]
    assert mapped.events() == 1


# --- 5 to 9: answers ------------------------------------------------------------------------------


def test_row_05_a_200_is_committed_whether_it_is_replayed_or_not(mapped: BillingWorld) -> None:
    mapped.use("10")
    assert mapped.write()["answers"] == {"accepted": 1}
    mapped.stand_in.plan(FaultKind.DROP_AFTER, path=SENDING)
    mapped.advance(MINUTE)
    mapped.use("5")
    mapped.write()
    mapped.advance(MINUTE)
    mapped.write()

    assert is_settled(mapped, 15)
    assert outcomes(mapped) == [ACCEPTED, REPLAYED]
    assert keys(mapped)[1] == keys(mapped)[2]
    assert [one["replayed"] for one in mapped.stand_in.requests() if one["path"] == SENDING] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_row_06_already_exists_after_an_attempt_of_ours_is_a_delivery(
    mapped: BillingWorld, version: str
) -> None:
    wired = connected(mapped.wiring, mapped.stand_in, stripe_transport=version)
    mapped.stand_in.plan(FaultKind.ERROR_AFTER, path=f"/{version}/billing/meter_events")
    mapped.use("10")
    wired.writer.run("one", lambda: timedelta(seconds=55))
    assert (shown()["open"]["state"], shown()["open"]["lastError"][:3]) == ("sent", "500")
    mapped.advance(MINUTE)
    run = wired.writer.run("two", lambda: timedelta(seconds=55))

    assert run["answers"] == {"already_exists": 1}
    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [DUPLICATE]
    assert mapped.events() == 1


@pytest.mark.parametrize("told_there", ["the same", "something else"])
def test_row_07_an_identifier_that_another_deployment_has_used_is_unknown_until_its_minute_is_read(
    mapped: BillingWorld, told_there: str, caplog: pytest.LogCaptureFixture
) -> None:
    same = told_there == "the same"
    minute = int((NOON if same else NOON - HOUR).timestamp())
    mapped.stand_in.send_foreign_event(
        "api_calls", "cus_A", "10" if same else "3", identifier=IDENTIFIER, timestamp=minute
    )
    mapped.use("10")

    assert mapped.write()["answers"] == {"already_exists": 1}

    assert (shown()["open"]["state"], shown()["open"]["identifier"]) == ("unknown", IDENTIFIER)
    assert "already exists" in shown()["open"]["lastError"]
    assert alarms(caplog) == [
        "Stripe knows an identifier that this store never sent (restored backup, second store?)"
    ]
    mapped.advance(29 * MINUTE)
    assert mapped.write()["held"] == {"waiting": 1}, "half an hour after the attempt at the soonest"
    mapped.write_until_settled(every=31 * MINUTE)
    if same:
        assert outcomes(mapped) == [FOUND]
        assert is_settled(mapped, 10)
    else:
        assert outcomes(mapped) == [VOID, ACCEPTED]
        assert mapped.stream().accepted == 10
        assert mapped.told() == 13
        mapped.advance(HOUR)
        assert {one.cause for one in mapped.row().findings} >= {Cause.FOREIGN_WRITER}


def test_row_08_any_other_refusal_stops_the_stream_and_a_fix_makes_a_new_push(
    mapped: BillingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    mapped.use("10", customer="cus_missing")
    mapped.use("5", customer="cus_A")

    run = mapped.write()

    assert run["answers"] == {"accepted": 1, "refused": 1}
    assert mapped.told("cus_A") == 5
    stopped = shown("stopped")
    assert (stopped["customerRef"], stopped["needsDecision"]) == ("cus_missing", False)
    assert stopped["stopped"]["reason"] == "refused"
    assert "No such customer: 'cus_missing'" in stopped["stopped"]["message"]
    assert stopped["stopped"]["until"] == "2026-11-20T13:00:00.000Z"
    (alarm,) = alarms(caplog)
    assert "No such customer: 'cus_missing'" in alarm
    first = pushes(mapped, "cus_missing")
    assert mapped.write()["held"] == {"stopped": 1}
    mapped.stand_in.add_customers(["cus_missing"])
    mapped.advance(HOUR)
    mapped.write_until_settled()
    assert mapped.told("cus_missing") == 10
    assert outcomes(mapped, "cus_missing") == [REJECTED, ACCEPTED]
    assert pushes(mapped, "cus_missing")[0] == first[0], "the old push is never edited"
    assert Api().get("/v1/pushes", tenantId="demo", status="stopped").body == []


def test_row_09_a_reused_key_stops_the_stream_and_waits_for_a_person(
    mapped: BillingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    mapped.stripe.v1.billing.meter_events.create(
        {
            "event_name": "api_calls",
            "payload": {"stripe_customer_id": "cus_B", "value": "1"},
            "identifier": "another",
            "timestamp": int(NOON.timestamp()),
        },
        {"idempotency_key": IDENTIFIER},
    )
    mapped.use("10")

    assert mapped.write()["answers"] == {"key_reused": 1}

    assert mapped.told() == 0
    assert shown("stopped")["needsDecision"] is True
    assert shown("stopped")["stopped"]["reason"] == "key_reused"
    assert shown()["open"]["state"] == "unknown"
    (alarm,) = alarms(caplog)
    assert alarm.startswith("A push's parameters changed under its idempotency key, our own bug")
    decision = {"tenantId": "demo", "decision": "not_counted"}
    answer = Api().post(f"/v1/pushes/{mapped.stream().key.id}/decision", decision)
    assert answer.status == 200
    mapped.advance(MINUTE)
    mapped.write_until_settled()
    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [(PushState.VOID, "decided_by:anyone"), ACCEPTED]


# --- 10 to 14: not now ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["401", "403"])
def test_row_10_a_refused_key_pauses_the_account_and_keeps_the_push(
    mapped: BillingWorld, status: str, caplog: pytest.LogCaptureFixture
) -> None:
    mapped.use("10")
    refused = connected(mapped.wiring, mapped.stand_in)
    if status == "401":
        refused.config = replace(refused.config, stripe_secret_key="sk_test_")
    else:
        refused.config = replace(refused.config, stripe_secret_key="rk_test_r")
        mapped.stand_in.rule_key("rk_test_r", scopes=["customer_read"])

    run = refused.writer.run("refused", lambda: timedelta(seconds=55))

    assert run["answers"] == {"not_allowed": 1}
    (alarm,) = alarms(caplog)
    assert alarm.startswith(f"Stripe refuses our key: {status}: ")
    assert (shown()["open"]["state"], shown()["open"]["lastError"][:3]) == ("planned", status)
    mapped.advance(MINUTE)
    assert mapped.write()["held"] == {"account_paused": 1}
    mapped.use("1", customer="cus_B")
    assert mapped.write()["held"] == {"account_paused": 2}
    assert mapped.told("cus_B") == 0, "the whole account is left alone"
    mapped.advance(5 * MINUTE)
    mapped.write_until_settled()
    assert is_settled(mapped, 10)
    assert mapped.told("cus_B") == 1
    assert [push.identifier for push in pushes(mapped)] == [IDENTIFIER]


def test_row_11_a_twin_request_in_flight_is_waited_for_under_the_same_key(
    mapped: BillingWorld,
) -> None:
    mapped.stand_in.plan(FaultKind.DELAY, delay_s=1.5, path=SENDING)
    mapped.use("10")
    slow = connected(mapped.wiring, mapped.stand_in)
    first = Thread(target=slow.writer.run, args=("slow", lambda: timedelta(seconds=55)))
    first.start()
    wait_for(lambda: len(keys(mapped)) == 1)
    mapped.advance(2 * MINUTE)  # by our clock the first is overdue

    assert mapped.write()["answers"] == {"in_flight": 1}

    assert shown()["open"]["lastError"] == "409: a twin request is in flight"
    first.join(10)
    mapped.advance(MINUTE)
    mapped.write_until_settled()
    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [REPLAYED]
    assert set(keys(mapped)) == {IDENTIFIER}
    assert mapped.events() == 1


def wait_for(happened: Callable[[], bool], within_s: float = 10.0) -> None:
    """Until something another thread does has happened."""
    end = time.monotonic() + within_s
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_row_12_a_rate_limit_executes_nothing_and_is_tried_later_under_the_same_key(
    mapped: BillingWorld,
) -> None:
    reasons = (*RATE_LIMIT_REASONS, LOCK_TIMEOUT)
    for number, reason in enumerate(reasons, 1):
        mapped.stand_in.plan(FaultKind.RATE_LIMITED, reason=reason, path=SENDING)
        mapped.use("1")
        assert mapped.write()["answers"] == {"rate_limited": 1}
        stands = (shown()["open"]["state"], shown()["open"]["lastError"])
        assert stands == ("planned", f"429: {reason.replace('-timeout', '_timeout')}")
        assert mapped.write()["held"] == {"waiting": 1}, "it is not tried again at once"
        mapped.advance(MINUTE)
        mapped.write()
        assert is_settled(mapped, number)

    assert outcomes(mapped) == [ACCEPTED] * len(reasons)
    assert [push.key_generation for push in pushes(mapped)] == [0] * len(reasons)
    assert mapped.events() == len(reasons)


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [(FaultKind.ERROR_BEFORE, ACCEPTED), (FaultKind.ERROR_AFTER, DUPLICATE)],
)
def test_row_13_a_500_is_sent_again_under_a_new_key_with_the_same_identifier(
    mapped: BillingWorld, kind: FaultKind, outcome: tuple[PushState, str]
) -> None:
    mapped.stand_in.plan(kind, path=SENDING)
    mapped.use("10")
    assert mapped.write()["answers"] == {"server_error": 1}
    assert (shown()["open"]["state"], shown()["open"]["lastError"][:3]) == ("sent", "500")
    mapped.advance(MINUTE)
    mapped.write()

    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [outcome]
    assert keys(mapped) == [IDENTIFIER, f"{IDENTIFIER}.g1"]
    assert mapped.events() == 1


@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        (FaultKind.UNAVAILABLE, ACCEPTED),
        (FaultKind.DROP_BEFORE, ACCEPTED),
        (FaultKind.DROP_AFTER, DUPLICATE),
        (FaultKind.DELAY, REPLAYED),
    ],
)
def test_row_14_an_unknown_outcome_keeps_its_key_and_after_three_gets_a_new_one(
    mapped: BillingWorld,
    kind: FaultKind,
    outcome: tuple[PushState, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = 1 if kind is FaultKind.DELAY else 3
    if kind is FaultKind.DELAY:
        monkeypatch.setattr(stripe_client, "READ_TIMEOUT_S", 0.1)
    mapped.stand_in.plan(kind, times=times, delay_s=0.4, path=SENDING)
    mapped.use("10")
    for attempt in range(1, times + 1):
        assert mapped.write()["answers"] == {"outcome_unknown": 1}
        assert (shown()["open"]["state"], shown()["open"]["attempts"]) == ("sent", attempt)
        mapped.advance(2 * MINUTE)
    mapped.write_until_settled()

    assert is_settled(mapped, 10)
    assert [outcome] == outcomes(mapped)
    renewed = [f"{IDENTIFIER}.g1"] if times == 3 else []
    assert list(dict.fromkeys(keys(mapped))) == [IDENTIFIER, *renewed]
    assert mapped.events() == 1


# --- 15 to 20: what time and people bring ---------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (FaultKind.DROP_AFTER, [FOUND]),
        (FaultKind.DROP_BEFORE, [VOID, ACCEPTED]),
        (FaultKind.ERROR_AFTER, [FOUND]),
        (FaultKind.ERROR_BEFORE, [VOID, ACCEPTED]),
    ],
)
def test_row_15_what_is_unknown_after_23_hours_is_looked_up_and_never_sent_again(
    mapped: BillingWorld, kind: FaultKind, found: list[tuple[PushState, str]]
) -> None:
    mapped.stand_in.plan(kind, path=SENDING)
    mapped.use("10")
    mapped.write()
    mapped.advance(23 * HOUR)  # Stripe forgets the identifier at some time after this
    mapped.write()
    if found == [FOUND]:
        assert is_settled(mapped, 10)
    else:
        assert (shown()["open"]["state"], shown()["open"]["attempts"]) == ("unknown", 1)
    mapped.write_until_settled(every=61 * MINUTE)

    assert is_settled(mapped, 10)
    assert outcomes(mapped) == found
    seqs = [push.seq for push in pushes(mapped)]
    assert [key.rpartition(".")[2] for key in keys(mapped)] == [str(seq) for seq in seqs]
    assert mapped.events() == 1


def test_row_16_a_push_that_stripe_rejects_afterwards_is_taken_back_and_told_again(
    mapped: BillingWorld,
) -> None:
    mapped.stand_in.set(asynchronous=["meter_event_customer_not_found"])
    mapped.use("10", customer="cus_late")
    mapped.write()
    assert outcomes(mapped, "cus_late") == [ACCEPTED], "it was answered 200"
    mapped.advance(31 * MINUTE)
    mapped.wiring.notices.keep(report_of(mapped))

    first = mapped.row("cus_late")

    assert Cause.ASYNC_REJECTED in {one.cause for one in first.findings}
    assert "meter_event_customer_not_found" in first.explanation
    mapped.stand_in.add_customers(["cus_late"])  # the cause is fixed
    mapped.advance(HOUR)
    mapped.row("cus_late")
    assert shown("stopped")["customerRef"] == "cus_late"
    mapped.advance(HOUR)
    mapped.write_until_settled()
    assert mapped.told("cus_late") == 10
    states = [state for state, _ in outcomes(mapped, "cus_late")]
    assert states == [PushState.ASYNC_REJECTED, PushState.ACCEPTED]


def report_of(world: BillingWorld) -> Notice:
    """The notice of Stripe's only error report, as the webhook keeps it."""
    (event,) = world.stripe.v2.core.events.list().data
    notice = read_event(a_thin_event(id=event.id, context=None), world.clock.now())
    assert notice is not None
    return notice


def test_row_17_two_writers_at_once_do_no_harm(mapped: BillingWorld) -> None:
    customers = [f"cus_{number}" for number in range(12)]
    mapped.stand_in.add_customers(customers)
    mapped.use_all([an_entry("3", customer=customer) for customer in customers])
    # Without their lease, both are at it all the time.
    lone = [connected(mapped.wiring, mapped.stand_in) for _ in range(2)]
    for wired in lone:
        wired.writer_desk = NoLease()
    threads = [
        Thread(target=wired.writer.run, args=("twin", lambda: timedelta(seconds=55)))
        for wired in lone
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    mapped.advance(MINUTE)
    mapped.write_until_settled()

    told = {customer: mapped.told(customer) for customer in customers}
    assert told == dict.fromkeys(customers, Decimal(3))
    assert all(mapped.events(customer) == 1 for customer in customers)
    ended = {state for customer in customers for state, _ in outcomes(mapped, customer)}
    assert ended == {PushState.ACCEPTED}


@pytest.mark.parametrize("lost", ["the last push", "all pushes"])
def test_row_18_a_store_restored_from_a_backup_begins_with_what_stripe_holds(
    mapped: BillingWorld, lost: str
) -> None:
    mapped.use("10")
    mapped.write()
    backup = billing_items(mapped) if lost == "the last push" else []
    mapped.advance(MINUTE)
    mapped.use("20")
    mapped.write()
    mapped.advance(MINUTE)
    restore(mapped, backup)  # the counters know all; what Stripe was told is forgotten
    assert write({"raiseIncarnation": True, "force": True}, Context(WRITER)) == {"incarnation": 1}
    mapped.use("5")

    mapped.write_until_settled()

    assert mapped.told() == 35
    streams = mapped.wiring.pushes.streams(a_counter(), NOVEMBER)
    (present,) = [one for one in streams if one.key.incarnation == 1]
    assert (present.accepted, present.open) == (35, None)
    assert len(set(keys(mapped))) == 3, "no identifier is used again"


def test_row_18_what_stripe_holds_is_noted_though_nothing_is_left_to_tell(
    mapped: BillingWorld,
) -> None:
    mapped.use("10")
    mapped.write()
    backup = billing_items(mapped)
    mapped.advance(MINUTE)
    mapped.use("20")
    mapped.write()
    mapped.advance(HOUR)
    restore(mapped, backup)
    mapped.wiring.pushes.raise_incarnation()

    run = mapped.write()

    assert run["planned"] == 0
    assert mapped.told() == 30
    streams = mapped.wiring.pushes.streams(a_counter(), NOVEMBER)
    assert {one.key.incarnation: one.accepted for one in streams} == {0: 10, 1: 30}
    mapped.reconcile(tenantId=DEMO, period="2026-11", verify=True)
    (row,) = mapped.report().rows
    assert row.pushed == row.stripe == 30
    assert row.status is Status.OK


def test_row_18_a_metric_that_was_never_told_begins_with_nothing_stored(
    mapped: BillingWorld,
) -> None:
    mapped.wiring.pushes.raise_incarnation()
    mapped.use("0")

    mapped.write()

    assert mapped.wiring.pushes.streams(a_counter(), NOVEMBER) == []


def test_row_18_a_former_lifes_stream_is_not_waited_for(mapped: BillingWorld) -> None:
    mapped.use("10")
    mapped.write()
    pushes = mapped.wiring.pushes
    (told,) = pushes.streams(a_counter(), NOVEMBER)
    stop = Stop("refused", "an operator must look", mapped.clock.now(), None)
    assert pushes.store(replace(told, is_due=True, stopped=stop)) is not None
    mapped.advance(HOUR)
    pushes.raise_incarnation()

    mapped.write_until_settled()

    assert pushes.in_need() == []
    assert mapped.told() == 10


def billing_items(world: BillingWorld) -> list[dict[str, Any]]:
    return list(world.wiring.dynamodb.scan(TableName=world.wiring.table("billing"))["Items"])


def restore(world: BillingWorld, backup: list[dict[str, Any]]) -> None:
    """Put the billing table back to what it was."""
    client, table = world.wiring.dynamodb, world.wiring.table("billing")
    for item in billing_items(world):
        client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    for item in backup:
        client.put_item(TableName=table, Item=item)


def test_row_19_a_deactivated_meter_is_refused_and_told_when_it_is_active_again(
    mapped: BillingWorld, caplog: pytest.LogCaptureFixture
) -> None:
    mapping = mapped.wiring.settings.active_mapping(DEMO, Metric("api_calls"))
    assert mapping is not None
    mapped.stripe.v1.billing.meters.deactivate(mapping.meter_id)
    mapped.use("10")
    mapped.write()
    stopped = shown("stopped")["stopped"]
    assert (stopped["reason"], stopped["message"]) == (
        "refused",
        "archived_meter: The meter for the event name api_calls is inactive; reactivate it.",
    )
    assert "is inactive; reactivate it" in alarms(caplog)[0]
    mapped.stripe.v1.billing.meters.reactivate(mapping.meter_id)
    mapped.advance(HOUR)
    mapped.write_until_settled()

    assert is_settled(mapped, 10)
    assert outcomes(mapped) == [REJECTED, ACCEPTED]


def test_row_20_a_deleted_customer_stops_its_stream_and_a_new_one_is_told_only_the_rest(
    mapped: BillingWorld,
) -> None:
    mapped.customer("ann", "cus_A")
    mapped.use("10", customer="ann")
    mapped.write()
    mapped.stripe.v1.customers.delete("cus_A")
    mapped.advance(MINUTE)
    mapped.use("5", customer="ann")

    mapped.write()

    assert "No such customer: 'cus_A'" in shown("stopped")["stopped"]["message"]
    assert outcomes(mapped, "ann") == [ACCEPTED, REJECTED]
    mapped.customer("ann", "cus_new")
    mapped.advance(HOUR)
    mapped.write_until_settled()
    assert [mapped.told("cus_A"), mapped.told("cus_new")] == [10, 5]
    streams = mapped.wiring.pushes.streams(a_counter("ann"), NOVEMBER)
    moved = {one.key.target.customer: one.accepted for one in streams}
    assert moved == {"cus_A": 10, "cus_new": 5}, "what was accepted never moves across"
