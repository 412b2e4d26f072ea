"""The billing table is restored from a backup while usage goes on, as operators do it.

They stop what writes to it by itself, put the backup in place of the table, ask for the store's
next life, wait until Stripe's summaries hold all that was ever sent and the next life may begin,
and start everything again.
"""

import random
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, cast

from infra import functions
from infra.tables import BILLING
from tests.simulation.aws.items import Row
from tests.simulation.aws.mapping import Failure
from tests.simulation.aws.shelf import Key
from tests.simulation.people import People
from tests.simulation.world import World

ALL_ENDED = timedelta(minutes=20)
"""After so long no run that was under way does anything: the longest may take 15 minutes."""
SUMMED_UP = timedelta(minutes=65)
"""After so long Stripe's summaries hold what was sent."""
ASKS_AGAIN_AFTER = timedelta(minutes=1)


class Restore:
    """Takes the backup at a drawn moment, and restores it at a later one."""

    def __init__(self, world: World, people: People) -> None:
        self._world = world
        self._people = people
        self._chance = random.Random(f"restored {world.drawn.seed}")
        self._backup: Mapping[Key, Row] = {}

    def start(self) -> None:
        """Both come in their time, where a restore was drawn."""
        drawn = self._world.drawn
        if drawn.restores:
            backup_after = drawn.span * self._chance.uniform(0.05, 0.6)
            restored_at = drawn.start + drawn.span * self._chance.uniform(0.6, 0.95)
            self._world.kernel.later(backup_after, self._take)
            self._people.come("operator", self._restore, restored_at)

    def _take(self) -> None:
        self._world.kernel.note("a backup is taken")
        self._backup = self._world.tables.snapshot(BILLING.name)

    def _restore(self) -> None:
        world, kernel = self._world, self._world.kernel
        world.is_being_restored = True
        kernel.pause(ALL_ENDED)
        world.tables.restore(BILLING.name, self._backup)
        world.restored_at = kernel.now
        world.heard_of_restore()
        kernel.note("the backup is restored")
        self._ask()
        kernel.pause(SUMMED_UP)
        while "incarnation" not in self._ask():
            kernel.pause(ASKS_AGAIN_AFTER)
        kernel.saw("the billing table was restored from a backup")
        world.is_being_restored = False

    def _ask(self) -> Mapping[str, Any]:
        """For the next life, until somebody answers."""
        while True:
            answer = self._world.call(functions.WRITER, {"raiseIncarnation": True})
            if not isinstance(answer, Failure):
                return cast("Mapping[str, Any]", answer)
            self._world.kernel.pause(ASKS_AGAIN_AFTER)
