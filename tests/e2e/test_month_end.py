"""Billing periods from their last event to their final invoice, on a stack whose time moves.

The periods are days, so that a test moves time by one.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from local.stack import Stack, running_stack
from local.stripe.control import StandIn
from local.stripe.faults import FaultKind, WebhookFaultKind
from metering.period import Span
from metering.times import to_text
from tests.e2e.shop import Shop, instant
from tests.local.helpers import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own-stacks")]

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
"""How long a draft takes usage."""


@contextmanager
def quiet_stack(data: Path | None = None) -> Iterator[Stack]:
    """Functions run only when a test says so; Stripe sums up at once."""
    with running_stack(free_ports=True, summary_delay_s=0, data=data) as stack:
        for function in ("writer", "reconciler", "period_closer"):
            stack.chaos(function, "pause")
        yield stack


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with quiet_stack() as stack:
        yield stack


def first_day(shop: Shop) -> Span:
    """The first period of a customer who pays by the day; 7 are used in it and told."""
    shop.maps("api_calls", interval="day")
    period = shop.subscribes("api_calls")
    shop.moves_to(period.start + 3 * MINUTE)
    shop.sends(*shop.events(7))
    shop.is_counted()
    shop.is_told()
    return period


def used_just_before(shop: Shop, period: Span, count: int, **fields: Any) -> None:
    """Usage of a period that is sent after its end."""
    shop.sends(*shop.events(count, ts=to_text(period.end - MINUTE), **fields))
    shop.is_counted()


def everything_is_noticed(stand_in: StandIn) -> None:
    wait_for(lambda: not stand_in.deliveries()["pending"])
    assert {one["status"] for one in stand_in.deliveries()["attempts"]} == {200}


def lines_by_start(shop: Shop, period: Span) -> dict[datetime, Any]:
    """Compared now: what there is of a period and the next one."""
    months = sorted({f"{start:%Y-%m}" for start in period})
    return {instant(line["periodStart"]): line for month in months for line in shop.compared(month)}


def test_the_last_usage_of_a_period_is_on_its_invoice_and_the_next_period_goes_on(
    shop: Shop, stand_in: StandIn
) -> None:
    period = first_day(shop)
    shop.moves_to(period.end + MINUTE)
    used_just_before(shop, period, 4)
    shop.sends(*shop.events(2))
    shop.is_counted()
    everything_is_noticed(stand_in)

    drafted = shop.closes()[period.start]
    shop.moves_to(period.end + HOUR + MINUTE)
    everything_is_noticed(stand_in)
    closed = shop.closes()[period.start]

    assert (drafted["state"], drafted["message"].split(";")[0]) == ("closing", "all numbers agree")
    assert (closed["state"], closed["message"]) == ("closed", f"closed by {closed['invoice']}")
    assert instant(closed["closedAt"]) == period.end + HOUR
    assert shop.billed(period) == {"api_calls": 11}
    assert shop.periods()[period.end]["state"] == "open"
    line = lines_by_start(shop, period)[period.start]
    assert (line["localTotal"], line["invoicedTotal"], line["status"]) == (11, 11, "ok")


def test_where_every_webhook_is_lost_looking_alone_closes_the_period(
    shop: Shop, stand_in: StandIn
) -> None:
    stand_in.plan_webhook(WebhookFaultKind.LOSE, times=None)
    period = first_day(shop)
    shop.moves_to(period.end + MINUTE)
    used_just_before(shop, period, 4)
    shop.closes()
    shop.moves_to(period.end + HOUR + MINUTE)

    closed = shop.closes()[period.start]

    stand_in.clear_webhook_faults()
    assert closed["message"] == f"closed by {closed['invoice']}"
    assert shop.billed(period) == {"api_calls": 11}


def test_usage_after_the_close_is_billed_in_the_next_period_and_seen_everywhere(
    shop: Shop,
) -> None:
    first = first_day(shop)
    shop.moves_to(first.end + MINUTE)
    shop.closes()
    shop.moves_to(first.end + HOUR + MINUTE)
    shop.closes()
    used_just_before(shop, first, 5)
    shop.sends(*shop.events(2))
    shop.is_counted()

    shop.is_told()
    shop.moves_to(first.end + timedelta(days=1) + MINUTE)
    shop.closes()
    shop.moves_to(first.end + timedelta(days=1) + HOUR + MINUTE)
    second = Span(first.end, first.end + timedelta(days=1))
    closed = shop.closes()[second.start]

    assert closed["message"] == f"closed by {closed['invoice']}"
    assert shop.billed(first) == {"api_calls": 7}
    assert shop.billed(second) == {"api_calls": 7}, "2 of its own and 5 of the day before"
    lines = lines_by_start(shop, first)
    late, receiving = lines[first.start], lines[second.start]
    assert (late["localTotal"], late["invoicedTotal"], late["status"]) == (12, 7, "resolved")
    assert [(one["cause"], one["amount"]) for one in late["findings"]] == [("late_after_close", 5)]
    assert (receiving["localTotal"], receiving["invoicedTotal"], receiving["status"]) == (
        2,
        7,
        "ok",
    )


def test_a_stack_killed_in_the_middle_of_closing_closes_when_it_is_up_again(
    tmp_path: Path,
) -> None:
    with quiet_stack(tmp_path / "data") as stack, Shop(stack, "killed") as shop:
        period = first_day(shop)
        shop.moves_to(period.end + MINUTE)
        used_just_before(shop, period, 4)
        runner_dies_while_the_last_usage_is_told(shop)
        before = shop.now()

    with quiet_stack(tmp_path / "data") as stack, shop.moved_to(stack):
        assert shop.now() >= before, "time goes on where it was"
        shop.moves_to(period.end + timedelta(minutes=10))
        drafted = shop.closes()[period.start]
        shop.moves_to(period.end + HOUR + MINUTE)
        closed = shop.closes()[period.start]

        assert drafted["message"].startswith("all numbers agree")
        assert closed["message"] == f"closed by {closed['invoice']}"
        assert shop.billed(period) == {"api_calls": 11}


def runner_dies_while_the_last_usage_is_told(shop: Shop) -> None:
    """Between what Stripe took and what we know of it."""
    with StandIn(shop.stack.stripe_url) as stand_in, ThreadPoolExecutor(1) as elsewhere:
        stand_in.plan(FaultKind.DELAY, path="/v1/billing/meter_events", delay_s=3.0)
        closer = elsewhere.submit(shop.stack.run, "period_closer")
        told = shop.event_name("api_calls"), shop.customer
        wait_for(lambda: stand_in.total(*told) == 11)
        shop.stack.processes()["runner"].kill()
        with pytest.raises(OSError, match=r"Remote end closed|reset"):
            closer.result()
