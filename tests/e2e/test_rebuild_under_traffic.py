"""A tenant's counters rebuilt from its ledger by the running stack while events keep coming."""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from local.stack import Stack
from metering.adapters.dynamodb.ledger_item import partition_key
from metering.adapters.dynamodb.recounts import DynamoRecounts
from metering.names import IdempotencyKey, TenantId
from metering.rebuild import Rebuilder
from metering.wiring import Wiring
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

EPOCHS_CACHE_S = 5 / 3
"""What the runner's functions cache epochs for: a third of its `REBUILD_LEAD_S`."""
LEAD = timedelta(seconds=2)
SETTLE = timedelta(seconds=2)
"""Longer than an ingest call, as the runner's own 20 s are."""
WITHIN_S = 20.0


def test_a_wrong_counter_is_made_right_by_a_rebuild_while_events_keep_coming(
    shop: Shop, stack: Stack
) -> None:
    stray = shop.event(quantity=999)
    shop.sends(stray, *shop.events(40, quantity=2))
    shop.is_counted()
    no_such_event(shop, stray)
    assert shop.counted() == 80 + 999, "the counter holds what the ledger does not"

    rebuilder = impatient_rebuilder(shop.wiring())
    with traffic(shop) as sent:
        rebuilder.request(TenantId(shop.tenant))
        [known] = stack.run("rebuilder", tenantId=shop.tenant)["rebuilds"]
        entries = rebuilt(rebuilder)
    shop.is_counted()
    time.sleep(EPOCHS_CACHE_S)

    assert (known["tenant"], known["state"]) == (shop.tenant, "settling")
    assert len(sent) > entries - 40 > 0, "events came before the cut and after it"
    assert shop.usage()["api_calls"]["count"] == 40 + len(sent)
    assert shop.counted() == 80 + 3 * len(sent)


def no_such_event(shop: Shop, event: Mapping[str, Any]) -> None:
    """As if it had been counted without ever having been accepted."""
    key = partition_key(TenantId(shop.tenant), IdempotencyKey(event["idempotencyKey"]))
    shop.wiring().dynamodb.delete_item(TableName="events", Key={"pk": {"S": key}})


@contextmanager
def traffic(shop: Shop) -> Iterator[list[str]]:
    """Events of quantity 3, one after the other, until the block ends."""
    sent: list[str] = []
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(0.02):
            event = shop.event(quantity=3)
            assert shop.sends(event)["accepted"] == 1
            sent.append(event["idempotencyKey"])

    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield sent
    finally:
        stop.set()
        sender.join(timeout=10)
    assert not sender.is_alive()


def rebuilt(rebuilder: Rebuilder) -> int:
    """Take the rebuild to its end; how many entries it recounted."""
    deadline = time.monotonic() + WITHIN_S
    while True:
        [report] = rebuilder.advance()
        if report.state == "done":
            return report.entries
        assert time.monotonic() < deadline, report
        time.sleep(0.2)


def impatient_rebuilder(wiring: Wiring) -> Rebuilder:
    """The runner's, but for how far ahead a cut lies and how long it settles."""
    recounts = DynamoRecounts(wiring.dynamodb, "counters", wiring.lanes)
    return Rebuilder(
        wiring.ledger,
        wiring.epochs,
        recounts,
        wiring.settings,
        wiring.clock,
        lead=LEAD,
        settle=SETTLE,
    )
