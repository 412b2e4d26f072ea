"""What an adjustment may be, where it counts, and under which keys."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.dynamodb.recounts import _newest
from metering.adjustment import (
    approval_of,
    check_delta,
    decision_key,
    held_as,
    held_id,
    held_key,
    id_of_request,
    instant_in,
    period_beginning,
    revert_key,
    revert_of,
)
from metering.counter import (
    EMPTY,
    Aggregation,
    BucketKey,
    Tally,
    counter_of,
    total,
    usage_of,
)
from metering.errors import BadRequestError, Refusal
from metering.event import EntryKind
from metering.names import IdempotencyKey, TenantId
from metering.period import CALENDAR_MONTHS, BillingCalendar, Era, day_of
from metering.quantity import InvalidQuantityError, parse_delta
from metering.sent_event import key_given, parse
from tests.books import ANN, BOB, adjusting, an_adjustment
from tests.builders import DEMO, NOON, a_sent_event, an_entry

NOVEMBER_1 = datetime(2026, 11, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def months_from(anchor: datetime) -> BillingCalendar:
    return BillingCalendar((Era(anchor, anchor, subscription="sub_1"),))


ODD = months_from(datetime(2026, 1, 17, 9, 41, 7, tzinfo=UTC))
MILLION = Decimal(1_000_000)

# --- keys -----------------------------------------------------------------------------------------


@given(st.text(min_size=1))
def test_the_id_of_a_late_event_is_its_key(key: str) -> None:
    if any("\ud800" <= character <= "\udfff" for character in key):
        return

    assert held_key(held_id(IdempotencyKey(key))) == key


@pytest.mark.parametrize("wrong", ["adj_00", "late_%%%", "late_a", "late_YR", "late_YQ==", ""])
def test_no_other_text_is_the_id_of_a_late_event(wrong: str) -> None:
    assert held_key(wrong) is None


def test_no_two_decisions_share_a_key() -> None:
    adjustments = [
        an_adjustment("1", id=id_of_request(DEMO, "r")),
        an_adjustment("1", id=held_id(IdempotencyKey("k"))),
        an_adjustment("1", id=held_id(IdempotencyKey("k:revert"))),
        an_adjustment("1", id=held_id(IdempotencyKey("adjustment:adj_1"))),
    ]
    keys = [key(one) for one in adjustments for key in (decision_key, revert_key)]

    assert len(set(keys)) == 8
    assert all(key.startswith("adjustment:") for key in keys)


def test_a_request_of_another_tenant_is_another_adjustment() -> None:
    assert id_of_request(DEMO, "r") != id_of_request(TenantId("other"), "r")


@pytest.mark.parametrize("key", ["adjustment:", "adjustment:adj_1", "adjustment:late:k"])
def test_no_client_may_use_a_key_of_adjustments(key: str) -> None:
    refused = parse(a_sent_event(idempotencyKey=key), tenant=DEMO, header_key=None)

    assert refused == Refusal(
        "invalid_event",
        "idempotencyKey: must not begin with 'adjustment:': such keys are kept for adjustments",
    )


def test_no_request_may_give_such_a_key_in_its_header() -> None:
    with pytest.raises(ValueError, match="must not begin with 'adjustment:'"):
        key_given("adjustment:adj_1")


# --- what they add up to --------------------------------------------------------------------------


@pytest.mark.parametrize("aggregation", list(Aggregation))
def test_an_adjustment_shifts_the_number_of_any_aggregation(aggregation: Aggregation) -> None:
    usage = total([usage_of(an_entry("7")), usage_of(an_entry("7"))])

    adjusted = usage + usage_of(adjusting("-2"))

    assert adjusted.value(aggregation) == usage.value(aggregation) - 2
    assert adjusted.counted == usage.counted
    assert adjusted.entries == 3


def test_an_approved_late_event_counts_as_if_it_had_been_in_time() -> None:
    late = an_entry("9", key="k", at=NOON - timedelta(days=5), is_late=True)
    in_time = an_entry("9", key="k", at=NOON - timedelta(days=5))

    usage = usage_of(late) + usage_of(approval_of(late, BOB, NOON))

    assert usage.counted == usage_of(in_time).counted
    assert usage.late.count == 0
    assert usage.late.sum == 0
    assert [usage.late_value(one) for one in Aggregation] == [0, 0, 0, 0]


def test_an_approval_taken_back_leaves_neither_count_nor_sum() -> None:
    late = an_entry("9", key="k", is_late=True)
    approval = approval_of(late, BOB, NOON)
    revert = revert_of(held_as(late, CALENDAR_MONTHS), approval, ANN, NOON)

    usage = total(map(usage_of, [revert, late, approval]))

    assert revert.kind is EntryKind.APPROVAL_REVERT
    assert [usage.value(one) for one in (Aggregation.SUM, Aggregation.COUNT)] == [0, 0]
    assert (usage.late.count, usage.entries) == (0, 3)
    assert usage_of(revert).counted == Tally(-1, Decimal(-9))
    assert usage_of(revert).late == EMPTY


def test_a_recount_lists_a_counter_that_only_adjustments_made() -> None:
    """No watermark shows when they count, and the directory must not say too early a time."""
    entry = adjusting("5", occurred_at=NOON)
    key = BucketKey(counter_of(entry.event), day_of(NOON))

    (newest,) = _newest({key: usage_of(entry)}).values()

    assert newest >= NOON


# --- where they count -----------------------------------------------------------------------------


def test_a_period_is_named_by_its_first_day_or_its_first_instant() -> None:
    november = CALENDAR_MONTHS.period_of(NOON)

    assert period_beginning(CALENDAR_MONTHS, date(2026, 11, 1), NOON) == november
    assert period_beginning(CALENDAR_MONTHS, NOVEMBER_1, NOON) == november
    for start in (date(2026, 11, 17), datetime(2026, 11, 17, 9, 41, 7, tzinfo=UTC)):
        assert period_beginning(ODD, start, NOON) == ODD.period_of(NOON)


@pytest.mark.parametrize(
    "start",
    [date(2026, 11, 2), NOVEMBER_1 + MICROSECOND, date(2026, 10, 31), NOVEMBER_1 - MICROSECOND],
)
def test_where_no_period_begins_the_message_names_the_one_there_is(start: date) -> None:
    with pytest.raises(BadRequestError) as refused:
        period_beginning(CALENDAR_MONTHS, start, NOON)

    real = "2026-11-01" if start >= type(start)(2026, 11, 1, **_zone(start)) else "2026-10-01"
    assert f"the one that holds it begins at {real}T00:00:00.000000Z" in refused.value.message


def _zone(start: date) -> dict[str, object]:
    return {"tzinfo": UTC} if isinstance(start, datetime) else {}


@pytest.mark.parametrize(
    "start", [date(2026, 12, 1), date.max, datetime(2026, 12, 1, tzinfo=UTC), date(2026, 11, 21)]
)
def test_a_period_that_has_not_begun_is_not_adjusted(start: date) -> None:
    with pytest.raises(BadRequestError, match="lies ahead"):
        period_beginning(CALENDAR_MONTHS, start, NOON)


def test_a_period_that_begins_later_today_lies_ahead_too() -> None:
    at_five = months_from(datetime(2026, 1, 20, 17, tzinfo=UTC))

    with pytest.raises(BadRequestError, match="lies ahead"):
        period_beginning(at_five, date(2026, 11, 20), NOON)


def test_time_itself_has_a_first_period() -> None:
    period = period_beginning(CALENDAR_MONTHS, date.min, NOON)

    assert period.start == datetime.min.replace(tzinfo=UTC)


def test_an_adjustment_counts_now_or_at_its_periods_very_end() -> None:
    october = CALENDAR_MONTHS.period_of(NOVEMBER_1 - MICROSECOND)

    assert instant_in(CALENDAR_MONTHS.period_of(NOON), NOON) == NOON
    assert instant_in(october, NOON) == NOVEMBER_1 - MICROSECOND
    assert ODD.bucket_of(instant_in(ODD.period_of(NOON), ODD.period_of(NOON).end)).end == (
        ODD.period_of(NOON).end
    )


# --- how much -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "delta"),
    [(-4, "-4"), ("-0.000000000001", "-0.000000000001"), (Decimal("1.10"), "1.1"), ("7", "7")],
)
def test_a_delta_has_either_sign_and_every_digit(sent: object, delta: str) -> None:
    assert parse_delta(sent) == Decimal(delta)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (0, "must not be 0"),
        ("-0", "must not be 0"),
        (10**15, "more than 15 integer digits"),
        (-(10**15), "more than 15 integer digits"),
        ("-0.0000000000001", "more than 12 decimals"),
        ("NaN", "must be a finite number"),
        (True, "must be a number"),
        (None, "must be a number"),
    ],
)
def test_what_cannot_be_kept_exactly_is_no_delta(sent: object, reason: str) -> None:
    with pytest.raises(InvalidQuantityError, match=reason):
        parse_delta(sent)


@pytest.mark.parametrize("delta", ["1000000", "-1000000", "0.5"])
def test_a_delta_within_the_bound_passes(delta: str) -> None:
    check_delta(Decimal(delta), MILLION, Aggregation.SUM)


@pytest.mark.parametrize("delta", ["1000000.000000000001", "-1000001"])
def test_a_delta_beyond_the_bound_is_refused(delta: str) -> None:
    with pytest.raises(BadRequestError, match="more than the 1000000 that an adjustment may be"):
        check_delta(Decimal(delta), MILLION, Aggregation.SUM)


def test_a_count_takes_whole_numbers() -> None:
    check_delta(Decimal("2.0"), MILLION, Aggregation.COUNT)

    with pytest.raises(BadRequestError, match="the metric counts events"):
        check_delta(Decimal("2.5"), MILLION, Aggregation.COUNT)
