"""Primary and shadow are compared only where both saw the same and neither moves."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from metering.mapping import Customer
from metering.names import CustomerRef
from metering.parity import differences, shadowed_rows
from metering.period import CALENDAR_MONTHS
from metering.push import Mode, Role, StreamKey, Target
from metering.reconciliation import Cause, Finding, Report, Row, Status
from metering.shadow import as_shadow, in_test_account
from tests.builders import DEMO, NOON, a_counter
from tests.unit.test_mapping_setup import MAPPED

NOVEMBER = CALENDAR_MONTHS.period_of(NOON)
COUNTER = a_counter()


def a_row(pushed: str, *causes: Cause, counted: str = "42") -> Row:
    findings = tuple(Finding(cause, Decimal(1), f"because of {cause}.") for cause in causes)
    return Row(
        counter=COUNTER,
        period=NOVEMBER,
        subscription_item_id="",
        ledger=Decimal(counted),
        counted=Decimal(counted),
        pushed=Decimal(pushed),
        stripe=None,
        stripe_read_at=None,
        findings=findings,
        status=Status.OK,
    )


def test_a_shadow_that_was_told_the_same_is_no_difference() -> None:
    assert list(differences([a_row("42")], [a_row("42.0")])) == []


def test_a_shadow_that_was_told_another_number_is_one_with_both_reasons() -> None:
    (one,) = differences([a_row("42", Cause.CARRIED_IN)], [a_row("40", Cause.REFUSED)])

    assert (one.cause, str(one.amount)) == (Cause.SHADOW_DIFFERS, "2")
    assert one.explanation == (
        "The primary was told 42 and the shadow 40. The primary: because of carried_in."
        " The shadow: because of refused."
    )


@pytest.mark.parametrize("cause", [Cause.IN_FLIGHT, Cause.AWAITING_PUSH, Cause.COUNTER_BEHIND])
def test_what_is_under_way_on_either_side_is_compared_by_a_later_run(cause: Cause) -> None:
    assert list(differences([a_row("42", cause)], [a_row("40")])) == []
    assert list(differences([a_row("42")], [a_row("40", cause)])) == []


def test_usage_that_came_between_the_two_reports_is_no_difference() -> None:
    assert list(differences([a_row("42")], [a_row("43", counted="43")])) == []


def test_a_row_of_the_shadow_alone_is_compared_with_nothing() -> None:
    assert list(differences([], [a_row("42")])) == []


def test_a_metric_whose_shadow_was_turned_off_is_shown_no_more() -> None:
    rows = (a_row("42"), a_row("42", Cause.UNMAPPED))
    report = Report("rec_1", DEMO, "2026-11", NOON, rows, 0, role=Role.SHADOW)

    assert shadowed_rows(report) == [a_row("42")]


def test_the_same_target_has_other_identifiers_for_the_shadow() -> None:
    target = Target("", Mode.TEST, "api_calls", "cus_A")
    ids = {
        StreamKey(one, COUNTER, NOVEMBER).id for one in (target, target._replace(role=Role.SHADOW))
    }

    assert len(ids) == 2


def test_a_mapping_without_a_shadow_does_not_exist_in_the_test_account() -> None:
    assert as_shadow(None) is None
    assert as_shadow(MAPPED) is None


def test_a_mapping_is_seen_as_it_stands_in_the_test_account() -> None:
    since = NOON + timedelta(days=1)
    seen = as_shadow(
        replace(
            MAPPED,
            shadow=True,
            shadow_stripe_account="acct_2",
            shadow_price_id="price_2",
            shadow_meter_id="mtr_2",
            shadow_meter_event_name="calls_2",
            shadow_since=since,
        )
    )

    assert seen is not None
    assert (seen.stripe_account, seen.price_id) == ("acct_2", "price_2")
    assert (seen.meter_id, seen.meter_event_name) == ("mtr_2", "calls_2")
    assert (seen.scale, seen.aggregation, seen.created_at) == (
        MAPPED.scale,
        MAPPED.aggregation,
        since,
    )


def test_a_customer_that_nobody_named_in_the_test_account_is_told_of_there_by_nobody() -> None:
    customer = Customer(DEMO, CustomerRef("ada"), "cus_A")

    assert in_test_account(customer).stripe_customer == ""


def test_a_difference_names_its_counter_and_period_and_no_reason_where_there_is_none() -> None:
    (one,) = differences([a_row("42")], [a_row("40")])

    assert (one.counter, one.period) == (COUNTER, NOVEMBER)
    assert one.explanation == "The primary was told 42 and the shadow 40."
