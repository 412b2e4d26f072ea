"""A world: every function, the tables, the queue and Stripe over one kernel, set up and in trouble.

Real are handlers, core, adapters, wiring, the `stripe` SDK and the stand-in's core. In memory are
DynamoDB, its stream, SQS and both mappings; virtual are clock, machine and network.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import stripe

from infra import functions
from infra.functions import AGGREGATOR, API, INGEST, INGEST_QUEUE, Function, TableStream
from infra.functions import Queue as QueueSettings
from infra.tables import BILLING, EVENTS, TABLES
from local import webhooks
from local.http_event import Request, payload
from local.runner import STRIPE_KEY
from local.stripe.core import StripeCore
from local.stripe.in_process import InProcessClient
from local.stripe.state import Settings
from metering.adapters.dynamodb.push_item import in_need_partition
from metering.auth import DEFAULT_SCOPES
from metering.config import Config
from metering.names import TenantId
from metering.push import Role
from metering.wiring import Wiring
from tests.simulation.aws.client import Client
from tests.simulation.aws.dynamodb import Change, MemoryDynamoDB
from tests.simulation.aws.mapping import Failure, Invocation, Mapping, MappingFaults
from tests.simulation.aws.queue import Queue, QueueFaults, QueueInvocation
from tests.simulation.aws.stream import Stream
from tests.simulation.deployment import Lambda, Machine, SkewedClock
from tests.simulation.draw import NO_FAULTS, Drawn, Faults, Kind
from tests.simulation.kernel import Kernel
from tests.simulation.network import DynamoNetwork, StripeNetwork
from tests.simulation.pump import Pump
from tests.simulation.skies import Skies

STRIPE_URL = "http://127.0.0.1:12111"
"""Nobody listens there: it only says that Stripe is a stand-in."""
VISIBLE_AFTER = timedelta(seconds=6 * functions.INGEST_QUEUE.timeout_s)
ARN = "arn:aws:dynamodb:eu-west-1:000000000000:table/events/stream/2026-11-01T00:00:00.000"
API_URL = "http://127.0.0.1:3000"
NEXT_WEBHOOK_SECRET = "whsec_of_next_month"
"""What Stripe's webhooks will be signed with after the secrets' rotation; taken already."""
_IN_NEED = in_need_partition(Role.PRIMARY, 0)[:-2]
"""What the partitions begin with that list the streams in need."""
SHARDS_LAST = timedelta(hours=4)
"""Source: AWS, "DynamoDB Streams": a shard is closed after about four hours."""
NO_ANSWER = 0
_NUMBER = re.compile(r'"~([-+.0-9e]+)"', re.IGNORECASE)


def to_json(body: object) -> str:
    """JSON in which `~1.50` is the number 1.50, digit for digit, as no float could write it."""
    return _NUMBER.sub(r"\1", json.dumps(body))


class World:
    """Everything that a seed's world consists of."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.kernel = Kernel(f"kernel {drawn.seed}", drawn.start)
        self.changed_at: dict[str, datetime] = {}
        """When a table was last written to."""
        self.damaged: list[tuple[TenantId, str]] = []
        """Whose events did not all come to their counters, and why: only a rebuild helps."""
        self.is_being_restored = False
        """Whether schedules are off that write to the billing table."""
        self.restored_at: datetime | None = None
        """When the billing table was restored from a backup."""
        self.heard_of_restore: Callable[[], None] = lambda: None
        """Told when that has just happened."""
        self.left_as_they_are: dict[str, None] = {}
        """Streams that wait for a person who has looked at them and can do nothing."""
        self.queue_is_disabled = False
        """Whether the function that takes the queue's messages fails whatever it is handed."""
        self._shards_from = self.drawn.start
        self.poisons = 0
        """How many records of nothing were in the ledger's stream."""
        self.tables = self._tables()
        self.stream = Stream(ARN, drawn.shards, self.kernel.random)
        self.tables.subscribe(self._publish)
        batches, messages = AGGREGATOR.trigger, INGEST_QUEUE.trigger
        assert isinstance(batches, TableStream), "the aggregator is fed by a stream"
        assert isinstance(messages, QueueSettings), "the other ingest by a queue"
        self.mapping = Mapping(self.stream, batches, self.kernel.random)
        self.queue = Queue(messages, VISIBLE_AFTER, self.kernel.random)
        self.stream_pump = Pump(self.kernel, self.mapping.due_at, self._pump_stream)
        self.queue_pump = Pump(self.kernel, lambda _: self.queue.due_at(), self._pump_queue)
        self.core = StripeCore(
            lambda: self.kernel.now, settings=Settings(webhooks_in_own_time=True), seed="world"
        )
        self.stripe = stripe.StripeClient(STRIPE_KEY, http_client=InProcessClient(self.core))
        self.dynamo_network = DynamoNetwork(self.kernel, NO_FAULTS, self.tables)
        self.stripe_network = StripeNetwork(self.kernel, NO_FAULTS, self.core)
        self.config = Config(
            event_index_shards=1,
            stripe_api_base=STRIPE_URL,
            stripe_secret_key=STRIPE_KEY,
            stripe_webhook_secrets=self._webhook_secrets(),
            metrics="off",
        )
        self.lambdas = {
            one.name: Lambda(one, self.kernel, self._wiring) for one in functions.FUNCTIONS
        }
        self.eye = self._eye()
        self.tenants = tuple(TenantId(f"tenant-{number}") for number in range(drawn.tenants))
        self.keys = {tenant: self._key(tenant) for tenant in self.tenants}

    # --- what it is made of ---

    def _tables(self) -> MemoryDynamoDB:
        self.skies = Skies(self.kernel)
        return MemoryDynamoDB(TABLES, now=lambda: self.kernel.now, weather=self.skies)

    def _publish(self, change: Change) -> None:
        self.changed_at[change.table] = self.kernel.now
        if change.table == EVENTS.name:
            self._renew_shards()
            self.stream.append(self._perhaps_poisoned(change), self.kernel.now)
            self.stream_pump.wake()

    def _renew_shards(self) -> None:
        """No shard takes records for longer than some hours; lanes at rest rely on it."""
        if self.kernel.now - self._shards_from > SHARDS_LAST:
            self._shards_from = self.kernel.now
            self.stream.roll(self.kernel.now)

    def _perhaps_poisoned(self, change: Change) -> Change:
        """Sometimes nobody can read a record, or one that nobody can read stands before it."""
        is_struck = self.kernel.chance(self.dynamo_network.faults.poison)
        image = change.new_image
        if not is_struck or change.event_name != "INSERT" or image is None or "kd" in image:
            return change
        if self.kernel.chance(0.5):
            self.kernel.saw("a record of nothing")
            self.poisons += 1
            nothing = {"pk": {"S": "nothing"}, "sk": {"S": f"{self.poisons}"}}
            self.stream.append(replace(change, new_image=nothing), self.kernel.now)
            return change
        self.kernel.saw("a record that nobody can read")
        self.damaged.append((TenantId(image["t"]["S"]), "poisoned record"))
        unreadable = {name: value for name, value in image.items() if name != "q"}
        return replace(change, new_image=unreadable)

    def _webhook_secrets(self) -> str | None:
        """What Stripe signs with, once it knows where to deliver; a world of counting has none."""
        if self.drawn.kind is Kind.COUNTING:
            return None
        return ",".join([*webhooks.register_with(self.stripe, API_URL), NEXT_WEBHOOK_SECRET])

    def _wiring(self, clock: SkewedClock, machine: Machine) -> Wiring:
        return Wiring(
            self.config,
            clock=clock,
            dynamodb=Client(self.dynamo_network.call),  # type: ignore[arg-type]
            stripe_http=self.stripe_network,
            machine=machine,
        )

    def _eye(self) -> Wiring:
        """To look at tables with, and to set up: nothing goes wrong with it, nothing is old."""
        return Wiring(
            replace(self.config, settings_cache_s=0),
            clock=SkewedClock(self.kernel, timedelta()),
            dynamodb=Client(self.tables.execute),  # type: ignore[arg-type]
            stripe_http=InProcessClient(self.core),
            machine=Machine(self.kernel),
        )

    def _key(self, tenant: TenantId) -> str:
        return self.eye.key_issuer.create_key(tenant, DEFAULT_SCOPES).text

    # --- trouble ---

    def begin_trouble(self, faults: Faults) -> None:
        """From now on things go wrong so often; with `NO_FAULTS`, not any more."""
        self.dynamo_network.heal(faults)
        self.stripe_network.heal(faults)
        self.skies.faults = faults
        self.mapping.faults = MappingFaults(
            recut=min(1.0, 5 * faults.redelivered),
            rewind=faults.redelivered,
            rewind_max=30,
            twice=faults.overlapping,
        )
        self.queue.faults = QueueFaults(
            duplicate=faults.queue_repeats, shuffle=faults.queue_repeats, recut=faults.queue_repeats
        )
        lag = faults.summaries_lag_s or 60.0
        self.core.world.settings = replace(self.core.world.settings, summary_delay_s=lag)
        for deployed in self.lambdas.values():
            deployed.skew = timedelta(seconds=faults.skew_s)
            deployed.deploy()

    # --- triggers ---

    def every(self, period: timedelta, function: Function) -> None:
        """A schedule from now on, as irregular as the world's faults make it."""

        def fire() -> None:
            for _ in range(self._firings(function)):
                self.lambdas[function.name].invoke({})

        self._every(period, fire)

    def _firings(self, function: Function) -> int:
        if not self.kernel.chance(self.dynamo_network.faults.schedules):
            return 1
        times = self.kernel.random.choice((0, 2))
        self.kernel.saw(f"schedule fired {times} times | {function.name}")
        return times

    def _every(self, period: timedelta, what: Callable[[], None]) -> None:
        def again() -> None:
            what()
            self.kernel.later(period * (0.8 + 0.4 * self.kernel.random.random()), again)

        self.kernel.later(period * self.kernel.random.random(), again)

    def _pump_stream(self) -> None:
        for invocation in self.mapping.due(self.kernel.now):
            if self.kernel.chance(self.dynamo_network.faults.reshards):
                self._reshard()
            self._fold(invocation)

    def _reshard(self) -> None:
        now = self.kernel.now
        if self.kernel.chance(0.5):
            self.kernel.saw("shards rolled")
            self.stream.roll(now)
        else:
            self.kernel.saw("a shard split")
            if not self.mapping.is_drained(now):
                self.kernel.saw("a shard split with its parent undrained")
            self.stream.split(self.kernel.random.choice(self.stream.open_shards), now)

    def _fold(self, invocation: Invocation) -> None:
        def told(answer: Any) -> None:
            self.mapping.finished(invocation, answer, self.kernel.now)
            self.stream_pump.wake()

        self.lambdas[AGGREGATOR.name].invoke(invocation.event, told)

    def _pump_queue(self) -> None:
        for invocation in self.queue.due(self.kernel.now):
            self._take(invocation)

    def _take(self, invocation: QueueInvocation) -> None:
        if self.queue_is_disabled:
            self.queue.finished(invocation, Failure("disabled"), self.kernel.now)
            return

        def told(answer: Any) -> None:
            self.queue.finished(invocation, answer, self.kernel.now)
            self.queue_pump.wake()

        self.lambdas[INGEST_QUEUE.name].invoke(invocation.event, told)

    def enqueue(self, body: str) -> None:
        """Put a message into the queue."""
        self.queue.send(body, self.kernel.now)
        self.queue_pump.wake()

    def redrive(self) -> int:
        """Put what died in the queue into it again; how many messages."""
        redriven = self.queue.redrive(self.kernel.now)
        self.queue_pump.wake()
        return redriven

    # --- what an onlooker sees at once ---

    @property
    def needy_streams(self) -> int:
        """How many streams of pushes are not settled."""
        items = self.tables.items(BILLING.name)
        listed = [item["sk"]["S"] for item in items if item["pk"]["S"].startswith(_IN_NEED)]
        return sum(1 for stream_id in listed if stream_id not in self.left_as_they_are)

    def is_at_stripe(self, identifier: str) -> bool:
        """Whether a meter event counts there."""
        events = self.core.world.account().events()
        return any(one.identifier == identifier and one.cancelled_from is None for one in events)

    # --- requests, from processes ---

    def http(
        self,
        tenant: TenantId,
        method: str,
        path: str,
        body: object = None,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """A tenant's request to the API; `NO_ANSWER` where it or the answer was lost."""
        lost = self.kernel.chance(self.dynamo_network.faults.api_lost)
        if lost and self.kernel.chance(0.5):
            self.kernel.saw("request lost")
            return NO_ANSWER, None
        function = INGEST if path == "/v1/events/ingest" else API
        answer = self.call(function, self._payload(tenant, method, path, body, query, headers))
        if lost or isinstance(answer, Failure):
            self.kernel.saw("answer lost" if lost else "answer failed")
            return NO_ANSWER, None
        return int(answer["statusCode"]), json.loads(answer.get("body") or "null")

    def _payload(
        self,
        tenant: TenantId,
        method: str,
        path: str,
        body: object,
        query: dict[str, str] | None,
        headers: dict[str, str] | None,
    ) -> dict[str, Any]:
        sent = {"content-type": "application/json", "authorization": f"Bearer {self.keys[tenant]}"}
        raw = [(name.encode(), text.encode()) for name, text in (sent | (headers or {})).items()]
        content = b"" if body is None else to_json(body).encode()
        request = Request(method, path, urlencode(query or {}), raw, content, "127.0.0.1")
        number = f"request-{self.kernel.steps}"
        return payload(request, route="$default", now=self.kernel.now, request_id=number)

    def call(self, function: Function, event: dict[str, Any]) -> Any:
        """Invoke a function from a process, and wait for its answer, or its `Failure`."""
        caller = self.kernel.running
        assert caller is not None, "requests come from processes"
        self.lambdas[function.name].invoke(event, lambda ended: self.kernel.wake(caller, ended))
        return self.kernel.wait()
