"""Worlds that nobody lived through, for tests of what deals with worlds."""

import os
from collections import Counter
from datetime import timedelta

from tests.simulation.draw import Drawn
from tests.simulation.trial import Trial
from tests.simulation.violation import Violation

DEADLY = 13
"""The seed whose world takes its process down."""
ENDLESS = 17
"""The seed whose world hangs."""


def right(drawn: Drawn) -> Trial:
    """A world in which all is well."""
    met = Counter({"told duplicate": 2, "crash after | writer | post v1/billing/meter_events": 1})
    return Trial(
        drawn, steps=10, fingerprint="0011", sighted=met, cpu_s=0.01, virtual=timedelta(hours=1)
    )


def breaks_with_crashes(drawn: Drawn) -> Trial:
    """Two numbers differ whenever processes die, the fourth event is sent, and there is time."""
    is_sent = drawn.events > 3 and 3 not in drawn.left_out
    if not (drawn.faults.crash and is_sent and drawn.span >= timedelta(hours=1)):
        return right(drawn)
    broken = Violation("I16", "api_calls of cus_0: 12.5 were counted, 10 were told")
    return Trial(drawn, (broken,), "beef", 50, tuple(f"step {at}" for at in range(50)), cpu_s=0.01)


def mortal(drawn: Drawn) -> Trial:
    """One seed takes its process down."""
    if drawn.seed == DEADLY:
        os._exit(9)
    return right(drawn)


def hanging(drawn: Drawn) -> Trial:
    """One seed never ends, and no timer reaches it."""
    while drawn.seed == ENDLESS:
        pass
    return right(drawn)
