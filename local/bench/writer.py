"""What it costs to tell Stripe: per push, and where many counters changed of which few need one."""

from collections.abc import Sequence
from decimal import Decimal

from rich.table import Table

from infra.functions import WRITER
from local.bench.billed import Billed, Cost, billed, together
from local.bench.measure import Size, console, results
from metering.names import CustomerRef, Metric

COUNTERS = 10_000
ONE_IN = 10
"""One changed counter in so many has a whole unit more than Stripe was told."""
METRIC = Metric("api_calls")
BEGUN, WHOLE, PART = Decimal("1.5"), Decimal(1), Decimal("0.1")
PUSHES_A_SECOND = 300
CORE_MB = 1_769
"""Lambda gives a function a whole core at so much memory, and in proportion below (AWS, "Configure
Lambda function memory")."""
READS_A_MONTH = 10_000
"""Stripe grants so many to everybody; the writer reads nothing unless it must find out."""


def measure(size: Size) -> None:
    """New streams first, then one run over all of them again in a fresh process."""
    title = "writer, a process of its own, the `stripe` SDK over HTTP, DynamoDB Local"
    table = results(title, "figure", "measured", "target")
    with billed(reads_a_month=READS_A_MONTH) as world:
        world.map(METRIC)
        customers = world.add_customers(size.of(COUNTERS))
        _measure_new(table, world, customers)
        _measure_changed(table, world, customers)
    console.print(table)


def _measure_new(table: Table, world: Billed, customers: Sequence[CustomerRef]) -> None:
    with world.process(WRITER) as process:
        world.cost(process, {})  # Its clients are made once, and not for these pushes.
        world.use(((one, METRIC, BEGUN) for one in customers), stores=False)
        runs = world.write_all(process)
    _check(world, pushes=len(customers), units=len(customers))
    cost, pushes = together(runs), len(customers)
    table.add_row(
        f"{pushes:,} new streams, one push each, in {_runs(runs)}",
        f"{pushes / cost.function.cpu_s:,.0f} pushes a second of one core"
        f" ({cost.function.cpu_s / pushes * 1000:.2f} ms each)",
        f"{PUSHES_A_SECOND}",
    )
    wall = f"{pushes / cost.function.wall_s:,.0f} pushes a second"
    table.add_row("  by the clock", wall, "–")
    table.add_row("  most memory of the process", f"{cost.function.peak_mb:,.0f} MB", "–")
    table.add_row("  CPU beside it", cost.others, "–")


def _measure_changed(table: Table, world: Billed, customers: Sequence[CustomerRef]) -> None:
    """Every counter has changed; only of some is Stripe to be told more."""
    pushes = len(customers[::ONE_IN])
    more = [WHOLE if number % ONE_IN == 0 else PART for number in range(len(customers))]
    usage = zip(customers, more, strict=True)
    world.use(((one, METRIC, quantity) for one, quantity in usage), stores=False)
    with world.process(WRITER) as process:
        runs = world.write_all(process)
    _check(world, pushes=len(customers) + pushes, units=len(customers) + pushes)
    cost = together(runs)
    table.add_section()
    table.add_row(
        f"{len(customers):,} changed counters, {pushes:,} of them in need of a push: runs",
        _runs(runs),
        "1",
    )
    table.add_row(
        "  all of its CPU, and wall",
        f"{cost.function.cpu_s:.1f} s, {cost.function.wall_s:.1f} s",
        f"{WRITER.timeout_s} s wall",
    )
    table.add_row(
        f"  at least, on Lambda's {WRITER.memory_mb / CORE_MB:.2f} of a core",
        f"{cost.function.cpu_s / min(WRITER.memory_mb / CORE_MB, 1):.0f} s",
        "–",
    )
    table.add_row(
        "  most memory of the process",
        f"{cost.function.peak_mb:,.0f} MB",
        f"{WRITER.memory_mb} MB",
    )
    table.add_row("  CPU beside it", cost.others, "–")


def _runs(runs: Sequence[Cost]) -> str:
    return f"{len(runs)} run{'s' if len(runs) > 1 else ''}"


def _check(world: Billed, *, pushes: int, units: int) -> None:
    """A figure of a run that told something wrong is worth nothing."""
    told = world.told()
    assert told == (pushes, Decimal(units)), f"Stripe counted {told}, not {pushes} for {units}"
