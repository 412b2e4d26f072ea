"""A stack that keeps its data in a folder, killed and started again on it."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from local.runner import STRIPE_KEY
from local.stack import Stack, running_stack
from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
from metering.adapters.clock import SystemClock
from metering.config import Config
from metering.names import TenantId
from metering.reconciliation import Row, Status
from metering.wiring import Wiring
from tests.conftest import SetClock
from tests.e2e.shop import Shop
from tests.local.helpers import wait_for

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own-stacks")]

DELAY_S = 3.0
"""Long enough to be killed in, less than the writer waits for an answer."""


@contextmanager
def stack_on(data: Path) -> Iterator[Stack]:
    with running_stack(free_ports=True, data=data, summary_delay_s=0) as stack:
        for function in ("writer", "reconciler"):
            stack.chaos(function, "pause")
        yield stack


def delivered(stack: Stack) -> int:
    shards = stack.status()["streams"]["aggregator"]["shards"].values()
    return sum(shard["records"] for shard in shards)


def test_a_killed_stack_goes_on_where_it_stood_and_counts_nothing_twice(tmp_path: Path) -> None:
    with stack_on(tmp_path / "data") as stack, Shop(stack, "durable") as shop:
        shop.maps("api_calls")
        told = shop.events(30, quantity=2)
        shop.sends(*told)
        shop.is_counted()
        shop.is_told()
        [stream] = shop.trace(told[0])["streams"]
        counted = shop.events(10, quantity=3)
        shop.sends(*counted)
        shop.is_counted()
        stack.chaos("aggregator", "pause")
        waiting = shop.events(20, quantity=5)
        shop.sends(*waiting)
        assert (int(shop.counted()), delivered(stack)) == (90, 40)
        runner_dies_while_stripe_answers(shop)

    with stack_on(tmp_path / "data") as stack, shop.moved_to(stack):
        shop.is_counted()
        [kept] = shop.trace(told[0])["streams"]
        before = int(shop.at_stripe("api_calls"))
        again = shop.sends(*told, *counted, *waiting)
        shop.is_counted()
        rows = the_next_writer_and_reconciler_come(shop)

        assert delivered(stack) == 20, "the stream goes on at its checkpoint"
        assert kept["pushes"][0] == stream["pushes"][0]
        assert (kept["accepted"], before) == (60, 90), "nobody here heard of Stripe's answer"
        assert (again["accepted"], again["duplicates"]) == (0, 60)
        assert shop.usage()["api_calls"]["count"] == 60
        assert shop.counted() == shop.at_stripe("api_calls") == 190
        assert [row.status for row in rows] == [Status.OK]


def runner_dies_while_stripe_answers(shop: Shop) -> None:
    """Between what Stripe took and what we know of it."""
    with StandIn(shop.stack.stripe_url) as stand_in, ThreadPoolExecutor(1) as elsewhere:
        stand_in.plan(FaultKind.DELAY, path="/v1/billing/meter_events", delay_s=DELAY_S)
        writer = elsewhere.submit(shop.stack.run, "writer")
        wait_for(lambda: shop.at_stripe("api_calls") == 90)
        shop.stack.processes()["runner"].kill()
        with pytest.raises(OSError, match=r"Remote end closed|reset"):
            writer.result()


def the_next_writer_and_reconciler_come(shop: Shop) -> tuple[Row, ...]:
    """A little later, when the dead one's lease and its push's time in flight are over."""
    config = Config(
        dynamodb_endpoint=shop.stack.dynamodb_endpoint,
        stripe_api_base=shop.stack.stripe_url,
        stripe_secret_key=STRIPE_KEY,
    )
    now = SystemClock().now() + timedelta(minutes=2)
    wiring = Wiring(config, clock=SetClock(now))
    report = wiring.writer.run("the next", lambda: timedelta(minutes=1))
    assert (report["sent"], report["accepted"], report["open"]) == (2, 2, 0)
    return wiring.reconciler.run(TenantId(shop.tenant), f"{now:%Y-%m}", verify=True).rows
