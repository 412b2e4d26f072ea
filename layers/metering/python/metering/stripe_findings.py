"""Why Stripe's summary of a counter is not what it accepted: what the searched minutes say."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from metering import times
from metering.evidence import MinuteSeen, Sign
from metering.facts import SUMMARY_LAG, ZERO, Facts, Reading, exact_sum
from metering.names import Identifier
from metering.push import (
    PushStream,
    StreamKind,
    quantity_of,
    sent_by,
)
from metering.quantity import EXACT, canonical
from metering.reconciliation import (
    Cause,
    Finding,
    Look,
)

CONFIRMED_AFTER = timedelta(hours=1)
"""From a look that found a push's minute empty to one that proves that it did not count."""
_MINUTE = timedelta(minutes=1)
WITHOUT_MINUTES = frozenset({StreamKind.LEGACY})
"""Kinds of whose total no minute can be looked into."""
_NAMED_MAX = 3


def open_quantity(stream: PushStream) -> Decimal:
    """What a stream's open push is to add, in the metric's unit."""
    return quantity_of(stream.open.delta, stream.scale) if stream.open else ZERO


def missing_at_stripe(facts: Facts) -> Decimal | None:
    """What Stripe accepted less what its summary holds; None while the summary is not known."""
    if facts.stripe is None:
        return None
    told = facts.pushed if facts.stripe.told is None else facts.stripe.told
    return EXACT.subtract(told, facts.stripe.total)


def needs_search(facts: Facts) -> bool:
    """Whether only Stripe's minutes can tell why its summary differs."""
    missing = missing_at_stripe(facts)
    if not missing or not facts.streams:
        return False
    has_minutes = all(stream.kind not in WITHOUT_MINUTES for stream in facts.streams)
    return has_minutes and not _arrived(facts, -missing) and not _may_lag(facts, missing)


def between_pushes_and_stripe(facts: Facts, now: datetime) -> Iterator[Finding]:
    """Why what Stripe accepted is not what its summary holds."""
    missing = missing_at_stripe(facts)
    if missing is None:
        if facts.streams:
            yield _not_read(facts)
        return
    yield from _told_since(facts)
    if missing == 0 or _arrived(facts, -missing):
        return
    if _may_lag(facts, missing):
        text = f"{canonical(missing)} of the last pushes are not in Stripe's summary yet."
        yield Finding(Cause.STRIPE_LAG, missing, text)
        return
    minutes = facts.evidence.minutes if facts.evidence else ()
    found = [_minute_finding(facts, one, now) for one in minutes if one.sign is not Sign.OTHER]
    yield from found
    rest = EXACT.subtract(missing, exact_sum(one.amount for one in found))
    if rest != 0:
        yield _unexplained(facts, rest)


def _not_read(facts: Facts) -> Finding:
    if all(stream.kind is StreamKind.LEGACY for stream in facts.streams):
        text = (
            "What Stripe holds of this legacy price's usage records could not be read in this run;"
            " Stripe tells it only while the subscription item exists."
        )
    else:
        text = "Stripe's summary was not read in this run."
    return Finding(Cause.NOT_READ, ZERO, text)


def _told_since(facts: Facts) -> Iterator[Finding]:
    reading = facts.stripe
    if reading is None or reading.told is None or reading.told == facts.pushed:
        return
    since = EXACT.subtract(facts.pushed, reading.told)
    text = (
        f"{canonical(since)} were told after Stripe's summary was read"
        f" ({times.to_iso_ms(reading.read_at)}); it is read once a day, and when the period closes."
    )
    yield Finding(Cause.READ_EARLIER, since, text)


def _arrived(facts: Facts, surplus: Decimal) -> bool:
    """Whether Stripe is ahead by exactly the open pushes that may have reached it."""
    sent = [stream for stream in facts.streams if stream.open and stream.open.attempts]
    return bool(sent) and surplus == exact_sum(map(open_quantity, sent))


def _may_lag(facts: Facts, missing: Decimal) -> bool:
    """Whether the pushes of the last minutes can explain what is missing."""
    scales = {sender: one.scale for one in facts.streams for sender in one.sources}
    deltas = [quantity_of(push.delta, scales[sent_by(push)]) for push in facts.recent]
    lowest = exact_sum(delta for delta in deltas if delta < 0)
    highest = exact_sum(delta for delta in deltas if delta > 0)
    return lowest <= missing <= highest


# --- what the minutes say -------------------------------------------------------------------------


def _minute_finding(facts: Facts, one: MinuteSeen, now: datetime) -> Finding:
    """A minute that is about one push of ours."""
    match one.sign:
        case Sign.TWICE:
            return _twice(facts, one)
        case Sign.SHIFTED:
            return _shifted(facts, one)
        case _:
            return _missing(facts, one, now)


def _twice(facts: Facts, one: MinuteSeen) -> Finding:
    amount = _in_unit(facts, one, one.effect)
    text = (
        f"Push {_name(one)} of {canonical(-amount)} counted twice, in its minute {_minute(one.at)}."
    )
    return Finding(Cause.DUPLICATE, amount, text, (_look(facts, one),))


def _shifted(facts: Facts, one: MinuteSeen) -> Finding:
    assert one.seen_at is not None
    assert one.told is not None
    text = (
        f"Push {_name(one)}, stamped {_minute(one.told.push.occurred_at)}, was counted at"
        f" {_minute(one.seen_at)}."
    )
    amount = _in_unit(facts, one, one.effect)
    return Finding(Cause.CLOCK_SHIFTED, amount, text, (_look(facts, one),))


