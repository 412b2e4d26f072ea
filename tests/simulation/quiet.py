"""When a healed world has come to rest: nothing waits, and the reconciler has looked at it all."""

from datetime import datetime, timedelta
from typing import Any

from infra import functions
from infra.tables import COUNTERS
from local.stripe.state import INVOICE
from metering.names import TenantId
from metering.reconciliation import Report, Status
from tests.simulation.aws.mapping import Failure
from tests.simulation.clients import Clients
from tests.simulation.draw import Kind
from tests.simulation.mishaps import Mishaps
from tests.simulation.people import People
from tests.simulation.schedules import Schedules
from tests.simulation.webhooks import Webhooks
from tests.simulation.world import World

LOOKS_MAX = 4
"""What so many looks an hour apart have found, more of them would not settle."""
SECOND_LOOK_AFTER = timedelta(minutes=65)
_TALLY = timedelta(minutes=1)


class Quiet:
    """Watches a healed world."""

    def __init__(
        self,
        world: World,
        clients: Clients,
        people: People,
        webhooks: Webhooks,
        schedules: Schedules,
        mishaps: Mishaps,
    ) -> None:
        self._world = world
        self._clients = clients
        self._people = people
        self._webhooks = webhooks
        self._schedules = schedules
        self._mishaps = mishaps
        self._looks = 0
        self._looked_at: datetime | None = None
        """When the last look at everything began that came to its end."""
        self._told_then = 0
        """How many meter events Stripe had received by then."""
        self._is_looking = False
        self._is_doubted = False
        """Whether the last look found something that a second one may settle."""

    @property
    def is_all_sent(self) -> bool:
        """Whether every client has its answer, and every message was taken."""
        return not self._clients.waiting and self._world.queue.is_drained

    def is_reached(self) -> bool:
        """Whether nothing waits; the reconciler is sent to look when nothing else does."""
        if self.what_waits():
            return False
        if self._world.drawn.kind is Kind.COUNTING:
            return True
        self._mishaps.plant()
        if self._is_looking or self._world.kernel.now < self._seen_by():
            return False
        if self._looked_at is not None and self._is_settled():
            return True
        self._look()
        return False

    def what_waits(self) -> str:
        """The first thing that is not done, but for the reconciler's look; empty when all is."""
        world, now = self._world, self._world.kernel.now
        waiting = {
            "a client": self._clients.waiting,
            "somebody": self._people.waiting,
            "a message": not world.queue.is_drained or world.queue.dead,
            "a record": not world.mapping.is_drained(now),
            "a rebuild": self._schedules.is_rebuilding,
        }
        if world.drawn.kind is not Kind.COUNTING:
            waiting |= {
                "a webhook": not self._webhooks.is_quiet,
                "a push": not self._schedules.is_told,
            }
        if world.drawn.kind is Kind.CLOSING:
            waiting |= {
                "a close": not self._schedules.is_closed,
                "a draft": self._has_drafts(),
                "a change that nobody told": self._waits_for_round(),
                "what comes after a period": self._is_fresh_cut(),
            }
        return next((what for what, waits in waiting.items() if waits), "")

    def _waits_for_round(self) -> bool:
        """Whether a webhook was lost, and the round that makes up for it was not made yet."""
        lost_at = self._webhooks.lost_at
        return lost_at is not None and not self._schedules.has_gone_round(lost_at)

    def _is_fresh_cut(self) -> bool:
        """Whether somebody ended a period less than an hour ago."""
        cuts = self._people.done.cut_short.values()
        return any(self._world.kernel.now < one + SECOND_LOOK_AFTER for one in cuts)

    def _has_drafts(self) -> bool:
        invoices = self._world.core.world.account().all(INVOICE)
        return any(one["status"] == "draft" for one in invoices.values())

    # --- the reconciler's look ---

    def _seen_by(self) -> datetime:
        """From when on Stripe's summaries hold all that Stripe has."""
        account = self._world.core.world.account()
        shown = [one.counts_from for one in account.events()]
        gone = [one.cancelled_from for one in account.events() if one.cancelled_from]
        at = max([*shown, *gone], default=self._world.drawn.start) + _TALLY
        if self._looked_at is not None and self._is_doubted:
            at = max(at, self._looked_at + SECOND_LOOK_AFTER)
        return at

    def _is_settled(self) -> bool:
        """Whether nothing came after the last look, and another one would tell nothing new."""
        assert self._looked_at is not None
        counted_at = self._world.changed_at.get(COUNTERS.name, self._looked_at)
        is_fresh = counted_at <= self._looked_at and self._told_then == self._told
        return is_fresh and (self._looks >= LOOKS_MAX or not self._is_doubted)

    @property
    def _told(self) -> int:
        return self._world.core.world.account().received

    def _finds_trouble(self) -> bool:
        return any(
            row.status is Status.INVESTIGATE for report in self.reports() for row in report.rows
        )

    def reports(self) -> list[Report]:
        """The latest of each tenant and month."""
        eye = self._world.eye
        found = [
            eye.reports.latest(tenant, month)
            for tenant in self._world.tenants
            for month in sorted(
                {f"{copy.at:%Y-%m}" for copy in self._clients.copies}
                | {f"{one.counts_at:%Y-%m}" for one in self._people.done.corrections}
                | {*eye.reconciler.months(tenant)}
            )
        ]
        return [one for one in found if one is not None]

    def _look(self) -> None:
        self._looks += 1
        self._is_looking = True
        began_at, told = self._world.kernel.now, self._told

        def done(ended: Any) -> None:
            self._is_looking = False
            if ended:
                self._looked_at, self._told_then = began_at, told
                self._is_doubted = self._finds_trouble()

        self._world.kernel.spawn("last look", self._reconcile, done)

    def _reconcile(self) -> bool:
        """Whether all was read anew, also the months that no schedule looks at any more."""
        asked: list[dict[str, Any]] = [{"verify": True}]
        asked += [
            {"tenantId": tenant, "period": month, "verify": True}
            for tenant, month in self._former_months()
        ]
        answers = [self._world.call(functions.RECONCILER, event) for event in asked]
        return not any(isinstance(one, Failure) or one["left"] for one in answers)

    def _former_months(self) -> list[tuple[TenantId, str]]:
        """Months in which something was used, longer ago than those of open periods."""
        used = {(copy.tenant, f"{copy.at:%Y-%m}") for copy in self._clients.copies}
        corrected = self._people.done.corrections
        used |= {(one.tenant, f"{one.counts_at:%Y-%m}") for one in corrected}
        months = self._world.eye.reconciler.months()
        return sorted(one for one in used if one[1] < min(months))
