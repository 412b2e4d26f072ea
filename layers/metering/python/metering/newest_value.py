"""Looks why a `last` meter does not hold the value that it was told last.

Such a meter bills the value with the greatest timestamp, and each push of a stream is stamped later
than all before it. So only the newest can be missed, and one read decides: what its own minute
holds or, of a value of 0, whether anything stands from its minute on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from metering.drill_down import Histories, Reads, Total
from metering.evidence import Evidence, MinuteSeen, Sign, Told
from metering.facts import told_last
from metering.names import Identifier
from metering.period import Span
from metering.ports import Billing
from metering.push import ONE_MINUTE, PushState, readable
from metering.quantity import floor_scaled

_TAKEN = frozenset({PushState.ACCEPTED, PushState.COUNTED})


@dataclass(slots=True)
class NewestValue:
    """One total's look; `seen` is what Stripe's summary of the period holds, in scaled units."""

    billing: Billing
    reads: Reads
    total: Total
    seen: int
    own: Callable[[], Histories]
    now: datetime

    def search(self, first_looks: Mapping[Identifier, datetime]) -> Evidence:
        """What the minute of the newest push says; nothing where the total is what was told.

        A minute that only shows that somebody else has told a later value is not among those found.

        Raises:
            RetryableError: Stripe cannot answer now.
            SetupError: Stripe refuses our key.
        """
        histories = self.own()
        told = newest_told(histories)
        if told is None:
            has_told = any(push.state in _TAKEN for _, pushes in histories for push in pushes)
            return Evidence(is_complete=not has_told)
        if told.value == self.seen:
            return Evidence()
        if not self.reads.take():
            return Evidence(is_complete=False)
        found = self._judged(told)
        name = told.push.identifier
        is_missing = found is not None and found.sign is Sign.MISSING
        looks = {name: first_looks.get(name, self.now)} if is_missing else {}
        return Evidence(minutes=(found,) if found else (), first_looks=looks)

    def _judged(self, told: Told) -> MinuteSeen | None:
        """What the minute of the newest push says; None when a later event took its place.

        Its effect is how much the total would change if the push had counted and were the newest.
        """
        at, effect = told.push.occurred_at, told.value - self.seen
        if told.value == 0:
            # A minute without any event holds 0 too. But the total is not 0: either a later event
            # has made it so, or nothing stands from the push's minute on.
            rest = self._read(Span(at, readable(self.total.period, self.now).end))
            return None if rest else MinuteSeen(at, 0, 0, Sign.MISSING, told, effect=effect)
        seen = self._read(Span(at, at + ONE_MINUTE))
        if seen == told.value:
            return None
        if seen == 0:
            return MinuteSeen(at, told.value, 0, Sign.MISSING, told, effect=effect)
        return MinuteSeen(at, told.value, seen, Sign.OTHER, effect=effect)

    def _read(self, span: Span) -> int:
        target = self.total.target
        total = self.billing.total(self.total.meter_id, target.customer, span, target.account)
        return floor_scaled(total, 0)


def newest_told(histories: Histories) -> Told | None:
    """The push that set what `last` streams stand at; None when there is none.

    A push of which the stream does not know yet, as it was told since the stream was read, is none.
    """
    if not histories:
        return None
    stream, pushes = max(histories, key=lambda one: told_last(one[0]))
    own = [one for one in pushes if one.state in _TAKEN and int(one.value) == stream.accepted]
    newest = max(own, key=lambda one: one.occurred_at, default=None)
    return Told(stream.key.id, newest, stream.accepted) if newest else None