def _missing(facts: Facts, one: MinuteSeen, now: datetime) -> Finding:
    amount = _in_unit(facts, one, one.effect)
    look = _look(facts, one)
    if _is_young(one, now):
        text = f"{_push(facts, one)} is not in Stripe's summary yet."
        return Finding(Cause.STRIPE_LAG, amount, text)
    told = f"{_push(facts, one)} was accepted, and its minute"
    told = f"{told} {_minute(one.at)} does not hold it"
    reported = facts.reported.get(Identifier(_name(one)), "")
    if reported:
        text = f"{told}: {reported}"
        return Finding(Cause.ASYNC_REJECTED, amount, text, (look,))
    if is_confirmed(look.first_seen_at, now):
        text = f"{told} on two looks an hour apart; no error report names it."
        return Finding(Cause.ASYNC_REJECTED, amount, text, (look,))
    text = f"{told}; a second look an hour later decides."
    return Finding(Cause.LOST_PUSH, amount, text, (look,))


def _push(facts: Facts, one: MinuteSeen) -> str:
    """A push with what it adds or, where values are set, what it has set."""
    assert one.told is not None
    stream = next((each for each in facts.streams if each.key.id == one.told.stream_id), None)
    value = canonical(_in_unit(facts, one, one.told.value))
    is_set = stream is not None and stream.kind is not StreamKind.DELTA
    return f"Push {_name(one)}, which set {value}," if is_set else f"Push {_name(one)} of {value}"


def _is_young(one: MinuteSeen, now: datetime) -> bool:
    """Whether Stripe's summary may not show the push yet."""
    closed_at = one.told.push.closed_at if one.told else None
    return closed_at is not None and closed_at > now - SUMMARY_LAG


def is_confirmed(first_seen_at: datetime | None, now: datetime) -> bool:
    """Whether a push's minute that was first found without it then, and now, proves it."""
    return first_seen_at is not None and now >= first_seen_at + CONFIRMED_AFTER


_HOLDS = {
    StreamKind.LAST: ("Stripe's last value is", "meter"),
    StreamKind.LEGACY: ("Stripe's usage records come to", "subscription item"),
}


def _unexplained(facts: Facts, rest: Decimal) -> Finding:
    looks = tuple(_other_looks(facts))
    where = _where(looks)
    kind = facts.streams[0].kind if facts.streams else StreamKind.DELTA
    if kind in _HOLDS and facts.stripe is not None:
        return _another_value(facts, facts.stripe, rest, looks)
    if rest > 0:
        text = f"Stripe accepted {canonical(rest)} that its summary does not hold{where}."
        return Finding(Cause.LOST_PUSH, rest, text, looks)
    text = (
        f"Stripe's summary holds {canonical(-rest)} that this system never sent{where}; look for"
        " other writers to the meter."
    )
    return Finding(Cause.FOREIGN_WRITER, rest, text, looks)


def _another_value(
    facts: Facts, stripe: Reading, rest: Decimal, looks: tuple[Look, ...]
) -> Finding:
    """A total that is set, and was set by others; or nobody could look whether it was."""
    kind = facts.streams[0].kind
    holds, to = _HOLDS[kind]
    text = f"{holds} {canonical(stripe.total)}, and it was told {canonical(facts.pushed)}"
    is_looked_at = facts.evidence is not None and facts.evidence.is_complete
    if kind is StreamKind.LAST and not is_looked_at:
        text = f"{text}; whether its push counted could not be looked up in this run."
        return Finding(Cause.LOST_PUSH, rest, text)
    text = f"{text}{_where(looks)}; look for other writers to the {to}."
    return Finding(Cause.FOREIGN_WRITER, rest, text, looks)


def _other_looks(facts: Facts) -> Iterator[Look]:
    """The hours and minutes that none of our pushes explains, the hours first."""
    if facts.evidence is None:
        return
    others = [one for one in facts.evidence.minutes if one.sign is Sign.OTHER]
    for hour in facts.evidence.hours:
        is_searched = facts.evidence.is_complete and not any(one.at in hour.span for one in others)
        if hour.seen != hour.expected and not is_searched:
            expected, seen = (quantity_of(n, facts.scale) for n in (hour.expected, hour.seen))
            yield Look(hour.span, expected, seen)
    yield from (_look(facts, one) for one in others)


def _where(looks: Sequence[Look]) -> str:
    starts = [look.span.start for look in looks if look.span.end - look.span.start <= _MINUTE]
    if starts:
        named = ", ".join(map(_minute, starts[:_NAMED_MAX]))
        return f" (in {named})"
    hours = [f"{look.span.start:%Y-%m-%dT%H}h" for look in looks[:_NAMED_MAX]]
    return f" (in the hours {', '.join(hours)})" if hours else ""


def _look(facts: Facts, one: MinuteSeen) -> Look:
    name = _name(one)
    looks = facts.evidence.first_looks if facts.evidence else {}
    return Look(
        one.span,
        _in_unit(facts, one, one.expected),
        _in_unit(facts, one, one.seen),
        name,
        looks.get(Identifier(name)),
    )


def _in_unit(facts: Facts, one: MinuteSeen, scaled: int) -> Decimal:
    scales = {stream.key.id: stream.scale for stream in facts.streams}
    scale = scales.get(one.told.stream_id, facts.scale) if one.told else facts.scale
    return quantity_of(scaled, scale)


def _name(one: MinuteSeen) -> str:
    return one.told.push.identifier if one.told else ""


def _minute(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%MZ}"
