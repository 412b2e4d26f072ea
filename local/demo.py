"""`make demo`: a web server's log metered end to end, every event sent twice, every number checked.

The aggregator is killed in the middle and resumes. At the end time is moved on, and the month of
the customers with most usage is closed. The run ends with exit code 1 unless the log, the ledger,
the counters, the pushes, Stripe and its invoices agree to the last unit, customer by customer.
"""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from local import demo_close, queues
from local.access_log import LogError, Request, generate_log, read_log
from local.demo_close import ClosedMonth, Subscribers
from local.demo_events import Delivery, Expected, SentEvent, deliveries, expectations, usage_events
from local.dynamodb_local import LocalServiceError
from local.seed import seed
from local.stack import DEMO_TENANT, Stack, running_stack
from local.stripe.control import StandIn
from metering.adapters.clock import SystemClock

CONNECTIONS = 4
KILL_AT_SHARE = 0.4
"""How far the sending is when the aggregator is killed."""
KILLS = ({"call": 2, "answered": False}, {"call": 3, "answered": True})
"""Once before a DynamoDB call leaves, once after it took effect and its answer was lost."""
WRITER_RUNS_MAX = 20
SUMMARY_DELAY_S = 0.5
STATIONS = ("localTotal", "countedTotal", "pushedTotal", "stripeTotal")
"""A reconciliation row's numbers: ledger, counters, accepted pushes, Stripe's summary."""

console = Console()


@dataclass(frozen=True, slots=True)
class Row:
    """One metric's numbers at every station."""

    metric: str
    sent: int
    accepted: int
    duplicates: int
    log: Decimal
    ledger: Decimal
    counters: Decimal
    pushed: Decimal
    stripe: Decimal
    customers: int
    wrong_customers: int
    expected_events: int

    @property
    def agrees(self) -> bool:
        """Whether every station holds the log's number and every event counted once."""
        totals = {self.log, self.ledger, self.counters, self.pushed, self.stripe}
        counted_once = self.accepted == self.expected_events == self.sent - self.duplicates
        return len(totals) == 1 and counted_once and not self.wrong_customers


def run(input_file: Path | None = None) -> int:
    """Run the demo; the process's exit code."""
    started = time.monotonic()
    try:
        log = generate_log() if input_file is None else read_log(input_file)
        with running_stack(free_ports=True, summary_delay_s=SUMMARY_DELAY_S) as stack:
            agree = _run(stack, log, started)
    except (LogError, LocalServiceError) as trouble:
        console.print(f"[red]error:[/red] {trouble}", highlight=False)
        return 1
    console.print(f"{time.monotonic() - started:.0f} s in all", highlight=False)
    return 0 if agree else 1


def _run(stack: Stack, log: Sequence[Request], started: float) -> bool:
    """Meter the log, then close the month; whether every number agrees."""
    up_after = time.monotonic() - started
    console.print(
        f"{len(log):,} requests; stack up after {up_after:.0f} s at {stack.api_url}",
        highlight=False,
    )
    now = SystemClock().now()
    events = usage_events(log, DEMO_TENANT, now)
    expected = expectations(events)
    for function in ("writer", "reconciler", "period_closer"):
        stack.chaos(function, "pause")  # they run below, when everything is counted
    subscribers = _prepare(stack, expected)
    _first_number(stack, events[-1], started)
    rows = _meter(stack, events, expected, now)
    _show(rows)
    closed = _close(stack, subscribers, expected)
    return bool(rows) and all(row.agrees for row in rows) and closed.agrees


def _meter(
    stack: Stack, events: Sequence[SentEvent], expected: Mapping[str, Expected], now: datetime
) -> list[Row]:
    sent = _send(stack, deliveries(events))
    _step("every event is counted", lambda: stack.drain(timeout_s=120))
    _step("Stripe is told the totals", lambda: _push(stack))
    _step(
        "ledger, counters, pushes and Stripe are compared",
        lambda: _reconcile(stack, now),
    )
    return _rows(stack, expected, sent, now)


def _prepare(stack: Stack, expected: Mapping[str, Expected]) -> Subscribers:
    prices = seed(stack.api_url, stack.stripe_url)
    customers = {name for metric in expected.values() for name in metric.per_customer}
    with StandIn(stack.stripe_url) as stand_in:
        stand_in.add_customers(sorted(customers))
    # The log covers more than the default 48 hours; older events would wait for approval.
    for metric in expected:
        settings = {"tenantId": DEMO_TENANT, "latenessHours": 24 * 31}
        httpx.put(f"{stack.api_url}/v1/metrics/{metric}", json=settings).raise_for_status()
    return demo_close.subscribe(stack, prices, expected)


