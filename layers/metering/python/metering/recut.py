"""Leaves pushes to the billing periods that they are stamped in, where the periods were cut anew.

A plan change, or a cancellation, ends a period at once, and we may hear of it minutes or days
later. What was told meanwhile stands in the former period's stream; Stripe counts it by its stamp,
in the period that it lies in now. So the former stream cedes those pushes, and the present period's
begins with what they came to: Stripe is told nothing for it. All streams that this touches are
stored in one transaction, on the condition that nobody has stored one of them, or the customer's
calendar, since they were read: a crash or a second writer cedes nothing twice.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import reduce
from typing import NamedTuple

from metering.carry import merged
from metering.mapping import Customer
from metering.minutes import Minutes
from metering.period import BillingCalendar, Span
from metering.ports import Change, Counters, Pushes, PushHistory
from metering.push import (
    Held,
    Push,
    PushState,
    PushStream,
    Received,
    StreamKind,
    retired,
    sent_by,
)
from metering.route import is_in_the_way

STREAMS_MAX = 30
"""Of one transaction."""
_COUNTED = frozenset({PushState.ACCEPTED, PushState.COUNTED})

type MakeStream = Callable[[Span], PushStream]
"""The stream of a counter's billing period, as it begins."""


# --- what becomes of each stream ------------------------------------------------------------------


class _Holding(NamedTuple):
    """A stream with the pushes that it holds, before and after."""

    stream: PushStream
    before: tuple[Push, ...]
    after: tuple[Push, ...]

    @property
    def has_moved(self) -> bool:
        """Whether it gives pushes or takes some over."""
        return {one.identifier for one in self.before} != {one.identifier for one in self.after}


def recut(
    histories: Sequence[PushHistory], calendar: BillingCalendar, begin: MakeStream, now: datetime
) -> list[PushStream] | Held:
    """The streams that change, as they must be stored together; or why nothing can be done now.

    `histories` are all streams of one counter, target and life of the store whose pushes may lie in
    one of the periods concerned, with their pushes.
    """
    holdings = _regrouped(histories, calendar, begin)
    changed = [one for one in holdings if _changes(one, calendar)]
    reason = _why_not(changed, calendar)
    if reason is not None:
        return reason
    streams = {one.stream.key.id: _stream_after(one, calendar, now) for one in changed}
    return _with_carries_moved(streams, holdings, calendar, begin)


def _regrouped(
    histories: Sequence[PushHistory], calendar: BillingCalendar, begin: MakeStream
) -> list[_Holding]:
    """Each push in the stream of the period that holds its stamp."""
    held = {one.stream.key.period.start: one for one in histories}
    after: dict[datetime, list[Push]] = defaultdict(list)
    for history in histories:
        for push in history.pushes:
            after[calendar.period_of(push.occurred_at).start].append(push)
    holdings = []
    for start in sorted(held.keys() | after.keys()):
        known = held.get(start)
        stream = known.stream if known else begin(calendar.period_of(start))
        before = known.pushes if known else ()
        holdings.append(_Holding(stream, tuple(before), tuple(after[start])))
    return holdings


def _changes(holding: _Holding, calendar: BillingCalendar) -> bool:
    stream = holding.stream
    if holding.has_moved:
        return True
    if not is_there(stream, calendar):
        return bool(stream.carried_in)
    return calendar.period_of(stream.key.period.start) != stream.key.period


def is_there(stream: PushStream, calendar: BillingCalendar) -> bool:
    """Whether a billing period still begins where the stream's does."""
    start = stream.key.period.start
    return calendar.period_of(start).start == start


def _why_not(changed: Sequence[_Holding], calendar: BillingCalendar) -> Held | None:
    if any(one.stream.open or one.stream.item for one in changed):
        return Held.PUSH_OPEN
    moving = [one for one in changed if one.has_moved]
    forms = {(one.stream.scale, one.stream.kind, one.stream.meter_id) for one in moving}
    is_unfit = (
        len(forms) > 1
        or len(changed) > STREAMS_MAX
        or any(_is_bound(one) for one in moving)
        or any(_is_settled_apart(one.stream) for one in changed if _goes(one, calendar))
    )
    return Held.PERIOD_CHANGED if is_unfit else None


