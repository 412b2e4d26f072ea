"""A backlog and how long it lasts: as a formula, and lived through batch by batch."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Trouble:
    """What makes a backlog: for a while nothing is taken, or more comes than usual."""

    arrives: Decimal
    """Things a second, before and after."""
    lasts_s: Decimal
    arrives_meanwhile: Decimal
    """Things a second during it."""
    is_outage: bool
    """Whether nothing is taken during it."""


def outage(arrives: Decimal, lasts_s: Decimal) -> Trouble:
    """Nothing is taken for a while."""
    return Trouble(arrives, lasts_s, arrives, is_outage=True)


def burst(arrives: Decimal, lasts_s: Decimal, times: Decimal) -> Trouble:
    """So many times as much comes for a while."""
    return Trouble(arrives, lasts_s, arrives * times, is_outage=False)


def depth(trouble: Trouble, takes: Decimal) -> Decimal:
    """How much waits when the trouble ends, where `takes` things a second are taken at most."""
    taken = Decimal(0) if trouble.is_outage else takes
    return max((trouble.arrives_meanwhile - taken) * trouble.lasts_s, Decimal(0))


def recovery_s(trouble: Trouble, takes: Decimal) -> Decimal | None:
    """Seconds from the trouble's end until nothing old waits; None where that never comes.

    What waits is worked off at what is taken beyond what still arrives.
    """
    waiting = depth(trouble, takes)
    if not waiting:
        return Decimal(0)
    return waiting / (takes - trouble.arrives) if takes > trouble.arrives else None


STEPS_MAX = 5_000_000


def lived_through(
    trouble: Trouble, batch_max: int, seconds_of: Callable[[int], Decimal]
) -> tuple[int, Decimal]:
    """The same as it happens.

    Things arrive evenly; each batch takes what waits, and lasts as long as `seconds_of` says.

    Returns: how many waited when the trouble ended, and seconds from then until a batch took all.

    Raises:
        ValueError: the backlog never ends.
    """
    now, taken = (trouble.lasts_s, 0) if trouble.is_outage else (Decimal(0), 0)
    at_end = _arrived(trouble, trouble.lasts_s) if trouble.is_outage else None
    for _ in range(STEPS_MAX):
        waiting = _arrived(trouble, now) - taken
        if at_end is None and now >= trouble.lasts_s:
            at_end = waiting
        batch = min(waiting, batch_max)
        if at_end is not None and waiting < batch_max:
            return at_end, now - trouble.lasts_s
        taken += batch
        now += seconds_of(batch)
    raise ValueError("what waits grows for ever")


def _arrived(trouble: Trouble, now: Decimal) -> int:
    """How many have arrived up to an instant since the trouble began."""
    during = min(now, trouble.lasts_s) * trouble.arrives_meanwhile
    after = max(now - trouble.lasts_s, Decimal(0)) * trouble.arrives
    return int(during + after)
