"""A deployment in which tenants have a bit of everything, and some of them are canaries."""

from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import stripe

from functions.ingest.handler import handler as ingest
from functions.writer.handler import handler as write
from infra.functions import WRITER
from local.stripe.core import StripeCore
from local.stripe.in_process import InProcessClient
from local.stripe.state import Settings
from metering.adapters.machine import SystemMachine
from metering.auth import EVERY_SCOPE, Scope
from metering.config import Config
from metering.event import LedgerEntry
from metering.names import TenantId
from metering.threads import InTurn
from metering.wiring import Wiring, using
from tests.api_client import Answer, Api, meter
from tests.billing_world import Context
from tests.builders import NOON, an_entry, an_http_request
from tests.conftest import SetClock
from tests.stripe_events import SECRET

STRIPE_KEY = "sk_test_fuzzed"
STRIPE_URL = "http://127.0.0.1:12111"
"""Nobody listens there: it only says that Stripe is a stand-in."""
METRICS_TOKEN = "scrape-fuzzed"
MONTH = "2026-11"
AT_STRIPE = {"priceId", "stripeCustomer", "subscription"}
CANARY = "kanarie"
"""Stands in every name and every text of a canary tenant."""


class CountingMachine(SystemMachine):
    """Chance that repeats, work that is done in turn, and no waiting."""

    def __init__(self) -> None:
        self._drawn = 0

    def token_bytes(self, size: int) -> bytes:
        self._drawn += 1
        return blake2b(b"%d" % self._drawn, digest_size=size).digest()

    def threads(self, count: int, name: str) -> Executor:
        return InTurn(count, name)

    def sleep(self, seconds: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant, its keys by what they may do, and what it has by the names of parameters."""

    name: str
    keys: dict[str, str]
    has: dict[str, list[Any]] = field(default_factory=dict)

    def api(self, key: str = "all") -> Api:
        return Api({"authorization": f"Bearer {self.keys[key]}"})

    @property
    def secrets(self) -> list[str]:
        """What no answer may hold, to whomever."""
        return [text.partition(".")[2] for text in self.keys.values()]

    @property
    def names(self) -> list[str]:
        """What no answer to another tenant may hold, unless the request held it.

        Stripe's own ids are none of these: all tenants share the deployment's account there.
        """
        known = [one for name in self.has if name not in AT_STRIPE for one in self.has[name]]
        return known + [text.partition(".")[0] for text in self.keys.values()]


class FuzzedWorld:
    """All functions over DynamoDB Local and a Stripe in the process; keys are required."""

    def __init__(self, config: Config) -> None:
        self.clock = SetClock(NOON)
        self.core = StripeCore(self.clock.now, settings=Settings(summary_delay_s=0), seed="fuzz")
        network = InProcessClient(self.core)
        self.stripe = stripe.StripeClient(STRIPE_KEY, http_client=network)
        config = replace(
            config,
            auth=True,
            stripe_api_base=STRIPE_URL,
            stripe_secret_key=STRIPE_KEY,
            stripe_webhook_secrets=SECRET,
            metrics_token=METRICS_TOKEN,
            # All come from one address, and time stands still for them.
            failed_keys_a_minute=0,
        )
        self.wiring = Wiring(
            config, clock=self.clock, stripe_http=network, machine=CountingMachine()
        )
        self.tenants: tuple[Tenant, Tenant]
        """One whose keys are used, and a canary."""
        self._renewed = 0

    @property
    def secrets(self) -> list[str]:
        """The deployment's own."""
        return [STRIPE_KEY, SECRET, METRICS_TOKEN]

    @property
    def period_start(self) -> str:
        """Where the present billing period of the first tenant's subscriber begins."""
        own, _ = self.tenants
        return self._period_start(own, own.has["customer_ref"][0])

    @contextmanager
    def in_use(self, place: str) -> Iterator["FuzzedWorld"]:
        """Let the handlers find it, with tenants that no other place has touched."""
        with using(self.wiring):
            self.tenants = self._settled(place)
            yield self

    def renew(self) -> None:
        """Go on with another tenant of one's own, that nothing was told to Stripe for yet."""
        self._renewed += 1
        _, canary = self.tenants
        self.tenants = self._tenant(f"own-{self._renewed:04}"), canary

    def _settled(self, place: str) -> tuple[Tenant, Tenant]:
        own, canary = self._tenant(f"own-{place}"), self._tenant(f"{CANARY}-{place}")
        write({}, Context(WRITER))
        self.clock.advance(timedelta(hours=1))
        write({}, Context(WRITER))
        for tenant in (own, canary):
            self._reconcile(tenant)
        return own, canary

    # --- one tenant -------------------------------------------------------------------------------

    def _tenant(self, name: str) -> Tenant:
        tenant = Tenant(name, self._keys(TenantId(name)))
        spare = [text for may, text in tenant.keys.items() if may.startswith("spare-")]
        tenant.has["key_id"] = [text.partition(".")[0] for text in spare]
        refs = [f"{name}-customer", f"{name}-unknown"]
        self._sell(tenant, refs[0])
        self._call(
            tenant, "PUT", f"/v1/customers/{refs[1]}", {"stripeCustomer": f"cus_gone_{name}"}
        )
        meter(self.wiring, [self._entry(tenant, ref) for ref in refs])
        meter(self.wiring, [self._entry(tenant, refs[0], is_late=True)])
        self._set_aside(tenant, refs[0])
        self._adjust(tenant, refs[0])
        tenant.has["customer_ref"] = tenant.has["customerRef"] = refs
        tenant.has["metric"] = [f"{name}-metric"]
        tenant.has["tenantId"] = [name]
        return tenant

    def _keys(self, tenant: TenantId) -> dict[str, str]:
        scopes: dict[str, frozenset[Scope]] = {
            "all": EVERY_SCOPE,
            "reads": frozenset({Scope.PROJECT_READ}),
            "ingests": frozenset({Scope.EVENTS_WRITE}),
            "nothing": frozenset({Scope.SIMULATION_READ}),
        }
        issue = self.wiring.key_issuer.create_key
        keys = {may: issue(tenant, scopes[may]).text for may in scopes}
        # Nobody sends these: they are there to be rotated and revoked.
        return keys | {f"spare-{n}": issue(tenant, scopes["all"]).text for n in range(3)}

    def _sell(self, tenant: Tenant, ref: str) -> None:
        """A metered price, a customer who is subscribed to it, and a metric mapped to it."""
        name = tenant.name
        about: Any = {
            "display_name": "Calls",
            "event_name": f"calls_{self.core.world.ids.next('m')}",
            "default_aggregation": {"formula": "sum"},
        }
        made = self.stripe.v1.billing.meters.create(about)
        product = self.stripe.v1.products.create({"name": "Calls"})
        price = self.stripe.v1.prices.create(
            {
                "product": product.id,
                "currency": "usd",
                "unit_amount": 1,
                "recurring": {"interval": "month", "usage_type": "metered", "meter": made.id},
            }
        )
        customer = self.stripe.v1.customers.create({"name": "Customer"})
        subscription = self.stripe.v1.subscriptions.create(
            {"customer": customer.id, "items": [{"price": price.id}]}
        )
        self._call(tenant, "PUT", f"/v1/customers/{ref}", {"subscription": subscription.id})
        mapping = {"metric": f"{name}-metric", "aggregation": "sum", "priceId": price.id}
        made_mapping = self._call(tenant, "POST", "/v1/mappings", mapping)
        tenant.has["mapping_id"] = [made_mapping.body["id"]]
        tenant.has["priceId"] = [price.id]
        tenant.has["stripeCustomer"] = [customer.id]
        tenant.has["subscription"] = [subscription.id]

    def _entry(self, tenant: Tenant, ref: str, *, is_late: bool = False) -> LedgerEntry:
        at = self.clock.now() - timedelta(days=3) if is_late else self.clock.now()
        return an_entry(
            "7",
            key=f"{tenant.name}-{ref}-{is_late}",
            tenant=tenant.name,
            customer=ref,
            metric=f"{tenant.name}-metric",
            at=at,
            received_at=self.clock.now(),
            is_late=is_late,
        )

    def _set_aside(self, tenant: Tenant, ref: str) -> None:
        """Two events under one key: the second is a conflict, and quarantined."""
        for quantity in (1, 2):
            sent = {
                "metric": f"{tenant.name}-metric",
                "customerRef": ref,
                "quantity": quantity,
                "ts": self.clock.now().isoformat(),
                "idempotencyKey": f"{tenant.name}-twice",
                "meta": {"of": tenant.name},
            }
            headers = {"authorization": tenant.keys["ingests"]}
            answered = ingest(an_http_request({"events": [sent]}, headers=headers), None)
            assert answered["statusCode"] == 200, answered
        tenant.has["idempotencyKey"] = [f"{tenant.name}-twice"]

    def _adjust(self, tenant: Tenant, ref: str) -> None:
        """A pending adjustment and an approved one."""
        wanted = {
            "metric": f"{tenant.name}-metric",
            "customerRef": ref,
            "periodStart": self._period_start(tenant, ref),
            "delta": 2,
            "reason": "manual",
            "note": f"of {tenant.name}",
        }
        ids = [self._call(tenant, "POST", "/v1/adjustments", wanted).body["id"] for _ in range(2)]
        self._call(tenant, "POST", f"/v1/adjustments/{ids[1]}/approve", {})
        tenant.has["adjustment_id"] = ids

    def _period_start(self, tenant: Tenant, ref: str) -> str:
        period: str = tenant.api().get(f"/v1/customers/{ref}").body["period"]["start"]
        return period

    def _reconcile(self, tenant: Tenant) -> None:
        self._call(tenant, "POST", "/v1/reconciliation/run", {"period": MONTH})
        stopped = tenant.api().get("/v1/pushes", status="stopped").body
        tenant.has["stream_id"] = [one["streamId"] for one in stopped]

    def _call(self, tenant: Tenant, method: str, path: str, body: object) -> Answer:
        answered = tenant.api().call(method, path, body=body)
        assert answered.status < 300, f"{method} {path}: {answered.status} {answered.text}"
        return answered
