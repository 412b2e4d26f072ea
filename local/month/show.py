"""Telling what happened in a month, and whether every number agrees."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from decimal import Decimal

from rich.console import Console
from rich.table import Table

from local.month.check import Compared, Outcome
from local.month.draw import Month
from local.month.run import Lived

SHOWN_MAX = 40
console = Console()


def tell(lived: Lived, outcome: Outcome) -> None:
    """Print the month: what was drawn, what happened, a line per customer, and the verdict."""
    console.print(_drawn(lived.month), highlight=False)
    console.print(_happened(lived))
    console.print(_by_customer(outcome.compared))
    _verdict(lived.month, outcome)


def _drawn(month: Month) -> str:
    rates = month.rates
    return (
        f"seed {month.seed}: {month.days} days from {month.start:%Y-%m-%d},"
        f" {len(month.customers)} customers; of Stripe's answers {rates.stripe:.0%} go wrong, of"
        f" runs {rates.death:.0%} die, of webhooks {rates.webhook:.0%} are lost, unanswered or"
        f" doubled; clocks differ by up to {rates.skew_s} s"
    )


def _happened(lived: Lived) -> Table:
    table = Table(title="What happened")
    table.add_column("")
    table.add_column("times", justify="right")
    counts = lived.world.counts + lived.world.troubled.met
    for what, times in sorted(counts.items()):
        table.add_row(what, f"{times:,}")
    return table


def _by_customer(compared: Iterable[Compared]) -> Table:
    """Sums over all periods, the metrics in one line: a look, no proof; the proof is per line."""
    table = Table(title="All metrics and periods of each customer")
    table.add_column("customer", no_wrap=True)
    for title in ("expected", "elsewhere", "invoiced"):
        table.add_column(title, justify="right", no_wrap=title != "elsewhere")
    table.add_column("causes")
    by_customer: dict[str, list[Compared]] = defaultdict(list)
    for one in compared:
        by_customer[one.line.customer].append(one)
    for customer, lines in sorted(by_customer.items()):
        expected = _sum(one.expected for one in lines)
        invoiced = _sum(one.invoiced for one in lines if one.invoiced is not None)
        table.add_row(
            customer,
            _plain(expected),
            _elsewhere(expected, lines),
            _plain(invoiced),
            _causes(lines),
        )
    return table


def _elsewhere(expected: Decimal, lines: Sequence[Compared]) -> str:
    """What the stations hold that do not hold what is expected."""
    rows = [one.row for one in lines if one.row is not None]
    held = {
        "ledger": _sum(row.ledger for row in rows),
        "counters": _sum(row.counted for row in rows),
        "accepted": _sum(row.pushed for row in rows),
        "at Stripe": _sum(one.stripe for one in lines),
    }
    others = [f"{name} {_plain(number)}" for name, number in held.items() if number != expected]
    return ", ".join(others) or "the same"


def _sum(numbers: Iterable[Decimal]) -> Decimal:
    return sum(numbers, Decimal(0))


def _plain(number: Decimal) -> str:
    return f"{number.normalize():,f}"


def _causes(lines: Iterable[Compared]) -> str:
    rows = (one.row for one in lines if one.row is not None)
    causes = Counter(str(finding.cause) for row in rows for finding in row.findings)
    return ", ".join(f"{cause} {times}" for cause, times in sorted(causes.items()))


def _verdict(month: Month, outcome: Outcome) -> None:
    for wrong in outcome.wrongs[:SHOWN_MAX]:
        console.print(f"[red]{wrong}[/]", highlight=False)
    faults = "" if month.rates.stripe else " --no-faults"
    again = (
        f"python -m local month --seed {month.seed} --days {month.days}"
        f" --customers {len(month.customers)}{faults}"
    )
    if outcome.wrongs:
        console.print(f"[red]{len(outcome.wrongs)} numbers or causes are wrong.[/] Again: {again}")
        return
    periods = len({(one.line.customer, one.line.start) for one in outcome.compared})
    console.print(
        f"[green]All agree to the last unit:[/] {len(outcome.compared)} counters in {periods}"
        f" billing periods, and every difference has a name. Again: {again}",
        highlight=False,
    )
