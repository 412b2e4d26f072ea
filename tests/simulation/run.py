"""Lives through one world: a safety phase full of faults, healing, and a liveness phase without."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from unittest.mock import patch
from uuid import UUID

from tests.simulation.changes import Changes
from tests.simulation.clients import Clients
from tests.simulation.draw import NO_FAULTS, Drawn, Kind
from tests.simulation.invariants import Violation, Watch, judge
from tests.simulation.knobs import partitions
from tests.simulation.mishaps import Mishaps
from tests.simulation.people import People
from tests.simulation.quiet import Quiet
from tests.simulation.restore import Restore
from tests.simulation.schedules import Schedules
from tests.simulation.stripe_side import Account, set_up
from tests.simulation.webhooks import Webhooks
from tests.simulation.world import World

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
QUIET_WITHIN = 8 * 24 * HOUR
"""Longer than Stripe goes on to deliver a webhook, than it may wait with an invoice, and than dead
letters lie."""
LOOK_EVERY = timedelta(minutes=10)
LISTENS_TO_EACH = 10
"""World: to log costs time."""
LOOKS_OFTEN_FOR = 4 * HOUR
LOOK_LATER_EVERY = timedelta(minutes=30)


@dataclass(slots=True)
class Lived:
    """A world that was lived through."""

    drawn: Drawn
    world: World
    account: Account
    clients: Clients
    people: People
    changes: Changes
    webhooks: Webhooks
    mishaps: Mishaps
    restore: Restore
    schedules: Schedules
    quiet: Quiet
    watch: Watch
    is_quiet: bool = False
    is_reconciled: bool = False
    """A report was made of every month when all was quiet."""
    violations: Sequence[Violation] = ()
    numbers: tuple[tuple[str, str], ...] = ()
    """What was compared in the end: of what, and the number."""


def live(drawn: Drawn, begun: Callable[[Lived], None] = lambda _: None) -> Lived:
    """Live through a world; `begun` holds it before anything happens, should it come to grief."""
    with _no_chance_of_its_own(drawn.seed) as logged, partitions(drawn.partitions):
        lived = _begin(drawn)
        lived.watch.logged = logged
        begun(lived)
        try:
            _pass(lived)
            lived.violations = judge(lived)
        finally:
            lived.world.kernel.end()
    return lived


def _begin(drawn: Drawn) -> Lived:
    world = World(drawn)
    account = set_up(world)
    clients, people, webhooks = Clients(world), People(world), Webhooks(world)
    mishaps, schedules = Mishaps(world, account), Schedules(world, account, webhooks)
    return Lived(
        drawn,
        world,
        account,
        clients,
        people,
        Changes(world, account, people),
        webhooks,
        mishaps,
        Restore(world, people),
        schedules,
        Quiet(world, clients, people, webhooks, schedules, mishaps),
        Watch(world, clients),
    )


def _pass(lived: Lived) -> None:
    world, drawn = lived.world, lived.drawn
    world.begin_trouble(drawn.faults)
    for one in (lived.clients, lived.people, lived.changes, lived.mishaps, lived.schedules):
        one.start()
    lived.restore.start()
    world.kernel.run_until(drawn.start + drawn.span)
    _heal(lived)


def _heal(lived: Lived) -> None:
    """Nothing goes wrong any more; time passes until nothing waits, or for too long."""
    world = lived.world
    world.begin_trouble(NO_FAULTS)
    lived.mishaps.heal()
    lived.schedules.heal()
    healed_at = world.kernel.now
    while world.kernel.now < healed_at + QUIET_WITHIN:
        is_early = world.kernel.now < healed_at + LOOKS_OFTEN_FOR
        world.kernel.run_until(world.kernel.now + (LOOK_EVERY if is_early else LOOK_LATER_EVERY))
        lived.people.operate(healed_at, all_is_sent=lived.quiet.is_all_sent)
        if lived.quiet.is_reached():
            lived.is_quiet = True
            lived.is_reconciled = lived.drawn.kind is not Kind.COUNTING
            break


@contextmanager
def _no_chance_of_its_own(seed: int) -> Iterator[list[str]]:
    """Ids that libraries draw come from a count; what is logged is kept, or nobody logs."""
    numbers = iter(range(seed, 2**63))
    logs = _listening() if seed % LISTENS_TO_EACH == 0 else _silence()
    with patch("uuid.uuid4", lambda: UUID(int=next(numbers), version=4)), logs as logged:
        yield logged


@contextmanager
def _silence() -> Iterator[list[str]]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield []
    finally:
        logging.disable(before)


@contextmanager
def _listening() -> Iterator[list[str]]:
    """Everything that is logged, with all that its record carries, and none of it elsewhere."""
    lines: list[str] = []

    def keep(_: logging.Logger, record: logging.LogRecord) -> None:
        lines.append(f"{logging.Formatter().format(record)} {record.__dict__}")

    disabled, level = logging.root.manager.disable, logging.root.level
    logging.disable(logging.NOTSET)
    logging.root.setLevel(logging.INFO)
    try:
        with patch("logging.Logger.callHandlers", keep):
            yield lines
    finally:
        logging.root.setLevel(level)
        logging.disable(disabled)
