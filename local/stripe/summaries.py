"""Meter event summaries: a customer's usage of a meter within a range of minutes."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Context, Decimal, Inexact

from local.stripe import params, refusals
from local.stripe.call import Call
from local.stripe.ids import named
from local.stripe.lists import page
from local.stripe.params import TIMESTAMP_MAX, Choice, Fields, Integer, Text
from local.stripe.state import METER, Account, MeterEvent, StreamKey
from local.stripe.wire import Json

MINUTE = 60
END_OF_TIME = TIMESTAMP_MAX + 1
WINDOWS = {"hour": 3_600, "day": 86_400}

EXACT = Context(prec=60, traps=[Inexact])
"""Sums that raise rather than round: 10^40 events of 15 digits would fit."""

_INSTANT = Integer(least=0, most=TIMESTAMP_MAX)
LIST = Fields(
    {
        **params.LIST_FIELDS,
        "customer": Text(),
        "start_time": _INSTANT,
        "end_time": _INSTANT,
        "value_grouping_window": Choice("day", "hour"),
    },
    required=("customer", "end_time", "start_time"),
)


def list_of_meter(call: Call) -> Json:
    """The summaries of a meter for one customer, newest first.

    Raises:
        RefusedError: bounds that are no minutes (or hours, or days), or out of order.
    """
    meter = call.targeted(METER)
    start, end = _bounds(call)
    window = call.params.get("value_grouping_window")
    step = WINDOWS[window] if window else end - start
    stream = StreamKey(meter["id"], call.params["customer"])
    events = counted(call.account, stream, call.at, start=start, end=end)
    rows = _rows(meter, events, range(start, end, step), step, zero=call.world.settings.zero_rows)
    return page((_summary(stream, *row) for row in rows), call.params, call.path)


def _bounds(call: Call) -> tuple[int, int]:
    start, end = call.params["start_time"], call.params["end_time"]
    window = call.params.get("value_grouping_window")
    unit = WINDOWS[window] if window else MINUTE
    for name, instant in (("start_time", start), ("end_time", end)):
        if instant % unit:
            boundary = f"{'UTC ' if window else ''}{window or 'minute'} boundary"
            message = f"{name} must align with a {boundary}; {instant} does not."
            raise refusals.invalid(message, name)
    if start >= end:
        raise refusals.invalid("start_time must be before end_time.", "start_time")
    return start, end


def counted(
    account: Account, key: StreamKey, at: datetime, *, start: int, end: int
) -> list[MeterEvent]:
    """The events of a range that show in summaries at an instant, by timestamp.

    Of a meter with a time window, only those that were received last in their UTC hour or day, also
    where the range begins or ends within it.
    """
    window = account.all(METER)[key.meter]["event_time_window"]
    if not window:
        return _shown(account, key, at, start=start, end=end)
    bucket = WINDOWS[window]
    whole = _shown(account, key, at, start=start // bucket * bucket, end=-(-end // bucket) * bucket)
    kept = _newest_received(whole, bucket)
    return [event for event in kept if start <= event.timestamp < end]


def _shown(
    account: Account, key: StreamKey, at: datetime, *, start: int, end: int
) -> list[MeterEvent]:
    stream = account.streams.get(key, [])
    first = bisect_left(stream, start, key=lambda event: event.timestamp)
    last = bisect_left(stream, end, key=lambda event: event.timestamp)
    return [
        event
        for event in stream[first:last]
        if event.counts_from <= at and not (event.cancelled_from and event.cancelled_from <= at)
    ]


type _Row = tuple[int, int, Decimal]
"""From, to, and the usage between."""


def _rows(
    meter: Json, events: list[MeterEvent], starts: range, step: int, *, zero: bool
) -> Iterator[_Row]:
    grouped: dict[int, list[MeterEvent]] = {start: [] for start in starts} if zero else {}
    for event in events:
        grouped.setdefault(starts[(event.timestamp - starts.start) // step], []).append(event)
    for start in sorted(grouped, reverse=True):
        yield start, start + step, aggregated(meter, grouped[start])


def aggregated(meter: Json, events: Sequence[MeterEvent]) -> Decimal:
    """What events come to by a meter's formula; they come by timestamp.

    A meter with a time window keeps only the event received last in each UTC hour or day.
    """
    window = meter["event_time_window"]
    kept = _newest_received(events, WINDOWS[window]) if window else events
    match meter["default_aggregation"]["formula"]:
        case "count":
            return Decimal(len(kept))
        case "last":
            return kept[-1].value if kept else Decimal(0)
        case _:
            total = Decimal(0)
            for event in kept:
                total = EXACT.add(total, event.value)
            return total


def _newest_received(events: Sequence[MeterEvent], window: int) -> list[MeterEvent]:
    kept: dict[int, MeterEvent] = {}
    for event in events:
        bucket = event.timestamp // window
        if bucket not in kept or kept[bucket].number < event.number:
            kept[bucket] = event
    return list(kept.values())


def _summary(stream: StreamKey, start: int, end: int, value: Decimal) -> Json:
    name = f"{stream.meter}/{stream.customer}/{start}/{end}"
    return {
        "id": "mtrusg_test_" + named(name.encode()),
        "object": "billing.meter_event_summary",
        # Stripe answers with a JSON number, exact to 2^53: the one float in here.
        "aggregated_value": float(value),
        "end_time": end,
        "livemode": False,
        "meter": stream.meter,
        "start_time": start,
    }
