"""Records of adjustments to the last field, and the texts that stand in ledgers for ever."""

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from metering.adjustment import (
    LATE_ACTOR,
    Adjustment,
    Reason,
    Status,
    approval_of,
    check_delta,
    child_of,
    decision_key,
    entry_of,
    held_as,
    held_id,
    held_key,
    id_of_request,
    period_beginning,
    revert_key,
    revert_of,
)
from metering.counter import Aggregation
from metering.errors import BadRequestError
from metering.event import EntryKind
from metering.names import IdempotencyKey, TenantId
from metering.period import CALENDAR_MONTHS, BillingCalendar, Era
from tests.books import ANN, BOB, an_adjustment
from tests.builders import DEMO, NOON, an_entry

NOVEMBER_1 = datetime(2026, 11, 1, tzinfo=UTC)
LATER = NOON + timedelta(hours=1)
PENDING = an_adjustment("5", id="adj_1")
LATE = an_entry("9", key="k", at=NOON - timedelta(days=20), is_late=True)


# --- ids and keys ---------------------------------------------------------------------------------


def test_the_ids_of_adjustments_stay_what_they_are() -> None:
    assert id_of_request(DEMO, "r") == "adj_c27301dd5fcd0a097f13af98d6255350"
    assert (
        child_of(PENDING, entry_of(PENDING, BOB, LATER), "").id
        == "adj_6294664e11eb1a37abe084319dec773d"
    )
    assert held_id(IdempotencyKey("a?>")) == "late_YT8-"


def test_a_name_of_a_request_makes_one_id_in_one_tenant() -> None:
    ids = {id_of_request(tenant, name) for tenant in (DEMO, TenantId("b")) for name in ("r", "s")}
    children = {
        child_of(replace(PENDING, tenant=tenant, id=name), entry_of(PENDING, BOB, LATER), "").id
        for tenant in (DEMO, TenantId("b"))
        for name in ("r", "s")
    }

    assert len(ids) == len(children) == 4
    assert not ids & children


@pytest.mark.parametrize("key", ["k", "ke", "key", "keys", "abW"])
def test_the_id_of_a_late_event_of_any_length_reads_back(key: str) -> None:
    assert held_key(held_id(IdempotencyKey(key))) == key


def test_decisions_stand_at_their_keys() -> None:
    held = replace(PENDING, id=held_id(IdempotencyKey("k")))

    assert [decision_key(PENDING), revert_key(PENDING)] == [
        "adjustment:adj_1",
        "adjustment:adj_1:revert",
    ]
    assert [decision_key(held), revert_key(held)] == [
        "adjustment:late:k",
        "adjustment:late-revert:k",
    ]


# --- entries --------------------------------------------------------------------------------------


def test_an_approval_enters_the_ledger_with_who_made_it_and_why() -> None:
    entry = entry_of(PENDING, BOB, LATER)

    assert (entry.kind, entry.decided_by, entry.received_at, entry.is_late) == (
        EntryKind.ADJUSTMENT,
        BOB,
        LATER,
        False,
    )
    assert json.loads(entry.event.meta) == {
        "adjustmentId": "adj_1",
        "reason": "correction",
        "actor": ANN,
        "periodStart": "2026-11-01T00:00:00.000000Z",
    }
    assert entry.event.quantity == Decimal(5)


def test_the_approval_of_a_late_event_and_its_revert_say_who_decided() -> None:
    approval = approval_of(LATE, BOB, LATER)
    revert = revert_of(held_as(LATE, CALENDAR_MONTHS), approval, ANN, NOON)

    assert (approval.kind, approval.decided_by, approval.received_at) == (
        EntryKind.APPROVAL,
        BOB,
        LATER,
    )
    assert (revert.kind, revert.decided_by, revert.received_at) == (
        EntryKind.APPROVAL_REVERT,
        ANN,
        NOON,
    )
    assert revert.event == replace(
        LATE.event, key=IdempotencyKey("adjustment:late-revert:k"), quantity=Decimal(-9)
    )


# --- records --------------------------------------------------------------------------------------


