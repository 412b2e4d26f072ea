"""A tenant's counters rebuilt from its ledger by the running stack while events keep coming."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from local.stack import Stack
from metering.adapters.dynamodb.recounts import DynamoRecounts
from metering.counter import Usage, tally_of
from metering.lane import Advance, Lane, position_of
from metering.rebuild import Rebuilder
from metering.wiring import Wiring
from tests.builders import an_entry
from tests.e2e.shop import Shop
from tests.readers import lanes_of

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

SETTLE = timedelta(seconds=1)
"""Longer than an ingest call here; the runner's own 20 s are for a busy machine."""
EPOCHS_CACHE_S = 5 / 3
"""What the runner's functions cache epochs for: a third of `REBUILD_LEAD_S`."""
WITHIN_S = 20.0


def test_a_wrong_counter_is_made_right_by_a_rebuild_while_events_keep_coming(
    shop: Shop, stack: Stack
) -> None:
    shop.sends(*shop.events(40, quantity=2))
    shop.is_counted()
    spoil(shop)
    assert shop.counted() == 80 + 999, "the counter is wrong"

    with traffic(shop) as sent:
        [asked] = stack.run("rebuilder", tenantId=shop.tenant)["rebuilds"]
        entries = rebuilt(shop)
    shop.is_counted()
    time.sleep(EPOCHS_CACHE_S)

    assert asked["state"] == "requested"
    assert len(sent) > entries - 40 > 0, "events came before the cut and after it"
    assert shop.usage()["api_calls"]["count"] == 40 + len(sent)
    assert shop.counted() == 80 + 3 * len(sent)


def spoil(shop: Shop) -> None:
    """A lane as no event made it."""
    wiring = shop.wiring()
    stored = next(one for one in lanes_of(wiring) if one.key.counter.tenant == shop.tenant)
    wrong = Lane(position_of("7"), Usage(tally_of(an_entry("999").event)))
    written = wiring.lanes.write([(stored.key._replace(shard="nobody's"), Advance(Lane(), wrong))])
    assert written == [wrong]


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


def rebuilt(shop: Shop) -> int:
    """Take the rebuild to its end; how many entries it recounted."""
    rebuilder = impatient_rebuilder(shop.wiring())
    deadline = time.monotonic() + WITHIN_S
    while True:
        [report] = rebuilder.advance()
        if report.state == "done":
            assert report.tenant == shop.tenant
            return report.entries
        assert time.monotonic() < deadline, report
        time.sleep(0.2)


def impatient_rebuilder(wiring: Wiring) -> Rebuilder:
    """The runner's, but for how long a cut settles."""
    recounts = DynamoRecounts(wiring.dynamodb, "counters", wiring.lanes)
    lead = timedelta(seconds=5)
    return Rebuilder(
        wiring.ledger,
        wiring.epochs,
        recounts,
        wiring.settings,
        wiring.clock,
        lead=lead,
        settle=SETTLE,
    )
