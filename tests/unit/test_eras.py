"""What a customer's subscriptions at Stripe say of its billing periods."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from metering.eras import Found, NoOneCalendarError, calendar_by, judged
from metering.mapping import Customer
from metering.names import CustomerRef, TenantId
from metering.period import CALENDAR_MONTHS, Era, Interval, Span, calendar_months
from metering.ports import Subscription, SubscriptionItem

ACME = TenantId("acme")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def a_subscription(
    anchor: str,
    start: str,
    end: str,
    *,
    identity: str = "sub_1",
    interval: Interval = Interval.MONTH,
    started: str = "",
    ended: str = "",
) -> Subscription:
    period = Span(at(start), at(end))
    item = SubscriptionItem(f"si_{identity}", "price_1", "mtr_1", period, interval)
    return Subscription(
        identity,
        "cus_A",
        at(anchor),
        (item,),
        started_at=at(started or anchor),
        ended_at=at(ended) if ended else None,
    )


ODD = "2026-11-20T13:37:42"
SUB = a_subscription(ODD, ODD, "2026-12-20T13:37:42")
ANN = Customer(ACME, CustomerRef("ann"), "cus_A")


# --- one subscription -----------------------------------------------------------------------------


def test_a_subscription_cuts_the_month_it_starts_in_at_an_odd_second() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)

    assert calendar.period_of(at("2026-11-20T13:37:41")) == Span(at("2026-11-01"), at(ODD))
    assert calendar.period_of(at(ODD)) == SUB.items[0].period
    assert calendar_by(calendar, SUB) == calendar


def test_a_renewal_changes_nothing() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    renewed = a_subscription(ODD, "2026-12-20T13:37:42", "2027-01-20T13:37:42")

    assert calendar_by(calendar, renewed) == calendar


def test_a_subscription_that_is_first_seen_in_a_later_period_reaches_back_to_its_start() -> None:
    later = a_subscription(ODD, "2027-02-20T13:37:42", "2027-03-20T13:37:42")

    assert calendar_by(CALENDAR_MONTHS, later) == calendar_by(CALENDAR_MONTHS, SUB)


def test_the_part_of_a_month_before_the_anchor_is_one_period() -> None:
    stub = a_subscription("2026-12-01", ODD, "2026-12-01", started=ODD)

    calendar = calendar_by(CALENDAR_MONTHS, stub)

    assert calendar.period_of(at(ODD)) == Span(at(ODD), at("2026-12-01"))
    assert calendar.period_of(at("2026-12-31")) == Span(at("2026-12-01"), at("2027-01-01"))
    renewed = a_subscription("2026-12-01", "2026-12-01", "2027-01-01", started=ODD)
    assert calendar_by(calendar, renewed) == calendar
    assert calendar_by(CALENDAR_MONTHS, renewed) == calendar


def test_a_trial_of_45_days_is_one_period() -> None:
    trial = a_subscription("2027-01-04", "2026-11-20", "2027-01-04", started="2026-11-20")

    calendar = calendar_by(CALENDAR_MONTHS, trial)

    assert calendar.period_of(at("2026-12-25")) == Span(at("2026-11-20"), at("2027-01-04"))
    assert calendar.period_of(at("2027-01-04")) == Span(at("2027-01-04"), at("2027-02-04"))


def test_an_anchor_that_was_moved_in_the_middle_ends_the_period_there() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    moved = a_subscription("2026-12-05T08:00:01", "2026-12-05T08:00:01", "2027-01-05T08:00:01")

    after = calendar_by(calendar, moved)

    assert after.period_of(at(ODD)) == Span(at(ODD), at("2026-12-05T08:00:01"))
    assert after.period_of(at("2026-12-20")) == moved.items[0].period
    assert after.eras[:1] == calendar.eras


def test_a_moved_anchor_is_found_even_when_the_subscription_has_renewed_since() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    seen_late = a_subscription("2026-12-05", "2027-01-05", "2027-02-05", started=ODD)

    after = calendar_by(calendar, seen_late)

    assert after.period_of(at("2026-12-10")) == Span(at("2026-12-05"), at("2027-01-05"))


def test_a_plan_of_a_year_follows_one_of_months() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    start = "2026-12-01T09:00:00"
    yearly = a_subscription(start, start, "2027-12-01T09:00:00", interval=Interval.YEAR)

    after = calendar_by(calendar, yearly)

    assert after.period_of(at("2026-11-30")) == Span(at(ODD), at(start))
    assert after.period_of(at("2027-06-01")) == yearly.items[0].period


def test_after_a_cancellation_in_the_middle_calendar_months_follow() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    ended = replace(SUB, ended_at=at("2026-12-02T10:00:00"))

    after = calendar_by(calendar, ended)

    assert after.period_of(at("2026-12-01")) == Span(at(ODD), at("2026-12-02T10:00:00"))
    rest = Span(at("2026-12-02T10:00:00"), at("2027-01-01"))
    assert after.period_of(at("2026-12-02T10:00:00")) == rest
    assert after.period_of(at("2027-01-15")) == Span(at("2027-01-01"), at("2027-02-01"))
    assert calendar_by(after, ended) == after


def test_a_cancellation_at_the_end_of_a_period_begins_months_there() -> None:
    ended = replace(SUB, ended_at=SUB.items[0].period.end)

    after = calendar_by(calendar_by(CALENDAR_MONTHS, SUB), ended)

    assert after.period_of(at(ODD)) == SUB.items[0].period
    assert after.period_of(at("2026-12-25")) == Span(at("2026-12-20T13:37:42"), at("2027-01-01"))


@pytest.mark.parametrize(
    ("anchor", "start", "end"),
    [
        ("2026-01-31T10:00:00", "2027-01-31T10:00:00", "2027-02-28T10:00:00"),
        ("2026-01-31T10:00:00", "2027-02-28T10:00:00", "2027-03-31T10:00:00"),
        ("2026-01-31T10:00:00", "2028-02-29T10:00:00", "2028-03-31T10:00:00"),
    ],
)
def test_periods_of_28_to_31_days_follow_an_anchor_on_the_31st(
    anchor: str, start: str, end: str
) -> None:
    seen = a_subscription(anchor, start, end)

    assert calendar_by(CALENDAR_MONTHS, seen).period_of(at(start)) == Span(at(start), at(end))


def test_a_day_of_the_month_that_the_anchor_lacks_comes_back() -> None:
    seen = replace(a_subscription("2027-02-28", "2027-02-28", "2027-03-31"), anchor_day=31)

    calendar = calendar_by(CALENDAR_MONTHS, seen)

    assert calendar.period_of(at("2027-04-15")) == Span(at("2027-03-31"), at("2027-04-30"))


def test_an_end_that_was_brought_forward_is_not_taken_for_a_rule() -> None:
    ending = a_subscription(ODD, ODD, "2026-12-01", started=ODD)

    with pytest.raises(NoOneCalendarError, match="does not follow from"):
        calendar_by(CALENDAR_MONTHS, ending)
    known = calendar_by(CALENDAR_MONTHS, replace(ending, ends_at=at("2026-12-01")))
    assert known == calendar_by(CALENDAR_MONTHS, SUB)


def test_a_subscription_without_items_says_no_periods() -> None:
    with pytest.raises(NoOneCalendarError, match="sub_1 has no items"):
        calendar_by(CALENDAR_MONTHS, replace(SUB, items=()))


# --- which subscription it is ---------------------------------------------------------------------


def judge(customer: Customer, *going_on: Subscription, own: Subscription | None = None) -> Customer:
    return judged(customer, Found(own, going_on), lambda one: one.id != "sub_seats")


def test_the_only_metered_subscription_becomes_the_customers() -> None:
    seats = replace(SUB, id="sub_seats")

    after = judge(ANN, seats, SUB)

    assert (after.subscription, after.trouble) == ("sub_1", "")
    assert after.calendar.period_of(at(ODD)) == SUB.items[0].period


def test_without_a_subscription_periods_are_calendar_months() -> None:
    assert judge(ANN) == ANN
    assert judge(ANN, replace(SUB, id="sub_seats")) == ANN


def test_of_two_metered_subscriptions_the_configured_one_stays_and_a_person_is_told() -> None:
    other = replace(SUB, id="sub_2")
    configured = replace(ANN, subscription="sub_1")

    after = judge(configured, SUB, other, own=SUB)

    assert after.subscription == "sub_1"
    assert after.calendar.period_of(at(ODD)) == SUB.items[0].period
    assert "sub_1, sub_2 all have metered items" in after.trouble
    assert judge(after, SUB, own=SUB).trouble == ""


def test_of_two_metered_subscriptions_none_is_taken_by_guess() -> None:
    after = judge(ANN, SUB, replace(SUB, id="sub_2"))

    assert after == replace(ANN, trouble=after.trouble)
    assert "sub_1, sub_2 all have metered items" in after.trouble


def test_a_subscription_of_another_customer_changes_nothing() -> None:
    configured = replace(ANN, subscription="sub_1", eras=(Era(at(ODD), at(ODD)),))

    after = judge(configured, own=replace(SUB, customer="cus_B"))

    assert after == replace(configured, trouble=after.trouble)
    assert after.trouble.startswith("sub_1 is of cus_B")


def test_a_subscription_that_stripe_does_not_know_changes_nothing() -> None:
    """As after the customer was deleted in a test account that was cleared."""
    configured = replace(ANN, subscription="sub_1", eras=(Era(at(ODD), at(ODD)),))

    after = judge(configured)

    assert after == replace(configured, trouble=after.trouble)
    assert after.trouble.startswith("Stripe knows no sub_1")


def test_items_that_disagree_are_a_trouble_and_change_nothing() -> None:
    weekly = replace(SUB.items[0], id="si_2", period=Span(at(ODD), at(ODD) + timedelta(days=7)))

    after = judge(ANN, replace(SUB, items=(*SUB.items, weekly)))

    assert after == replace(ANN, trouble=after.trouble)
    assert "bill by different periods" in after.trouble


def test_a_deleted_customers_subscription_has_ended() -> None:
    ended = replace(SUB, ended_at=at("2026-12-02"))
    configured = judge(ANN, SUB)

    after = judge(configured, own=ended)

    assert (after.subscription, after.trouble) == ("", "")
    assert after.eras[-1] == calendar_months(at("2026-12-02"))


def test_a_new_subscription_follows_one_that_has_ended() -> None:
    ended = replace(SUB, ended_at=at("2026-12-02"))
    start = "2026-12-10T06:00:00"
    successor = a_subscription(start, start, "2027-01-10T06:00:00", identity="sub_2")

    after = judge(judge(ANN, SUB), successor, own=ended)

    assert after.subscription == "sub_2"
    assert after.calendar.period_of(at("2026-12-05")) == Span(at("2026-12-02"), at(start))
    assert after.calendar.period_of(at(start)) == successor.items[0].period


# --- to the last era ------------------------------------------------------------------------------


def test_a_subscription_that_was_ended_goes_on_when_stripe_says_that_it_did_not_end() -> None:
    gone = calendar_by(CALENDAR_MONTHS, replace(SUB, ended_at=at("2026-12-01")))
    assert gone.eras[-1] == calendar_months(at("2026-12-01"))

    assert calendar_by(gone, replace(SUB, ended_at=at("2026-12-01"))) == gone
    assert len(gone.eras) == 2
    other_end = calendar_by(gone, replace(SUB, ended_at=at("2026-12-05")))
    assert other_end.eras[-1] == calendar_months(at("2026-12-05"))
    assert calendar_by(CALENDAR_MONTHS, SUB).eras[-1].subscription == "sub_1"


def test_a_second_subscription_of_the_same_rule_is_an_era_of_its_own() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    later = "2027-01-20T13:37:42"
    second = a_subscription(later, later, "2027-02-20T13:37:42", identity="sub_2")

    after = calendar_by(calendar, second)

    assert [era.subscription for era in after.eras] == ["sub_1", "sub_2"]
    assert after.eras[-1].begins_at == at(later)
    third = replace(second, id="sub_3")
    assert [era.subscription for era in calendar_by(after, third).eras] == ["sub_1", "sub_3"]


def test_items_without_a_meter_say_nothing_where_others_have_one() -> None:
    yearly = Span(at(ODD), at("2027-11-20T13:37:42"))
    unmetered = SubscriptionItem("si_seats", "price_2", "", yearly, Interval.YEAR)
    both = replace(SUB, items=(unmetered, *SUB.items))

    assert calendar_by(CALENDAR_MONTHS, both) == calendar_by(CALENDAR_MONTHS, SUB)
    alone = replace(SUB, items=(unmetered,))
    assert calendar_by(CALENDAR_MONTHS, alone).period_of(at(ODD)) == yearly


def test_a_subscription_started_before_its_anchor_reaches_back_where_its_periods_do() -> None:
    anchor, start, end = "2026-11-20", "2026-12-20", "2027-01-20"
    exactly = a_subscription(anchor, start, end, started="2026-10-20")
    within = a_subscription(anchor, start, end, started="2026-11-01")
    before = a_subscription(anchor, start, end, started="2026-10-19")

    begins = [
        calendar_by(CALENDAR_MONTHS, one).eras[0].begins_at for one in (exactly, within, before)
    ]

    assert begins == [at("2026-10-20"), at("2026-11-01"), at("2026-11-20")]


def test_a_subscription_whose_start_nobody_told_begins_with_the_period_it_is_seen_in() -> None:
    later = a_subscription(ODD, "2027-02-20T13:37:42", "2027-03-20T13:37:42")

    era = calendar_by(CALENDAR_MONTHS, replace(later, started_at=None)).eras[0]

    assert (era.begins_at, era.anchor) == (at("2027-02-20T13:37:42"), at(ODD))


def test_a_rule_that_changes_without_its_anchor_begins_with_the_period_that_says_so() -> None:
    calendar = calendar_by(CALENDAR_MONTHS, SUB)
    start, end = "2027-01-20T13:37:42", "2028-01-20T13:37:42"
    yearly = a_subscription(ODD, start, end, interval=Interval.YEAR)
    two_months = replace(
        yearly,
        items=(
            replace(
                yearly.items[0],
                interval=Interval.MONTH,
                interval_count=2,
                period=Span(at(start), at("2027-03-20T13:37:42")),
            ),
        ),
    )

    era = calendar_by(calendar, two_months).eras[-1]

    assert (era.begins_at, era.anchor, era.count) == (at(start), at(ODD), 2)


def test_an_end_that_is_heard_of_twice_after_a_renewal_changes_nothing() -> None:
    renewed = a_subscription(
        ODD, "2026-12-20T13:37:42", "2027-01-20T13:37:42", ended="2027-01-05T00:00:00"
    )

    once = calendar_by(calendar_by(CALENDAR_MONTHS, SUB), renewed)

    assert [era.begins_at for era in once.eras] == [at(ODD), at("2027-01-05")]
    assert calendar_by(once, renewed) == once
    assert calendar_by(calendar_by(once, renewed), renewed) == once


def test_of_two_that_follow_one_that_has_ended_none_is_taken_and_a_person_is_told() -> None:
    ended = replace(SUB, ended_at=at("2026-12-01"))
    two = [replace(SUB, id=name) for name in ("sub_2", "sub_3")]
    customer = replace(ANN, subscription="sub_1")

    after = judged(customer, Found(ended, [ended, *two]), lambda one: True)

    assert after.subscription == ""
    assert after.trouble.startswith("sub_2, sub_3 all have metered items")
    assert after.eras[-1] == calendar_months(at("2026-12-01"))


def test_an_end_behind_several_eras_is_known_again() -> None:
    former = CALENDAR_MONTHS.with_era(Era(at("2026-01-05"), at("2026-01-05"), subscription="sub_0"))
    renewed = a_subscription(
        ODD, "2026-12-20T13:37:42", "2027-01-20T13:37:42", ended="2027-01-05T00:00:00"
    )

    once = calendar_by(calendar_by(former, SUB), renewed)

    assert [era.subscription for era in once.eras] == ["sub_0", "sub_1", ""]
    assert calendar_by(once, renewed) == once
