"""Many customers with usage to be billed: tables, a Stripe stand-in, and functions beside them.

The function that is measured has a process of its own; the stand-in is a thread of this one, which
does nothing else meanwhile, so that its CPU is known too.
"""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import batched, count
from typing import Any

import stripe

from infra.functions import WRITER, Function
from local.bench.folding import fold, stream_record
from local.bench.measure import Deployment, cpu_of, deployment
from local.bench.process import FunctionProcess, Invocation
from local.http_event import Request, payload
from local.runner import STRIPE_KEY
from local.stripe import server
from local.stripe.control import StandIn
from local.stripe.state import Settings
from metering.adapters.dynamodb.ledger_item import to_item
from metering.event import LedgerEntry, Source, UsageEvent
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.ports import Appended
from metering.reconciliation import Row

TENANT = TenantId("bench")
FOLDED_AT_ONCE = 5_000
STORED_AT_ONCE = 1_000
RUNS_MAX = 50

_numbers = count()


@dataclass(frozen=True, slots=True)
class Cost:
    """What an invocation, or several, took of each process."""

    function: Invocation
    stripe_cpu_s: float
    dynamodb_cpu_s: float

    @property
    def others(self) -> str:
        """What the services took beside the function, for people."""
        return f"stand-in {self.stripe_cpu_s:.1f} s, DynamoDB Local {self.dynamodb_cpu_s:.1f} s"


class Billed:
    """A tenant with customers at Stripe."""

    def __init__(
        self, deployed: Deployment, stand_in: StandIn, told: Mapping[str, str] | None = None
    ) -> None:
        self._wiring = deployed.wiring
        self._environment = deployed.environment | dict(told or {})
        self._dynamodb = deployed.dynamodb
        self.stand_in = stand_in
        self._stripe = stripe.StripeClient(STRIPE_KEY, base_addresses=stand_in.base_addresses())

    # --- set-up ---

    def map(self, metric: Metric) -> None:
        """Make a meter and a price, and map a metric onto it through the API."""
        made = self._stripe.v1.billing.meters.create(
            {
                "display_name": metric,
                "event_name": metric,
                "default_aggregation": {"formula": "sum"},
            }
        )
        price = self._stripe.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": 1,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": made.id},
                "product_data": {"name": metric},
            }
        )
        mapping = {"tenantId": TENANT, "metric": metric, "aggregation": "sum", "priceId": price.id}
        self._post("/v1/mappings", mapping)

    def _post(self, path: str, body: object) -> None:
        from functions.api.handler import handler  # noqa: PLC0415 (after the wiring)

        headers = [(b"content-type", b"application/json")]
        request = Request("POST", path, "", headers, json.dumps(body).encode(), "127.0.0.1")
        event = payload(request, route="$default", now=self._wiring.clock.now())
        answer = handler(event, None)
        assert answer["statusCode"] in {200, 201}, answer

    def add_customers(self, number: int) -> list[CustomerRef]:
        """Let so many exist at Stripe."""
        customers = [CustomerRef(f"cus_bench{one}") for one in range(number)]
        self.stand_in.add_customers(customers)
        return customers

    # --- usage ---

    def use(self, usage: Iterable[tuple[CustomerRef, Metric, Decimal]], *, stores: bool) -> None:
        """Usage of now, counted; in the ledger too if it `stores`."""
        entries = [_entry(*one) for one in usage]
        if stores:
            for batch in batched(entries, STORED_AT_ONCE, strict=False):
                assert set(self._wiring.ledger.append(batch)) == {Appended.ACCEPTED}
        records = (
            stream_record(number, to_item(entry, index_shards=0) | {"h": {"B": "AAAA"}})
            for number, entry in enumerate(entries)
        )
        fold(records, FOLDED_AT_ONCE, f"shardId-{next(_numbers)}")

    # --- what is measured ---

    @contextmanager
    def process(self, function: Function) -> Iterator[FunctionProcess]:
        """A cold start of a function; nothing of it is left afterwards."""
        process = FunctionProcess(function, self._environment)
        try:
            yield process
        finally:
            process.end()

    def cost(self, process: FunctionProcess, event: Mapping[str, Any]) -> Cost:
        """One invocation."""
        stripe_cpu, dynamodb_cpu = time.process_time(), cpu_of(self._dynamodb)
        done = process.invoke(event)
        return Cost(done, time.process_time() - stripe_cpu, cpu_of(self._dynamodb) - dynamodb_cpu)

    def write_all(self, process: FunctionProcess) -> list[Cost]:
        """Runs of the writer until one comes to its end; what each took."""
        costs = []
        for _ in range(RUNS_MAX):
            costs.append(self.cost(process, {}))
            if costs[-1].function.answer.get("complete"):
                return costs
        raise AssertionError(f"the writer is not done after {RUNS_MAX} runs: {costs[-1]}")

    def write(self) -> None:
        """Tell Stripe everything, unmeasured."""
        with self.process(WRITER) as process:
            self.write_all(process)

    def told(self) -> tuple[int, Decimal]:
        """How many meter events Stripe has counted, and what they come to."""
        totals = self.stand_in.totals().values()
        return sum(one.events for one in totals), sum((one.total for one in totals), Decimal(0))

    def rows(self, month: str) -> Sequence[Row]:
        """The latest report's, for the periods that begin in a month."""
        report = self._wiring.reports.latest(TENANT, month)
        assert report is not None
        return report.rows


@contextmanager
def billed(*, reads_a_month: int, told: Mapping[str, str] | None = None) -> Iterator[Billed]:
    """Empty tables, and a stand-in whose summaries show what it was told at once.

    Functions' processes are `told` more of their environment than this one.
    """
    settings = Settings(summary_delay_s=0)
    with (
        server.running(settings=settings) as stand_in,
        deployment(
            AUTH="off",
            STRIPE_API_BASE=stand_in.url,
            STRIPE_SECRET_KEY=STRIPE_KEY,
            STRIPE_READS_A_MONTH=str(reads_a_month),
        ) as deployed,
    ):
        yield Billed(deployed, stand_in, told)


def together(costs: Sequence[Cost]) -> Cost:
    """What several invocations took; the answer is the last one's."""
    last = costs[-1].function
    done = Invocation(
        last.answer,
        sum(one.function.cpu_s for one in costs),
        sum(one.function.wall_s for one in costs),
        last.peak_mb,
    )
    return Cost(
        done, sum(one.stripe_cpu_s for one in costs), sum(one.dynamodb_cpu_s for one in costs)
    )


def _entry(customer: CustomerRef, metric: Metric, quantity: Decimal) -> LedgerEntry:
    now = datetime.now(UTC)  # noqa: TID251 (a client's clock)
    event = UsageEvent(
        tenant=TENANT,
        key=IdempotencyKey(f"bench-{next(_numbers)}"),
        metric=metric,
        customer=customer,
        resource=None,
        quantity=quantity,
        occurred_at=now,
        meta="{}",
        source=Source.HTTP,
    )
    return LedgerEntry(event, now, is_late=False)
