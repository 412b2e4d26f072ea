"""Adjustments over real tables: what they make of a total, whoever decides and whatever fails."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from local import dynamodb_local
from metering.adjustment import Adjustment, Reason, Status, held_id
from metering.adjustments import AdjustmentQuery
from metering.counter import Aggregation
from metering.errors import BadRequestError, ConflictError, NotFoundError, RetryableError
from metering.event import EntryKind
from metering.mapping import Customer
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.period import Era, Span
from metering.wiring import Wiring
from tests.books import ANN, BOB, DAY, NOVEMBER_1, Books
from tests.builders import DEMO, NOON, an_entry
from tests.conftest import SetClock
from tests.faults import Deaths, FaultyClient, broken, dying, throttled, timed_out
from tests.readers import another_process, ledger_of


@pytest.fixture
def books(wiring: Wiring) -> Books:
    return Books(wiring)


def listed(wiring: Wiring, **changes: object) -> list[Adjustment]:
    query = AdjustmentQuery(DEMO, None, None, None, None, None, 0, 100)
    return wiring.adjustments.page(replace(query, **changes)).adjustments  # type: ignore[arg-type]


# --- totals ---------------------------------------------------------------------------------------


def test_w11_a_revert_gives_back_exactly_what_the_approval_took(books: Books) -> None:
    """10 + 5 = 15; after the revert 10, where the peer had 5."""
    books.use("10")
    adjustment = books.adjust("5")
    assert books.value() == 10

    books.approve(adjustment)
    assert books.value() == 15
    child = books.revert(adjustment)

    assert books.value() == 10
    assert child.delta == -5
    assert (child.parent, child.status) == (adjustment.id, Status.APPROVED)
    parent = books.wiring.adjustments.get(DEMO, adjustment.id)
    assert (parent.status, parent.reverted_by) == (Status.REVERTED, BOB)


def test_w12_a_late_event_is_one_adjustment_and_counts_once_when_approved(books: Books) -> None:
    """5, and 7 with the late event; the peer made two of it and came to 9."""
    books.use("5")
    books.use_late("2")
    assert books.value() == 5

    (pending,) = listed(books.wiring, status=Status.PENDING)
    assert pending.delta == 2
    assert (pending.reason, pending.actor) == (Reason.LATE_EVENT, "system:late-event")
    assert listed(books.wiring) == [pending]
    assert books.approve(pending)
    assert not books.approve(pending)

    assert books.value() == 7
    assert listed(books.wiring, status=Status.PENDING) == []
    (approved,) = listed(books.wiring)
    assert approved == replace(
        pending, status=Status.APPROVED, approved_by=BOB, approved_at=approved.approved_at
    )


def test_pending_ones_do_not_count_and_reverted_ones_count_no_more(books: Books) -> None:
    """The peer's vector: pending 2, approved 3, reverted 4 come to 3."""
    books.adjust("2")
    books.approve(books.adjust("3"))
    reverted = books.adjust("4")
    books.approve(reverted)
    books.revert(reverted)

    assert books.value() == 3


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_every_aggregation_is_shifted_and_shifted_back(
    books: Books, aggregation: Aggregation
) -> None:
    books.count_by(aggregation)
    books.use("7")
    before = books.value(aggregation)
    adjustment = books.adjust("-3")

    books.approve(adjustment)
    assert books.value(aggregation) == before - 3
    (metric,) = books.wiring.usage_report.current(DEMO, CustomerRef("cus_A")).metrics
    assert metric.value == before - 3

    books.revert(adjustment)
    assert books.value(aggregation) == before


def test_an_approved_late_event_counts_as_itself(books: Books) -> None:
    books.use("3")
    late = books.use_late("9")

    books.approve(held_id(late.event.key))

    assert books.value(Aggregation.SUM) == 12
    assert books.value(Aggregation.COUNT) == 2
    assert books.value(Aggregation.MAX) == 9
    assert books.value(Aggregation.LAST) == 3


def test_a_late_event_that_is_the_newest_becomes_the_last(books: Books) -> None:
    books.use("3", at=NOON - 9 * DAY)
    late = books.use_late("9", at=NOON - 5 * DAY)

    books.approve(held_id(late.event.key))

    assert books.value(Aggregation.LAST) == 9