def _first_number(stack: Stack, event: SentEvent, started: float) -> None:
    """The promise in small, before the log: one event is sent twice and counts once."""
    trial = event | {"metric": "trial", "idempotencyKey": "trial-1", "quantity": 42}
    with httpx.Client(base_url=stack.api_url, timeout=30) as client:
        answers = [client.post("/v1/events/ingest", json={"events": [trial]}) for _ in range(2)]
        stack.drain()
        query = {"tenantId": DEMO_TENANT, "customerRef": trial["customerRef"]}
        metrics = client.get("/v1/usage/current", params=query).json()["metrics"]
    told = [answer.json()["results"][0]["status"] for answer in answers]
    counted = [metric["current"] for metric in metrics if metric["name"] == "trial"]
    if told != ["accepted", "duplicate"] or counted != [42]:
        raise LocalServiceError(f"42 sent twice was answered {told} and counted as {counted}")
    console.print(
        f"first checked number after {time.monotonic() - started:.0f} s: 42 sent twice counts as"
        f" {counted[0]} ({told[0]}, {told[1]})",
        highlight=False,
    )


# --- sending --------------------------------------------------------------------------------------


def _send(stack: Stack, planned: Sequence[Delivery]) -> Counter[str]:
    """Send every delivery; how many events of each metric were sent."""
    sent: Counter[str] = Counter()
    kill_at = int(len(planned) * KILL_AT_SHARE)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with (
        _doors(stack) as deliver,
        Progress(*columns, TimeElapsedColumn(), console=console) as progress,
        ThreadPoolExecutor(CONNECTIONS) as pool,
    ):
        events = sum(len(delivery.events) for delivery in planned)
        bar = progress.add_task("events sent, each twice", total=events)
        for number, delivery in enumerate(pool.map(deliver, planned)):
            sent.update(event["metric"] for event in delivery.events)
            progress.advance(bar, len(delivery.events))
            if number == kill_at:
                _kill_the_aggregator(stack, progress)
    return sent


@contextmanager
def _doors(stack: Stack) -> Iterator[Callable[[Delivery], Delivery]]:
    """What delivers a batch by HTTPS or SQS, and gives it back when it is taken."""
    queue, queue_url = queues.client(stack.sqs_endpoint), stack.queue_url
    with httpx.Client(base_url=stack.api_url, timeout=30) as client:

        def deliver(delivery: Delivery) -> Delivery:
            content = {"events": delivery.events}
            if delivery.over_queue:
                queue.send_message(QueueUrl=queue_url, MessageBody=json.dumps(content))
            else:
                _check(client.post("/v1/events/ingest", json=content))
            return delivery

        yield deliver


def _check(answer: httpx.Response) -> None:
    if answer.status_code != httpx.codes.OK or answer.json().get("errors"):
        raise LocalServiceError(f"ingest answered {answer.status_code}: {answer.text[:300]}")


def _kill_the_aggregator(stack: Stack, progress: Progress) -> None:
    for kill in KILLS:
        stack.chaos("aggregator", "kill", **kill)
    progress.console.print("the aggregator is killed twice in the middle of a batch; it resumes")


# --- pushing and comparing ------------------------------------------------------------------------


def _push(stack: Stack) -> None:
    """Run the writer until it finds nothing left to tell Stripe."""
    for _ in range(WRITER_RUNS_MAX):
        report = stack.run("writer")
        if not report.get("planned") and not report.get("open"):
            return
    raise LocalServiceError(f"the writer did not finish: {report}")


def _reconcile(stack: Stack, now: datetime, **more: Any) -> None:
    time.sleep(2 * SUMMARY_DELAY_S)  # Stripe sums up asynchronously, the stand-in too
    # The stand-in rations no reads, so every row is read, and in one run.
    month = f"{now:%Y-%m}"
    stack.run("reconciler", tenantId=DEMO_TENANT, period=month, verify=True, readsMax=10**6, **more)


def _close(stack: Stack, subscribers: Subscribers, expected: Mapping[str, Expected]) -> ClosedMonth:
    """Let the month end, close it, and show what it came to."""
    _step("the month ends and is closed", lambda: demo_close.close(stack, subscribers))
    month, asked = subscribers.month.start, {"customerRefs": subscribers.customers}
    _step("the closed month is compared", lambda: _reconcile(stack, month, **asked))
    closed = demo_close.closed_month(stack, subscribers, expected)
    console.print(demo_close.table(closed, subscribers))
    for trouble in closed.troubles:
        console.print(f"[red]{escape(trouble)}[/]", highlight=False)
    console.print(f"For example {closed.example}.", highlight=False)
    if closed.agrees:
        console.print("[green]Every invoice bills what the ledger says, to the last unit.[/]")
    return closed


