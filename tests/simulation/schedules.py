"""The schedules: each fires in its rhythm, and costs nothing while nothing can be due.

A firing is left out only where a run could find nothing: what it looks at was not written since a
whole run of it began, and nothing there waits for time to pass. What remains may come twice, late
or never, as the world's faults make it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from infra import functions
from infra.functions import Function
from infra.tables import BILLING, COUNTERS, SETTINGS
from local.stripe.state import INVOICE
from metering import times
from metering.keys import join
from metering.notice import NoticeKind
from metering.period_close import CLOSE_GRACE
from metering.subscriptions import ROUND_EVERY
from tests.simulation.aws.items import Item
from tests.simulation.aws.mapping import Failure
from tests.simulation.draw import DAY, HOUR, Kind
from tests.simulation.stripe_side import Account
from tests.simulation.webhooks import Webhooks
from tests.simulation.world import World

MINUTE = timedelta(minutes=1)
ATTEMPTS = 3
"""Of an asynchronous invocation, by Lambda's default; AWS waits a minute, then two."""
SEEN_LATE = timedelta(minutes=10)
"""A run that began so long after a write has surely seen it: indexes lag and clocks differ."""
SOON = timedelta(minutes=3)
"""A run is due now, or nearly: clocks differ."""
RECONCILED_EVERY = timedelta(minutes=65)
CLOSED_EVERY = 5 * MINUTE
"""On AWS the closer runs every minute."""
_WRITE_PUSHES = (functions.WRITER, functions.RECONCILER, functions.PERIOD_CLOSER)
_CLOSING = join("closing")
_NOTICES = tuple(join("notices", one) for one in (NoticeKind.INVOICE, NoticeKind.SUBSCRIPTION))
"""Of them, the period closer takes care."""


@dataclass(slots=True)
class Rhythm:
    """A function's schedule."""

    function: Function
    period: timedelta
    healed_period: timedelta
    is_due: Callable[[datetime], bool]
    """Whether a run may find something, by when the last whole run began."""
    idle_max: timedelta
    """After so long it runs all the same."""
    whole_from: datetime
    """When the last run began that came to its end."""
    is_healed: bool = False
    """Whether its period is that of a good day."""


