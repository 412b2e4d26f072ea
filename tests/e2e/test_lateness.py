"""Late events under each policy, from the answer at ingest to what Stripe is told."""

from datetime import timedelta
from decimal import Decimal

import pytest

from metering.adapters.clock import SystemClock
from metering.times import to_text
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

SOON = Decimal("0.01")
"""Hours after which an event of these tests is late: 36 seconds."""


def a_minute_ago() -> str:
    return to_text(SystemClock().now() - timedelta(minutes=1))


def test_a_late_event_is_held_visibly_and_told_nobody(shop: Shop) -> None:
    shop.maps("api_calls")
    shop.sets("api_calls", latePolicy="adjust", latenessHours=SOON)
    late, timely = shop.event(quantity=50, ts=a_minute_ago()), shop.event(quantity=3)

    body = shop.sends(late, timely)
    shop.is_counted()
    shop.is_told()

    assert [result.get("late", False) for result in body["results"]] == [True, False]
    assert body["accepted"] == 2
    usage = shop.usage()["api_calls"]
    assert (usage["current"], usage["count"]) == (3, 1)
    assert usage["lateHeld"] == {"count": 1, "value": 50}
    trace = shop.trace(late)
    assert (trace["outcome"], trace["event"]["late"]) == ("held_as_late", True)
    assert trace["counter"]["lateCount"] == 1
    assert shop.at_stripe("api_calls") == 3
    line = shop.is_compared()["api_calls", shop.customer]
    assert line["status"] == "ok"
    assert [(one["cause"], one["amount"]) for one in line["findings"]] == [("late_held", 50)]
    assert shop.sends(late)["duplicates"] == 1


def test_by_default_an_event_is_held_after_two_days(shop: Shop) -> None:
    now = SystemClock().now()
    old = shop.event(quantity=9, ts=to_text(now - timedelta(hours=48, minutes=1)))
    young = shop.event(quantity=2, ts=to_text(now - timedelta(hours=47, minutes=59)))

    shop.sends(old, young)
    shop.is_counted()

    assert shop.trace(old)["outcome"] == "held_as_late"
    assert shop.trace(young)["outcome"] == "counted"


def test_where_late_events_count_they_count(shop: Shop) -> None:
    shop.maps("api_calls")
    shop.sets("api_calls", latePolicy="count", latenessHours=SOON)
    late = shop.event(quantity=50, ts=a_minute_ago())

    shop.sends(late, shop.event(quantity=3))
    shop.is_counted()
    shop.is_told()

    assert shop.counted() == 53
    assert shop.usage()["api_calls"]["lateHeld"]["count"] == 0
    assert shop.trace(late)["outcome"] == "counted"
    assert shop.at_stripe("api_calls") == 53


def test_where_late_events_are_rejected_they_leave_no_trace_in_any_number(shop: Shop) -> None:
    shop.sets("api_calls", latePolicy="reject", latenessHours=SOON)
    late = shop.event(quantity=50, ts=a_minute_ago())

    body = shop.sends(late, shop.event(quantity=3))
    shop.queues(late)
    shop.is_counted()

    assert body["accepted"] == 1
    assert [result["status"] for result in body["results"]] == ["error", "accepted"]
    [error] = body["errors"]
    assert error["index"] == 0
    assert "late" in error["error"]
    usage = shop.usage()["api_calls"]
    assert (usage["current"], usage["count"], usage["lateHeld"]["count"]) == (3, 1, 0)
    assert shop.trace(late)["outcome"] == "refused"


def test_an_event_more_than_an_hour_ahead_is_refused(shop: Shop) -> None:
    ahead = to_text(SystemClock().now() + timedelta(hours=1, minutes=1))

    body = shop.sends(shop.event(ts=ahead), shop.event())

    assert [result["status"] for result in body["results"]] == ["error", "accepted"]
