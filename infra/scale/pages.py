"""The computed part of `docs/scale.md`."""

from collections.abc import Callable, Sequence
from decimal import Decimal

from infra.cost.assumed import ASSUMED
from infra.cost.measurement import Measurement
from infra.cost.month import Workload, bill
from infra.cost.prices import MILLION
from infra.cost.sheet import Sheet, number, usd
from infra.deployments import PROD
from infra.scale import limits
from infra.scale.drain import burst, depth, outage, recovery_s
from infra.scale.ledger import Need
from infra.scale.limits import (
    API_REQUESTS,
    CONCURRENCY,
    NEW_TABLE_WRITES,
    PARTITION_WRITES,
    TABLE_WRITES,
    Limit,
)
from infra.scale.telling import DEADLINE_S, Reading, Telling

RATES = tuple(Decimal(rate) for rate in (1_000, 10_000, 100_000, 1_000_000))
CUSTOMERS = tuple(Decimal(many) for many in (10_000, 100_000, 1_000_000, 10_000_000))
BURST_TIMES, BURST_S = Decimal(10), Decimal(600)
HOUR_S = Decimal(3600)
MONTH_S = Decimal(30 * 86_400)

type Figure = Callable[[Need], str]


def page(measured: Measurement) -> list[Sheet]:
    """Every table."""
    needs = [Need(rate, measured) for rate in RATES]
    return [
        _needed(needs),
        _money(needs),
        _hot(needs),
        _trouble(needs),
        _told(measured),
        _read(),
        limits.sheet(),
    ]


def _against(value: Decimal, limit: Limit) -> str:
    """A number, and whether its quota must be raised for it."""
    return number(value) + (" (raise)" if value > limit.value else "")


def _sheet(title: str, first: str, needs: Sequence[Need], rows: dict[str, Figure]) -> Sheet:
    made = [(name, *(figure(need) for need in needs)) for name, figure in rows.items()]
    columns = (first, *(f"{number(need.rate)} events/s" for need in needs))
    return Sheet(title, columns, tuple(made))


def _needed(needs: Sequence[Need]) -> Sheet:
    return _sheet(
        "What it needs",
        "100,000 customers, batches of 100",
        needs,
        {
            "ledger: write units a second": lambda one: _against(one.rate, TABLE_WRITES),
            "the same with the event index": lambda one: _against(2 * one.rate, TABLE_WRITES),
            "ledger: partitions, and open shards": lambda one: number(one.partitions),
            "warm throughput to set before launch": _warm,
            "requests a second, by 100": lambda one: _against(one.rate / 100, API_REQUESTS),
            "requests a second, singly": lambda one: _against(one.rate, API_REQUESTS),
            "ingest at once, by 100": lambda one: _against(
                one.concurrency(one.measured.batch), CONCURRENCY
            ),
            "ingest at once, singly": lambda one: _against(
                one.concurrency(one.measured.single), CONCURRENCY
            ),
            "queue functions at once, 100 a message": lambda one: number(one.queue_at_once()),
            "aggregator: events a batch": lambda one: number(one.stream.batch),
            "aggregator: counters a batch": lambda one: number(
                one.spread.touched(one.stream.batch)
            ),
            "aggregator: seconds a batch": lambda one: number(one.batch_seconds),
            "aggregator: at once": lambda one: number(one.partitions * one.busy),
            "reconciler: the most events of a period that a run can recount": lambda one: number(
                one.recounts_at_most
            ),
            "so many come within": lambda one: _time(one.recounts_at_most / one.rate),
            "counters: lane writes a second": lambda one: _against(one.lane_writes, TABLE_WRITES),
            "counters: marks a second": lambda one: (
                number(one.marks)
                + (f" (limit {number(one.marks_limit)})" if one.marks > one.marks_limit else "")
            ),
        },
    )


def _warm(need: Need) -> str:
    return "–" if need.rate <= NEW_TABLE_WRITES.value else number(need.rate)


def _money(needs: Sequence[Need]) -> Sheet:
    groups = ("events", "counting", "Stripe", "comparing", "kept")
    rows: list[tuple[str, ...]] = []
    bills = []
    for need in needs:
        workload = Workload(
            need.rate * MONTH_S,
            customers=need.spread.customers,
            shards=need.partitions,
            reconcile_s=86_400,
        )
        bills.append(bill(workload, need.measured))
    for group in groups:
        sums = [sum(i.usd for i in items if i.name.startswith(f"{group}:")) for items in bills]
        rows.append((group, *(f"${Decimal(one):,.0f}" for one in sums)))
    totals = [sum((item.usd for item in items), Decimal(0)) for items in bills]
    rows.append(("all", *(f"${one:,.0f}" for one in totals)))
    each = [
        usd(total / (need.rate * MONTH_S) * MILLION)
        for total, need in zip(totals, needs, strict=True)
    ]
    rows.append(("per million events", *each))
    return Sheet(
        "What a month of it costs",
        ("batches of 100, on demand", *(f"{number(need.rate)} events/s" for need in needs)),
        tuple(rows),
        "List prices without discounts; the writer as fast as it can, the reconciler once a day, no"
        " event index, the ledger kept for one month.",
    )


