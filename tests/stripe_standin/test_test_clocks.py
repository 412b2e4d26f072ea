"""Test clocks: customers with a time of their own."""

from datetime import UTC, datetime, timedelta

import pytest
import stripe

from local.stripe.control import StandIn
from tests.stripe_standin.bills import Bills, at, instant, quantities, text_of

START = "2027-03-01 00:00:00"


class Clock:
    """A clock that starts in another spring."""

    def __init__(self, client: stripe.StripeClient) -> None:
        self.client = client
        self.id = client.v1.test_helpers.test_clocks.create(
            {"frozen_time": at(START), "name": "spring"}
        ).id

    def advance(self, to: str) -> stripe.test_helpers.TestClock:
        return self.client.v1.test_helpers.test_clocks.advance(self.id, {"frozen_time": at(to)})

    def now(self) -> stripe.test_helpers.TestClock:
        return self.client.v1.test_helpers.test_clocks.retrieve(self.id)


@pytest.fixture
def clock(client: stripe.StripeClient) -> Clock:
    return Clock(client)


@pytest.fixture
def bills(client: stripe.StripeClient, clock: Clock) -> Bills:
    return Bills(client, clock=clock.id)


# --- standing and advancing -----------------------------------------------------------------------


def test_a_clock_stands_until_it_is_advanced(clock: Clock, stand_in: StandIn) -> None:
    stand_in.advance(timedelta(days=100))
    stood = clock.now()
    advancing = clock.advance("2027-03-20 00:00:00")
    ready = clock.now()

    assert (stood.status, text_of(stood.frozen_time)) == ("ready", START)
    assert (advancing.status, text_of(advancing.frozen_time)) == ("advancing", START)
    assert advancing.status_details.advancing
    assert text_of(advancing.status_details.advancing.target_frozen_time) == "2027-03-20 00:00:00"
    assert (ready.status, text_of(ready.frozen_time)) == ("ready", "2027-03-20 00:00:00")


def test_a_clock_can_take_its_time_to_advance(
    clock: Clock, bills: Bills, stand_in: StandIn
) -> None:
    stand_in.set(clock_advance_s=30)
    made = bills.subscribe()
    clock.advance("2027-04-01 00:00:00")
    stand_in.advance(timedelta(seconds=29))
    during = clock.now().status
    with pytest.raises(stripe.InvalidRequestError, match="is advancing"):
        clock.advance("2027-04-02 00:00:00")
    with pytest.raises(stripe.InvalidRequestError, match="is advancing"):
        bills.client.v1.subscriptions.cancel(made.id)
    stand_in.advance(timedelta(seconds=1))

    assert (during, clock.now().status) == ("advancing", "ready")


def test_a_clock_only_runs_forward(clock: Clock) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="only runs forward"):
        clock.advance(START)


@pytest.mark.parametrize(
    ("interval", "farthest"),
    [
        (None, "2029-03-01 00:00:00"),
        ("day", "2027-03-03 00:00:00"),
        ("month", "2027-05-01 00:00:00"),
        ("year", "2029-03-01 00:00:00"),
    ],
)
def test_a_clock_advances_two_intervals_at_most(
    clock: Clock, bills: Bills, interval: str | None, farthest: str
) -> None:
    if interval:
        bills.subscribe(bills.price(interval=interval))
    with pytest.raises(stripe.InvalidRequestError, match="at most"):
        clock.advance(text_of(at(farthest) + 1) or "")
    clock.advance(farthest)

    assert text_of(clock.now().frozen_time) == farthest


# --- what lives on a clock ------------------------------------------------------------------------


def test_customers_and_their_subscriptions_live_at_the_clocks_time(
    clock: Clock, bills: Bills
) -> None:
    made = bills.subscribe()
    customer = bills.client.v1.customers.retrieve(bills.customer)

    assert (customer.test_clock, text_of(customer.created)) == (clock.id, START)
    assert (made.test_clock, text_of(made.created)) == (clock.id, START)
    item = made["items"].data[0]
    assert text_of(item.current_period_end) == "2027-04-01 00:00:00"
    assert bills.invoices()[0].test_clock == clock.id


def test_the_stand_ins_own_time_moves_nothing_on_a_clock(bills: Bills, stand_in: StandIn) -> None:
    made = bills.subscribe()
    stand_in.advance(timedelta(days=400))
    same = bills.client.v1.subscriptions.retrieve(made.id)

    assert text_of(same["items"].data[0].current_period_end) == "2027-04-01 00:00:00"
    assert len(bills.invoices()) == 1


def test_advancing_a_clock_moves_nothing_beside_it(
    clock: Clock, client: stripe.StripeClient
) -> None:
    beside = Bills(client)
    beside.subscribe()
    clock.advance("2029-03-01 00:00:00")
    clock.now()

    assert len(beside.invoices()) == 1


