"""The world of a month: tables, functions and Stripe in one process, on one virtual clock.

Every function has a wiring and a clock of its own, as Lambda gives it an environment; a run that
dies leaves nothing of it behind, and the next one starts cold.
"""

import json
import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

import stripe

from infra import functions
from infra.functions import Function
from local import webhooks
from local.handlers import Handler, load
from local.http_event import Request, payload
from local.month.clocks import SkewedClock, VirtualClock
from local.month.draw import TENANT, Rates
from local.month.trouble import CALLS_MAX, Death, Fate, ProcessDiedError, TroubledStripe
from local.runner import STRIPE_KEY
from local.stream_reader import Record, StreamReader, sequence_number
from local.stripe.core import StripeCore
from local.stripe.deliveries import Delivery
from local.stripe.in_process import InProcessClient
from local.stripe.state import Settings
from metering.adapters.machine import SystemMachine
from metering.config import Config
from metering.names import TenantId
from metering.threads import InTurn
from metering.wiring import Wiring, using_here

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


STRIPE_URL = "http://127.0.0.1:12111"
"""Nobody listens there: it only says that Stripe is a stand-in."""
API_URL = "http://127.0.0.1:3000"
STREAM_READS_MAX = 100
_SECOND, _MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NO_ANSWER = 0
DEAD = object()
"""What a run answers that died."""


class OneThread(SystemMachine):
    """A machine whose runs do one thing after the other, so that a seed replays them."""

    def threads(self, count: int, name: str) -> Executor:
        """None: what would be done on some is done in turn."""
        return InTurn(count, name)


@dataclass(frozen=True, slots=True)
class Context:
    """Lambda's, of a machine that is fast enough: all of a function's time is left."""

    timeout_s: int
    aws_request_id: str = "request"

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation."""
        return self.timeout_s * 1000


class _Deployed:
    """A function, its machine's clock, and its wiring while that is warm."""

    def __init__(self, function: Function, clock: SkewedClock, make: Callable[..., Wiring]) -> None:
        loaded = load(function)
        assert loaded is not None, f"{function.name} cannot be imported"
        self.function = function
        self.clock = clock
        self._handler: Handler = loaded.handler
        self._make = make
        self._wiring: Wiring | None = None

    def run(self, event: dict[str, Any]) -> Any:
        context: Any = Context(self.function.timeout_s)
        if self._wiring is None:
            self._wiring = self._make(self.clock)
        with using_here(self._wiring):
            return self._handler(event, context)

    def cool(self) -> None:
        self._wiring = None