def _hot(needs: Sequence[Need]) -> Sheet:
    return _sheet(
        "A customer with 35 % of all traffic",
        "one metric",
        needs,
        {
            "its events a second": lambda one: number(one.rate * Decimal("0.35")),
            "lane writes a second of its partition": lambda one: _against(
                one.hot_writes, PARTITION_WRITES
            ),
            "the same while it catches up": lambda one: _against(
                one.hot_writes_behind, PARTITION_WRITES
            ),
            "its lanes a day": lambda one: number(one.hot_lanes),
            "reading its day, KB": lambda one: number(
                one.hot_lanes * one.measured.lane_bytes / 1024
            ),
            "event index: write units a second of each of 4 shards": lambda one: _against(
                one.rate * Decimal("0.35") / 4, PARTITION_WRITES
            ),
            "event index: shards that it needs": lambda one: number(one.index_shards),
        },
    )


def _trouble(needs: Sequence[Need]) -> Sheet:
    return _sheet(
        "After a burst, and after an outage",
        "",
        needs,
        {
            "aggregator out for an hour: records that wait": lambda one: number(one.rate * HOUR_S),
            "one shard: records a second that come": lambda one: number(one.stream.per_shard),
            "one shard: records a second that it can take": lambda one: number(one.takes),
            "until nothing old waits": lambda one: _time(
                recovery_s(outage(one.stream.per_shard, HOUR_S), one.takes)
            ),
            "queue: ten times as much for ten minutes, messages that wait": lambda one: number(
                depth(burst(one.rate, BURST_S, BURST_TIMES), _queue_takes(one)) / 100
            ),
            f"until they are taken, {PROD.queue_concurrency} functions or as many as it needs": (
                lambda one: _time(
                    recovery_s(burst(one.rate, BURST_S, BURST_TIMES), _queue_takes(one))
                )
            ),
        },
    )


def _queue_takes(need: Need) -> Decimal:
    return need.queue_takes(max(PROD.queue_concurrency, need.queue_at_once()))


def _time(seconds: Decimal | None) -> str:
    if seconds is None:
        return "never"
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:,.1f} days"
    if seconds >= 7_200:  # noqa: PLR2004
        return f"{seconds / 3600:,.1f} h"
    return f"{seconds / 60:,.0f} min" if seconds >= 120 else f"{seconds:,.0f} s"  # noqa: PLR2004


def _told(measured: Measurement) -> Sheet:
    now, more = Telling(measured), Telling(measured, threads=64)
    rows = [
        ("calls a second at Stripe, of 1,000", *[number(now.a_second)] * len(CUSTOMERS)),
        ("pushes an hour", *[number(now.an_hour)] * len(CUSTOMERS)),
        ("every active counter is told once in", *(_time(now.round_s(one)) for one in CUSTOMERS)),
        (
            "the same with 64 threads, at the most of its core",
            *(_time(more.round_s(one)) for one in CUSTOMERS),
        ),
        (
            "after an hour's outage of Stripe, or where all periods end at once",
            *(_time(now.round_s(one)) for one in CUSTOMERS),
        ),
        (
            "writers that would tell them within 45 minutes",
            *(number(more.writers(one, DEADLINE_S)) for one in CUSTOMERS),
        ),
    ]
    return Sheet(
        "The writer against Stripe",
        ("all customers active, one metric each", *(number(one) for one in CUSTOMERS)),
        tuple(rows),
        f"One writer with {now.threads} threads: its core would do {number(now.by_cpu)} pushes a"
        f" second, its threads {number(now.by_waiting)} where Stripe answers in"
        f" {ASSUMED.stripe_wait_ms} ms. It works {now.working:.0%} of each minute.",
    )


def _read() -> Sheet:
    readings = [Reading(one) for one in CUSTOMERS]
    rows = [
        ("reads granted in 30 days", *(number(one.granted) for one in readings)),
        ("wanted: one a row and 23 h", *(number(one.wanted) for one in readings)),
        ("made by hourly runs in a day, at most", *(number(one.a_day) for one in readings)),
        ("every row is read once in", *(_time(one.days * 86_400) for one in readings)),
    ]
    return Sheet(
        "The reconciler against Stripe's ration of reads",
        ("one metric and one invoice a month each", *(number(one) for one in CUSTOMERS)),
        tuple(rows),
        "With `stripe_reads_a_month` set to what is granted; the default of 10,000 is Stripe's"
        " least.",
    )
