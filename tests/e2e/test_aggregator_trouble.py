"""The aggregator killed, delivered to twice, rewound and cut anew: every counter stays exact."""

from collections import Counter
from typing import Any

import pytest

from local.stack import Stack
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

CUSTOMERS = 12


def busy(shop: Shop, count: int) -> list[dict[str, Any]]:
    """Events of some customers, of more quantities than one."""
    return [
        shop.event(customerRef=f"{shop.customer}_{n % CUSTOMERS}", quantity=n % 5 + 1)
        for n in range(count)
    ]


def assert_exact(shop: Shop, sent: list[dict[str, Any]]) -> None:
    numbers, totals = Counter[str](), Counter[str]()
    for event in sent:
        numbers[event["customerRef"]] += 1
        totals[event["customerRef"]] += event["quantity"]
    shown = {customer: shop.usage(customer)["api_calls"] for customer in totals}
    assert {customer: usage["current"] for customer, usage in shown.items()} == totals
    assert {customer: usage["count"] for customer, usage in shown.items()} == numbers


def tally(stack: Stack) -> Counter[str]:
    """What the aggregator's shards have come to together."""
    sums: Counter[str] = Counter()
    for shard in stack.status()["streams"]["aggregator"]["shards"].values():
        sums.update({name: shard[name] for name in ("invocations", "records", "failures")})
    return sums


@pytest.mark.parametrize("answered", [False, True])
def test_an_aggregator_killed_at_several_points_counts_every_event_once(
    shop: Shop, stack: Stack, *, answered: bool
) -> None:
    before = tally(stack)
    for call in (1, 2, 3, 4):
        stack.chaos("aggregator", "kill", call=call, answered=answered, times=2)
    sent = []
    for _ in range(3):
        sent += shop_sends(shop, busy(shop, 60))
    shop.is_counted()

    done = tally(stack) - before
    assert done["failures"] >= 6
    assert done["records"] == len(sent)
    assert_exact(shop, sent)


def test_batches_delivered_twice_at_once_count_once(shop: Shop, stack: Stack) -> None:
    stack.chaos("aggregator", "twice", batches=20)
    sent = []
    for _ in range(4):
        sent += shop_sends(shop, busy(shop, 50))
    shop.is_counted()
    stack.chaos("aggregator", "twice", batches=0)

    assert_exact(shop, sent)


def test_batches_that_come_again_cut_otherwise_count_once(shop: Shop, stack: Stack) -> None:
    sent = shop_sends(shop, busy(shop, 150))
    shop.is_counted()
    before = tally(stack)
    stack.chaos("aggregator", "recut", batches=12, seed=7)
    stack.chaos("aggregator", "rewind", records=100)
    sent += shop_sends(shop, busy(shop, 30))
    shop.is_counted()
    stack.chaos("aggregator", "recut", batches=0)

    again = tally(stack)["records"] - before["records"] - 30
    assert again >= 100, "a hundred records of each shard came again"
    assert_exact(shop, sent)


def test_all_of_it_at_once_while_events_keep_coming(shop: Shop, stack: Stack) -> None:
    sent = []
    for fault, figures in [
        ("kill", {"call": 3, "answered": True, "times": 2}),
        ("twice", {"batches": 3}),
        ("recut", {"batches": 10, "seed": 3}),
        ("rewind", {"records": 40}),
        ("kill", {"call": 2, "times": 3}),
    ]:
        sent += shop_sends(shop, busy(shop, 40))
        stack.chaos("aggregator", fault, **figures)
    shop.is_counted()

    assert_exact(shop, sent)
    assert {line["status"] for line in shop.is_compared().values()} == {"investigate"}
    causes = {one["cause"] for line in shop.is_compared().values() for one in line["findings"]}
    assert causes == {"unmapped"}, "ledger and counters agree; there is no meter to tell"


def shop_sends(shop: Shop, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    assert shop.sends(*events)["accepted"] == len(events)
    return events
