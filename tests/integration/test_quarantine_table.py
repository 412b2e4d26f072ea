"""What was set aside is kept whole, once, and found again."""

import random
import string
from datetime import timedelta

import pytest

from metering.adapters.dynamodb.quarantine import DynamoQuarantine
from metering.errors import RetryableError
from metering.names import IdempotencyKey, TenantId
from metering.ports import Quarantined
from metering.wiring import Wiring
from tests.builders import DEMO, NOON
from tests.faults import Deaths, FaultyClient, dying, throttled

KEY = IdempotencyKey("k")
ACME = TenantId("acme")
NOISE = "".join(random.Random(7).choices(string.printable, k=1_048_576))
"""A message as large as the queue takes, which hardly compresses."""


def an_item(
    name: str = "one",
    *,
    tenant: TenantId | None = DEMO,
    key: IdempotencyKey | None = KEY,
    payload: str = "{}",
    minutes: int = 0,
) -> Quarantined:
    return Quarantined(
        id=name,
        tenant=tenant,
        key=key,
        kind="invalid_event",
        reason="a reason",
        origin="http",
        payload=payload,
        recorded_at=NOON + timedelta(minutes=minutes),
    )


def test_an_item_is_found_by_its_events_key_as_it_was_put(wiring: Wiring) -> None:
    item = an_item(payload="Zoë 😀 \0 \ud800")

    wiring.quarantine.put([item])

    assert wiring.quarantine.of_key(DEMO, KEY) == [item]
    assert wiring.quarantine.of_key(ACME, KEY) == []
    assert wiring.quarantine.of_key(DEMO, IdempotencyKey("other")) == []


def test_an_empty_message_is_kept_too(wiring: Wiring) -> None:
    wiring.quarantine.put([an_item(payload="")])

    assert wiring.quarantine.of_key(DEMO, KEY) == [an_item(payload="")]


def test_an_item_put_again_is_kept_once(wiring: Wiring) -> None:
    for _ in range(2):
        wiring.quarantine.put([an_item(payload=NOISE)])

    assert wiring.quarantine.of_key(DEMO, KEY) == [an_item(payload=NOISE)]


def test_the_newest_item_of_a_key_comes_first(wiring: Wiring) -> None:
    items = [an_item(f"item-{number}", minutes=number) for number in (2, 0, 1)]

    wiring.quarantine.put(items)

    assert wiring.quarantine.of_key(DEMO, KEY) == [items[0], items[2], items[1]]


def test_each_tenant_lists_its_own_newest_first(wiring: Wiring) -> None:
    items = [
        an_item(f"item-{number}", key=IdempotencyKey(f"k{number}"), minutes=number)
        for number in range(4)
    ]
    foreign = an_item("foreign", tenant=ACME)
    nobodys = an_item("nobodys", tenant=None, key=None)
    wiring.quarantine.put([*items, foreign, nobodys])

    assert wiring.quarantine.newest(DEMO, 3) == [items[3], items[2], items[1]]
    assert wiring.quarantine.newest(ACME, 3) == [foreign]
    assert wiring.quarantine.newest(None, 3) == [nobodys]


def test_messages_larger_than_a_page_of_dynamodb_are_found_whole(wiring: Wiring) -> None:
    items = [an_item(f"item-{number}", payload=NOISE, minutes=number) for number in range(3)]

    wiring.quarantine.put(items)

    assert wiring.quarantine.of_key(DEMO, KEY) == items[::-1]
    assert wiring.quarantine.newest(DEMO, 10) == items[::-1]
    assert wiring.quarantine.newest(DEMO, 2) == items[:0:-1]


@pytest.mark.parametrize("after_effect", [False, True])
def test_an_item_that_was_kept_by_halves_is_not_shown_until_it_is_put_again(
    wiring: Wiring, *, after_effect: bool
) -> None:
    large = NOISE[: len(NOISE) // 2]
    for at, mortal in enumerate(Deaths(wiring.dynamodb, after_effect=after_effect), start=1):
        key = IdempotencyKey(f"k-{at}")
        item = an_item(f"item-{at}", key=key, payload=large)
        with dying():
            DynamoQuarantine(mortal.client, wiring.table("quarantine")).put([item])

        assert wiring.quarantine.of_key(DEMO, key) in ([], [item])

        wiring.quarantine.put([item])
        assert wiring.quarantine.of_key(DEMO, key) == [item]


def test_an_item_that_dynamodb_refuses_is_to_be_redelivered(wiring: Wiring) -> None:
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail("put_item", throttled(), at={2})
    quarantine = DynamoQuarantine(faulty.client, wiring.table("quarantine"))

    with pytest.raises(RetryableError):
        quarantine.put([an_item("one"), an_item("two")])

    assert [item.id for item in wiring.quarantine.of_key(DEMO, KEY)] == ["one"]