@pytest.mark.parametrize("aggregation", [Aggregation.SUM, Aggregation.COUNT])
def test_an_approved_late_event_can_be_taken_back(books: Books, aggregation: Aggregation) -> None:
    books.count_by(aggregation)
    books.use("3")
    late_id = held_id(books.use_late("9").event.key)
    before = books.value(aggregation)
    books.approve(late_id)

    books.revert(late_id)

    assert books.value(aggregation) == before
    assert books.wiring.adjustments.get(DEMO, late_id).status is Status.REVERTED
    assert listed(books.wiring, status=Status.PENDING) == []
    with pytest.raises(BadRequestError, match="taken back"):
        books.approve(late_id)


@pytest.mark.parametrize("aggregation", [Aggregation.MAX, Aggregation.LAST])
def test_of_a_greatest_or_last_value_a_late_event_cannot_be_taken_back(
    books: Books, aggregation: Aggregation
) -> None:
    books.count_by(aggregation)
    late_id = held_id(books.use_late("9").event.key)
    books.approve(late_id)

    with pytest.raises(BadRequestError, match="make an adjustment with reason correction"):
        books.revert(late_id)

    assert books.value(aggregation) == 9


def test_a_counter_that_only_adjustments_made_is_listed_and_has_a_number(books: Books) -> None:
    books.approve(books.adjust("5", customer=CustomerRef("cus_B")))

    (metric,) = books.wiring.usage_report.current(DEMO, CustomerRef("cus_B")).metrics
    assert metric.value == 5
    known = {line.counter.customer for line in books.wiring.counters.known(DEMO)}
    assert known == {"cus_B"}


def test_an_adjustment_of_a_past_period_counts_in_it(books: Books) -> None:
    adjustment = books.adjust("5", period_start=date(2026, 10, 1))

    books.approve(adjustment)

    assert adjustment.occurred_at == NOVEMBER_1 - timedelta(microseconds=1)
    (key,) = books.wiring.counters.usage(
        DEMO, CustomerRef("cus_A"), books_period(books, NOVEMBER_1 - DAY)
    )
    assert key == ("api_calls", datetime(2026, 10, 31, tzinfo=UTC))


def books_period(books: Books, instant: datetime) -> Span:
    calendar = books.wiring.settings.customer(DEMO, CustomerRef("cus_A")).calendar
    return calendar.period_of(instant)


def test_a_rebuild_counts_decisions_as_the_stream_did(books: Books, clock: SetClock) -> None:
    books.use("10")
    late_ids = [held_id(books.use_late(quantity).event.key) for quantity in ("2", "40", "700")]
    books.approve(late_ids[0])
    books.approve(late_ids[1])
    books.revert(late_ids[1])
    books.approve(books.adjust("5"))
    books.approve(books.adjust("0.5", customer=CustomerRef("cus_B")))
    before = books.usage

    books.wiring.rebuilder.request(DEMO)
    clock.advance(timedelta(hours=1))
    (report,) = books.wiring.rebuilder.advance()

    assert report.state == "done"
    assert report.entries == 9
    assert books.usage == before
    assert before.value(Aggregation.SUM) == 17
    assert before.late.sum == 700
    assert (before.late.count, before.entries) == (1, 8)


def test_lanes_at_rest_are_folded_with_their_decisions(books: Books, clock: SetClock) -> None:
    books.use("10")
    late_id = held_id(books.use_late("2").event.key)
    books.approve(late_id)
    books.approve(books.adjust("-4"))
    before = books.usage
    clock.advance(timedelta(hours=49))

    report = books.wiring.lane_folder.run()

    assert report.folded > 0
    assert books.usage == before
    assert books.value() == 8


# --- exactly once ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["stored", "late"])
def test_two_who_approve_at_once_make_it_count_once(books: Books, make: str) -> None:
    books.use("10")
    adjustment_id = made(books, make)

    with ThreadPoolExecutor(8) as pool:
        approvals = list(
            pool.map(
                lambda number: books.wiring.adjustments.approve(
                    DEMO, adjustment_id, f"api:{number}"
                ),
                range(8),
            )
        )
    books.deliver()

    assert sum(one.is_new for one in approvals) == 1
    assert len({one.adjustment.approved_by for one in approvals}) == 1
    assert books.value() == 15
    entries = [one for one in ledger_of(books.wiring) if one.kind is not EntryKind.USAGE]
    assert [one.decided_by for one in entries] == [approvals[0].adjustment.approved_by]


def made(books: Books, kind: str) -> str:
    return books.adjust("5").id if kind == "stored" else held_id(books.use_late("5").event.key)


