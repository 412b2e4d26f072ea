"""The DynamoDB tables, once for AWS and the local stack.

A table is described in the shape of DynamoDB's own CreateTable request, less its name.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Index:
    """A global secondary index; every attribute is projected."""

    name: str
    partition_key: str
    sort_key: str


@dataclass(frozen=True, slots=True)
class Table:
    """One table; all key attributes are strings."""

    name: str
    purpose: str
    partition_key: str = "pk"
    sort_key: str | None = "sk"
    indexes: tuple[Index, ...] = ()
    has_stream: bool = False
    expires_by: str | None = None
    """The attribute that holds the time to live, epoch seconds."""

    def creation_request(self, *, prefix: str = "", indexes: bool = True) -> dict[str, Any]:
        """What CreateTable takes; `indexes=False` leaves the optional indexes away."""
        kept = [one for one in self.indexes if indexes or one.name not in OPTIONAL_INDEXES]
        names = [self.partition_key, self.sort_key]
        names += [name for index in kept for name in (index.partition_key, index.sort_key)]
        request: dict[str, Any] = {
            "TableName": prefix + self.name,
            "BillingMode": "PAY_PER_REQUEST",
            "AttributeDefinitions": [
                {"AttributeName": name, "AttributeType": "S"} for name in names if name
            ],
            "KeySchema": _key_schema(self.partition_key, self.sort_key),
        }
        if kept:
            request["GlobalSecondaryIndexes"] = [_index_request(index) for index in kept]
        if self.has_stream:
            request["StreamSpecification"] = {
                "StreamEnabled": True,
                "StreamViewType": "NEW_IMAGE",
            }
        return request


def _key_schema(partition_key: str, sort_key: str | None) -> list[dict[str, str]]:
    schema = [{"AttributeName": partition_key, "KeyType": "HASH"}]
    return schema + ([{"AttributeName": sort_key, "KeyType": "RANGE"}] if sort_key else [])


def _index_request(index: Index) -> dict[str, Any]:
    return {
        "IndexName": index.name,
        "KeySchema": _key_schema(index.partition_key, index.sort_key),
        "Projection": {"ProjectionType": "ALL"},
    }


EVENTS = Table(
    "events",
    "The ledger: one item per accepted usage event, which is also its dedupe record. Append only.",
    sort_key=None,
    indexes=(Index("by_counter", "gp", "gs"), Index("by_held", "lp", "ls")),
    has_stream=True,
)
COUNTERS = Table(
    "counters",
    "Lanes and bases of the counters, their directory, the marks of changed ones, the epochs.",
    expires_by="expires",
)
BILLING = Table(
    "billing",
    "What Stripe was told: streams, pushes, the writer's lease and cursor, reconciliation reports.",
    expires_by="expires",
)
SETTINGS = Table("settings", "Tenants, API keys, metrics, mappings, customers.")
QUARANTINE = Table(
    "quarantine",
    "Input that could not be taken or folded, whole, with its reason.",
    indexes=(Index("by_tenant", "gp", "gs"),),
)

ADJUSTMENTS = Table("adjustments", "Who corrected which usage, why, and who approved it.")

RATES = Table(
    "rates",
    "How much each tenant has sent lately, for its rate limit; nothing there is worth a backup.",
    sort_key=None,
)

TABLES: tuple[Table, ...] = (
    EVENTS,
    COUNTERS,
    BILLING,
    SETTINGS,
    QUARANTINE,
    ADJUSTMENTS,
    RATES,
)
OPTIONAL_INDEXES = frozenset({"by_counter"})
"""Switched off by `EVENT_INDEX=off`: it doubles the ledger's write cost."""