def _step(title: str, action: Any) -> None:
    started = time.monotonic()
    with console.status(title):
        action()
    console.print(f"{title}: {time.monotonic() - started:.1f} s", highlight=False)


# --- the numbers ----------------------------------------------------------------------------------


def _rows(
    stack: Stack, expected: Mapping[str, Expected], sent: Counter[str], now: datetime
) -> list[Row]:
    report = _report(stack, now)
    counts = _prometheus(stack)
    at_stripe = _at_stripe(stack)
    return [
        _row(metric, wanted, sent[metric], report[metric], counts, at_stripe[metric])
        for metric, wanted in sorted(expected.items())
    ]


def _at_stripe(stack: Stack) -> dict[str, Decimal]:
    """What the stand-in itself holds per meter, asked past the product."""
    held: dict[str, Decimal] = defaultdict(Decimal)
    with StandIn(stack.stripe_url) as stand_in:
        for total in stand_in.totals().values():
            held[total.event_name] += total.shown
    return held


def _row(
    metric: str,
    wanted: Expected,
    sent: int,
    lines: Sequence[Mapping[str, Any]],
    counts: Mapping[str, int],
    at_stripe: Decimal,
) -> Row:
    wrong = {
        line["customerRef"]
        for line in lines
        if {line[station] for station in STATIONS} != {wanted.per_customer.get(line["customerRef"])}
    }
    missing = wanted.per_customer.keys() - {line["customerRef"] for line in lines}
    return Row(
        metric=metric,
        sent=sent,
        accepted=counts.get(f'events_ingested_total{{meter="{metric}"}}', 0),
        duplicates=counts.get(f'events_duplicate_total{{meter="{metric}"}}', 0),
        log=wanted.total,
        ledger=_sum(lines, "localTotal"),
        counters=_sum(lines, "countedTotal"),
        pushed=_sum(lines, "pushedTotal"),
        stripe=at_stripe,
        customers=len(wanted.per_customer),
        wrong_customers=len(wrong | missing),
        expected_events=wanted.events,
    )


def _sum(lines: Sequence[Mapping[str, Any]], station: str) -> Decimal:
    return sum((line[station] for line in lines), Decimal(0))


def _report(stack: Stack, now: datetime) -> dict[str, list[Mapping[str, Any]]]:
    """The latest reconciliation's lines, per metric."""
    answer = httpx.get(
        f"{stack.api_url}/v1/reconciliation/{now:%Y-%m}",
        params={"tenantId": DEMO_TENANT},
        timeout=60,
    ).raise_for_status()
    body = json.loads(answer.text, parse_float=Decimal, parse_int=Decimal)
    lines = defaultdict(list)
    for line in body["reports"]:
        lines[line["metric"]].append(line)
    return lines


def _prometheus(stack: Stack) -> dict[str, int]:
    """The runner's counts of events, both doors together."""
    text = httpx.get(f"{stack.api_url}/metrics").raise_for_status().text
    lines = (line.rpartition(" ") for line in text.splitlines() if line.startswith("events_"))
    return {name: int(float(value)) for name, _, value in lines}


def _show(rows: Sequence[Row]) -> None:
    table = Table(title="Usage at every station")
    table.add_column("")
    for row in rows:
        table.add_column(row.metric, justify="right")
    for title, number in _LINES.items():
        table.add_row(
            title, *(f"{number(row):,}" for row in rows), end_section=title == "duplicates"
        )
    table.add_section()
    table.add_row("", *(_verdict(row) for row in rows))
    console.print(table)
    if all(row.agrees for row in rows):
        customers = max(row.customers for row in rows)
        console.print(f"[green]All agree to the last unit, for each of {customers:,} customers.[/]")


_LINES: Mapping[str, Callable[[Row], int | Decimal]] = {
    "sent": lambda row: row.sent,
    "accepted": lambda row: row.accepted,
    "duplicates": lambda row: row.duplicates,
    "in the log": lambda row: row.log,
    "in the ledger": lambda row: row.ledger,
    "in the counters": lambda row: row.counters,
    "pushed": lambda row: row.pushed,
    "at Stripe": lambda row: row.stripe,
}


def _verdict(row: Row) -> str:
    if row.agrees:
        return "[green]agree[/]"
    return f"[red]differ ({row.wrong_customers} customers)[/]"