@pytest.mark.parametrize("kind", ["stored", "late"])
@pytest.mark.parametrize("after_effect", [False, True])
def test_whoever_dies_while_approving_the_next_one_completes_it(
    books: Books, kind: str, *, after_effect: bool
) -> None:
    books.use("10")
    deaths = Deaths(books.wiring.dynamodb, after_effect=after_effect)
    expected = Decimal(10)
    for mortal in deaths:
        adjustment_id = made(books, kind)
        with dying():
            another_process(books.wiring, mortal.client).adjustments.approve(
                DEMO, adjustment_id, ANN
            )
        books.approve(adjustment_id)
        expected += 5
        assert books.value() == expected
        seen = books.wiring.adjustments.get(DEMO, adjustment_id)
        assert seen.status is Status.APPROVED
        assert seen.approved_by in {ANN, BOB}
    assert deaths.number > 3


@pytest.mark.parametrize("kind", ["stored", "late"])
@pytest.mark.parametrize("after_effect", [False, True])
def test_whoever_dies_while_reverting_the_next_one_completes_it(
    books: Books, kind: str, *, after_effect: bool
) -> None:
    books.use("10")
    deaths = Deaths(books.wiring.dynamodb, after_effect=after_effect)
    for mortal in deaths:
        adjustment_id = made(books, kind)
        books.approve(adjustment_id)
        assert books.value() == 15
        with dying():
            another_process(books.wiring, mortal.client).adjustments.revert(
                DEMO, adjustment_id, ANN
            )
        if books.wiring.adjustments.get(DEMO, adjustment_id).status is Status.APPROVED:
            books.revert(adjustment_id)
        books.deliver()
        assert books.value() == 10
        children = [one for one in listed(books.wiring) if one.parent == adjustment_id]
        assert [child.delta for child in children] == [-5]
    assert deaths.number > 3


@pytest.mark.parametrize("kind", ["stored", "late"])
def test_a_reader_brings_up_to_date_what_the_ledger_holds_already(books: Books, kind: str) -> None:
    adjustment_id = made(books, kind)
    mortal = FaultyClient(books.wiring.dynamodb)
    # The ledger's insert comes before the record's put.
    mortal.fail("put_item", throttled(), at={1})
    with pytest.raises(Exception, match="DynamoDB cannot answer"):
        another_process(books.wiring, mortal.client).adjustments.approve(DEMO, adjustment_id, ANN)

    (seen,) = listed(books.wiring)

    assert (seen.status, seen.approved_by, seen.approved_at) == (Status.APPROVED, ANN, NOON)
    stored = books.wiring.dynamodb.scan(TableName=books.wiring.table("adjustments"))["Items"]
    assert [item["status"] for item in stored] == [{"S": "approved"}]
    assert not books.approve(adjustment_id)


def test_a_pending_list_leaves_out_what_the_ledger_has_approved(books: Books) -> None:
    adjustment_id = made(books, "stored")
    mortal = FaultyClient(books.wiring.dynamodb)
    mortal.fail("put_item", throttled(), at={1})
    with pytest.raises(Exception, match="DynamoDB cannot answer"):
        another_process(books.wiring, mortal.client).adjustments.approve(DEMO, adjustment_id, ANN)

    assert listed(books.wiring, status=Status.PENDING) == []


@pytest.mark.parametrize("error", [throttled, broken, timed_out], ids=lambda one: one.__name__)
@pytest.mark.parametrize("after_effect", [False, True])
def test_an_approval_whose_answer_was_lost_may_be_sent_again(
    books: Books, error: Callable[[], Exception], *, after_effect: bool
) -> None:
    adjustment_id = made(books, "stored")
    # The ledger's put, then the record's. A ledger's answer that is lost is found out at once.
    for at in (1, 2):
        faulty = FaultyClient(books.wiring.dynamodb)
        faulty.fail("put_item", error(), at={at}, after_effect=after_effect)
        process = another_process(books.wiring, faulty.client)
        with suppress(RetryableError):
            process.adjustments.approve(DEMO, adjustment_id, ANN)

    books.approve(adjustment_id, by=ANN)

    assert books.value() == 5


# --- the same request -----------------------------------------------------------------------------


def test_the_same_request_makes_one_adjustment(books: Books, clock: SetClock) -> None:
    made_first = books.adjust("5", request_id="r-1")
    clock.advance(timedelta(minutes=1))

    again = books.adjust("5.0", by=BOB, request_id="r-1", period_start=date(2026, 11, 1))

    assert again == made_first
    assert len(listed(books.wiring)) == 1
    books.approve(made_first)
    assert books.adjust("5", request_id="r-1").status is Status.APPROVED


