"""Where the periods of a subscription item begin and end, in Unix seconds, UTC.

All boundaries are counted from the anchor, so that an anchor on the 31st falls on a shorter month's
last day and comes back to the 31st afterwards.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, datetime

from local.stripe.wire import Json

_SECONDS = {"day": 86_400, "week": 7 * 86_400}
_MONTHS = {"month": 1, "year": 12}


@dataclass(frozen=True, slots=True)
class Cycle:
    """A price's interval, anchored."""

    anchor: int
    interval: str
    count: int
    day: int
    """The day of the month that is meant, when the anchor's own month has fewer days."""

    @classmethod
    def of(cls, subscription: Json, price: Json) -> "Cycle":
        """The cycle of a subscription's item."""
        anchor = subscription["billing_cycle_anchor"]
        config = subscription["billing_cycle_anchor_config"]
        day = config["day_of_month"] if config else moment(anchor).day
        recurring = price["recurring"]
        return cls(anchor, recurring["interval"], recurring["interval_count"], day)

    def boundary(self, number: int) -> int:
        """The boundary so many intervals after the anchor, or before it."""
        if self.interval in _SECONDS:
            return self.anchor + number * self.count * _SECONDS[self.interval]
        if number == 0:
            return self.anchor
        return self._months_on(number * self.count * _MONTHS[self.interval])

    def _months_on(self, months: int) -> int:
        anchor = moment(self.anchor)
        year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
        day = min(self.day, monthrange(year, month + 1)[1])
        return int(anchor.replace(year=year, month=month + 1, day=day).timestamp())

    def period_at(self, instant: int) -> tuple[int, int]:
        """The boundaries around an instant: `start <= instant < end`."""
        number = self._estimate(instant)
        while self.boundary(number) > instant:
            number -= 1
        while self.boundary(number + 1) <= instant:
            number += 1
        return self.boundary(number), self.boundary(number + 1)

    def _estimate(self, instant: int) -> int:
        if self.interval in _SECONDS:
            return (instant - self.anchor) // (self.count * _SECONDS[self.interval])
        anchor, then = moment(self.anchor), moment(instant)
        months = (then.year - anchor.year) * 12 + then.month - anchor.month
        return months // (self.count * _MONTHS[self.interval])


def configured_anchor(config: Json, now: int) -> int:
    """The first instant after now that `billing_cycle_anchor_config` describes.

    Hour, minute and second that are not given are those of now.
    """
    present = moment(now)
    given = {
        name: config[name] for name in ("hour", "minute", "second") if config[name] is not None
    }
    timed = present.replace(microsecond=0, **given)
    first = present.year * 12 + present.month - 1
    for number in range(first, first + 13):
        year, month = divmod(number, 12)
        if config["month"] not in (None, month + 1):
            continue
        day = min(config["day_of_month"], monthrange(year, month + 1)[1])
        found = int(timed.replace(year=year, month=month + 1, day=day).timestamp())
        if found > now:
            return found
    raise AssertionError("a day of the month comes every year")  # pragma: no cover


def moment(seconds: int) -> datetime:
    """Unix seconds as an instant, UTC."""
    return datetime.fromtimestamp(seconds, UTC)