class World:
    """Functions, tables and Stripe."""

    def __init__(
        self, dynamodb: "DynamoDBClient", stream: StreamReader, config: Config, clock: VirtualClock
    ) -> None:
        self.tenant = TenantId(TENANT)
        self.clock = clock
        self.fate = Fate()
        self.fate.watch(dynamodb)
        self.counts: Counter[str] = Counter()
        """How often what happened."""
        self.rates = Rates()
        self._random = random.Random("nothing goes wrong yet")  # noqa: S311 (a replay, no secret)
        self._dynamodb = dynamodb
        self._stream = stream
        self._positions: dict[str, str] = {}
        self.core = StripeCore(clock.now, settings=Settings(summary_delay_s=90.0), seed="month")
        self.troubled = TroubledStripe(self.core, self.fate, 0)
        self.stripe = stripe.StripeClient(STRIPE_KEY, http_client=InProcessClient(self.core))
        secrets = ",".join(webhooks.register_with(self.stripe, API_URL))
        self._config = Config(
            table_prefix=config.table_prefix,
            dynamodb_endpoint=config.dynamodb_endpoint,
            auth=False,
            event_index_shards=1,
            # One mark of a changed counter serves longer: time jumps by hours here.
            changed_slot_s=600,
            stripe_api_base=STRIPE_URL,
            stripe_secret_key=STRIPE_KEY,
            stripe_webhook_secrets=secrets,
            metrics="off",
        )
        self._deployed = {
            one.name: _Deployed(one, SkewedClock(clock), self._wiring)
            for one in functions.FUNCTIONS
        }
        self._is_disordered = False

    def _wiring(self, clock: SkewedClock) -> Wiring:
        return Wiring(
            self._config,
            clock=clock,
            dynamodb=self._dynamodb,
            stripe_http=self.troubled,
            machine=OneThread(),
        )

    @cached_property
    def eye(self) -> Wiring:
        """To look at tables with: a wiring that nothing goes wrong with."""
        network = InProcessClient(self.core)
        return Wiring(
            self._config,
            clock=self.clock,
            dynamodb=self._dynamodb,
            stripe_http=network,
            machine=OneThread(),
        )

    # --- trouble ---

    def begin_trouble(self, seed: int, rates: Rates, *, disorders: bool) -> None:
        """From now on things go wrong, so often."""
        self._random = random.Random(f"trouble {seed}")  # noqa: S311 (a replay, no secret)
        self.rates = rates
        self.troubled.rate = rates.stripe
        self._is_disordered = disorders
        for deployed in self._deployed.values():
            half = rates.skew_s // 2
            deployed.clock.off_by = self._random.randint(-half, half) * _SECOND
            deployed.cool()

    def heal(self) -> None:
        """Nothing goes wrong any more; what is still under way may come as it will."""
        self.begin_trouble(0, Rates(), disorders=False)
        self.core.webhooks.faults.clear()

    def chance(self, rate: float) -> bool:
        """Whether something that is so likely happens now."""
        return rate > 0 and self._random.random() < rate

    def _death(self) -> Death | None:
        if not self.chance(self.rates.death):
            return None
        call = int(CALLS_MAX ** self._random.random())  # near the beginning as often as far
        return Death(call, answered=self._random.random() < 0.5)  # noqa: PLR2004 (either way)

    # --- functions ---

    def run(self, function: Function, event: dict[str, Any] | None = None) -> Any:
        """One invocation; `DEAD` where the process died of it."""
        deployed = self._deployed[function.name]
        self.counts[f"runs of {function.name}"] += 1
        self.fate.doom(self._death())
        try:
            return deployed.run(event or {})
        except ProcessDiedError:
            self.counts[f"deaths of {function.name}"] += 1
            deployed.cool()
            return DEAD
        finally:
            self.fate.doom(None)

    def http(
        self, method: str, path: str, body: object = None, *, query: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """A request to the API, as API Gateway hands it over; status and JSON."""
        content = b"" if body is None else json.dumps(body).encode()
        headers = [(b"content-type", b"application/json")]
        request = Request(
            method, path, urlencode(query or {}), headers, content, source_ip="127.0.0.1"
        )
        is_ingest = path == "/v1/events/ingest"
        function = functions.INGEST if is_ingest else functions.API
        result = self.run(function, payload(request, route="$default", now=self.clock.now()))
        if result is DEAD:
            return NO_ANSWER, None
        text = result.get("body") or "null"
        return int(result["statusCode"]), json.loads(text)

    # --- the ledger's stream ---

    def feed(self) -> int:
        """Hand what came into the ledger to the aggregator, as a stream mapping does; how much."""
        fed = 0
        for shard in self._stream.shards():
            pages = self._stream.pages(shard.id, after=self._positions.get(shard.id))
            for page in pages:
                if not page:
                    break
                fed += len(page)
                self._fold(shard.id, page)
        return fed

    def _fold(self, shard: str, page: list[Record]) -> None:
        """One batch at a time, again until it is done."""
        records = [record for record in page if record["eventName"] == "INSERT"]
        for _ in range(STREAM_READS_MAX):
            if not records:
                break
            answer = self.run(functions.AGGREGATOR, self._batch(shard, records))
            failures = [] if answer is DEAD else answer["batchItemFailures"]
            if answer is not DEAD and not failures:
                break
            records = _from(records, failures)
        else:
            raise AssertionError(f"the aggregator does not get on with {shard}")
        self._positions[shard] = sequence_number(page[-1])

    def _batch(self, shard: str, records: list[Record]) -> dict[str, Any]:
        return {
            "Records": records,
            "shardId": shard,
            "eventSourceARN": self._stream.arn,
            "window": {"start": "", "end": ""},
            "state": {},
            "isFinalInvokeForWindow": False,
            "isWindowTerminatedEarly": False,
        }

    def tell_all(self) -> None:
        """Have Stripe told all that was used by now, as far as that can be, and summed up."""
        for _ in range(2):
            self.feed()
            self.run(functions.WRITER)
            self.clock.set(self.clock.now() + 2 * _MINUTE)

    # --- webhooks ---

    def carry_webhooks(self) -> None:
        """Send what Stripe has to tell; some of it is lost, late, double, or overtaken."""
        due = self.core.due_deliveries(self.clock.now())
        if self._is_disordered:
            self._random.shuffle(due)
        for delivery in due:
            self._carry(delivery)

    def _carry(self, delivery: Delivery) -> None:
        if self.chance(self.rates.webhook):
            fate = self._random.choice(("lost", "unanswered", "double"))
            self.counts[f"webhooks {fate}"] += 1
            if fate == "lost":
                self.core.delivered_webhook(delivery, 200)
                return
            self._send(delivery)
            if fate == "unanswered":
                self.core.delivered_webhook(delivery, NO_ANSWER)
                return
        self.core.delivered_webhook(delivery, self._send(delivery))

    def _send(self, delivery: Delivery) -> int:
        headers = [
            (name.lower().encode(), value.encode()) for name, value in delivery.headers.items()
        ]
        path = urlsplit(delivery.url).path
        request = Request("POST", path, "", headers, delivery.body, source_ip="127.0.0.1")
        event = payload(request, route=f"POST {path}", now=self.clock.now())
        result = self.run(functions.STRIPE_WEBHOOK, event)
        self.counts["webhooks sent"] += 1
        return NO_ANSWER if result is DEAD else int(result["statusCode"])


def _from(records: list[Record], failures: list[dict[str, str]]) -> list[Record]:
    """The records from the lowest that the function reports; all of them when it died."""
    if not failures:
        return records
    lowest = min(int(one["itemIdentifier"]) for one in failures)
    return [record for record in records if int(sequence_number(record)) >= lowest]
