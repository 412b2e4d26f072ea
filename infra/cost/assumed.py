"""What no measurement here can tell; all of it is printed with the figures."""

from dataclasses import dataclass
from decimal import Decimal

CORE_MB = Decimal(1769)
"""Lambda gives one vCPU at so much memory, and in proportion below and above (AWS, "Configure
Lambda function memory")."""
GB = Decimal(2**30)
MONTH_S = Decimal(30 * 86_400)


@dataclass(frozen=True, slots=True)
class Assumed:
    """The values that figures rest on beside measurements and prices."""

    cpu_factor: Decimal = Decimal(1)
    """CPU time on Lambda's arm64 core for one second of the measuring machine's core."""
    item_wait_ms: Decimal = Decimal(5)
    """From a call of DynamoDB for one item to its answer, within the region."""
    statements_wait_ms: Decimal = Decimal(15)
    """The same for a call of 25 statements, or a page of a query."""
    stripe_wait_ms: Decimal = Decimal(150)
    """From a request to Stripe to its answer."""
    cold_start_ms: Decimal = Decimal(500)
    """Of a function's start: the import budget of 300 ms, and a margin."""
    cold_share: Decimal = Decimal("0.001")
    """Which part of invocations starts cold."""
    access_log_bytes: Decimal = Decimal(290)
    """A line of API Gateway's access log in the format that `infra/cdk/http_api.py` gives it."""
    traced_share: Decimal = Decimal(0)
    """Which part of requests X-Ray traces: none unless the deployment has `tracing`, then 5 %."""
    traced_a_second: Decimal = Decimal(0)
    """How many requests a second it traces in any case: with `tracing` the first."""
    compression: Decimal = Decimal("0.25")
    """What gzip leaves of an export (DynamoDB JSON, gzipped)."""

    def lines(self) -> list[tuple[str, str]]:
        """For people: what is assumed, and how much."""
        return [
            (
                "CPU on Lambda's arm64 core, relative to the measuring machine's",
                f"{self.cpu_factor}",
            ),
            ("waiting for a DynamoDB call of one item", f"{self.item_wait_ms} ms"),
            (
                "waiting for a DynamoDB call of 25 statements, or a query",
                f"{self.statements_wait_ms} ms",
            ),
            ("waiting for a request to Stripe", f"{self.stripe_wait_ms} ms"),
            ("start of a cold function, billed", f"{self.cold_start_ms} ms"),
            ("invocations that start cold", _percent(self.cold_share)),
            ("a line of API Gateway's access log", f"{self.access_log_bytes} bytes"),
            ("traced by X-Ray (the deployment's `tracing` is off)", _percent(self.traced_share)),
            ("what compression leaves of an export", _percent(self.compression)),
        ]


def _percent(share: Decimal) -> str:
    return f"{(share * 100).normalize():f} %"


ASSUMED = Assumed()
