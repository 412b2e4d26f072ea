"""What an invocation of a Lambda function is billed for: its time and the memory it was given."""

from decimal import ROUND_CEILING, Decimal

from infra.cost.assumed import CORE_MB, Assumed
from infra.cost.prices import LAMBDA_GB_S, LAMBDA_REQUEST
from infra.functions import Function

MB_A_GB = Decimal(1024)


def vcpus(function: Function) -> Decimal:
    """The part of a core that a function has; a Python process uses one at most."""
    return min(Decimal(function.memory_mb) / CORE_MB, Decimal(1))


def duration_ms(
    function: Function, cpu_ms: Decimal, assumed: Assumed, *, waits_ms: Decimal
) -> Decimal:
    """How long an invocation lasts: its CPU on its part of a core, and what it waits for others."""
    return cpu_ms * assumed.cpu_factor / vcpus(function) + waits_ms


def invocation_usd(function: Function, lasts_ms: Decimal, assumed: Assumed) -> Decimal:
    """Dollars for one invocation and its part of the cold starts; a millisecond begun counts."""
    billed_ms = lasts_ms.to_integral_value(ROUND_CEILING)
    billed_ms += assumed.cold_share * assumed.cold_start_ms
    gb_s = billed_ms / 1000 * function.memory_mb / MB_A_GB
    return LAMBDA_REQUEST.each + LAMBDA_GB_S.each * gb_s
