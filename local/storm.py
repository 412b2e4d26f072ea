"""A storm of pushes: thousands, a fifth of Stripe's answers at fault, writers dying on the way.

The real writer over DynamoDB Local, and the real SDK straight into a Stripe stand-in, in virtual
time and one process. Half of the writer's runs die at one of their calls, to DynamoDB or to Stripe,
before or after its effect; half-way everything stands still for a day, so that Stripe has forgotten
every identifier. Then all is well again until nothing is open. What Stripe holds must then be what
was used, to the unit, and each push must have counted exactly as often as it says.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import batched
from typing import Any, NamedTuple

import stripe
from rich.console import Console
from rich.table import Table

from local import dynamodb_local
from local.month.clocks import VirtualClock
from local.month.trouble import Death, Fate, ProcessDiedError, TroubledStripe
from local.month.world import OneThread
from local.ports import free_port
from local.runner import STRIPE_KEY
from local.stripe.core import StripeCore
from local.stripe.in_process import InProcessClient
from local.stripe.state import DEFAULT_ACCOUNT, Settings
from metering.adapters.dynamodb.ledger_item import to_item
from metering.adapters.stripe_client import StripeConnection
from metering.adapters.stripe_key import own_key
from metering.config import Config
from metering.counter import Aggregation
from metering.event import LedgerEntry, Source, UsageEvent
from metering.mapping import Mapping
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.push import Push, PushState
from metering.wiring import Wiring, using_here

TENANT, METRIC = TenantId("storm"), Metric("api_calls")
START = datetime(2026, 11, 2, 12, tzinfo=UTC)
MONTH = "2026-11"
RUN_EVERY = timedelta(seconds=70)
"""Longer than the lease of a writer that died."""
STANDSTILL = timedelta(hours=25)
RUNS_A_ROUND = 2
DEATHS = 0.5
"""Of the writer's runs; nothing dies without faults."""
PUSHES_A_CUSTOMER = 12
HEALED_WITHIN = 60
"""Runs after the storm, some of them an hour apart."""
FOLDED_AT_ONCE = 500
ROUNDS_MAX = 1000

_COUNTED = {PushState.ACCEPTED, PushState.COUNTED}
console = Console()


class Mortality(Fate):
    """A fate that remembers what its processes died at, and which calls they made."""

    def __init__(self) -> None:
        super().__init__()
        self.died_at: Counter[str] = Counter()
        """By call, and whether it had its effect."""
        self.calls: list[str] = []
        """Of the process that runs now, in order."""
        self._is_noted = True

    def doom(self, death: Death | None) -> None:
        """See `Fate.doom`."""
        super().doom(death)
        self.calls, self._is_noted = [], False

    def before_call(self, **about: Any) -> None:
        """See `Fate.before_call`."""
        self.calls.append(about["model"].name if "model" in about else "request to Stripe")
        with self._noting("before"):
            super().before_call(**about)

    def after_call(self, **about: Any) -> None:
        """See `Fate.after_call`."""
        with self._noting("after"):
            super().after_call(**about)

    @contextmanager
    def _noting(self, moment: str) -> Iterator[None]:
        try:
            yield
        except ProcessDiedError:
            if not self._is_noted:
                self.died_at[f"{moment} {self.calls[-1]}"] += 1
                self._is_noted = True
            raise


