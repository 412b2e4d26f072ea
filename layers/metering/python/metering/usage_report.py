"""What customers have used: now, in their billing period, and over time."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from metering.counter import Aggregation, Usage, total
from metering.errors import BadRequestError
from metering.mapping import Mapping as MeterMapping
from metering.mapping import MetricSettings
from metering.names import CustomerRef, Metric, TenantId
from metering.period import CALENDAR_MONTHS, DAY, Span
from metering.ports import Clock, Counters, Settings

HISTORY_MAX = timedelta(days=3 * 366)
YEAR_MAX = 9000


@dataclass(frozen=True, slots=True)
class MetricUsage:
    """One metric of a customer in a billing period; quantities in the metric's unit."""

    metric: Metric
    unit: str
    aggregation: Aggregation
    is_mapped: bool
    """False: counted, and told nobody."""
    usage: Usage

    @property
    def value(self) -> Decimal:
        """The period's number."""
        return self.usage.value(self.aggregation)

    @property
    def late_value(self) -> Decimal:
        """What the late events that await approval come to by themselves."""
        return self.usage.late_value(self.aggregation)


@dataclass(frozen=True, slots=True)
class CurrentUsage:
    """A customer's usage in the billing period that holds now."""

    customer: CustomerRef
    period: Span
    metrics: tuple[MetricUsage, ...]
    now: datetime

    @property
    def watermark(self) -> datetime | None:
        """The newest event counted in the period."""
        marks = [metric.usage.counted.watermark for metric in self.metrics]
        return max((mark for mark in marks if mark), default=None)


class Step(StrEnum):
    """The parts of time that a history is given in, in UTC."""

    DAY = "day"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class History:
    """A metric's numbers per step, oldest first; steps without usage are left out."""

    unit: str
    aggregation: Aggregation
    values: tuple[tuple[datetime, Decimal], ...]


class UsageReport:
    """Answers what customers have used, from counters alone."""

    def __init__(self, counters: Counters, settings: Settings, clock: Clock) -> None:
        self._counters = counters
        self._settings = settings
        self._clock = clock

    def current(self, tenant: TenantId, ref: CustomerRef) -> CurrentUsage:
        """A customer's usage in its present billing period."""
        now = self._clock.now()
        period = self._settings.customer(tenant, ref).calendar.period_of(now)
        by_metric = _by_metric(self._counters.usage(tenant, ref, period))
        metrics = [self._metric(tenant, metric, by_metric[metric]) for metric in sorted(by_metric)]
        return CurrentUsage(ref, period, tuple(metrics), now)

    def _metric(self, tenant: TenantId, metric: Metric, usage: Usage) -> MetricUsage:
        settings = self._settings.metric(tenant, metric)
        mapping = self._settings.active_mapping(tenant, metric)
        aggregation = effective_aggregation(settings, mapping)
        return MetricUsage(metric, settings.unit, aggregation, mapping is not None, usage)

    def history(
        self, tenant: TenantId, ref: CustomerRef, metric: Metric, span: Span, step: Step
    ) -> History:
        """A metric's numbers for every UTC day or month that the span touches.

        Raises:
            BadRequestError: the span ends before it begins, or is longer than three years.
        """
        days = _whole_days(span)
        held = self._counters.usage(tenant, ref, days)
        parts: dict[datetime, list[Usage]] = defaultdict(list)
        for (name, bucket), usage in held.items():
            if name == metric:
                parts[_START_OF[step](bucket)].append(usage)
        settings = self._settings.metric(tenant, metric)
        mapping = self._settings.active_mapping(tenant, metric)
        aggregation = effective_aggregation(settings, mapping)
        values = [(at, total(parts[at]).value(aggregation)) for at in sorted(parts)]
        return History(settings.unit, aggregation, tuple(values))


def effective_aggregation(settings: MetricSettings, mapping: MeterMapping | None) -> Aggregation:
    """What a metric is billed by: its active mapping's aggregation, unmapped its own."""
    return mapping.aggregation if mapping else settings.aggregation


def _by_metric(held: Mapping[tuple[Metric, datetime], Usage]) -> dict[Metric, Usage]:
    parts: dict[Metric, list[Usage]] = defaultdict(list)
    for (metric, _), usage in held.items():
        parts[metric].append(usage)
    return {metric: total(usages) for metric, usages in parts.items()}


def _whole_days(span: Span) -> Span:
    """Counters know days, not hours: a day that is touched is taken whole."""
    if span.end <= span.start:
        raise BadRequestError("periodEnd must be after periodStart", error="Validation Error")
    if span.end - span.start > HISTORY_MAX:
        raise BadRequestError(
            "periodStart and periodEnd are more than three years apart; ask in parts",
            error="Validation Error",
        )
    if span.end.year > YEAR_MAX:
        raise BadRequestError(f"periodEnd lies beyond {YEAR_MAX}", error="Validation Error")
    last = _midnight(span.end - timedelta(microseconds=1))
    return Span(_midnight(span.start), last + DAY)


def _midnight(instant: datetime) -> datetime:
    return instant.replace(hour=0, minute=0, second=0, microsecond=0)


def _month_start(instant: datetime) -> datetime:
    return CALENDAR_MONTHS.period_of(instant).start


_START_OF: dict[Step, Callable[[datetime], datetime]] = {
    Step.DAY: _midnight,
    Step.MONTH: _month_start,
}