def _goes(holding: _Holding, calendar: BillingCalendar) -> bool:
    return not is_there(holding.stream, calendar)


def _is_bound(holding: _Holding) -> bool:
    """Whether what the stream holds is more than its pushes say, or is tied to its period.

    Usage records are all stamped with their period's start; a later life of the store begins with
    what Stripe holds; a correction cancels what others wrote at its own time.
    """
    stream = holding.stream
    corrections = (push for push in holding.before if push.is_correction)
    return (
        stream.kind is StreamKind.LEGACY
        or stream.key.incarnation > 0
        or any(push.state in _COUNTED for push in corrections)
        or total_of(stream.kind, holding.before) != stream.accepted
    )


def _is_settled_apart(stream: PushStream) -> bool:
    """Whether usage of a period that is gone was told or billed elsewhere."""
    return bool(stream.carried_out or stream.items or stream.corrections)


def total_of(kind: StreamKind, pushes: Iterable[Push]) -> int:
    """What a stream's pushes come to at Stripe, in scaled units."""
    counted = [one for one in pushes if one.state in _COUNTED and not one.is_correction]
    if kind is StreamKind.DELTA:
        return sum(one.delta for one in counted)
    newest = max(counted, key=lambda one: (one.occurred_at, one.planned_at), default=None)
    return int(newest.value) if newest else 0


def _stream_after(holding: _Holding, calendar: BillingCalendar, now: datetime) -> PushStream:
    stream = holding.stream
    if _goes(holding, calendar):
        period = stream.key.period
    else:
        period = calendar.period_of(stream.key.period.start)
    # Of a total that deltas add up to, some may be left to tell or to carry on.
    is_due = stream.is_due or (stream.kind is StreamKind.DELTA and stream.accepted != 0)
    after = replace(stream, key=stream.key._replace(period=period), is_due=is_due)
    if holding.has_moved:
        after = replace(
            after,
            accepted=total_of(stream.kind, holding.after),
            accepted_at=now,
            ceded=stream.ceded + _ceded(holding),
            ceded_from=_ceded_from(holding, after, calendar),
            received=_received(stream, holding.after),
            minutes=_minutes(holding),
            is_due=True,
        )
    # Nothing is left to tell of a period that is gone, or of a window that lies in another one.
    is_empty = _goes(holding, calendar) or (stream.key.hour or period.start) not in period
    return retired(after) if is_empty else after


def _ceded(holding: _Holding) -> int:
    """What it has sent itself and holds no more, less what has come back to it."""
    own = holding.stream.key.id
    before = _amount(one for one in holding.before if sent_by(one) == own)
    return before - _amount(one for one in holding.after if sent_by(one) == own)


def _ceded_from(holding: _Holding, after: PushStream, calendar: BillingCalendar) -> datetime | None:
    if _goes(holding, calendar):
        return after.key.period.start
    # It may take over as many as it gives: what counts is whether one of its own is gone.
    kept = {one.identifier for one in holding.after}
    gives = any(one.identifier not in kept for one in holding.before)
    return after.key.period.end if gives or holding.stream.ceded_from is not None else None


def _received(stream: PushStream, pushes: Iterable[Push]) -> tuple[Received, ...]:
    by_sender: dict[str, list[Push]] = defaultdict(list)
    for push in pushes:
        by_sender[sent_by(push)].append(push)
    return tuple(
        Received(sender, _amount(sent))
        for sender, sent in sorted(by_sender.items())
        if sender != stream.key.id
    )


def _amount(pushes: Iterable[Push]) -> int:
    return sum(one.delta for one in pushes if one.state in _COUNTED)


def _minutes(holding: _Holding) -> Minutes:
    """The minutes that are free: none that a push was stamped with, whatever became of it."""
    stream = holding.stream
    stamps = {one.occurred_at for one in holding.after}
    if stream.kind is StreamKind.LAST:
        return Minutes().after(max(stamps)) if stamps else Minutes()
    taken_over = stamps - {one.occurred_at for one in holding.before}
    return reduce(Minutes.without, sorted(taken_over), stream.minutes)