class Schedules:
    """All schedules of a world."""

    def __init__(self, world: World, account: Account, webhooks: Webhooks) -> None:
        self._world = world
        self._kernel = world.kernel
        self._webhooks = webhooks
        self._ends = account.ends
        span = world.drawn.span
        self._writer = self._rhythm(
            functions.WRITER, span / 5, 10 * MINUTE, self._has_usage_to_tell, 2 * HOUR
        )
        self._rhythms = [
            self._rhythm(
                functions.LANE_FOLDER, min(span / 3, 6 * HOUR), 6 * HOUR, self._is_counted, DAY
            ),
            self._rhythm(
                functions.REBUILDER, max(span / 40, MINUTE), 5 * MINUTE, self._is_rebuilt, 9 * DAY
            ),
        ]
        if world.drawn.kind is not Kind.COUNTING:
            reconciler = functions.RECONCILER, 2 * span, RECONCILED_EVERY, self._may_differ, 9 * DAY
            self._rhythms += [self._writer, self._rhythm(*reconciler)]
        if world.drawn.kind is Kind.CLOSING:
            self._rhythms += self._closers(max(span / 40, CLOSED_EVERY))

    def _rhythm(
        self,
        function: Function,
        period: timedelta,
        healed_period: timedelta,
        is_due: Callable[[datetime], bool],
        idle_max: timedelta,
    ) -> Rhythm:
        never = self._world.drawn.start - idle_max
        return Rhythm(function, period, healed_period, is_due, idle_max, never)

    def _closers(self, period: timedelta) -> Iterator[Rhythm]:
        """In a long world it comes seldom, but for drafts: they are held in their last quarter of
        an hour, or never."""
        closer = functions.PERIOD_CLOSER
        yield self._rhythm(closer, period, CLOSED_EVERY, self._may_close, 6 * HOUR)
        if period > CLOSED_EVERY:
            begun_at = self._world.drawn.start
            yield Rhythm(closer, CLOSED_EVERY, 9 * DAY, self._may_hold, 9 * DAY, begun_at)

    def start(self) -> None:
        """From now on they fire."""
        for one in self._rhythms:
            self._kernel.later(one.period * self._kernel.random.random(), self._firing(one))
        if self._world.drawn.kind is not Kind.COUNTING:
            self._carry_webhooks()

    def heal(self) -> None:
        """From now on they fire as they do on a good day."""
        for one in self._rhythms:
            one.is_healed = True
            self._kernel.later(one.healed_period * self._kernel.random.random(), self._firing(one))

    @property
    def is_told(self) -> bool:
        """Whether the writer has nothing to look at."""
        return not self._has_usage_to_tell(self._writer.whole_from)

    def has_gone_round(self, since: datetime) -> bool:
        """Whether the daily round over all subscriptions was made since."""
        closer = next(one for one in self._rhythms if one.function is functions.PERIOD_CLOSER)
        return closer.whole_from > since + ROUND_EVERY + SEEN_LATE

    @property
    def is_closed(self) -> bool:
        """Whether no billing period waits to be closed."""
        return self._world.drawn.kind is not Kind.CLOSING or not self._is_closing()

    # --- firing ---

    def _firing(self, one: Rhythm) -> Callable[[], None]:
        """The next firing, and all after it until the rhythm changes."""
        is_healed = one.is_healed
        period = one.healed_period if is_healed else one.period

        def fire() -> None:
            if one.is_healed is not is_healed:
                return
            self._fire(one)
            self._kernel.later(period * (0.8 + 0.4 * self._kernel.random.random()), fire)

        return fire

    def _fire(self, one: Rhythm) -> None:
        now = self._kernel.now
        if self._is_off(one):
            return
        if now - one.whole_from < one.idle_max and not one.is_due(one.whole_from):
            return
        for _ in range(self._firings(one.function)):
            self._invoke(one, now)

    def _is_off(self, one: Rhythm) -> bool:
        """Whether operators have switched it off, while they restore the billing table."""
        return self._world.is_being_restored and one.function in _WRITE_PUSHES

    def _firings(self, function: Function) -> int:
        if not self._kernel.chance(self._world.dynamo_network.faults.schedules):
            return 1
        times_ = self._kernel.random.choice((0, 2))
        self._kernel.saw(f"schedule fired {times_} times | {function.name}")
        return times_

    def _invoke(self, one: Rhythm, began_at: datetime, attempt: int = 1) -> None:
        """One run; where it fails, Lambda tries again, though it may be acting still."""
        if self._is_off(one):
            return

        def told(answer: Any) -> None:
            if _is_whole(answer):
                one.whole_from = max(one.whole_from, began_at)
            elif isinstance(answer, Failure) and attempt < ATTEMPTS:
                again = partial(self._invoke, one, began_at, attempt + 1)
                self._kernel.later(MINUTE * attempt, again)

        self._world.lambdas[one.function.name].invoke({}, told)

    # --- what is due ---

    def _is_written(self, table: str, since: datetime) -> bool:
        """Whether a table was written to since a run began, or just before."""
        at = self._world.changed_at.get(table)
        return at is not None and at + SEEN_LATE > since

    def _is_counted(self, since: datetime) -> bool:
        return self._is_written(COUNTERS.name, since)

    def _is_rebuilt(self, _: datetime) -> bool:
        return self.is_rebuilding

    @property
    def is_rebuilding(self) -> bool:
        """Whether some tenant's counters are being rebuilt."""
        keys = ({"pk": {"S": "epochs"}, "sk": {"S": join(one)}} for one in self._world.tenants)
        found = (self._world.tables.item(COUNTERS.name, key) for key in keys)
        return any(item is not None and "next_cut" in item for item in found)

    def _has_usage_to_tell(self, since: datetime) -> bool:
        world = self._world
        is_new = any(self._is_written(one, since) for one in (COUNTERS.name, SETTINGS.name))
        is_restored = world.restored_at is not None and world.restored_at + SEEN_LATE > since
        return is_new or bool(world.needy_streams) or self._has_ended(since) or is_restored

    def _has_ended(self, since: datetime) -> bool:
        """Whether a billing period has ended since a run, or the time for it did."""
        now = self._kernel.now
        return any(since - SEEN_LATE < end + by <= now for end in self._ends for by in _AFTER_ENDS)

    def _may_close(self, since: datetime) -> bool:
        if self._is_written(SETTINGS.name, since) or self._has_ended(since):
            return True
        if self._has_draft() and self._is_written(COUNTERS.name, since):
            return True  # It may be the first usage of a period that has ended.
        return self._is_closing(self._kernel.now + SOON)

    def _may_hold(self, since: datetime) -> bool:
        """Whether Stripe will finalize a draft by itself, and a run may find something."""
        return self._has_draft() and self._may_close(since)

    def _has_draft(self) -> bool:
        invoices = self._world.core.world.account().all(INVOICE).values()
        return any(one["status"] == "draft" and one["auto_advance"] for one in invoices)

    def _is_closing(self, by: datetime | None = None) -> bool:
        """Whether a notice waits, or a period's close (whose next look is due by an instant)."""
        for item in self._world.tables.items(BILLING.name):
            partition = item["pk"]["S"]
            if partition.startswith(_NOTICES):
                return True
            if partition.startswith(_CLOSING) and (by is None or self._look_at(item) <= by):
                return True
        return False

    def _look_at(self, line: Item) -> datetime:
        """When the close that a line lists is to be looked at next."""
        key = {"pk": line["close_pk"], "sk": line["close_sk"]}
        look = (self._world.tables.item(BILLING.name, key) or {}).get("next_look_at")
        return times.from_text(look["S"]) if look else self._world.drawn.start

    def _may_differ(self, _: datetime) -> bool:
        """On a good day the last look is enough, but where a draft is held until numbers agree."""
        return not self._writer.is_healed or self._is_closing()

    # --- webhooks ---

    def _carry_webhooks(self) -> None:
        self._webhooks.pump()
        period = min(max(self._world.drawn.span / 60, MINUTE), 5 * MINUTE)
        self._kernel.later(period * self._kernel.random.random() * 2, self._carry_webhooks)


_AFTER_ENDS = (timedelta(), 5 * MINUTE, CLOSE_GRACE)


def _is_whole(answer: Any) -> bool:
    """Whether a run came to its end."""
    if isinstance(answer, Failure) or not isinstance(answer, dict):
        return False
    return "skipped" not in answer and answer.get("complete", True)
