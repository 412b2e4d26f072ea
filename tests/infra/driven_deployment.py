"""A deployment in memory in which every route of the API and every function's own door is used.

Simulated worlds reach what befalls an event; people's requests are driven here, one after another,
with everything that they need to be answered well. It stands on the world of the API's fuzz tests.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import stripe

from functions.api.handler import app
from functions.ingest.handler import handler as ingest
from functions.ingest_queue.handler import handler as ingest_queue
from functions.period_closer.handler import handler as close_periods
from functions.rebuilder.handler import handler as rebuild
from functions.reconciler.handler import handler as reconcile
from functions.stripe_webhook.handler import handler as hear
from functions.writer.handler import handler as write
from infra.functions import FUNCTIONS, PERIOD_CLOSER, RECONCILER, WRITER, Http
from infra.tables import TABLES
from local.stripe import scopes
from local.stripe.faults import Fault, FaultKind
from local.stripe.in_process import InProcessClient
from local.stripe.state import KeyRule
from metering.config import Config
from metering.wiring import Wiring
from tests.api_client import Answer, Api, meter
from tests.api_fuzz.fuzzed_world import (
    METRICS_TOKEN,
    MONTH,
    STRIPE_KEY,
    CountingMachine,
    FuzzedWorld,
    Tenant,
)
from tests.billing_world import Context
from tests.builders import a_queue_batch, an_entry, an_http_request
from tests.infra.iam_recorder import Recorder
from tests.simulation.aws.client import Client
from tests.simulation.aws.dynamodb import MemoryDynamoDB
from tests.stripe_events import a_snapshot, a_thin_event, delivered, on_the_bus, signed, text_of

HOUR = timedelta(hours=1)
SHADOW_KEY, SHADOW_ACCOUNT = "sk_test_shadow", "acct_1Shadow"
READING = frozenset(one for one in scopes.KNOWN if one.endswith("_read"))
"""What a key may that may send nothing."""
RATE = 1_000
"""Of events and of requests: far from refusing anything, and yet it is told what was sent."""
EVENTS = 20
"""Of one request: so many are told at once to all who watch the rate."""
INGEST_ROUTE, WEBHOOK_ROUTE = "POST /v1/events/ingest", "POST /v1/stripe/webhook"


def routes() -> set[str]:
    """What functions are deployed for by name, and what the router of `$default` knows."""
    deployed = {
        route
        for function in FUNCTIONS
        if isinstance(function.trigger, Http)
        for route in function.trigger.routes
        if route != "$default"
    }
    routed = [*app._dynamic_routes, *app._static_routes]
    return deployed | {f"{one.method} {one.openapi_path}" for one in routed}


class DrivenDeployment(FuzzedWorld):
    """The fuzzed world over tables in memory, told of each call's operation and parameters."""

    def __init__(self, recorder: Recorder, *, event_index: bool = True) -> None:
        super().__init__(Config(settings_cache_s=0, event_index=event_index))
        self.core.world.key_rules[SHADOW_KEY] = KeyRule(account=SHADOW_ACCOUNT)
        tables = MemoryDynamoDB(TABLES, now=self.clock.now, indexes=event_index)

        def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
            recorder.hear_call(operation, params)
            return tables.execute(operation, params)

        self.wiring = Wiring(
            replace(
                self.wiring.config,
                stripe_shadow_secret_key=SHADOW_KEY,
                tenant_events_a_second=RATE,
                tenant_requests_a_second=RATE,
            ),
            clock=self.clock,
            dynamodb=Client(call),  # type: ignore[arg-type]
            stripe_http=InProcessClient(self.core),
            machine=CountingMachine(),
        )
        self._recorder = recorder
        self.answered: dict[str, int] = {}
        """Each route's best answer."""

    def drive(self) -> None:
        """Everything, once."""
        with self._recorder.listening(), self.in_use("driven"):
            for label, status in self._requests():
                self.answered[label] = min(status, self.answered.get(label, status))
            self._doors()
            self._told_in_parallel()

    # --- the API ----------------------------------------------------------------------------------

    def _requests(self) -> Iterator[tuple[str, int]]:
        for label, path, body in self._asked():
            yield label, self._answer(label, path, body).status
        yield WEBHOOK_ROUTE, self._webhook()
        yield INGEST_ROUTE, self._ingest()
        yield "POST /v1/pushes/{stream_id}/decision", self._decide()
        yield "POST /v1/reconciliation/corrections", self._correct()
        yield "POST /v1/customers/{customer_ref}/cancel", self._cancel()
        yield "PUT /v1/customers/{customer_ref}", self._recounted()
        yield "POST /v1/pushes/incarnation", self._next_life()

    def _answer(self, label: str, path: str, body: object) -> Answer:
        own, _ = self.tenants
        scrapes = label == "GET /metrics"
        key = f"Bearer {METRICS_TOKEN}" if scrapes else own.keys["all"]
        method = label.partition(" ")[0]
        path, _, query = path.partition("?")
        more = {} if body is None else {"body": body}
        return Api({"authorization": key}).call(method, path, query=query, **more)

    def _asked(self) -> Iterator[tuple[str, str, object]]:
        """Route, path and body of each request that needs nothing done before it."""
        own, _ = self.tenants
        ref, metric, price = own.has["customer_ref"][0], own.has["metric"][0], own.has["priceId"][0]
        for label in (
            "/health",
            "/health/live",
            "/health/ready",
            "/metrics",
            "/docs",
            "/docs/json",
        ):
            yield f"GET {label}", label, None
        for noun in ("adjustments", "customers", "events", "mappings", "metrics"):
            yield f"GET /v1/{noun}", f"/v1/{noun}", None
        for noun in ("pushes", "quarantine", "settings", "usage/current"):
            yield f"GET /v1/{noun}", f"/v1/{noun}?{self._whose(noun, ref, metric)}", None
        yield from self._of_customers(ref, own)
        yield from self._of_metrics(metric)
        yield from self._of_mappings(own, metric, price)
        yield from self._of_adjustments(own)
        yield from self._of_reconciliation(own, metric)
        yield from self._of_keys()
        yield "PUT /v1/settings", "/v1/settings", {}
        traced = f"/v1/events/trace?idempotencyKey={own.has['idempotencyKey'][0]}"
        yield "GET /v1/events/trace", traced, None
        about = f"customerRef={ref}&metric={metric}"
        yield "GET /v1/events", f"/v1/events?{about}&limit=1", None
        between = "periodStart=2026-11-01T00:00:00Z&periodEnd=2026-11-20T00:00:00Z"
        history = f"/v1/usage/history?{about}&{between}"
        yield "GET /v1/usage/history", history, None
        yield "GET /v1/periods", f"/v1/periods?customerRef={ref}", None
        yield "GET /v1/periods/{month}", f"/v1/periods/{MONTH}", None

    def _whose(self, noun: str, ref: str, metric: str) -> str:
        return f"customerRef={ref}&metric={metric}" if noun.startswith("usage") else ""

    def _of_customers(self, ref: str, own: Tenant) -> Iterator[tuple[str, str, object]]:
        known = {"subscription": own.has["subscription"][0]}
        yield "GET /v1/customers/{customer_ref}", f"/v1/customers/{ref}", None
        yield "PUT /v1/customers/{customer_ref}", f"/v1/customers/{ref}", known
        yield "PUT /v1/customers", "/v1/customers", known | {"customerRef": ref}

    def _of_metrics(self, metric: str) -> Iterator[tuple[str, str, object]]:
        yield "GET /v1/metrics/{metric}", f"/v1/metrics/{metric}", None
        yield "PUT /v1/metrics/{metric}", f"/v1/metrics/{metric}", {"unit": "calls"}
        yield "PUT /v1/metrics", "/v1/metrics", {"metric": metric, "unit": "calls"}

    def _of_mappings(
        self, own: Tenant, metric: str, price: str
    ) -> Iterator[tuple[str, str, object]]:
        path = f"/v1/mappings/{own.has['mapping_id'][0]}"
        another = {"metric": f"{metric}-2", "aggregation": "sum", "priceId": price}
        yield "POST /v1/mappings", "/v1/mappings", another
        yield "GET /v1/mappings/{mapping_id}", path, None
        yield "PUT /v1/mappings/{mapping_id}", path, {"scale": 1}
        yield "GET /v1/mappings/legacy-plan", f"/v1/mappings/legacy-plan?priceId={price}", None
        mine = self._answer("GET /v1/mappings", f"/v1/mappings?metric={metric}-2", None).body
        yield "DELETE /v1/mappings/{mapping_id}", f"/v1/mappings/{mine[0]['id']}", None

    def _of_adjustments(self, own: Tenant) -> Iterator[tuple[str, str, object]]:
        pending, approved = own.has["adjustment_id"]
        one = "/v1/adjustments/{adjustment_id}"
        yield f"GET {one}", f"/v1/adjustments/{pending}", None
        yield f"POST {one}/approve", f"/v1/adjustments/{pending}/approve", {}
        yield f"POST {one}/revert", f"/v1/adjustments/{approved}/revert", {"reason": "a mistake"}
        wanted = {
            "metric": own.has["metric"][0],
            "customerRef": own.has["customer_ref"][0],
            "periodStart": self.period_start,
            "delta": 3,
            "reason": "manual",
        }
        made = self._answer("POST /v1/adjustments", "/v1/adjustments", wanted)
        yield "POST /v1/adjustments", "/v1/adjustments", wanted
        held = self._answer("GET /v1/adjustments", "/v1/adjustments?status=pending", None).body
        ids = [one["id"] for one in held["adjustments"]] + [made.body["id"]]
        many = {"adjustmentIds": ids, "reason": "agreed"}
        yield "POST /v1/reconciliation/adjustments", "/v1/reconciliation/adjustments", many

    def _of_reconciliation(self, own: Tenant, metric: str) -> Iterator[tuple[str, str, object]]:
        yield "POST /v1/reconciliation/run", "/v1/reconciliation/run", {"period": MONTH}
        yield "GET /v1/reconciliation/{period}", f"/v1/reconciliation/{MONTH}", None
        rows = f"/v1/reconciliation/{MONTH}/rows?metric={metric}"
        customer = f"&customerRef={own.has['customer_ref'][0]}"
        yield "GET /v1/reconciliation/{period}/rows", rows + customer, None
        months = f"periodStart={MONTH}&periodEnd={MONTH}"
        yield "GET /v1/reconciliation/summary", f"/v1/reconciliation/summary?{months}", None

    def _of_keys(self) -> Iterator[tuple[str, str, object]]:
        keys, one = "/v1/admin/api-keys", "/v1/admin/api-keys/{key_id}"
        made = self._answer(f"POST {keys}", keys, {"name": "rotated"}).body["key"]["id"]
        yield f"POST {keys}", keys, {"name": "another"}
        yield f"GET {keys}", keys, None
        yield f"POST {one}/rotate", f"{keys}/{made}/rotate", {}
        yield f"POST {one}/revoke", f"{keys}/{made}/revoke", {}

    # --- what needs something done before ---------------------------------------------------------

    def _webhook(self) -> int:
        body = text_of(a_snapshot())
        return int(hear(delivered(body, signed(body, at=self.clock.now())), None)["statusCode"])

    def _ingest(self) -> int:
        own, _ = self.tenants
        events = [
            {"metric": own.has["metric"][0], "customerRef": own.has["customer_ref"][0]}
            | {"quantity": number, "ts": self.clock.now().isoformat()}
            for number in range(1, EVENTS + 1)
        ]
        headers = {"authorization": own.keys["ingests"]}
        return int(ingest(an_http_request({"events": events}, headers=headers), None)["statusCode"])

    def _decide(self) -> int:
        """A push that was lost, in a minute into which a stranger wrote: only a person knows."""
        own = self._with_usage("decided", lost=True)
        self._foreign(own, "3", at_s=int(self.clock.now().timestamp()))
        self._write_after(25 * HOUR)
        stopped = own.api().get("/v1/pushes", status="stopped").body
        (waits,) = [one["streamId"] for one in stopped if one["needsDecision"]]
        path = f"/v1/pushes/{waits}/decision"
        return own.api().post(path, {"decision": "not_counted"}).status

    def _correct(self) -> int:
        own = self._with_usage("corrected")
        self._write_after(HOUR)
        self._foreign(own, "5", at_s=int(self.clock.now().timestamp()) - 600)
        self.clock.advance(HOUR)
        about = {
            "period": MONTH,
            "customerRef": own.has["customer_ref"][0],
            "metric": own.has["metric"][0],
            "amount": -5,
            "reason": "a test upload",
        }
        return own.api().post("/v1/reconciliation/corrections", about).status

    def _cancel(self) -> int:
        own = self._with_usage("cancelled")
        self._write_after(HOUR)
        path = f"/v1/customers/{own.has['customer_ref'][0]}/cancel"
        return own.api().post(path, {"invoiceNow": True}).status

    def _recounted(self) -> int:
        """A customer is said to have a subscription, after usage that came within its period."""
        own = self._tenant("recounted")
        ref = f"{own.name}-late"
        subscription = self._subscribe(own)
        self._use_later(own, ref)
        return own.api().put(f"/v1/customers/{ref}", {"subscription": subscription}).status

    def _next_life(self) -> int:
        """Where no keys are required: on AWS the writer is invoked for it."""
        wiring = self.wiring
        wiring.authenticator._required = False
        try:
            return Api().post("/v1/pushes/incarnation", {}).status
        finally:
            wiring.authenticator._required = True

    def _with_usage(self, name: str, *, lost: bool = False) -> Tenant:
        """A tenant of its own whose first customer's usage was told, or lost on the way."""
        own = self._tenant(name)
        if lost:
            lost_ones = Fault(FaultKind.DROP_BEFORE, times=None, path="/v1/billing/meter_events")
            self.core.faults.add(lost_ones)
        write({}, Context(WRITER))
        self.core.faults.clear()
        return own

    def _write_after(self, delay: timedelta) -> None:
        self.clock.advance(delay)
        write({}, Context(WRITER))

    def _foreign(self, own: Tenant, value: str, *, at_s: int) -> None:
        price = self.stripe.v1.prices.retrieve(own.has["priceId"][0])
        assert price.recurring is not None
        assert price.recurring.meter is not None
        meter = self.stripe.v1.billing.meters.retrieve(price.recurring.meter)
        about: Any = {
            "event_name": meter.event_name,
            "payload": {"stripe_customer_id": own.has["stripeCustomer"][0], "value": value},
            "timestamp": at_s,
        }
        self.stripe.v1.billing.meter_events.create(about)

    # --- functions' own doors ---------------------------------------------------------------------

    def _doors(self) -> None:
        """What operators and AWS invoke functions with, beside their schedules."""
        own, _ = self.tenants
        refs = own.has["customer_ref"]
        hear(on_the_bus(a_thin_event()), None)
        rebuild({"tenantId": own.name}, None)
        for verify in (False, True):
            asked = {"tenantId": own.name, "period": MONTH, "verify": verify}
            reconcile(asked, Context(RECONCILER))
        reconcile({"tenantId": own.name, "customerRefs": refs}, Context(RECONCILER))
        close_periods({"tenantId": own.name, "customerRefs": refs}, Context(PERIOD_CLOSER))
        write({"raiseIncarnation": True}, Context(WRITER))
        self._move()
        self._come_too_late(own)
        self._be_refused()

    def _come_too_late(self, own: Tenant) -> None:
        """Where late events are refused, ingest looks whether one is a retry of what it took."""
        metric = own.has["metric"][0]
        self._call(own, "PUT", f"/v1/metrics/{metric}", {"latePolicy": "reject"})
        at = self.clock.now() - 5 * 24 * HOUR
        sent = {"metric": metric, "customerRef": own.has["customer_ref"][0], "quantity": 1}
        sent |= {"ts": at.isoformat(), "idempotencyKey": "too late"}
        headers = {"authorization": own.keys["ingests"]}
        ingest(an_http_request({"events": [sent]}, headers=headers), None)
        ingest_queue(a_queue_batch(sent | {"tenantId": own.name}), None)

    def _be_refused(self) -> None:
        """Our key may not send any more: the account is left alone for a while."""
        own = self._tenant("refused")
        self.core.world.key_rules[STRIPE_KEY] = KeyRule(scopes=READING)
        write({}, Context(WRITER))
        del self.core.world.key_rules[STRIPE_KEY]
        assert own.api().get("/v1/pushes").status == 200

    def _move(self) -> None:
        """A subscription is replaced at Stripe: usage counted meanwhile is counted anew."""
        own = self._tenant("moved")
        self.clock.advance(HOUR)
        self.stripe.v1.subscriptions.cancel(own.has["subscription"][0])
        self._subscribe(own)
        self._use_later(own, own.has["customer_ref"][0])
        self.clock.advance(HOUR)
        close_periods({}, Context(PERIOD_CLOSER))

    def _subscribe(self, own: Tenant) -> str:
        """A subscription of the tenant's customer to its price, from now on."""
        items: Any = [{"price": own.has["priceId"][0]}]
        about: Any = {"customer": own.has["stripeCustomer"][0], "items": items}
        return self.stripe.v1.subscriptions.create(about).id

    def _use_later(self, own: Tenant, ref: str) -> None:
        """Usage of ten minutes later, counted by the calendar that is known."""
        self.clock.advance(timedelta(minutes=10))
        now, metric = self.clock.now(), own.has["metric"][0]
        about: Any = {"tenant": own.name, "customer": ref, "metric": metric, "at": now}
        meter(self.wiring, [an_entry("2", key=f"{ref} later", received_at=now, **about)])

    # --- the shadow -------------------------------------------------------------------------------

    def _told_in_parallel(self) -> None:
        """A mapping with a shadow: a test account is told the same, and compared with as well."""
        own = self._tenant("shadowed")
        client = stripe.StripeClient(SHADOW_KEY, http_client=InProcessClient(self.core))
        shadow = {"shadow": True, "shadowPriceId": self._price(client)}
        self._call(own, "PUT", f"/v1/mappings/{own.has['mapping_id'][0]}", shadow)
        told = {"shadowStripeCustomer": client.v1.customers.create({"name": "Shadow"}).id}
        known = {"subscription": own.has["subscription"][0]}
        self._call(own, "PUT", f"/v1/customers/{own.has['customer_ref'][0]}", known | told)
        self._write_after(HOUR)
        self._write_after(HOUR)
        reconcile({"tenantId": own.name, "period": MONTH}, Context(RECONCILER))
        self._reconcile(own)
        refs = own.has["customer_ref"]
        close_periods({"tenantId": own.name, "customerRefs": refs}, Context(PERIOD_CLOSER))
        for path in ("/v1/pushes", f"/v1/reconciliation/{MONTH}"):
            assert own.api().get(path, role="shadow").status == 200, path

    def _price(self, client: stripe.StripeClient) -> str:
        about: Any = {
            "display_name": "Calls",
            "event_name": "shadow_calls",
            "default_aggregation": {"formula": "sum"},
        }
        recurring: Any = {
            "interval": "month",
            "usage_type": "metered",
            "meter": client.v1.billing.meters.create(about).id,
        }
        product = client.v1.products.create({"name": "Calls"}).id
        price = {"product": product, "currency": "usd", "unit_amount": 1, "recurring": recurring}
        return client.v1.prices.create(price).id  # type: ignore[arg-type]
