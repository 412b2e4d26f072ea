"""What a deployment sets, read once from the environment."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

SECRET_NOT_SET = "not-set"  # noqa: S105 (the word for none)
"""What the secrets of a new deployment hold until a person has put them in."""


@dataclass(frozen=True, slots=True)
class Config:
    """One deployment's settings; the names in the environment are the fields' in capitals."""

    table_prefix: str = ""
    """Put before every table name, so that one account can hold several deployments."""
    dynamodb_endpoint: str | None = None
    """None is AWS's own; the local stack sets DynamoDB Local's."""
    event_index: bool = True
    """Whether the ledger's `by_counter` index exists; it doubles the ledger's write cost."""
    event_index_shards: int = 4
    """How many partitions a counter's index entries spread over; only ever raise it."""
    lateness_h: int = 48
    """How late an event may be and still be counted, where its metric says nothing else."""
    auth: bool = True
    """False only on loopback: requests without a key are served, for the tenant they name."""
    settings_cache_s: float = 30.0
    """How long settings and API keys are kept in memory: a revoked key is refused everywhere after
    this time at the latest."""
    tenant_events_a_second: int = 0
    """How many events a tenant may send over HTTPS; an operator may set another number for one
    tenant. 0 limits nobody, whatever was set."""
    tenant_requests_a_second: int = 0
    """The same for requests to all other routes."""
    failed_keys_a_minute: int = 60
    """How many API keys that are not valid are let through from one address; 0 is no limit."""
    stripe_api_base: str | None = None
    """None is Stripe's own; the local stack sets the stand-in's."""
    stripe_secret_key: str | None = None
    """For the local stack; on AWS `stripe_secret_name` is read instead."""
    stripe_secret_name: str | None = None
    stripe_shadow_secret_key: str | None = None
    """A test key: what mappings with `shadow` tell Stripe is told in its account, too."""
    stripe_shadow_secret_name: str | None = None
    stripe_transport: str = "v1"
    """Which endpoint takes meter events, `v1` or `v2`."""
    stripe_calls_a_second: int = 1000
    """Of meter events at most, per account; Stripe takes 1,000 in live mode."""
    stripe_connected_calls_a_second: int = 100
    """The same for a connected account, where Stripe's basic limit holds."""
    stripe_reads_a_month: int = 10_000
    """Reads per account in 30 days; Stripe grants so many to everybody, and more with sales."""
    stripe_webhook_secrets: str | None = None
    """What signs Stripe's webhooks, any of several, separated by commas; for the local stack."""
    stripe_webhook_secrets_name: str | None = None
    """The secret of AWS Secrets Manager that holds the same."""
    legacy_usage_records: bool = False
    """Whether prices without a meter may be mapped; they are told by an API that Stripe gave up."""
    calls_at_once: int = 1
    """How many calls to DynamoDB one invocation has under way when it needs several."""
    changed_slot_s: int = 60
    """How finely the marks of changed counters are dated; one mark per counter and slot."""
    rebuild_lead_s: float = 390.0
    """From a rebuild's request to its cut; longer than clocks may differ, and than any function
    caches the epoch (a third of it)."""
    rebuild_settle_s: float = 600.0
    """From the cut to the recount; longer than an ingest call with its retries and clock skew."""

    canary_api_url: str | None = None
    """Where the canary calls the deployment's own API; None switches it off."""
    canary_key: str | None = None
    """Its API key, for the local stack; on AWS `canary_key_name` is read instead."""
    canary_key_name: str | None = None
    canary_customer: str = "canary"
    """Whose usage the canary sends. One whom its tenant has mapped onto Stripe is told there, too,
    and compared by the reconciler's reports."""
    archive_bucket: str | None = None
    """Where the ledger is exported to, day by day; None switches the archiver off."""

    deployment: str = "local"
    """Which StripeMeter this is, such as `prod`; the one dimension of its numbers on CloudWatch."""
    metrics: str = "prometheus"
    """Where numbers for operators go: `prometheus` keeps them in memory, for `/metrics`; `emf`
    writes them to the log once an invocation, for CloudWatch; `off` keeps none."""
    metrics_token: str | None = None
    """What an operator's scraper sends as its bearer token; without it, `/metrics` is only served
    where no keys are required."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Config":
        """The settings that an environment holds; absent ones keep their defaults."""
        return cls(
            table_prefix=environment.get("TABLE_PREFIX", ""),
            dynamodb_endpoint=environment.get("DYNAMODB_ENDPOINT"),
            event_index=_switch(environment.get("EVENT_INDEX", "on"), "EVENT_INDEX"),
            event_index_shards=int(environment.get("EVENT_INDEX_SHARDS", "4")),
            lateness_h=int(environment.get("LATENESS_H", "48")),
            auth=_switch(environment.get("AUTH", "on"), "AUTH"),
            settings_cache_s=float(environment.get("SETTINGS_CACHE_S", "30")),
            tenant_events_a_second=_not_negative(environment, "TENANT_EVENTS_A_SECOND", "0"),
            tenant_requests_a_second=_not_negative(environment, "TENANT_REQUESTS_A_SECOND", "0"),
            failed_keys_a_minute=_not_negative(environment, "FAILED_KEYS_A_MINUTE", "60"),
            stripe_api_base=environment.get("STRIPE_API_BASE"),
            stripe_secret_key=environment.get("STRIPE_SECRET_KEY"),
            stripe_secret_name=environment.get("STRIPE_SECRET_NAME"),
            stripe_shadow_secret_key=environment.get("STRIPE_SHADOW_SECRET_KEY"),
            stripe_shadow_secret_name=environment.get("STRIPE_SHADOW_SECRET_NAME"),
            stripe_transport=_one_of(
                environment.get("STRIPE_TRANSPORT", "v1"), "STRIPE_TRANSPORT", "v1", "v2"
            ),
            stripe_calls_a_second=_at_least_one(environment, "STRIPE_CALLS_A_SECOND", "1000"),
            stripe_connected_calls_a_second=_at_least_one(
                environment, "STRIPE_CONNECTED_CALLS_A_SECOND", "100"
            ),
            stripe_reads_a_month=int(environment.get("STRIPE_READS_A_MONTH", "10000")),
            stripe_webhook_secrets=environment.get("STRIPE_WEBHOOK_SECRETS"),
            stripe_webhook_secrets_name=environment.get("STRIPE_WEBHOOK_SECRETS_NAME"),
            legacy_usage_records=_switch(
                environment.get("LEGACY_USAGE_RECORDS", "off"), "LEGACY_USAGE_RECORDS"
            ),
            calls_at_once=int(environment.get("CALLS_AT_ONCE", "4")),
            changed_slot_s=int(environment.get("CHANGED_SLOT_S", "60")),
            rebuild_lead_s=float(environment.get("REBUILD_LEAD_S", "390")),
            rebuild_settle_s=float(environment.get("REBUILD_SETTLE_S", "600")),
            canary_api_url=environment.get("CANARY_API_URL"),
            canary_key=environment.get("CANARY_KEY"),
            canary_key_name=environment.get("CANARY_KEY_NAME"),
            canary_customer=environment.get("CANARY_CUSTOMER", "canary"),
            archive_bucket=environment.get("ARCHIVE_BUCKET"),
            deployment=environment.get("DEPLOYMENT", "local"),
            metrics=_one_of(
                environment.get("METRICS", "prometheus"), "METRICS", "prometheus", "emf", "off"
            ),
            metrics_token=environment.get("METRICS_TOKEN"),
        )

    @property
    def changed_slot(self) -> timedelta:
        """How finely the marks of changed counters are dated."""
        return timedelta(seconds=self.changed_slot_s)

    @property
    def lateness(self) -> timedelta:
        """How late an event of a metric that nobody set up may be."""
        return timedelta(hours=self.lateness_h)

    @property
    def settings_cache(self) -> timedelta:
        """How old a cached setting may be."""
        return timedelta(seconds=self.settings_cache_s)


def _switch(text: str, name: str) -> bool:
    if text not in {"on", "off"}:
        raise ValueError(f"{name} must be 'on' or 'off', not {text!r}")
    return text == "on"


def _one_of(text: str, name: str, *choices: str) -> str:
    if text not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}, not {text!r}")
    return text


def _not_negative(environment: Mapping[str, str], name: str, default: str) -> int:
    number = int(environment.get(name, default))
    if number < 0:
        raise ValueError(f"{name} must be 0 or more, not {number}")
    return number


def _at_least_one(environment: Mapping[str, str], name: str, default: str) -> int:
    number = int(environment.get(name, default))
    if number < 1:
        raise ValueError(f"{name} must be 1 or more, not {number}")
    return number
