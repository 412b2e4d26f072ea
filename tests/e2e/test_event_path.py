"""The way of an event through the running stack: over HTTP into the ledger, to Stripe, and back."""

from collections import Counter
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from local.stack import Stack
from local.stripe.control import StandIn
from metering.adapters.clock import SystemClock
from metering.period import CALENDAR_MONTHS
from metering.times import to_text
from tests.e2e.shop import STATIONS, Shop, instant

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]


def statuses(body: dict[str, list[dict[str, str]]]) -> list[str]:
    return [result["status"] for result in body["results"]]


def test_an_event_counts_once_then_it_is_a_duplicate_and_with_other_content_a_conflict(
    shop: Shop,
) -> None:
    first = shop.event(quantity=5)
    elsewhere = instant(first["ts"]).astimezone().isoformat()
    same = first | {"quantity": Decimal("5.0"), "ts": elsewhere}
    other = first | {"quantity": 6}

    answers = [shop.sends(event) for event in (first, same, other)]
    shop.is_counted()

    assert [statuses(body) for body in answers] == [["accepted"], ["duplicate"], ["conflict"]]
    assert shop.counted() == 5
    assert shop.usage()["api_calls"]["count"] == 1
    assert shop.call("GET", "/v1/events")["total"] == 1
    trace = shop.trace(first)
    assert (trace["outcome"], trace["event"]["quantity"]) == ("counted", 5)
    [refused] = trace["setAside"]
    assert refused["kind"] == "conflict"
    assert '"quantity":6' in refused["payload"].replace(" ", "")


def test_the_same_key_twice_in_one_request_counts_once(shop: Shop) -> None:
    event = shop.event(quantity=7)

    body = shop.sends(event, event, event | {"quantity": 8})
    shop.is_counted()

    assert statuses(body) == ["accepted", "duplicate", "conflict"]
    assert shop.counted() == 7


def test_an_event_is_traced_from_its_receipt_to_the_push_that_told_stripe(
    shop: Shop, stack: Stack, stand_in: StandIn
) -> None:
    shop.maps("api_calls")
    event = shop.event(quantity=3)

    stack.chaos("aggregator", "pause")
    shop.sends(event)
    accepted = shop.trace(event)
    stack.chaos("aggregator", "resume")
    shop.is_counted()
    counted = shop.trace(event)
    shop.is_told()
    told = shop.trace(event)

    assert (accepted["outcome"], accepted["counter"]["count"]) == ("accepted", 0)
    assert (counted["outcome"], counted["counter"]["sum"]) == ("counted", 3)
    assert (accepted["streams"], counted["streams"]) == ([], [])
    [stream] = told["streams"]
    assert stream["stripeCustomer"] == shop.customer
    assert stream["meterEventName"] == shop.event_name("api_calls")
    assert stream["accepted"] == 3
    [push] = stream["pushes"]
    assert (push["state"], push["delta"], push["attempts"]) == ("accepted", 3, 1)
    assert identifiers_at_stripe(stand_in, shop) == [push["identifier"]]
    assert shop.at_stripe("api_calls") == 3


def identifiers_at_stripe(stand_in: StandIn, shop: Shop) -> list[str]:
    accounts = stand_in.state()["accounts"].values()
    return [
        event["identifier"]
        for account in accounts
        for event in account["meter_events"]
        if event["event_name"] == shop.event_name("api_calls")
    ]


def test_stripes_total_follows_ours_by_deltas(shop: Shop) -> None:
    shop.maps("api_calls")
    totals = []
    for quantity in (10, 1, 400):
        shop.sends(shop.event(quantity=quantity))
        shop.is_counted()
        shop.is_told()
        totals.append((int(shop.counted()), int(shop.at_stripe("api_calls"))))

    assert totals == [(10, 10), (11, 11), (411, 411)]
    assert shop.is_told()["sent"] == 0, "nothing new, nothing told"


def test_every_digit_survives_and_stripe_is_told_the_whole_units(shop: Shop) -> None:
    shop.maps("egress_bytes")
    large = Decimal("12345678901234.123457")

    shop.sends(shop.event(metric="egress_bytes", quantity=large))
    shop.is_counted()
    shop.is_told()

    [event] = shop.call("GET", "/v1/events")["events"]
    assert event["quantity"] == large
    assert shop.counted("egress_bytes") == large
    assert shop.at_stripe("egress_bytes") == 12345678901234
    line = shop.is_compared()["egress_bytes", shop.customer]
    assert [line[name] for name in STATIONS] == [large, large, 12345678901234, 12345678901234]
    assert [(one["cause"], one["amount"]) for one in line["findings"]] == [
        ("remainder", Decimal("0.123457"))
    ]
    assert line["status"] == "ok"


def test_a_scale_tells_stripe_the_decimals_too(shop: Shop) -> None:
    shop.maps("gigabytes", scale=3)

    shop.sends(
        shop.event(metric="gigabytes", quantity=Decimal("1.2345")),
        shop.event(metric="gigabytes", quantity=Decimal("0.0005")),
    )
    shop.is_counted()
    shop.is_told()

    assert shop.counted("gigabytes") == Decimal("1.235")
    assert shop.at_stripe("gigabytes") == 1235


