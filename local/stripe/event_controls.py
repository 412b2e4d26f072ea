"""The control calls for webhooks, API keys and legacy prices; `controls` answers them."""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from local.stripe import legacy, prices, scopes, webhooks
from local.stripe.call import Call
from local.stripe.core import OK, StripeCore
from local.stripe.faults import WebhookFault, WebhookFaultKind
from local.stripe.state import DEFAULT_ACCOUNT, KeyRule, KeyRuled
from local.stripe.wire import Json


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PlannedWebhookFault(_Body):
    """A fault to plan; see `local.stripe.faults.WebhookFault`."""

    kind: WebhookFaultKind
    times: int | None = Field(default=1, ge=1)
    type: str = "*"
    destination: str = "*"
    delay_s: float = Field(default=60.0, ge=0)


class RolledSecret(_Body):
    """An endpoint or destination that gets a new secret."""

    endpoint: str
    keep_old_s: float = Field(default=86_400.0, ge=0)
    account: str = DEFAULT_ACCOUNT


class RuledKey(_Body):
    """What an API key may do; see `local.stripe.state.KeyRule`."""

    key: str = Field(pattern=r"^(sk|rk)_test_\w+$")
    scopes: frozenset[str] | None = None
    revoked: bool = False
    account: str | None = Field(default=None, pattern=r"^acct_\w+$")
    connected: frozenset[str] = frozenset()

    @model_validator(mode="after")
    def _known_scopes(self) -> Self:
        unknown = (self.scopes or frozenset()) - scopes.KNOWN
        if unknown:
            known = ", ".join(sorted(scopes.KNOWN))
            raise ValueError(f"no such scope: {', '.join(sorted(unknown))}; there are {known}")
        return self

    def rule(self) -> KeyRule:
        """The rule without the key."""
        return KeyRule(**self.model_dump(exclude={"key"}))


class LegacyPrice(_Body):
    """A metered price without a meter."""

    product_name: str = "Legacy usage"
    currency: str = "usd"
    unit_amount_decimal: str
    interval: str = "month"
    aggregate_usage: str = Field(default="sum", pattern=f"^({'|'.join(legacy.AGGREGATIONS)})$")
    account: str = DEFAULT_ACCOUNT


class EventControls:
    """What can be done to deliveries and keys."""

    def __init__(self, core: StripeCore) -> None:
        self._core = core
        self._world = core.world
        self.routes: Mapping[tuple[str, str], Callable[[bytes], Json]] = {
            ("GET", "deliveries"): self._deliveries,
            ("POST", "eventbridge"): self._eventbridge,
            ("GET", "webhook_faults"): self._faults,
            ("POST", "webhook_faults"): self._plan_fault,
            ("DELETE", "webhook_faults"): self._clear_faults,
            ("POST", "webhook_secrets"): self._roll_secret,
            ("GET", "keys"): self._keys,
            ("POST", "keys"): self._rule_key,
            ("POST", "legacy_prices"): self._legacy_price,
        }

    def _deliveries(self, _: bytes) -> Json:
        accounts = self._world.accounts.values()
        pending = [asdict(one) for account in accounts for one in account.deliveries.values()]
        return {"attempts": [asdict(one) for one in self._core.webhooks.log], "pending": pending}

    def _eventbridge(self, _: bytes) -> Json:
        """Hand over what Amazon EventBridge would have been sent by now."""
        now = self._world.clock.now()
        due = self._core.due_deliveries(now, to_eventbridge=True)
        for delivery in due:
            self._core.delivered_webhook(delivery, OK)
        return {"envelopes": [json.loads(delivery.body) for delivery in due]}

    def _faults(self, _: bytes) -> Json:
        return {"faults": [asdict(fault) for fault in self._core.webhooks.faults.planned()]}

    def _plan_fault(self, body: bytes) -> Json:
        planned = PlannedWebhookFault.model_validate_json(body)
        self._core.webhooks.faults.add(WebhookFault(**planned.model_dump()))
        return self._faults(b"")

    def _clear_faults(self, _: bytes) -> Json:
        self._core.webhooks.faults.clear()
        return self._faults(b"")

    def _roll_secret(self, body: bytes) -> Json:
        rolled = RolledSecret.model_validate_json(body)
        account = self._world.account(rolled.account)
        secret = webhooks.roll_secret(
            self._world, account, rolled.endpoint, keep_old_s=rolled.keep_old_s
        )
        return {"secret": secret}

    def _keys(self, _: bytes) -> Json:
        rules = self._world.key_rules.items()
        return {"keys": [{"key": key, **asdict(rule)} for key, rule in rules]}

    def _rule_key(self, body: bytes) -> Json:
        ruled = RuledKey.model_validate_json(body)
        self._world.record(KeyRuled(ruled.key, ruled.rule()))
        return self._keys(b"")

    def _legacy_price(self, body: bytes) -> Json:
        wanted = LegacyPrice.model_validate_json(body)
        params = prices.CREATE.read_all(
            {
                "currency": wanted.currency,
                "product_data": {"name": wanted.product_name},
                "recurring": {"interval": wanted.interval, "usage_type": "metered"},
                "unit_amount_decimal": wanted.unit_amount_decimal,
            }
        )
        call = Call(
            world=self._world,
            account=self._world.account(wanted.account),
            at=self._world.clock.now(),
            params=params,
            path="/v1/prices",
            version=legacy.LAST_VERSION,
        )
        price = prices.create(call)
        recurring = price["recurring"] | {"aggregate_usage": wanted.aggregate_usage}
        return prices.shown(call.put(price | {"tiers": None, "recurring": recurring}))
