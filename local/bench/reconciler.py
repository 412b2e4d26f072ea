"""What it costs to compare the four numbers of many customers and metrics for one period."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich.table import Table

from infra.functions import RECONCILER
from local.bench.billed import TENANT, Billed, billed
from local.bench.measure import Size, console, results
from local.bench.process import FunctionProcess
from metering.names import Metric

CUSTOMERS = 2_500
METRICS = tuple(Metric(f"metric_{number}") for number in range(4))
EVENTS_A_PAIR = 3
READS_A_TRANSACTION = 500
"""Stripe's grant of reads; each customer's monthly invoice is a transaction."""
READS_MAX = 20_000
"""More than there are totals: every one may be read in one run."""
WITHIN_S = 60


def measure(size: Size) -> None:
    """Cold, and bounded in its reads as scheduled; then everything; then where nothing changed."""
    number = size.of(CUSTOMERS)
    table = results(
        f"reconciler, {number * len(METRICS):,} pairs of customer and metric in one period"
        f" (target {WITHIN_S} s)",
        "run",
        "wall",
        "CPU",
        "reads",
        "not read",
        "memory",
        "stand-in",
        "DynamoDB",
    )
    with billed(reads_a_month=number * READS_A_TRANSACTION) as world:
        _set_up(world, number)
        with world.process(RECONCILER) as process:
            for title, more in _runs():
                _measure(table, world, process, title, more)
    console.print(table)


def _runs() -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield "first, cold", {}
    yield "all read anew", {"verify": True, "readsMax": READS_MAX}
    yield "nothing new", {}


def _set_up(world: Billed, number: int) -> None:
    """Every pair has usage in the ledger, counted and told."""
    for metric in METRICS:
        world.map(metric)
    customers = world.add_customers(number)
    usage = [
        (customer, metric, Decimal("1.5"))
        for customer in customers
        for metric in METRICS
        for _ in range(EVENTS_A_PAIR)
    ]
    world.use(usage, stores=True)
    world.write()


def _measure(
    table: Table, world: Billed, process: FunctionProcess, title: str, more: Mapping[str, Any]
) -> None:
    month = f"{datetime.now(UTC):%Y-%m}"  # noqa: TID251 (of the usage above)
    cost = world.cost(process, {"tenantId": TENANT, "period": month, **more})
    done, rows = cost.function, world.rows(month)
    (report,) = done.answer["reports"]
    unread = [row for row in rows if row.stripe_read_at is None]
    # What is not read yet is in doubt, and rightly; nothing else may be.
    assert report["investigate"] == len(unread), f"a difference where there is none: {report}"
    wall = f"{done.wall_s:.1f} s"
    table.add_row(
        title,
        wall if done.wall_s <= WITHIN_S else f"[red]{wall}[/red]",
        f"{done.cpu_s:.1f} s",
        f"{report['stripeReads']:,}",
        f"{len(unread):,}",
        f"{done.peak_mb:,.0f} MB",
        f"{cost.stripe_cpu_s:.1f} s",
        f"{cost.dynamodb_cpu_s:.1f} s",
    )
