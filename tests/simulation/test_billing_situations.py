"""Late usage that is billed apart, a price that changes, and a restore: met, and judged."""

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from infra.tables import BILLING, TABLES
from local.stripe.state import INVOICE_ITEM
from tests.simulation.aws.dynamodb import Change, MemoryDynamoDB
from tests.simulation.draw import NO_FAULTS, Drawn, Kind, draw
from tests.simulation.invariants import judge
from tests.simulation.run import Lived, live
from tests.simulation.stripe_side import BILLED_APART

NOW = datetime(2026, 11, 14, 9, tzinfo=UTC)
RESTORED = "the billing table was restored from a backup"


def good_days(kind: Kind, **changes: object) -> Iterator[Drawn]:
    """Worlds of a kind in which nothing goes wrong."""
    for seed in range(100):
        small = {"kind": kind, "faults": NO_FAULTS, "tenants": 1, "metrics": 1} | changes
        yield replace(draw(seed), **small)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def apart() -> Lived:
    """A good world in which an invoice item bills late usage."""
    wanted = good_days(Kind.CLOSING, late=1.0, events=12, changes=0)
    worlds = (
        live(one)
        for one in wanted
        if random.Random(f"billed apart {one.seed}").random() < BILLED_APART
    )
    lived = next(
        one for one in worlds if any(each.apart for each in one.watch.pushes.streams.values())
    )
    assert lived.violations == []
    return lived


def said(lived: Lived, invariant: str) -> list[str]:
    """The sentences of an invariant at a second look."""
    lived.watch.violations.clear()
    return [one.sentence for one in judge(lived) if one.invariant == invariant]


def test_what_is_billed_apart_stands_in_stripes_books(apart: Lived) -> None:
    items = apart.world.core.world.account().all(INVOICE_ITEM)
    name, item = next(iter(items.items()))
    del items[name]

    (sentence,) = said(apart, "I16")
    items[name] = item
    assert "are billed apart, and Stripe's books hold []" in sentence
    assert said(apart, "I16") == []


def test_what_is_billed_apart_costs_what_the_invoice_lacks(apart: Lived) -> None:
    streams = apart.watch.pushes.streams
    before = next(one for one in streams.values() if one.apart)
    first, *others = before.apart
    dearer = (first._replace(amount=first.amount + 1), *others)
    streams[before.id] = before._replace(apart=dearer)

    (sentence,) = said(apart, "I20")
    streams[before.id] = before
    cents = sum(one.amount for one in before.apart)
    assert f"for {cents + 1} cents, which cost {cents}" in sentence


def test_what_was_billed_apart_is_not_left_to_be_told(apart: Lived) -> None:
    streams = apart.watch.pushes.streams
    before = next(one for one in streams.values() if one.apart)
    streams[before.id] = before._replace(apart=())

    sentences = said(apart, "I16")
    streams[before.id] = before
    assert any("were counted" in one for one in sentences)


def test_a_price_is_changed_and_every_number_is_right() -> None:
    worlds = (live(one) for one in good_days(Kind.CLOSING, changes=1, customers=2))
    lived = next(one for one in worlds if one.people.done.repriced)

    assert lived.violations == []
    assert lived.world.kernel.counts["a price was changed within a period"] == 1


def test_after_a_restore_every_number_is_right() -> None:
    lived = live(next(good_days(Kind.BILLING, restores=1)))

    assert lived.violations == []
    assert lived.world.kernel.counts[RESTORED] == 1
    assert {one.life for one in lived.watch.pushes.streams.values()} >= {1}


def test_a_restored_table_is_what_it_was_and_nobody_hears_of_it() -> None:
    tables = MemoryDynamoDB(TABLES, now=lambda: NOW)
    heard: list[Change] = []

    def put(partition: str, value: str) -> None:
        item = {"pk": {"S": partition}, "sk": {"S": "1"}, "value": {"S": value}}
        tables.execute("PutItem", {"TableName": BILLING.name, "Item": item})

    put("kept", "then")
    put("removed", "then")
    before = tables.items(BILLING.name)
    backup = tables.snapshot(BILLING.name)
    put("kept", "now")
    put("new", "now")
    key = {"pk": {"S": "removed"}, "sk": {"S": "1"}}
    tables.execute("DeleteItem", {"TableName": BILLING.name, "Key": key})
    tables.subscribe(heard.append)

    tables.restore(BILLING.name, backup)

    assert sorted(map(repr, tables.items(BILLING.name))) == sorted(map(repr, before))
    assert heard == []
