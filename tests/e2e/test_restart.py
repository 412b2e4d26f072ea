"""A stack that keeps its data in a folder, killed and started again on it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from local.stack import Stack, running_stack
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own stacks")]


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
    with stack_on(tmp_path / "data") as stack:
        shop = Shop(stack, "durable")
        shop.maps("api_calls")
        counted = shop.events(30, quantity=2)
        shop.sends(*counted)
        shop.is_counted()
        shop.is_told()
        [told] = shop.trace(counted[0])["streams"]
        stack.chaos("aggregator", "pause")
        waiting = shop.events(20, quantity=5)
        shop.sends(*waiting)
        assert (shop.counted(), delivered(stack)) == (60, 30)
        stack.processes()["runner"].kill()

    with stack_on(tmp_path / "data") as stack:
        shop.moves_to(stack)
        shop.is_counted()
        [told_before] = shop.trace(counted[0])["streams"]
        at_stripe_before = shop.at_stripe("api_calls")
        again = shop.sends(*counted, *waiting)
        shop.is_counted()
        shop.is_told()
        lines = shop.is_compared()

        assert delivered(stack) == 20, "the stream goes on at its checkpoint"
        assert (told_before, at_stripe_before) == (told, 60)
        assert (again["accepted"], again["duplicates"]) == (0, 50)
        assert shop.usage()["api_calls"]["count"] == 50
        assert shop.counted() == shop.at_stripe("api_calls") == 160
        assert [line["status"] for line in lines.values()] == ["ok"]
        shop.close()
