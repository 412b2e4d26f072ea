"""How long it takes from an accepted event until Stripe's summary shows it, in the local stack.

The schedules are the local stack's own. A customer's events are of one unit each and are shown in
the order in which they were accepted, so the n-th has arrived when the summary shows n.
"""

import random
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import NamedTuple

import httpx

from infra.functions import WRITER, Schedule
from local.bench.measure import Size, console, results
from local.dynamodb_local import LocalServiceError
from local.seed import METRICS, seed
from local.stack import DEMO_TENANT, Stack, running_stack
from local.stripe.control import StandIn

EVENTS = 250
SPREAD_S = 75.0
CUSTOMERS = 25
LOOK_S = 0.1
ARRIVED_WITHIN_S = 120.0
"""After the last was sent; then the benchmark fails."""
TARGET_S = 30
METRIC = METRICS[0].name


class _Sent(NamedTuple):
    customer: str
    at: float
    """Of the answer `accepted`, on the monotonic clock."""


class Watch:
    """Sends events at their times and looks at Stripe's summaries all the while."""

    def __init__(
        self, api: httpx.Client, stand_in: StandIn, *, within_s: float = ARRIVED_WITHIN_S
    ) -> None:
        self._api = api
        self._stand_in = stand_in
        self._within_s = within_s
        self._waiting: dict[str, list[_Sent]] = defaultdict(list)
        self._arrived: dict[str, int] = defaultdict(int)
        self.took_s: list[float] = []
        """Of each event that has arrived, in no order."""

    def run(self, due: Sequence[float], customers: Sequence[str]) -> None:
        """`due` are seconds from now, rising; customers take turns.

        Raises:
            LocalServiceError: some have not arrived long after the last was due.
        """
        began, sent = time.monotonic(), 0
        while len(self.took_s) < len(due):
            elapsed = time.monotonic() - began
            if elapsed > due[-1] + self._within_s:
                missing = len(due) - len(self.took_s)
                raise LocalServiceError(f"{missing} events have not arrived")
            while sent < len(due) and due[sent] <= elapsed:
                self._send(customers[sent % len(customers)], sent)
                sent += 1
            self._look()
            time.sleep(LOOK_S)

    def _send(self, customer: str, number: int) -> None:
        event = {
            "tenantId": DEMO_TENANT,
            "metric": METRIC,
            "customerRef": customer,
            "quantity": 1,
            "ts": datetime.now(UTC).isoformat(),  # noqa: TID251 (a client's clock)
            "idempotencyKey": f"arrival-{number}",
        }
        answer = self._api.post("/v1/events/ingest", json={"events": [event]})
        assert answer.json()["accepted"] == 1, answer.text
        self._waiting[customer].append(_Sent(customer, time.monotonic()))

    def _look(self) -> None:
        totals = self._stand_in.totals()
        now = time.monotonic()
        for customer, waiting in self._waiting.items():
            total = totals.get((METRIC, customer))
            shown = int(total.shown) if total else 0
            for sent in islice(waiting, self._arrived[customer], shown):
                self.took_s.append(now - sent.at)
            self._arrived[customer] = shown


def measure(size: Size) -> None:
    """Events at random instants of more than a minute, for several customers."""
    events, spread_s = size.of(EVENTS), SPREAD_S / size.value
    instants = random.Random(1)  # noqa: S311 (no secret)
    due = sorted(instants.uniform(0, spread_s) for _ in range(events))
    customers = [f"cus_arrival{number}" for number in range(CUSTOMERS)]
    with running_stack(free_ports=True) as stack, StandIn(stack.stripe_url) as stand_in:
        seed(stack.api_url, stack.stripe_url)
        stand_in.add_customers(customers)
        took_s = _watch(stack, stand_in, due, customers)
    _show(took_s, spread_s)


def _watch(
    stack: Stack, stand_in: StandIn, due: Sequence[float], customers: Sequence[str]
) -> list[float]:
    with httpx.Client(base_url=stack.api_url, trust_env=False) as api:
        watch = Watch(api, stand_in)
        watch.run(due, customers)
    return sorted(watch.took_s)


def _show(took_s: Sequence[float], spread_s: float) -> None:
    assert isinstance(WRITER.trigger, Schedule)
    title = (
        f"local stack, {len(took_s)} events over {spread_s:.0f} s, {CUSTOMERS} customers,"
        f" the writer every {WRITER.trigger.every_local_s} s"
    )
    table = results(title, "from `accepted` to Stripe's summary", "seconds", "target")
    for name, share, target in (("p50", 0.5, "–"), ("p95", 0.95, f"{TARGET_S}")):
        table.add_row(name, f"{took_s[int(len(took_s) * share)]:.1f}", target)
    table.add_row("longest", f"{took_s[-1]:.1f}", "–")
    console.print(table)
