"""The tables beside the figures: list prices and assumptions; and the computed part of the page."""

from dataclasses import replace
from decimal import Decimal

from infra.cost import prices
from infra.cost.assumed import ASSUMED, Assumed
from infra.cost.measurement import Measurement
from infra.cost.month import Workload, bill, syncs
from infra.cost.paths import sheets
from infra.cost.sheet import Sheet, number, usd

MILLION = Decimal(1_000_000)
_FIFTY = Workload(50 * MILLION, customers=2000, metrics=3)
_DAILY = replace(_FIFTY, reconcile_s=86_400)
EXAMPLES = (
    ("1 M, batches of 100", Workload(MILLION, customers=100)),
    ("50 M, batches of 100", _FIFTY),
    ("the same, compared daily", _DAILY),
    ("the same, compared daily, told hourly", replace(_DAILY, sync_s=3600)),
    ("the same, compared daily, event index", replace(_DAILY, event_index=True)),
    ("the same, compared daily, singly", replace(_DAILY, batch=1)),
    ("1 B, compared daily", Workload(1000 * MILLION, 100, 10_000, 3, reconcile_s=86_400)),
)
"""Workloads that the document shows."""


def price_list() -> Sheet:
    """The list prices that everything is computed with."""
    rows = []
    for one in prices.PRICES:
        per = "each" if one.per == 1 else f"per {number(one.per)}"
        rows.append((one.unit, f"${one.usd.normalize():f} {per}", one.source.value, one.remark))
    title = f"List prices, {prices.REGION}, as of {prices.AS_OF}"
    return Sheet(title, ("of", "price", "source", ""), tuple(rows))


def assumptions(assumed: Assumed = ASSUMED) -> Sheet:
    """What is not measured."""
    return Sheet("Assumed", ("what", "how much"), tuple(assumed.lines()))


_GROUPS = ("events", "counting", "Stripe", "comparing", "kept", "fixed")


def months(measured: Measurement, assumed: Assumed = ASSUMED) -> Sheet:
    """Months of several workloads, by what the money goes to."""
    rows = []
    for name, workload in EXAMPLES:
        items = bill(workload, measured, assumed)
        groups = dict.fromkeys((*_GROUPS, "schedules"), Decimal(0))
        for item in items:
            group = item.name.partition(":")[0]
            groups[group if group in _GROUPS else "schedules"] += item.usd
        total = sum(groups.values(), Decimal(0))
        costs = (*map(usd, groups.values()), f"**{usd(total)}**")
        rows.append((name, number(syncs(workload, measured, assumed).pushes), *costs))
    return Sheet(
        "Months of whole workloads",
        ("a month", "pushes", *_GROUPS, "schedules", "sum"),
        tuple(rows),
        "Customers with the skew of real traffic: 100, then 2,000 with three metrics each, then"
        " 10,000 with three. The events are kept for one month.",
    )


def page(measured: Measurement) -> list[Sheet]:
    """The computed part of `docs/cost.md`."""
    return [*sheets(measured), months(measured), assumptions(), price_list()]