def test_periods_turn_and_invoices_become_final_in_the_order_of_time(
    clock: Clock, bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    bills.use("7", "2027-03-01 00:00:00")
    stand_in.settle()
    clock.advance("2027-05-01 00:00:00")
    final, draft = bills.invoices("subscription_cycle")

    assert (quantities(final), final.status) == (["7"], "paid")
    assert text_of(final.status_transitions.finalized_at) == "2027-04-01 01:00:00"
    assert (draft.status, text_of(draft.created)) == ("draft", "2027-05-01 00:00:00")
    assert text_of(draft.automatically_finalizes_at) == "2027-05-01 01:00:00"
    told = [
        (one.type, text_of(one.created))
        for one in reversed(bills.client.v1.events.list({"limit": 7}).data)
    ]
    assert told == [
        ("invoice.created", "2027-04-01 00:00:00"),
        ("customer.subscription.updated", "2027-04-01 00:00:00"),
        ("invoice.finalized", "2027-04-01 01:00:00"),
        ("invoice.paid", "2027-04-01 01:00:00"),
        ("invoice.created", "2027-05-01 00:00:00"),
        ("customer.subscription.updated", "2027-05-01 00:00:00"),
        ("test_helpers.test_clock.ready", "2026-11-20 12:00:00"),
    ]


def test_usage_counts_as_far_as_it_was_aggregated_when_the_clock_arrived(
    clock: Clock, bills: Bills
) -> None:
    bills.subscribe()
    bills.use("7", "2027-03-01 00:00:00")
    clock.advance("2027-04-02 00:00:00")

    assert quantities(bills.cycle()) == ["0"]


def test_a_clock_in_the_grace_takes_late_usage(
    clock: Clock, bills: Bills, stand_in: StandIn
) -> None:
    bills.subscribe()
    clock.advance("2027-04-01 00:30:00")
    bills.use("5", "2027-03-31 23:59:59")
    stand_in.settle()
    late = quantities(bills.cycle())
    clock.advance("2027-04-01 01:00:00")

    assert late == ["5"]
    assert (bills.cycle().status, quantities(bills.cycle())) == ("paid", ["5"])


# --- timestamps of meter events -------------------------------------------------------------------


def test_a_meter_events_age_is_measured_on_its_customers_clock(bills: Bills) -> None:
    bills.use("1", "2027-03-01 00:05:00")
    bills.use("1", "2027-01-25 00:00:00")
    with pytest.raises(stripe.InvalidRequestError) as ahead:
        bills.use("1", "2027-03-01 00:05:01")
    with pytest.raises(stripe.InvalidRequestError) as old:
        bills.use("1", "2026-11-20 12:00:00")

    assert ahead.value.code == "timestamp_in_future"
    assert old.value.code == "timestamp_too_far_in_past"


def test_a_setting_measures_it_on_the_stand_ins_own_clock(bills: Bills, stand_in: StandIn) -> None:
    stand_in.set(clock_windows=False)
    bills.use("1", "2026-11-20 12:00:00")

    with pytest.raises(stripe.InvalidRequestError):
        bills.use("1", "2027-03-01 00:00:00")


# --- lists, limits and the end --------------------------------------------------------------------


def test_lists_leave_out_what_lives_on_a_clock_unless_asked(
    clock: Clock, bills: Bills, client: stripe.StripeClient
) -> None:
    made = bills.subscribe()
    customers, subscriptions = client.v1.customers, client.v1.subscriptions

    assert customers.list().data == []
    assert [one.id for one in customers.list({"test_clock": clock.id}).data] == [bills.customer]
    assert subscriptions.list().data == []
    assert [one.id for one in subscriptions.list({"test_clock": clock.id}).data] == [made.id]
    assert [one.id for one in subscriptions.list({"customer": bills.customer}).data] == [made.id]
    assert client.v1.invoices.list().data == []
    assert len(client.v1.invoices.list({"customer": bills.customer}).data) == 1


def test_a_clock_takes_three_customers(clock: Clock, client: stripe.StripeClient) -> None:
    for _ in range(3):
        client.v1.customers.create({"test_clock": clock.id})

    with pytest.raises(stripe.InvalidRequestError, match="at most 3 customers"):
        client.v1.customers.create({"test_clock": clock.id})


def test_a_deleted_clock_takes_its_customers_along(
    clock: Clock, bills: Bills, client: stripe.StripeClient
) -> None:
    made = bills.subscribe()
    deleted = client.v1.test_helpers.test_clocks.delete(clock.id)

    assert deleted.deleted
    assert client.v1.customers.retrieve(bills.customer).deleted
    ended = client.v1.subscriptions.retrieve(made.id)
    assert (ended.status, text_of(ended.ended_at)) == ("canceled", START)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        clock.now()
    assert refused.value.http_status == 404
    assert client.v1.test_helpers.test_clocks.list().data == []


def test_clocks_are_listed_newest_first_and_tell_what_they_do(
    clock: Clock, client: stripe.StripeClient
) -> None:
    second = Clock(client)
    second.advance("2027-03-02 00:00:00")
    listed = client.v1.test_helpers.test_clocks.list()
    told = client.v1.events.list(
        {"types": [f"test_helpers.test_clock.{what}" for what in ("advancing", "ready")]}
    )

    assert [one.id for one in listed.data] == [second.id, clock.id]
    assert [one.type for one in told.data] == [
        "test_helpers.test_clock.ready",
        "test_helpers.test_clock.advancing",
    ]


def test_a_preview_on_a_clock_shows_the_usage_so_far(
    clock: Clock, bills: Bills, stand_in: StandIn
) -> None:
    made = bills.subscribe()
    bills.use("7", "2027-03-01 00:00:00")
    stand_in.settle()
    preview = bills.client.v1.invoices.create_preview({"subscription": made.id})

    assert quantities(preview) == ["7"]
    assert text_of(preview.period_end) == "2027-04-01 00:00:00"


def test_a_clock_keeps_its_place_over_the_years(clock: Clock) -> None:
    clock.advance("2029-03-01 00:00:00")
    clock.now()
    clock.advance("2031-03-01 00:00:00")

    assert datetime.fromtimestamp(clock.now().frozen_time, UTC) == instant("2031-03-01 00:00:00")