def _with_carries_moved(
    streams: dict[str, PushStream],
    holdings: Sequence[_Holding],
    calendar: BillingCalendar,
    begin: MakeStream,
) -> list[PushStream]:
    """What a period that is gone told for closed ones is told by the one in its place."""
    standing = {one.stream.key.period.start: one.stream for one in holdings}
    for one in [one for one in streams.values() if one.carried_in and not is_there(one, calendar)]:
        period = calendar.period_of(one.key.period.start)
        known = standing.get(period.start) or begin(period)
        heir = streams.get(known.key.id, known)
        lines = merged(heir.carried_in, one.carried_in)
        streams[heir.key.id] = replace(heir, carried_in=lines, is_due=True)
        streams[one.key.id] = replace(one, carried_in=())
    return list(streams.values())


# --- one counter ----------------------------------------------------------------------------------


class Recut(NamedTuple):
    """Finds a counter's streams that were cut otherwise, and has them stored as they are now."""

    pushes: Pushes
    counters: Counters
    now: datetime

    def settle(self, own: PushStream, customer: Customer, begin: MakeStream) -> Held | None:
        """Why a stream must not go on in this look; None: no former cut is in its way.

        `RECUT` when streams were stored, this one among them: it is to be read again.
        """
        histories = self._histories(own, customer.calendar)
        apart = [one for one in histories if not _is_alike(one.stream, own)]
        if any(is_in_the_way(*one, customer) for one in apart):
            return Held.PERIOD_CHANGED
        alike = [one for one in histories if _is_alike(one.stream, own)]
        found = recut(alike, customer.calendar, begin, self.now)
        if isinstance(found, Held):
            return found
        if not self._may_be_kept(own, found):
            return Held.PERIOD_CHANGED
        return self._keep(own, found, customer)

    def _histories(self, own: PushStream, calendar: BillingCalendar) -> list[PushHistory]:
        """All streams that may hold a push of the periods concerned."""
        found: dict[str, PushHistory] = {}
        seen: set[Span] = set()
        wanted = {calendar.period_of(own.key.period.start)}
        while wanted - seen:
            period = min(wanted - seen)
            seen.add(period)
            for history in self._around(own, period):
                if history.stream.key.id not in found:
                    found[history.stream.key.id] = history
                    wanted |= _periods_of(history, calendar)
        return list(found.values())

    def _around(self, own: PushStream, period: Span) -> Iterator[PushHistory]:
        counter = own.key.counter
        streams = self.pushes.streams(counter, period) + self.pushes.overlapping(counter, period)
        for stream in streams:
            if stream.key.hour == own.key.hour:
                yield PushHistory(stream, self.pushes.history(stream))

    def _may_be_kept(self, own: PushStream, found: Sequence[PushStream]) -> bool:
        """Whether the usage of all periods is counted by the present cut, and the values are ours.

        While the counters are being rebuilt a bucket still holds usage of two periods.
        """
        begun = [one for one in found if one.kind is not StreamKind.DELTA and not one.version]
        periods = {one.key.period for one in found}
        is_counted = all(self._is_counted(own, period) for period in periods)
        return is_counted and all(self.pushes.claim(one) for one in begun)

    def _is_counted(self, own: PushStream, period: Span) -> bool:
        tenant, customer, metric = own.key.counter
        usage = self.counters.usage(tenant, customer, period)
        newest = [one.counted.watermark for (name, _), one in usage.items() if name == metric]
        return all(one is None or one < period.end for one in newest)

    def _keep(
        self, own: PushStream, found: Sequence[PushStream], customer: Customer
    ) -> Held | None:
        if found and self.pushes.store_together([Change(one, None, customer) for one in found]):
            is_among = any(one.key.id == own.key.id for one in found)
            return Held.RECUT if is_among else None
        if found:
            return Held.PUSH_OPEN  # Somebody else is at work on one of them.
        if own.version and own.needs_attention:
            self.pushes.store(retired(own))  # Its period is gone, and so is all it held.
        return Held.RECUT if own.version else None


def _is_alike(one: PushStream, own: PushStream) -> bool:
    return one.key.target == own.key.target and one.key.incarnation == own.key.incarnation


def _periods_of(history: PushHistory, calendar: BillingCalendar) -> set[Span]:
    instants = {history.stream.key.period.start, *(one.occurred_at for one in history.pushes)}
    return {calendar.period_of(instant) for instant in instants}
