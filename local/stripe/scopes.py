"""What an API key may do: scopes of restricted keys, revoked keys, keys of one account.

Every test key may do everything until a control call says otherwise.
"""

import re

from local.stripe import refusals
from local.stripe.refusals import RefusedError
from local.stripe.state import DEFAULT_ACCOUNT, KeyRule, World

_RESOURCES = {
    "/v1/billing/meters": "billing_meter",
    "/v1/billing/meter_events": "billing_meter_event",
    "/v2/billing/meter_events": "billing_meter_event",
    "/v1/billing/meter_event_adjustments": "billing_meter_event_adjustment",
    "/v2/billing/meter_event_adjustments": "billing_meter_event_adjustment",
    "/v1/billing/alerts": "billing_alert",
    "/v1/customers": "customer",
    "/v1/events": "event",
    "/v2/core/events": "event",
    "/v2/core/event_destinations": "event_destination",
    "/v1/invoiceitems": "invoice",
    "/v1/invoices": "invoice",
    "/v1/prices": "price",
    "/v1/products": "product",
    "/v1/subscription_items": "subscription",
    "/v1/subscriptions": "subscription",
    "/v1/test_helpers/test_clocks": "test_clock",
    "/v1/webhook_endpoints": "webhook",
}
"""The resource of the paths that begin so."""

_BASE = re.compile(r"/v[12]/(?:(?:billing|core|test_helpers)/)?[a-z_]+")
KNOWN = frozenset(
    f"{resource}_{access}" for resource in _RESOURCES.values() for access in ("read", "write")
)
"""Every scope that a restricted key can have."""


def account_of(world: World, key: str, named: str | None) -> str:
    """The account that a call with a key is for; `named` is what `Stripe-Account` says.

    Raises:
        RefusedError: the key was revoked (401), or has no access to the account (403).
    """
    rule = world.key_rules.get(key, KeyRule())
    if rule.revoked:
        message = f"Expired API Key provided: {_masked(key)}"
        raise refusals.unauthorized(message, code="api_key_expired")
    if named is None:
        return rule.account or DEFAULT_ACCOUNT
    if rule.account not in (None, named) and named not in rule.connected:
        message = (
            f"The provided key '{_masked(key)}' does not have access to account '{named}' (or that "
            "account does not exist). Application access may have been revoked."
        )
        raise _forbidden(message, code="account_invalid")
    return named


def check(world: World, key: str, method: str, path: str) -> None:
    """Let a key only do what its scopes allow; the write scope allows reading, too.

    Raises:
        RefusedError: it lacks the scope, which the message names; 403.
    """
    scopes = world.key_rules.get(key, KeyRule()).scopes
    if scopes is None:
        return
    needed = scope_of(method, path)
    if needed is None:
        return
    if needed not in scopes and needed.replace("_read", "_write") not in scopes:
        raise _forbidden(
            f"The provided key '{_masked(key)}' does not have the required permissions for this "
            f"endpoint. Having the 'rak_{needed}' permission would allow this request to continue."
        )


def scope_of(method: str, path: str) -> str | None:
    """The scope that a request needs; None where there is nothing."""
    base = _BASE.match(path)
    resource = _RESOURCES.get(base[0]) if base else None
    return f"{resource}_{'read' if method == 'GET' else 'write'}" if resource else None


def _masked(key: str) -> str:
    return f"{key[:8]}{'*' * 8}{key[-4:] if len(key) > 16 else ''}"  # noqa: PLR2004 (too short to show)


def _forbidden(message: str, *, code: str | None = None) -> RefusedError:
    return RefusedError(message, status=refusals.FORBIDDEN, code=code, before_execution=True)