def test_a_decided_record_says_by_whom_and_when() -> None:
    decision = entry_of(PENDING, BOB, LATER)

    approved = PENDING.approved(decision, "checked")

    assert approved == replace(
        PENDING,
        status=Status.APPROVED,
        approved_by=BOB,
        approved_at=LATER,
        approval_reason="checked",
    )
    assert PENDING.approved(decision).approval_reason == ""
    assert approved.reverted(revert_of(PENDING, decision, ANN, NOON)) == replace(
        approved, status=Status.REVERTED, reverted_by=ANN, reverted_at=NOON
    )


def test_a_late_event_is_a_pending_adjustment_of_its_own_period() -> None:
    assert held_as(LATE, CALENDAR_MONTHS) == Adjustment(
        id="late_aw",
        tenant=DEMO,
        metric=LATE.event.metric,
        customer=LATE.event.customer,
        period_start=datetime(2026, 10, 1, tzinfo=UTC),
        occurred_at=LATE.event.occurred_at,
        delta=Decimal(9),
        reason=Reason.LATE_EVENT,
        actor=LATE_ACTOR,
        created_at=NOON,
    )


def test_a_reverts_own_record_is_approved_by_who_took_it_back() -> None:
    revert = revert_of(PENDING, entry_of(PENDING, BOB, NOON), ANN, LATER)

    child = child_of(PENDING, revert, "wrong customer")

    assert child == replace(
        PENDING,
        id=child.id,
        delta=Decimal(-5),
        reason=Reason.CORRECTION,
        actor=ANN,
        created_at=LATER,
        status=Status.APPROVED,
        note="wrong customer",
        parent="adj_1",
        approved_by=ANN,
        approved_at=LATER,
    )


# --- what may be asked for ------------------------------------------------------------------------


def test_a_period_may_be_adjusted_from_the_very_instant_that_it_begins() -> None:
    anchor = datetime(2026, 11, 20, 9, tzinfo=UTC)
    calendar = BillingCalendar((Era(anchor, anchor, subscription="sub_1"),))

    assert period_beginning(CALENDAR_MONTHS, NOVEMBER_1, NOVEMBER_1).start == NOVEMBER_1
    assert period_beginning(calendar, date(2026, 11, 20), anchor).start == anchor


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (date(2026, 12, 1), "periodStart: lies ahead; adjust that period once it has begun"),
        (
            date(2026, 11, 2),
            (
                "periodStart: no billing period of this customer begins at 2026-11-02; the one that"
                " holds it begins at 2026-11-01T00:00:00.000000Z"
            ),
        ),
    ],
)
def test_a_refused_period_is_told_in_words(start: date, message: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        period_beginning(CALENDAR_MONTHS, start, NOON)

    assert (refused.value.message, refused.value.error) == (message, "Validation Error")


def test_a_period_that_begins_later_today_is_refused_in_the_same_words() -> None:
    anchor = datetime(2026, 11, 20, 17, tzinfo=UTC)
    calendar = BillingCalendar((Era(anchor, anchor, subscription="sub_1"),))

    with pytest.raises(BadRequestError, match=r"^periodStart: lies ahead") as refused:
        period_beginning(calendar, date(2026, 11, 20), NOON)

    assert refused.value.error == "Validation Error"


@pytest.mark.parametrize(
    ("delta", "aggregation", "message"),
    [
        (
            "-7.5",
            Aggregation.SUM,
            (
                "delta: -7.5 is more than the 7 that an adjustment may be; raise adjustmentMax in"
                " the tenant's settings if it is right"
            ),
        ),
        (
            "2.5",
            Aggregation.COUNT,
            "delta: 2.5 is no whole number, and the metric counts events",
        ),
    ],
)
def test_a_refused_delta_is_told_in_words(
    delta: str, aggregation: Aggregation, message: str
) -> None:
    with pytest.raises(BadRequestError) as refused:
        check_delta(Decimal(delta), Decimal(7), aggregation)

    assert (refused.value.message, refused.value.error) == (message, "Validation Error")
