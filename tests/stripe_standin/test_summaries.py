"""Event summaries: what shows when, in which range, by which formula."""

from datetime import timedelta
from typing import Any, cast

import pytest
import stripe
from stripe.billing import Meter

from local.stripe.control import StandIn
from tests.stripe_standin.conftest import NOON, Send

NOW = int(NOON.timestamp())
HOUR, DAY = 3_600, 86_400


class Summaries:
    """The summaries of the test's customer; without bounds, of the hour before now."""

    def __init__(self, client: stripe.StripeClient, customer: str) -> None:
        self._client = client
        self._customer = customer

    def page(self, meter: Meter, **params: Any) -> stripe.ListObject[Any]:
        bounds = {"start_time": NOW - HOUR, "end_time": NOW + HOUR, "customer": self._customer}
        return self._client.v1.billing.meters.event_summaries.list(
            meter.id, cast("Any", bounds | params)
        )

    def values(self, meter: Meter, **params: Any) -> list[float]:
        return [row.aggregated_value for row in self.page(meter, **params).data]


@pytest.fixture
def summaries(client: stripe.StripeClient, customer: stripe.Customer) -> Summaries:
    return Summaries(client, customer.id)


def test_an_event_shows_only_after_the_delay(
    send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    send("5")

    stand_in.advance(timedelta(seconds=59))
    before = summaries.values(meter)
    stand_in.advance(timedelta(seconds=1))

    assert before == []
    assert summaries.values(meter) == [5]


def test_settling_shows_everything_at_once(
    send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    send("5")
    send("2", identifier="u1.a.1")
    stand_in.settle()

    assert summaries.values(meter) == [7]


def test_a_cancellation_shows_after_the_delay_too(
    client: stripe.StripeClient,
    send: Send,
    summaries: Summaries,
    meter: Meter,
    stand_in: StandIn,
) -> None:
    send("5", identifier="u1.a.1")
    stand_in.settle()
    client.v1.billing.meter_event_adjustments.create(
        {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}}
    )

    before = summaries.values(meter)
    stand_in.advance(timedelta(seconds=60))

    assert before == [5]
    assert summaries.values(meter) == []


def test_the_range_includes_its_start_and_not_its_end(
    send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    for value, timestamp in (("1", NOW - 61), ("2", NOW - 60), ("4", NOW - 1), ("8", NOW)):
        send(value, timestamp=timestamp)
    stand_in.settle()

    [row] = summaries.page(meter, start_time=NOW - 60, end_time=NOW).data

    assert row.aggregated_value == 6
    assert (row.start_time, row.end_time) == (NOW - 60, NOW)
    assert row.meter == meter.id


def test_an_empty_range_has_no_row_or_a_row_of_zero(
    summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    without = summaries.values(meter)
    stand_in.set(zero_rows=True)

    assert without == []
    assert summaries.values(meter) == [0]
    assert summaries.values(meter, value_grouping_window="hour") == [0, 0]


def test_hours_are_grouped_newest_first(
    send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    for value, timestamp in (("1", NOW - HOUR), ("2", NOW - 1), ("4", NOW)):
        send(value, timestamp=timestamp)
    stand_in.settle()

    rows = summaries.page(meter, value_grouping_window="hour").data

    assert [(row.start_time, row.end_time, row.aggregated_value) for row in rows] == [
        (NOW, NOW + HOUR, 4),
        (NOW - HOUR, NOW, 3),
    ]


def test_days_are_grouped_in_utc_and_paged(
    send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    midnight = NOW - NOW % DAY
    for days_ago in range(3):
        send(str(10**days_ago), timestamp=midnight - days_ago * DAY)
    stand_in.settle()
    days = {
        "start_time": midnight - 30 * DAY,
        "end_time": midnight + DAY,
        "value_grouping_window": "day",
    }

    first = summaries.page(meter, limit=2, **days)
    second = summaries.page(meter, limit=2, starting_after=first.data[-1].id, **days)

    assert [row.aggregated_value for row in first.data] == [1, 10]
    assert first.has_more
    assert [row.aggregated_value for row in second.data] == [100]
    assert not second.has_more


@pytest.mark.parametrize(
    ("params", "wrong"),
    [
        ({"start_time": NOW - 59}, "start_time"),
        ({"end_time": NOW + 1}, "end_time"),
        ({"start_time": NOW - 60, "value_grouping_window": "hour"}, "start_time"),
        ({"start_time": NOW - NOW % DAY, "value_grouping_window": "day"}, "end_time"),
        ({"start_time": NOW, "end_time": NOW}, "start_time"),
    ],
)
def test_bounds_must_align(
    summaries: Summaries, meter: Meter, params: dict[str, Any], wrong: str
) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        summaries.page(meter, **params)

    assert refused.value.param == wrong


def test_the_last_value_is_the_one_with_the_latest_timestamp(
    client: stripe.StripeClient, send: Send, summaries: Summaries, stand_in: StandIn
) -> None:
    seats = client.v1.billing.meters.create(
        {
            "display_name": "Seats",
            "event_name": "seats",
            "default_aggregation": {"formula": "last"},
        }
    )
    for value, timestamp in (("3", NOW - 60), ("9", NOW), ("5", NOW - 120)):
        send(value, event_name="seats", timestamp=timestamp)
    stand_in.settle()

    assert summaries.values(seats) == [9]


def test_a_windowed_meter_keeps_only_what_was_received_last_in_each_hour(
    client: stripe.StripeClient, send: Send, summaries: Summaries, stand_in: StandIn
) -> None:
    peak = client.v1.billing.meters.create(
        {
            "display_name": "Peak",
            "event_name": "peak",
            "default_aggregation": {"formula": "sum"},
            "event_time_window": "hour",
        }
    )
    for value, timestamp in (("5", NOW), ("3", NOW - 60), ("4", NOW - 120)):
        send(value, event_name="peak", timestamp=timestamp)
    stand_in.settle()

    assert summaries.values(peak) == [9]


def test_a_foreign_writer_shows_in_the_summary(
    send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn, customer: stripe.Customer
) -> None:
    send("5")
    identifier = stand_in.send_foreign_event("api_calls", customer.id, "100", timestamp=NOW - 60)
    stand_in.settle()

    assert identifier.startswith("foreign_")
    assert summaries.values(meter) == [105]


def test_customers_are_kept_apart(
    client: stripe.StripeClient, send: Send, summaries: Summaries, meter: Meter, stand_in: StandIn
) -> None:
    other = client.v1.customers.create({"name": "Bob"})
    send("5")
    send("7", customer=other.id)
    stand_in.settle()

    assert summaries.values(meter) == [5]
    assert summaries.values(meter, customer=other.id) == [7]
