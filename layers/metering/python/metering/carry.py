"""Usage that is counted after its period was closed, told in the period that is open then.

What the closed period was not told stands on both streams: on the closed one as carried out, on the
receiving one as carried in. The two are stored in one transaction, or neither is, so a crash or a
second writer carries nothing twice. Over all periods what Stripe accepted is what was counted.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from functools import reduce
from typing import NamedTuple

from metering.push import Carry, PushStream, quantity_of, retired
from metering.quantity import EXACT


class Carried(NamedTuple):
    """The two streams as they must be stored together."""

    closed: PushStream
    receiving: PushStream


def rest_of(closed: PushStream, others: Iterable[PushStream], desired: int) -> Decimal:
    """What a closed period should have told and did not, nor any later period or invoice item.

    `desired` is what the stream should have told, in scaled units, with what was carried into it;
    `others` are the streams of the same usage beside it. Negative when it was told too much.
    """
    streams = [closed, *others]
    elsewhere = EXACT.add(carried_out(streams), billed_apart(streams))
    told = EXACT.add(closed.accepted_quantity, elsewhere)
    return EXACT.subtract(quantity_of(desired, closed.scale), told)


def carry(closed: PushStream, receiving: PushStream, rest: Decimal) -> Carried:
    """Have an open period tell what is left of a closed one, besides what it tells for it already.

    Raises:
        decimal.Inexact: the carried quantity needs more than 38 digits.
    """
    lines = merged(receiving.carried_in, [Carry(closed.key.period.start, rest)])
    out = EXACT.add(closed.carried_out, rest)
    return Carried(
        replace(retired(closed), carried_out=out),
        replace(receiving, carried_in=lines, is_due=True),
    )


def merged(before: Iterable[Carry], more: Iterable[Carry]) -> tuple[Carry, ...]:
    """What is told for closed periods with what is added to it: a line per period, none of 0."""
    after = {one.from_period: one.quantity for one in before}
    for start, quantity in more:
        after[start] = EXACT.add(after.get(start, Decimal(0)), quantity)
    return tuple(Carry(*one) for one in sorted(after.items()) if one[1] != 0)


def carried_in(streams: Iterable[PushStream]) -> Decimal:
    """What the streams of one usage tell for closed periods, in the metric's unit."""
    return reduce(EXACT.add, (one.carried_in_quantity for one in streams), Decimal(0))


def carried_out(streams: Iterable[PushStream]) -> Decimal:
    """What later periods tell for the streams of one usage, in the metric's unit."""
    return reduce(EXACT.add, (one.carried_out for one in streams), Decimal(0))


def billed_apart(streams: Iterable[PushStream]) -> Decimal:
    """What invoice items bill for the streams of one usage, in the metric's unit."""
    return reduce(EXACT.add, (one.billed_apart for one in streams), Decimal(0))
