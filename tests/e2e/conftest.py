"""One running stack for the end-to-end tests of a process; each test is a tenant of its own."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from local.seed import seed
from local.stack import Stack, running_stack
from local.stripe.control import StandIn
from metering.adapters.clock import SystemClock
from metering.period import CALENDAR_MONTHS
from tests.e2e.shop import Shop

BEFORE_THE_MONTH_ENDS = timedelta(minutes=5)
AFTER_IT_BEGAN = timedelta(minutes=10)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tests of one `xdist_group` share a worker, and so a stack.

    pytest-xdist 3.8 notes the group in an attribute that pytest 9.2 no longer reads, and says
    nothing (https://github.com/pytest-dev/pytest-xdist/issues/1386).
    """
    for item in items:
        noted = getattr(item, "_nodeid", None)
        if noted is not None and hasattr(item, "_id"):
            item._id = type(item._id).parse(noted)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Writer and reconciler run only when a test says so; Stripe sums up at once."""
    _skip_when_the_month_turns()
    with running_stack(free_ports=True, summary_delay_s=0, virtual_shards=2) as stack:
        for function in ("writer", "reconciler"):
            stack.chaos(function, "pause")
        seed(stack.api_url, stack.stripe_url)
        yield stack


def _skip_when_the_month_turns() -> None:
    """A meter event needs a whole minute of the month to itself, and these tests send a few."""
    now = SystemClock().now()
    month = CALENDAR_MONTHS.period_of(now)
    if now < month.start + AFTER_IT_BEGAN or now > month.end - BEFORE_THE_MONTH_ENDS:
        pytest.skip("the month turns: its first minutes are too few to tell Stripe in")


@pytest.fixture
def stand_in(stack: Stack) -> Iterator[StandIn]:
    with StandIn(stack.stripe_url) as stand_in:
        yield stand_in
        stand_in.clear_faults()


@pytest.fixture
def shop(stack: Stack, request: pytest.FixtureRequest) -> Iterator[Shop]:
    """A tenant named after its test."""
    with Shop(stack, request.node.name.partition("[")[0].removeprefix("test_")[:60]) as shop:
        yield shop
