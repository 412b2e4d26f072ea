"""What an asset may weigh and what a cold start may cost; tests hold every function against it.

CPU is a process's own, from the import of the handler to its first answer, with bytecode and
without TLS, on a core of the machine that tests run on. On a slower or a busier one the test allows
as much more as an effort that is always the same takes there (`tests/infra/pace.py`). Lambda grants
a whole core while it initializes, and the share of the function's memory after.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

MB = 1_000_000
INGEST_PATH_MB = 25
"""Our code and the `runtime` layer, unpacked, less AWS's SDK."""
ASSET_MB = {"functions": 5, "runtime": 30, "stripe": 30}
"""Each asset unpacked; Lambda takes 250 of all that a function is given."""
AWS_SDK = ("botocore",)
"""What is not ours to make small."""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What one function may spend on its first answer."""

    cpu_ms: int
    never_imports: frozenset[str] = field(default_factory=frozenset)
    """Modules, with all that is below them."""


_NEVER = frozenset({"boto3", "prometheus_client", "infra", "local", "typer", "rich"})
"""Of nobody: what no layer holds, and what builds and runs us."""
_NO_STRIPE = _NEVER | {"stripe", "requests", "charset_normalizer", "asyncio"}
_NO_ROUTER = frozenset({"aws_lambda_powertools.event_handler"})
_NO_SCHEMA = frozenset({"pydantic", "pydantic_core"})
"""Who meets only events that were taken long ago needs no reader of what clients send."""

COLD_STARTS: Mapping[str, ColdStart] = {
    "ingest": ColdStart(300, _NO_STRIPE | _NO_ROUTER),
    "ingest_queue": ColdStart(300, _NO_STRIPE | _NO_ROUTER),
    "aggregator": ColdStart(300, _NO_STRIPE | _NO_ROUTER | _NO_SCHEMA),
    "lane_folder": ColdStart(300, _NO_STRIPE | _NO_ROUTER | _NO_SCHEMA),
    "rebuilder": ColdStart(300, _NO_STRIPE | _NO_ROUTER | _NO_SCHEMA),
    "stripe_webhook": ColdStart(300, _NO_STRIPE | _NO_ROUTER | _NO_SCHEMA),
    "canary": ColdStart(300, _NO_STRIPE | _NO_ROUTER | _NO_SCHEMA),
    "archiver": ColdStart(300, _NO_STRIPE | _NO_ROUTER | _NO_SCHEMA),
    "writer": ColdStart(450, _NEVER | _NO_ROUTER | _NO_SCHEMA),
    "reconciler": ColdStart(500, _NEVER | _NO_ROUTER | _NO_SCHEMA),
    "period_closer": ColdStart(500, _NEVER | _NO_ROUTER | _NO_SCHEMA),
    "api": ColdStart(600, _NEVER | {"stripe", "requests"}),
}
"""By function. `api` imports Stripe's SDK only for routes that ask Stripe."""