def test_a_mapping_by_its_price_alone_finds_its_meter(shop: Shop) -> None:
    mapping = shop.maps("api_calls")

    assert mapping["meterId"] == shop.meter_id("api_calls")
    assert mapping["meterEventName"] == shop.event_name("api_calls")
    assert shop.call("GET", "/v1/mappings") == [mapping]


def test_an_unmapped_metric_is_counted_shown_as_unmapped_and_told_nobody(
    shop: Shop, stand_in: StandIn
) -> None:
    shop.maps("api_calls")
    event = shop.event(metric="seats", quantity=4)
    shop.sends(event, shop.event(quantity=2))
    shop.is_counted()
    shop.is_told()

    usage = shop.usage()
    assert (usage["seats"]["current"], usage["seats"]["mapped"]) == (4, False)
    assert (usage["api_calls"]["current"], usage["api_calls"]["mapped"]) == (2, True)
    assert shop.trace(event)["streams"] == []
    told = {total.event_name: total.total for total in stand_in.totals().values()}
    assert told[shop.event_name("api_calls")] == 2
    assert not [name for name in told if name.endswith("seats")]
    line = shop.is_compared()["seats", shop.customer]
    assert [one["cause"] for one in line["findings"]] == ["unmapped"]


def test_a_customer_of_our_own_naming_is_told_once_stripe_customer_is_named(shop: Shop) -> None:
    shop.maps("api_calls")
    shop.known_at_stripe(f"{shop.customer}_at_stripe")
    shop.sends(shop.event(customerRef="acme/42", quantity=9))
    shop.is_counted()
    shop.is_told()
    [finding] = shop.is_compared()["api_calls", "acme/42"]["findings"]
    assert finding["cause"] == "no_stripe_customer"

    put = {"customerRef": "acme/42", "stripeCustomer": f"{shop.customer}_at_stripe"}
    assert shop.call("PUT", "/v1/customers", put)["stripeCustomer"] == put["stripeCustomer"]
    shop.settings_are_known()
    shop.is_told()

    assert shop.at_stripe("api_calls", put["stripeCustomer"]) == 9
    assert shop.counted(customer="acme/42") == 9


def test_usage_is_shown_by_day_and_by_month(shop: Shop) -> None:
    now = SystemClock().now()
    times = [now - timedelta(hours=25), now - timedelta(seconds=2), now - timedelta(hours=26)]
    shop.sends(*(shop.event(ts=to_text(at), quantity=10) for at in times))
    shop.is_counted()

    span = {"periodStart": to_text(now - timedelta(days=3)), "periodEnd": to_text(now)}
    query = {"customerRef": shop.customer, "metric": "api_calls", **span}
    for step, start_of in (("day", day_of), ("month", month_of)):
        expected = Counter(start_of(at) for at in times)
        history = shop.call("GET", "/v1/usage/history", step=step, **query)
        shown = {instant(line["ts"]): line["value"] for line in history["usage"]}
        assert shown == {at: 10 * count for at, count in expected.items()}
    assert shop.counted() == 10 * sum(month_of(at) == month_of(now) for at in times)


def day_of(at: datetime) -> datetime:
    return at.replace(hour=0, minute=0, second=0, microsecond=0)


def month_of(at: datetime) -> datetime:
    return CALENDAR_MONTHS.period_of(at).start


def test_the_events_of_a_customer_are_listed_newest_first(shop: Shop) -> None:
    now = SystemClock().now()
    sent = [shop.event(ts=to_text(now - timedelta(minutes=m)), quantity=m) for m in (3, 1, 2)]
    shop.sends(*sent, shop.event(customerRef="cus_somebody_else"))
    shop.is_counted()  # a counter is listed from its first event on

    page = shop.call("GET", "/v1/events", customerRef=shop.customer, limit=2)

    assert page["total"] == 3
    assert [event["quantity"] for event in page["events"]] == [1, 2]


def test_two_tenants_with_the_same_names_share_nothing(shop: Shop, stack: Stack) -> None:
    with Shop(stack, "neighbour") as neighbour:
        event = shop.event(quantity=1)
        shop.sends(event)
        body = neighbour.sends(event | {"tenantId": neighbour.tenant, "quantity": 100})
        shop.is_counted()

        assert statuses(body) == ["accepted"]
        assert shop.counted() == 1
        assert neighbour.counted(customer=shop.customer) == 100


def test_ledger_counters_pushes_and_stripe_agree_for_many_customers(shop: Shop) -> None:
    shop.maps("api_calls")
    customers = [f"{shop.customer}_{number}" for number in range(40)]
    shop.known_at_stripe(*customers)
    events = [
        shop.event(customerRef=customer, quantity=number % 7 + 1)
        for number, customer in enumerate(customers * 5)
    ]
    shop.sends(*events)
    shop.sends(*events[::-1])
    shop.is_counted()
    shop.is_told()

    wanted: Counter[str] = Counter()
    for event in events:
        wanted[event["customerRef"]] += event["quantity"]
    lines = shop.is_compared()
    assert {
        customer: {lines["api_calls", customer][name] for name in STATIONS} for customer in wanted
    } == {customer: {Decimal(total)} for customer, total in wanted.items()}
    assert {line["status"] for line in lines.values()} == {"ok"}
