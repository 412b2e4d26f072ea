"""Stripe's reports of meter events that it took and did not count, and what they make us doubt.

Stripe judges meter events a second time after it has taken them, and reports what it dropped per
meter and window of about ten seconds. A report counts the errors of each kind and names samples,
perhaps none; so it says where to look, never what has counted.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime

from metering.names import Identifier
from metering.notice import Notice
from metering.period import Span

_OURS = re.compile(r"(u1\.[a-z2-7]{32}\.[0-9]+)(?:\.g[0-9]+)?")
"""A push's identifier, with the generation that its Idempotency-Key may add."""


@dataclass(frozen=True, slots=True)
class MeterError:
    """Errors of one kind in one report."""

    code: str
    """Stripe's word, such as `archived_meter`; it adds to them at will."""
    count: int
    """How many meter events it befell."""
    identifiers: tuple[str, ...]
    """Samples: one for each meter event that is named, ours as our pushes have them."""
    message: str = ""
    """What Stripe says of the first sample."""

    @property
    def ours(self) -> tuple[Identifier, ...]:
        """The pushes of ours among the samples, each once."""
        known = dict.fromkeys(one for one in map(push_named, self.identifiers) if one is not None)
        return tuple(known)

    @property
    def foreign(self) -> int:
        """How many samples somebody else has sent."""
        return sum(push_named(one) is None for one in self.identifiers)

    @property
    def unnamed(self) -> int:
        """How many meter events it befell that no sample names."""
        return max(self.count - len(self.identifiers), 0)


@dataclass(frozen=True, slots=True)
class MeterErrorReport:
    """What Stripe dropped in one window, of one meter or of events without a meter."""

    id: str
    """Of the event that carries it."""
    meter_id: str | None
    """None where no meter has the event name."""
    window: Span
    """When Stripe judged the meter events, which is seconds after it took them."""
    summary: str
    errors: tuple[MeterError, ...]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A doubt whether meter events that Stripe took have counted; a look at Stripe settles it."""

    id: str
    """The same for the same doubt, however often it is reported."""
    identifier: Identifier | None
    """The push in doubt; None where any push that was sent just before the window may be."""
    meter_id: str | None
    code: str
    message: str
    count: int
    """How many meter events are in doubt."""
    window: Span
    """When Stripe judged them."""
    account: str
    is_live: bool
    reported_at: datetime
    seen_empty_at: datetime | None = None
    """When the push's minute was first found empty at Stripe, for whoever looks to remember."""


def push_named(text: str) -> Identifier | None:
    """The push that an identifier or an Idempotency-Key names; None when it is not one of ours."""
    match = _OURS.fullmatch(text)
    return Identifier(match[1]) if match else None


def identifier_of(candidates: Iterable[str | None]) -> str | None:
    """Which of a sample's names to keep: that of a push before any other; None of no name."""
    named = [one for one in candidates if one]
    ours = [push for push in map(push_named, named) if push is not None]
    return next(iter([*ours, *named]), None)


def suspicions_of(report: MeterErrorReport, notice: Notice) -> Iterator[Suspicion]:
    """What a report makes us doubt: each push that it names, and the window for those unnamed.

    Samples that somebody else has sent are no doubt of ours.
    """
    for error in report.errors:
        for identifier in error.ours:
            yield _suspicion(report, notice, error, identifier)
        if error.unnamed:
            yield _suspicion(report, notice, error, None)


def _suspicion(
    report: MeterErrorReport, notice: Notice, error: MeterError, identifier: Identifier | None
) -> Suspicion:
    return Suspicion(
        id=identifier or f"{report.id}.{error.code}",
        identifier=identifier,
        meter_id=report.meter_id,
        code=error.code,
        message=error.message or report.summary,
        count=1 if identifier else error.unnamed,
        window=report.window,
        account=notice.account,
        is_live=notice.is_live,
        reported_at=notice.received_at,
    )