@dataclass(frozen=True, slots=True)
class Order:
    """What storm is wanted."""

    pushes: int
    """How many pushes must reach Stripe at least."""
    seed: int
    faults: float
    """Which part of the requests to Stripe goes wrong."""

    @property
    def customers(self) -> int:
        """How many customers have usage, in each round."""
        return max(self.pushes // PUSHES_A_CUSTOMER, 10)


class Verdict(NamedTuple):
    """What came of a storm."""

    pushes: Counter[str]
    """By how they ended and how that became known."""
    differences: tuple[str, ...]
    """Whatever is not as it must be; none, if nothing was lost or doubled."""


class Storm:
    """The tables, Stripe, and a writer that runs again and again."""

    def __init__(self, config: Config, order: Order) -> None:
        self.order = order
        self._random = random.Random(order.seed)  # noqa: S311 (no secret)
        self._clock = VirtualClock(START)
        self._config = config
        self._core = StripeCore(self._clock.now, settings=Settings(summary_delay_s=90.0))
        self.mortality = Mortality()
        self._peaceful = Wiring(config, clock=self._clock, machine=OneThread())
        self._client = Wiring(config, clock=self._clock, machine=OneThread()).dynamodb
        self.mortality.watch(self._client)
        self.troubled = TroubledStripe(self._core, self.mortality, order.seed)
        self._writer: Wiring | None = None
        self._records = 0
        self._calls_before: list[str] = []
        """Of the last run that lived."""
        self.used: Counter[CustomerRef] = Counter()
        self.runs: Counter[str] = Counter()
        self.cpu_s = 0.0
        """What the runs of the writer took, with the SDK and the stand-in within."""
        self._set_up()

    def _set_up(self) -> None:
        network = InProcessClient(self._core)
        people = stripe.StripeClient(STRIPE_KEY, http_client=network)
        about: Any = {
            "display_name": METRIC,
            "event_name": METRIC,
            "default_aggregation": {"formula": "sum"},
        }
        meter = people.v1.billing.meters.create(about)
        self._peaceful.settings_store.add_mapping(_mapping(meter.id, self._clock.now()))
        self._customers = [
            CustomerRef(people.v1.customers.create({"name": str(number)}).id)
            for number in range(self.order.customers)
        ]

    # --- the storm ---

    def rage(self) -> Iterator[int]:
        """Let usage come and the writer run among faults; tells after each round what has left."""
        self.troubled.rate = self.order.faults
        standstill = self.order.pushes // 2
        for _ in range(ROUNDS_MAX):
            self._use()
            for _ in range(RUNS_A_ROUND):
                self._write(self._death())
            left = self.pushes_left()
            yield left
            if left >= self.order.pushes:
                return
            if left >= standstill:
                self._advance(STANDSTILL)
                standstill = self.order.pushes
        raise AssertionError(f"not {self.order.pushes} pushes in {ROUNDS_MAX} rounds")

    def heal(self) -> None:
        """Without any fault, until nothing is open; soon, or when what nobody knows is due."""
        self.troubled.rate = 0.0
        for number in range(HEALED_WITHIN):
            self._write(None)
            if not self._peaceful.pushes.in_need():
                return
            self._advance(timedelta(minutes=31) if number % 4 == 3 else timedelta())  # noqa: PLR2004
        raise AssertionError("something is still open")

    def pushes_left(self) -> int:
        """How many pushes Stripe knows, by their identifiers."""
        account = self._core.world.accounts.get(DEFAULT_ACCOUNT)
        return sum(1 for _ in account.events()) if account else 0

    def _use(self) -> None:
        entries = [self._entry(customer) for customer in self._customers]
        from functions.aggregator.handler import handler  # noqa: PLC0415 (after its logging is set)

        with using_here(self._peaceful):
            for batch in batched(entries, FOLDED_AT_ONCE, strict=False):
                answer = handler(self._stream_batch(batch), None)
                assert not answer["batchItemFailures"], answer

    def _entry(self, customer: CustomerRef) -> LedgerEntry:
        quantity = self._random.randint(1, 1000)
        self.used[customer] += quantity
        self._records += 1
        event = UsageEvent(
            tenant=TENANT,
            key=IdempotencyKey(f"storm-{self._records}"),
            metric=METRIC,
            customer=customer,
            resource=None,
            quantity=Decimal(quantity),
            occurred_at=self._clock.now(),
            meta="{}",
            source=Source.HTTP,
        )
        return LedgerEntry(event, self._clock.now(), is_late=False)

    def _stream_batch(self, entries: Sequence[LedgerEntry]) -> dict[str, Any]:
        first = self._records - len(entries)
        records = [
            {
                "eventName": "INSERT",
                "dynamodb": {
                    "SequenceNumber": f"{first + number:021}",
                    "NewImage": to_item(entry, index_shards=0) | {"h": {"B": "AAAA"}},
                },
            }
            for number, entry in enumerate(entries, 1)
        ]
        shard = f"shardId-{self._records}"
        return {"Records": records, "shardId": shard, "eventSourceARN": "arn:storm", "state": {}}

    def _death(self) -> Death | None:
        """At some call of each kind as often as at one of another, if the run is like the last."""
        calls = self._calls_before
        if not (self.order.faults and calls) or self._random.random() >= DEATHS:
            return None
        kind = self._random.choice(sorted(set(calls)))
        at = [number for number, name in enumerate(calls, 1) if name == kind]
        return Death(self._random.choice(at), self._random.choice((True, False)))

    def _write(self, death: Death | None) -> None:
        """One run of the writer; one that dies leaves nothing in memory."""
        self._writer = wired = self._writer or self._new_writer()
        self.mortality.doom(death)
        began = time.process_time()
        try:
            run = wired.writer.run("storm", lambda: timedelta(seconds=55))
        except ProcessDiedError:
            self._writer = None
            self.runs["died"] += 1
        else:
            self.runs["skipped" if "skipped" in run else "ended"] += 1
            self._calls_before = self.mortality.calls
        finally:
            self.cpu_s += time.process_time() - began
            self.mortality.doom(None)
        self._advance(RUN_EVERY)

    def _new_writer(self) -> Wiring:
        wired = Wiring(self._config, clock=self._clock, dynamodb=self._client, machine=OneThread())
        key = own_key(self._config)
        wired.stripe_connection = StripeConnection(key, http_client=self.troubled)
        return wired

    def _advance(self, by: timedelta) -> None:
        self._clock.set(self._clock.now() + by)

    # --- what came of it ---

    def verdict(self) -> Verdict:
        """Compare usage, streams, pushes and Stripe's events, each with each."""
        events = self._events()
        ended: Counter[str] = Counter()
        differences: list[str] = []
        accepted: Counter[CustomerRef] = Counter()
        known: set[str] = set()
        for stream in self._peaceful.pushes.of_month(TENANT, MONTH):
            accepted[stream.key.counter.customer] += stream.accepted
            for push in self._peaceful.pushes.history(stream):
                ended[f"{push.state}: {push.resolution}"] += 1
                known.add(push.identifier)
                differences += _wrong(push, events.get(push.identifier, []))
        at_stripe: Counter[CustomerRef] = Counter()
        for customer, value in (one for found in events.values() for one in found):
            at_stripe[customer] += value
        for customer in self._customers:
            numbers = (self.used[customer], accepted[customer], at_stripe[customer])
            if len(set(numbers)) > 1:
                differences.append(
                    "{}: used {}, accepted {}, at Stripe {}".format(customer, *numbers)
                )
        differences += [f"{identifier} was never ours" for identifier in set(events) - known]
        return Verdict(ended, tuple(differences))

    def _events(self) -> dict[str, list[tuple[CustomerRef, int]]]:
        """Whatever Stripe counted, by identifier."""
        events: dict[str, list[tuple[CustomerRef, int]]] = {}
        for event in self._core.world.accounts[DEFAULT_ACCOUNT].events():
            counted = (CustomerRef(event.customer), int(event.value))
            events.setdefault(event.identifier, []).append(counted)
        return events


def _wrong(push: Push, events: Sequence[tuple[CustomerRef, int]]) -> Iterator[str]:
    wanted = [int(push.value)] if push.state in _COUNTED else []
    counted = [value for _, value in events]
    if counted != wanted:
        yield f"push {push.identifier} is {push.state}, and Stripe counted {counted}, not {wanted}"


def _mapping(meter_id: str, now: datetime) -> Mapping:
    return Mapping(
        id="map_storm",
        tenant=TENANT,
        metric=METRIC,
        aggregation=Aggregation.SUM,
        stripe_account="",
        price_id="",
        subscription_item_id="",
        currency="usd",
        meter_id=meter_id,
        meter_event_name=METRIC,
        scale=0,
        active=True,
        shadow=False,
        shadow_stripe_account="",
        shadow_price_id="",
        shadow_subscription_item_id="",
        created_at=now,
        updated_at=now,
        meter_window="",
    )


# --- the command ----------------------------------------------------------------------------------


def config_at(endpoint: str, prefix: str = "") -> Config:
    """A deployment's settings whose Stripe is the stand-in within this process."""
    return Config(
        table_prefix=prefix,
        dynamodb_endpoint=endpoint,
        auth=False,
        stripe_api_base="http://127.0.0.1",  # Nobody is asked there.
        stripe_secret_key=STRIPE_KEY,
        metrics="off",
    )


def run(order: Order) -> int:
    """Rage, heal, and print what came of it; 0 when nothing was lost or doubled."""
    os.environ.setdefault("AWS_DEFAULT_REGION", dynamodb_local.REGION)
    for name, value in dynamodb_local.CREDENTIALS.items():
        os.environ.setdefault(name.upper(), value)
    port = free_port()
    process = dynamodb_local.start(port)
    try:
        endpoint = dynamodb_local.endpoint(port)
        dynamodb_local.create_tables(dynamodb_local.client(endpoint))
        storm = Storm(config_at(endpoint), order)
        _rage(storm)
        verdict = storm.verdict()
    finally:
        process.kill()
        process.wait()
    _show(storm, verdict)
    return 1 if verdict.differences else 0


def _rage(storm: Storm) -> None:
    step = max(storm.order.pushes // 10, 1)
    shown = 0
    for left in storm.rage():
        if left >= shown + step:
            shown = left
            console.print(f"{left:,} of {storm.order.pushes:,} pushes have counted")
    console.print("the storm is over; what is open is settled")
    storm.heal()


def _show(storm: Storm, verdict: Verdict) -> None:
    order = storm.order
    title = f"A storm of {sum(verdict.pushes.values()):,} pushes, seed {order.seed}"
    table = Table("what", "how often", title=title)
    table.columns[1].justify = "right"
    for part in (verdict.pushes, storm.troubled.met, storm.mortality.died_at, storm.runs):
        prefix = {id(storm.mortality.died_at): "writer died ", id(storm.runs): "runs "}.get(
            id(part)
        )
        for name, number in sorted(part.items()):
            table.add_row((prefix or "") + name, f"{number:,}")
        table.add_section()
    console.print(table)
    for difference in verdict.differences[:20]:
        console.print(f"[red]wrong:[/red] {difference}", highlight=False)
    _conclude(storm, verdict)


def _conclude(storm: Storm, verdict: Verdict) -> None:
    told = sum(storm.used.values())
    if verdict.differences:
        again = f"python -m local storm --pushes {storm.order.pushes} --seed {storm.order.seed}"
        console.print(f"{len(verdict.differences)} differences; again by: {again}")
        return
    console.print(
        f"nothing lost, nothing doubled: {told:,} units used, accepted and held by Stripe, to the"
        f" last one ({storm.cpu_s:,.1f} s of CPU in the writer)",
        highlight=False,
    )