def test_the_same_request_id_for_something_else_is_a_conflict(books: Books) -> None:
    books.adjust("5", request_id="r-1")
    others: list[tuple[str, dict[str, Any]]] = [
        ("6", {}),
        ("5", {"note": "another"}),
        ("5", {"reason": Reason.PROMO}),
        ("5", {"metric": Metric("storage")}),
        ("5", {"period_start": date(2026, 10, 1)}),
    ]

    for delta, other in others:
        with pytest.raises(ConflictError, match="'r-1' made another adjustment"):
            books.adjust(delta, request_id="r-1", **other)

    assert [one.delta for one in listed(books.wiring)] == [5]


def test_requests_without_an_id_are_each_their_own(books: Books) -> None:
    assert books.adjust("5").id != books.adjust("5").id


def test_two_of_the_same_request_at_once_make_one(books: Books) -> None:
    with ThreadPoolExecutor(4) as pool:
        made_by = list(pool.map(lambda _: books.adjust("5", request_id="r"), range(8)))

    assert len(set(made_by)) == 1


# --- who may, and how much ------------------------------------------------------------------------


def test_with_four_eyes_another_must_approve(books: Books) -> None:
    books.decide(four_eyes=True)
    adjustment = books.adjust("5", by=ANN)

    with pytest.raises(BadRequestError, match="another must approve") as refused:
        books.approve(adjustment, by=ANN)
    assert refused.value.status == 403
    assert books.value() == 0

    assert books.approve(adjustment, by=BOB)
    assert books.value() == 5


def test_with_four_eyes_anybody_may_approve_a_late_event(books: Books) -> None:
    books.decide(four_eyes=True)

    assert books.approve(made(books, "late"), by=ANN)


def test_a_bound_that_was_lowered_holds_at_the_approval(books: Books) -> None:
    adjustment = books.adjust("500")
    books.decide(adjustment_max=Decimal(100))

    with pytest.raises(BadRequestError, match="more than the 100"):
        books.approve(adjustment)
    with pytest.raises(BadRequestError, match="more than the 100"):
        books.adjust("-101")

    assert books.value() == 0


def test_a_part_of_a_count_is_refused_when_made_and_when_approved(books: Books) -> None:
    half = books.adjust("0.5")
    books.count_by(Aggregation.COUNT)

    for act in (lambda: books.adjust("0.5"), lambda: books.approve(half)):
        with pytest.raises(BadRequestError, match="the metric counts events"):
            act()


def test_an_adjustment_of_a_period_that_was_cut_otherwise_since_is_refused(books: Books) -> None:
    adjustment = books.adjust("5")
    anchor = datetime(2026, 11, 17, 9, 41, 7, tzinfo=UTC)
    books.wiring.settings_store.put_customer(
        Customer(DEMO, CustomerRef("cus_A"), "cus_A", eras=(Era(anchor, anchor),))
    )

    with pytest.raises(ConflictError, match="billing periods have changed"):
        books.approve(adjustment)

    assert books.approve(books.adjust("5", period_start=anchor))


def test_a_late_event_may_be_greater_than_an_adjustment(books: Books) -> None:
    """The bound guards against slips of people; what an event says was checked at ingest."""
    books.decide(adjustment_max=Decimal(1))

    assert books.approve(made(books, "late"))


# --- what cannot be decided -----------------------------------------------------------------------


def test_only_what_is_approved_can_be_reverted(books: Books) -> None:
    adjustment = books.adjust("5")
    only = "Only approved adjustments can be reverted"

    with pytest.raises(BadRequestError) as refused:
        books.revert(adjustment)
    assert refused.value.error == only
    books.approve(adjustment)
    child = books.revert(adjustment)
    with pytest.raises(BadRequestError) as refused:
        books.revert(adjustment)
    assert refused.value.error == only
    with pytest.raises(BadRequestError) as refused:
        books.revert(child)
    assert refused.value.error == "A revert cannot be reverted"
    with pytest.raises(BadRequestError) as refused:
        books.approve(adjustment)
    assert refused.value.error == "Already reverted"

    assert books.value() == 0


