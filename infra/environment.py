"""The environment variables of every function: one truth for AWS and the local stack.

What `metering.config` reads stands here: a variable that is set, or a name in `LEFT_ALONE` with
the reason why a deployment on AWS does without.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from infra.deployments import Deployment
from infra.functions import (
    API,
    ARCHIVER,
    CANARY,
    FUNCTIONS,
    INGEST,
    RECONCILER,
    STRIPE_WEBHOOK,
    WRITER,
    Function,
)

STRIPE_KEY = "stripe-key"
STRIPE_SHADOW_KEY = "stripe-shadow-key"
STRIPE_WEBHOOK_SECRET = "stripe-webhook"  # noqa: S105 (a name, no secret)
CANARY_KEY = "canary-key"
API_URL = "${ApiUrl}"
"""Known only when the API is made: the CDK puts it in its place."""


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable."""

    name: str
    value: Callable[[Deployment], str | None]
    """None leaves it unset in that deployment."""
    of: frozenset[str]
    """The names of the functions that get it."""


def secrets_of(deployment: Deployment) -> dict[str, str]:
    """The deployment's secrets by their short names, and what each is."""
    signs = "What signs Stripe's webhooks; several, separated by commas, while one is rotated"
    secrets = {STRIPE_KEY: "Stripe's restricted key", STRIPE_WEBHOOK_SECRET: signs}
    if deployment.shadow:
        secrets[STRIPE_SHADOW_KEY] = "The key of the Stripe test account that is told the same"
    if deployment.canary:
        secrets[CANARY_KEY] = "The API key of the canary's tenant"
    return secrets


def secret_name(deployment: Deployment, name: str) -> str:
    """A secret of the deployment, as Secrets Manager calls it."""
    return f"stripemeter/{deployment.name}/{name}"


def bucket_name(deployment: Deployment, name: str) -> str:
    """A bucket of the deployment; all accounts share one space of names."""
    return f"{deployment.prefix}{name}-${{AWS::AccountId}}-${{AWS::Region}}"


def _secret(name: str) -> Callable[[Deployment], str | None]:
    return lambda deployment: secret_name(deployment, name)


def _switch(*, is_on: bool) -> str:
    return "on" if is_on else "off"


_ALL = frozenset(one.name for one in FUNCTIONS)
_STRIPE = frozenset(one.name for one in FUNCTIONS if one.calls_stripe)
_SHADOW = frozenset({WRITER.name, RECONCILER.name, API.name})
_WEBHOOK = frozenset({STRIPE_WEBHOOK.name})
_INGEST = frozenset({INGEST.name})
_API = frozenset({API.name})
_CANARY = frozenset({CANARY.name})
_ARCHIVER = frozenset({ARCHIVER.name})

VARIABLES: tuple[Variable, ...] = (
    Variable("TABLE_PREFIX", lambda one: one.prefix, _ALL),
    Variable("EVENT_INDEX", lambda one: _switch(is_on=one.event_index), _ALL),
    Variable("EVENT_INDEX_SHARDS", lambda one: str(one.event_index_shards), _ALL),
    Variable("LATENESS_H", lambda one: str(one.lateness_h), _ALL),
    Variable("TENANT_EVENTS_A_SECOND", lambda one: str(one.tenant_events_per_s), _INGEST),
    Variable("TENANT_REQUESTS_A_SECOND", lambda one: str(one.tenant_requests_per_s), _API),
    Variable("METRICS", lambda _: "emf", _ALL),
    Variable("DEPLOYMENT", lambda one: one.name, _ALL),
    # Whoever takes a webhook compares the world of its event with that of the key.
    Variable("STRIPE_SECRET_NAME", _secret(STRIPE_KEY), _STRIPE | _WEBHOOK),
    Variable(
        "STRIPE_SHADOW_SECRET_NAME",
        lambda one: secret_name(one, STRIPE_SHADOW_KEY) if one.shadow else None,
        _SHADOW,
    ),
    Variable("STRIPE_WEBHOOK_SECRETS_NAME", _secret(STRIPE_WEBHOOK_SECRET), _WEBHOOK),
    Variable("STRIPE_TRANSPORT", lambda one: one.stripe_transport, _STRIPE),
    Variable("STRIPE_READS_A_MONTH", lambda one: str(one.stripe_reads_a_month), _STRIPE),
    Variable("LEGACY_USAGE_RECORDS", lambda one: _switch(is_on=one.legacy_usage_records), _STRIPE),
    Variable("CANARY_API_URL", lambda _: API_URL, _CANARY),
    Variable("CANARY_KEY_NAME", _secret(CANARY_KEY), _CANARY),
    Variable("CANARY_CUSTOMER", lambda one: one.canary_customer, _CANARY),
    Variable("ARCHIVE_BUCKET", lambda one: bucket_name(one, "archive"), _ARCHIVER),
)

ONLY_ON_AWS = frozenset(
    {
        "STRIPE_SECRET_NAME",
        "STRIPE_SHADOW_SECRET_NAME",
        "STRIPE_WEBHOOK_SECRETS_NAME",
        "CANARY_API_URL",
        "CANARY_KEY_NAME",
        "ARCHIVE_BUCKET",
    }
)
"""What names a thing that the local stack does not have, or hands over itself."""

LEFT_ALONE: Mapping[str, str] = {
    "DYNAMODB_ENDPOINT": "only the local stack has another than AWS's own",
    "STRIPE_API_BASE": "only the local stack has another than Stripe's own",
    "STRIPE_SECRET_KEY": "a secret stands in Secrets Manager, its name here",
    "STRIPE_SHADOW_SECRET_KEY": "a secret stands in Secrets Manager, its name here",
    "STRIPE_WEBHOOK_SECRETS": "a secret stands in Secrets Manager, its name here",
    "CANARY_KEY": "a secret stands in Secrets Manager, its name here",
    "AUTH": "on, and nothing on AWS may turn it off",
    "METRICS_TOKEN": "no scraper reaches all execution environments; numbers go out as EMF",
    "SETTINGS_CACHE_S": "the default: how soon a revoked key is known against reads of the table",
    "FAILED_KEYS_A_MINUTE": "the default: far more than a person mistypes, far less than guessing",
    "STRIPE_CALLS_A_SECOND": "the default is what Stripe takes",
    "STRIPE_CONNECTED_CALLS_A_SECOND": "the default is what Stripe takes",
    "CALLS_AT_ONCE": "the default suits the memory of every function",
    "CHANGED_SLOT_S": "the default; marks in the table depend on it",
    "REBUILD_LEAD_S": "the default is longer than any function caches the epoch",
    "REBUILD_SETTLE_S": "the default is longer than an ingest call with its retries",
}
"""What `metering.config` reads and no deployment sets, and why."""


def environment_of(function: Function, deployment: Deployment) -> dict[str, str]:
    """What a function is told in a deployment."""
    told = {one.name: one.value(deployment) for one in VARIABLES if function.name in one.of}
    return {name: value for name, value in told.items() if value is not None}
