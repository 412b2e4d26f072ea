"""Buckets of a day and of an hour side by side: time stays tiled, and nothing counts twice."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from metering.aggregator import Aggregator
from metering.counter import BucketKey, Usage, counter_of, total, usage_of
from metering.event import LedgerEntry
from metering.lane import Record, position_of
from metering.mapping import MetricSettings
from metering.names import Metric, TenantId
from metering.period import CALENDAR_MONTHS, BillingCalendar, Era, Width
from tests.builders import NOON, a_counter, an_entry
from tests.conftest import SetClock
from tests.held import FirstEpoch, HeldLanes, HeldQuarantine, NoSettings

TICK = timedelta(microseconds=1)
CUT = datetime(2026, 11, 20, 9, 37, 42, tzinfo=UTC)
ODD = BillingCalendar((Era(CUT, CUT, subscription="sub_1"),))
BEGINNING = datetime(2026, 11, 19, tzinfo=UTC)
instants = st.timedeltas(timedelta(), timedelta(days=3)).map(lambda part: BEGINNING + part)
calendars = st.sampled_from([CALENDAR_MONTHS, ODD])
widths = st.sampled_from(Width)


@given(calendars, instants, widths)
def test_buckets_of_either_width_tile_time_within_periods(
    calendar: BillingCalendar, instant: datetime, width: Width
) -> None:
    bucket = calendar.bucket_of(instant, width)

    assert instant in bucket
    assert bucket.start in calendar.period_of(instant)
    for inside in (bucket.start, bucket.end - TICK):
        assert calendar.bucket_of(inside, width) == bucket
    assert calendar.bucket_of(bucket.end, width).start == bucket.end


@given(calendars, instants)
def test_an_hour_lies_in_one_day(calendar: BillingCalendar, instant: datetime) -> None:
    hour, day = calendar.bucket_of(instant, Width.HOUR), calendar.bucket_of(instant)

    assert day.start <= hour.start < hour.end <= day.end


class Widths(NoSettings):
    """The one thing that was set up, and may change at any moment."""

    bucket = Width.DAY

    def metric(self, tenant: TenantId, metric: Metric) -> MetricSettings:
        return replace(super().metric(tenant, metric), bucket=self.bucket)


@given(
    st.lists(st.builds(an_entry, st.integers(1, 9).map(str), at=instants), min_size=1, max_size=12),
    st.lists(st.tuples(widths, st.integers(0, 12), st.integers(1, 12)), max_size=8),
)
def test_a_width_that_changes_between_deliveries_counts_nothing_twice(
    ledger: list[LedgerEntry], deliveries: list[tuple[Width, int, int]]
) -> None:
    lanes, settings = HeldLanes(), Widths()
    records = [Record(position_of(str(at)), one) for at, one in enumerate(ledger, 1)]
    done = 0
    for width, back, length in [*deliveries, (Width.HOUR, 0, len(ledger))]:
        settings.bucket = width
        start = max(0, done - back)
        part = records[start : start + length]
        aggregator = Aggregator(lanes, FirstEpoch(), settings, HeldQuarantine(), SetClock(NOON))
        assert aggregator.fold("events#1", part).failed_from is None
        done = max(done, start + len(part))
    aggregator.fold("events#1", records)

    assert lanes.usage(a_counter()) == total(map(usage_of, ledger))


@given(
    st.lists(st.builds(an_entry, st.integers(1, 9).map(str), at=instants), min_size=1, max_size=12),
    widths,
)
def test_each_bucket_holds_what_happened_in_it(ledger: list[LedgerEntry], width: Width) -> None:
    lanes, settings = HeldLanes(), Widths()
    settings.bucket = width
    records = [Record(position_of(str(at)), one) for at, one in enumerate(ledger, 1)]

    Aggregator(lanes, FirstEpoch(), settings, HeldQuarantine(), SetClock(NOON)).fold("e#1", records)

    held = {
        BucketKey(key.counter, start): usage
        for key, lane in lanes.lanes.items()
        for start, usage in lane.buckets.items()
    }
    assert held == _by_bucket(ledger, width)


def _by_bucket(ledger: Iterable[LedgerEntry], width: Width) -> dict[BucketKey, Usage]:
    found: dict[BucketKey, Usage] = {}
    for one in ledger:
        start = CALENDAR_MONTHS.bucket_of(one.event.occurred_at, width).start
        key = BucketKey(counter_of(one.event), start)
        found[key] = found.get(key, Usage()) + usage_of(one)
    return found