def test_w20_another_tenants_adjustment_is_not_there(books: Books) -> None:
    other = TenantId("other")
    ids = [books.adjust("5").id, made(books, "late"), "adj_00", "late_", "nonsense"]

    for adjustment_id in ids:
        for act in (
            lambda one: books.wiring.adjustments.get(other, one),
            lambda one: books.wiring.adjustments.approve(other, one, ANN),
            lambda one: books.wiring.adjustments.revert(other, one, ANN),
        ):
            with pytest.raises(NotFoundError):
                act(adjustment_id)

    query = AdjustmentQuery(other, None, None, None, None, None, 0, 100)
    assert books.wiring.adjustments.page(query) == ([], 0)
    assert len(listed(books.wiring)) == 2


def test_an_event_that_was_in_time_is_no_adjustment(books: Books) -> None:
    entry = books.use("5")

    with pytest.raises(NotFoundError):
        books.approve(held_id(entry.event.key))


def test_a_decision_is_no_late_event(books: Books) -> None:
    books.approve(books.adjust("5"))
    (entry,) = ledger_of(books.wiring)

    with pytest.raises(NotFoundError):
        books.approve(held_id(entry.event.key))


# --- lists ----------------------------------------------------------------------------------------


def test_a_list_is_narrowed_by_all_that_is_asked(books: Books, clock: SetClock) -> None:
    first = books.adjust("1", period_start=date(2026, 10, 1))
    clock.advance(timedelta(minutes=1))
    second = books.adjust("2", customer=CustomerRef("cus_B"))
    late = books.use_late("3", metric="storage", received_at=clock.now() + timedelta(minutes=1))
    late_id = held_id(late.event.key)
    books.approve(second)

    def ids(**asked: object) -> list[str]:
        return [one.id for one in listed(books.wiring, **asked)]

    assert ids() == [late_id, second.id, first.id]
    assert ids(metric=Metric("storage")) == [late_id]
    assert ids(customer=CustomerRef("cus_B")) == [second.id]
    assert ids(status=Status.PENDING) == [late_id, first.id]
    assert ids(status=Status.APPROVED) == [second.id]
    assert ids(status=Status.REVERTED) == []
    assert ids(first=NOVEMBER_1) == [late_id, second.id]
    assert ids(last=NOVEMBER_1 - DAY) == [first.id]
    assert ids(limit=1, offset=1) == [second.id]
    assert (
        books.wiring.adjustments.page(
            AdjustmentQuery(DEMO, None, None, None, None, None, 1, 1)
        ).total
        == 3
    )


def test_late_events_are_found_where_there_is_no_index_of_all(books: Books, wiring: Wiring) -> None:
    prefix = "no-index-" + wiring.config.table_prefix
    dynamodb_local.create_tables(wiring.dynamodb, prefix=prefix, event_index=False)
    config = replace(wiring.config, table_prefix=prefix, event_index=False)
    bare = Wiring(config, clock=wiring.clock, dynamodb=wiring.dynamodb)
    bare.ledger.append([an_entry("5", key="k", is_late=True)])

    assert [one.id for one in listed(bare)] == [held_id(IdempotencyKey("k"))]


def test_a_list_of_too_many_says_how_to_ask_for_less(
    books: Books, monkeypatch: pytest.MonkeyPatch
) -> None:
    books.adjust("1", customer=CustomerRef("cus_B"))
    books.adjust("2")
    monkeypatch.setattr("metering.adjustments.LISTED_MAX", 1)

    with pytest.raises(BadRequestError, match="name a customerRef and a metric") as refused:
        listed(books.wiring)

    assert refused.value.status == 422
    assert len(listed(books.wiring, customer=CustomerRef("cus_B"))) == 1


# --- many at once ---------------------------------------------------------------------------------


def test_many_are_approved_each_by_itself(books: Books) -> None:
    one, late_id, done = books.adjust("1").id, made(books, "late"), books.adjust("7").id
    books.approve(done)
    huge = books.adjust("900").id
    books.decide(adjustment_max=Decimal(100))

    approvals = books.wiring.adjustments.approve_all(
        DEMO, [one, late_id, one, done, huge, "adj_none"], BOB, "month end"
    )
    books.deliver()

    outcomes = [(each.id, each.decision and each.decision.is_new) for each in approvals]
    assert outcomes == [
        (one, True), (late_id, True), (done, False), (huge, None), ("adj_none", None)
    ]  # fmt: skip
    assert "more than the 100" in approvals[3].error
    assert approvals[4].error == "No adjustment has this id"
    assert books.value() == 13
    assert books.wiring.adjustments.get(DEMO, one).approval_reason == "month end"
