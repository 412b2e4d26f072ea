"""Whether a test account was told the same as the primary: the latest reports of both, compared.

The two are made one after the other. A row is compared only where both saw the same usage and
neither has anything under way; all else is compared by the next run.
"""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from typing import NamedTuple

from metering.counter import CounterKey
from metering.period import Span
from metering.quantity import EXACT, canonical
from metering.reconciliation import Cause, Report, Row

_PASSING = frozenset({Cause.COUNTER_BEHIND, Cause.AWAITING_PUSH, Cause.IN_FLIGHT})
"""Causes that pass by themselves, within minutes."""


class ShadowDifference(NamedTuple):
    """What the primary and the shadow were told of one counter in one billing period."""

    counter: CounterKey
    period: Span
    primary: Decimal
    shadow: Decimal
    """In the metric's unit, as is `primary`."""
    explanation: str

    @property
    def cause(self) -> Cause:
        """Always the one."""
        return Cause.SHADOW_DIFFERS

    @property
    def amount(self) -> Decimal:
        """How much more the primary was told."""
        return EXACT.subtract(self.primary, self.shadow)


def shadowed_rows(report: Report) -> list[Row]:
    """A shadow's rows, less those whose metric has a shadow no more."""
    return [row for row in report.rows if Cause.UNMAPPED not in _causes(row)]


def differences(primary: Iterable[Row], shadow: Sequence[Row]) -> Iterator[ShadowDifference]:
    """The rows of which the two were told different numbers."""
    told = {(row.counter, row.period.start): row for row in primary}
    for row in shadow:
        own = told.get((row.counter, row.period.start))
        if own is not None and own.pushed != row.pushed and _is_comparable(own, row):
            yield ShadowDifference(row.counter, row.period, own.pushed, row.pushed, _why(own, row))


def _is_comparable(primary: Row, shadow: Row) -> bool:
    is_still = not (_causes(primary) | _causes(shadow)) & _PASSING
    return is_still and primary.counted == shadow.counted


def _causes(row: Row) -> set[Cause]:
    return {finding.cause for finding in row.findings}


def _why(primary: Row, shadow: Row) -> str:
    numbers = (
        f"The primary was told {canonical(primary.pushed)} and the shadow"
        f" {canonical(shadow.pushed)}."
    )
    reasons = [f"The primary: {primary.explanation}"] if primary.explanation else []
    reasons += [f"The shadow: {shadow.explanation}"] if shadow.explanation else []
    return " ".join([numbers, *reasons])
