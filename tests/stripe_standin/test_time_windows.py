"""Meters with a time window: of each UTC hour or day, only what was received last counts."""

from typing import Any, Literal, cast

import pytest
import stripe
from stripe.billing import Meter

from local.stripe.control import StandIn
from tests.stripe_standin.conftest import NOON, Send

NOW = int(NOON.timestamp())
MINUTE, HOUR, DAY = 60, 3_600, 86_400


def windowed(
    client: stripe.StripeClient,
    window: Literal["hour", "day"],
    formula: Literal["sum", "count", "last"] = "sum",
) -> Meter:
    return client.v1.billing.meters.create(
        {
            "display_name": "Seats",
            "event_name": "seats",
            "default_aggregation": {"formula": formula},
            "event_time_window": window,
        }
    )


class Usage:
    """What summaries show of the test's customer."""

    def __init__(self, client: stripe.StripeClient, customer: str, meter: Meter) -> None:
        self._list = client.v1.billing.meters.event_summaries.list
        self._customer = customer
        self._meter = meter.id

    def values(self, start: int, end: int, **more: Any) -> list[float]:
        params = {"customer": self._customer, "start_time": start, "end_time": end, **more}
        found = self._list(self._meter, cast("Any", params)).data
        return [row.aggregated_value for row in found]


@pytest.mark.parametrize(("window", "bucket"), [("hour", HOUR), ("day", DAY)])
def test_the_last_received_of_a_bucket_wins_whatever_its_timestamp(
    client: stripe.StripeClient,
    send: Send,
    customer: stripe.Customer,
    stand_in: StandIn,
    window: Literal["hour", "day"],
    bucket: int,
) -> None:
    usage = Usage(client, customer.id, windowed(client, window))
    start = NOW // bucket * bucket - bucket
    send("7", event_name="seats", timestamp=start + 50 * MINUTE)
    send("3", event_name="seats", timestamp=start + 10 * MINUTE)
    send("2", event_name="seats", timestamp=start + bucket)
    stand_in.settle()

    assert usage.values(start, start + bucket) == [3]
    assert usage.values(start, start + 2 * bucket) == [5]


def test_a_range_within_a_bucket_shows_only_what_won_the_whole_bucket(
    client: stripe.StripeClient, send: Send, customer: stripe.Customer, stand_in: StandIn
) -> None:
    usage = Usage(client, customer.id, windowed(client, "hour"))
    start = NOW - HOUR
    send("7", event_name="seats", timestamp=start + 10 * MINUTE)
    send("3", event_name="seats", timestamp=start + 50 * MINUTE)
    stand_in.settle()

    assert usage.values(start, start + 30 * MINUTE) == []
    assert usage.values(start + 30 * MINUTE, start + HOUR) == [3]


def test_cancelling_the_winner_brings_back_the_one_before(
    client: stripe.StripeClient, send: Send, customer: stripe.Customer, stand_in: StandIn
) -> None:
    usage = Usage(client, customer.id, windowed(client, "hour"))
    send("7", event_name="seats", timestamp=NOW)
    send("3", event_name="seats", timestamp=NOW + MINUTE, identifier="u1.a.1")
    client.v1.billing.meter_event_adjustments.create(
        {"event_name": "seats", "type": "cancel", "cancel": {"identifier": "u1.a.1"}}
    )
    stand_in.settle()

    assert usage.values(NOW, NOW + HOUR) == [7]


def test_hours_of_a_windowed_meter_are_grouped_by_hour_and_by_day(
    client: stripe.StripeClient, send: Send, customer: stripe.Customer, stand_in: StandIn
) -> None:
    usage = Usage(client, customer.id, windowed(client, "hour"))
    day = NOW // DAY * DAY
    for hour, value in ((0, "1"), (0, "2"), (1, "4"), (25 - 24 * 2, "8")):
        send(value, event_name="seats", timestamp=day + hour * HOUR)
    stand_in.settle()

    assert usage.values(day, day + 2 * HOUR, value_grouping_window="hour") == [4, 2]
    assert usage.values(day - DAY, day + DAY, value_grouping_window="day") == [6, 8]


def test_count_counts_the_buckets_that_have_any(
    client: stripe.StripeClient, send: Send, customer: stripe.Customer, stand_in: StandIn
) -> None:
    usage = Usage(client, customer.id, windowed(client, "hour", "count"))
    for minutes in (0, 1, 2, 60):
        send(event_name="seats", timestamp=NOW - 2 * HOUR + minutes * MINUTE)
    stand_in.settle()

    assert usage.values(NOW - 2 * HOUR, NOW) == [2]


def test_last_is_the_latest_bucket(
    client: stripe.StripeClient, send: Send, customer: stripe.Customer, stand_in: StandIn
) -> None:
    usage = Usage(client, customer.id, windowed(client, "hour", "last"))
    send("9", event_name="seats", timestamp=NOW - HOUR)
    send("4", event_name="seats", timestamp=NOW - HOUR + MINUTE)
    send("5", event_name="seats", timestamp=NOW - 2 * HOUR)
    stand_in.settle()

    assert usage.values(NOW - 2 * HOUR, NOW) == [4]
