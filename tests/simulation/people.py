"""What people do in a world: correct, approve, take back, rebuild; and what was answered them.

Whoever asks, asks again until the answer is definite; so what was done is known in the end, and is
the model's input as much as what clients sent.
"""

import random
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any
from urllib.parse import quote

from infra import functions
from local.stripe.state import INVOICE
from metering import times
from metering.apart import CANNOT_BILL
from metering.decisions import is_for_a_person
from metering.names import CustomerRef, TenantId
from metering.push import PushStream
from tests.simulation.aws.mapping import Failure
from tests.simulation.clients import METRICS, DrawnMetric
from tests.simulation.draw import HOUR, busy_from
from tests.simulation.world import NO_ANSWER, World

ASKS_AGAIN_AFTER_MAX = timedelta(minutes=3)
ASKED_MAX = 400
"""So often nobody asks in vain."""
REDRIVEN_LATE = timedelta(hours=30)
PATIENCE = timedelta(hours=12)
"""So long after all is well again a draft may be held."""
AMOUNT_MAX = 10**12
"""Of an invoice item, at the stand-in."""
_OK, _MADE, _TOO_MANY, _OUR_FAULT, _NOT_NOW = 200, 201, 429, 500, 502
_HELD = "late_"


class Fate(StrEnum):
    """How a correction stands in the end."""

    PENDING = "pending"
    """It was refused, and counts nowhere."""
    APPROVED = "approved"
    REVERTED = "reverted"


@dataclass(slots=True)
class Correction:
    """An adjustment that somebody made."""

    id: str
    tenant: TenantId
    customer: str
    metric: str
    counts_at: datetime
    """An instant of the period that it is of."""
    delta: Decimal
    fate: Fate = Fate.PENDING


@dataclass(slots=True)
class Done:
    """What people did, as they were definitely told."""

    corrections: list[Correction] = field(default_factory=list)
    held: dict[tuple[TenantId, str], Fate] = field(default_factory=dict)
    """Late events that were decided on, by tenant and idempotency key."""
    rebuilds: list[tuple[TenantId, str]] = field(default_factory=list)
    """Whose counters were rebuilt, and why."""
    decided: dict[str, bool] = field(default_factory=dict)
    """Pushes by identifier that a person judged: whether they had counted."""
    cut_short: dict[tuple[TenantId, str], datetime] = field(default_factory=dict)
    """When somebody let Stripe bill, in the middle of a period, what it had heard of a customer by
    then: what it had not heard is on no invoice."""
    repriced: dict[tuple[TenantId, str, str], datetime] = field(default_factory=dict)
    """When somebody changed the price of a customer's metric: what Stripe had not heard of its use
    by then is on no invoice."""
    finalized: list[str] = field(default_factory=list)
    """Drafts that were held too long, and that somebody finalized as they were."""
    refused: list[str] = field(default_factory=list)
    """What was refused for good."""


@dataclass(frozen=True, slots=True)
class _Adjust:
    at: datetime
    tenant: TenantId
    customer: str
    metric: DrawnMetric
    delta: Decimal
    in_former_period: bool
    is_reverted: bool
    is_decided_twice: bool


class People:
    """Tenants' people and ours."""

    def __init__(self, world: World) -> None:
        self.done = Done()
        self.waiting = 0
        """How many are not done yet."""
        self.redrives = 0
        """How many dead letters were put into the queue again."""
        self._world = world
        self._kernel = world.kernel
        self._chance = random.Random(f"people {world.drawn.seed}")
        self._redrives_late = self._chance.random() < 0.1
        self._approves_in_the_end = self._chance.random() < 0.7
        self._is_approved = False
        self._busy: set[str] = set()
        self._rebuilt_for = 0
        self._unbilled: Counter[str] = Counter()
        """How often somebody has looked at usage that no invoice item can bill, by stream."""

    # --- while things go wrong ---

    def start(self) -> None:
        """Do everything in its time."""
        drawn = self._world.drawn
        for number in range(drawn.adjustments):
            wanted = self._adjustment()
            if wanted is not None:
                self.come(f"corrector#{number}", partial(self._adjust, wanted), wanted.at)
        for number in range(drawn.approvals):
            tenant = self._chance.choice(self._world.tenants)
            self.come(
                f"approver#{number}",
                partial(self._approve_held, tenant, may_revert=True),
                self._some_time(),
            )
        for number in range(drawn.rebuilds):
            tenant = self._chance.choice(self._world.tenants)
            at = busy_from(drawn)
            self.come(f"rebuild#{number}", partial(self._rebuild, tenant, "asked"), at)

    def _some_time(self) -> datetime:
        drawn = self._world.drawn
        return drawn.start + drawn.span * self._chance.random()

    def come(self, name: str, do: Callable[[], None], at: datetime | None = None) -> None:
        """Somebody does something, at an instant or now."""

        def done(_: object) -> None:
            self.waiting -= 1
            self._busy.discard(name)

        self.waiting += 1
        self._busy.add(name)
        now = self._kernel.now
        self._kernel.spawn(name, do, done, after=max((at or now) - now, timedelta()))

    def ask(
        self, tenant: TenantId, method: str, path: str, body: object = None, **query: str
    ) -> tuple[int, Any]:
        """A request, until it is definitely answered."""
        for _ in range(ASKED_MAX):
            status, answer = self._world.http(tenant, method, path, body, query=query)
            if status == _OUR_FAULT:
                bug = AssertionError(f"{method} {path} was answered {answer}")
                self._world.lambdas[functions.API.name].bugs.append(bug)
            if NO_ANSWER < status < _OUR_FAULT and status != _TOO_MANY:
                return status, answer
            self._kernel.saw("asked again")
            self._kernel.pause(ASKS_AGAIN_AFTER_MAX * self._kernel.random.random())
        raise AssertionError(f"{method} {path} is never answered")

    # --- adjustments ---

    def _adjustment(self) -> _Adjust | None:
        chance, drawn = self._chance, self._world.drawn
        metrics = [one for one in METRICS[: drawn.metrics] if one.aggregation != "last"]
        if not metrics:
            return None
        metric = chance.choice(metrics)
        # A count is of whole events, whatever its metric's quantities look like.
        digits = 0 if metric.aggregation == "count" else min(metric.digits, metric.scale)
        delta = Decimal(chance.randrange(1, 10**5)).scaleb(-digits)
        return _Adjust(
            at=self._some_time(),
            tenant=chance.choice(self._world.tenants),
            customer=f"cus_{chance.randrange(drawn.customers)}",
            metric=metric,
            delta=delta * chance.choice((1, 1, -1)),
            in_former_period=chance.random() < 0.25,
            is_reverted=chance.random() < 0.3,
            is_decided_twice=chance.random() < 0.3,
        )

    def _adjust(self, one: _Adjust) -> None:
        made = self._create(one)
        if made is None:
            return
        began_at = datetime.fromisoformat(made["periodStart"])
        made_at = datetime.fromisoformat(made["createdAt"])
        # Its machine's clock says whether the period that was asked for is still the present one.
        customer = self._world.eye.settings.customer(one.tenant, CustomerRef(one.customer))
        is_present = made_at in customer.calendar.period_of(began_at)
        counts_at = made_at if is_present else began_at
        correction = Correction(
            made["id"], one.tenant, one.customer, one.metric.name, counts_at, one.delta
        )
        self.done.corrections.append(correction)
        if one.is_decided_twice:
            self.come(f"approver of {correction.id}", partial(self._approve, correction))
        self._approve(correction)
        if one.is_reverted and correction.fate is Fate.APPROVED:
            self._revert(correction)

    def _create(self, one: _Adjust) -> dict[str, Any] | None:
        wanted = {
            "metric": one.metric.name,
            "customerRef": one.customer,
            "periodStart": self._period_start(one),
            "delta": str(one.delta),
            "reason": "correction",
            "requestId": f"{one.customer} {one.at.isoformat()}",
        }
        status, made = self.ask(one.tenant, "POST", "/v1/adjustments", wanted)
        if status in {_OK, _MADE}:
            return dict(made)
        self.done.refused.append(f"adjustment: {status} {made}")
        return None

    def _period_start(self, one: _Adjust) -> str:
        """Where the customer's present period begins, or the one before."""
        customer = self._world.eye.settings.customer(one.tenant, CustomerRef(one.customer))
        start = customer.calendar.period_of(self._kernel.now).start
        if one.in_former_period:
            start = customer.calendar.period_of(start - timedelta(microseconds=1)).start
        return start.isoformat()

    def _approve(self, correction: Correction) -> None:
        path = f"/v1/adjustments/{quote(correction.id)}"
        status, answer = self.ask(correction.tenant, "POST", f"{path}/approve")
        if status == _OK:
            if correction.fate is Fate.PENDING:
                correction.fate = Fate.APPROVED
                self._kernel.saw("adjustment approved")
            return
        # It may have counted by an answer that was lost; so it is looked up.
        self.done.refused.append(f"approval: {status} {answer}")
        found = self._looked_up(correction)
        if correction.fate is not Fate.REVERTED:
            correction.fate = found

    def _looked_up(self, correction: Correction) -> Fate:
        path = f"/v1/adjustments/{quote(correction.id)}"
        status, found = self.ask(correction.tenant, "GET", path)
        assert status == _OK, f"an adjustment is gone: {status} {found}"
        return Fate(found["status"])

    def _revert(self, correction: Correction) -> None:
        path = f"/v1/adjustments/{quote(correction.id)}"
        status, answer = self.ask(correction.tenant, "POST", f"{path}/revert")
        if status == _OK:
            correction.fate = Fate.REVERTED
            self._kernel.saw("adjustment reverted")
            return
        # The request that was answered may have come after one that had its effect.
        correction.fate = self._looked_up(correction)
        if correction.fate is not Fate.REVERTED:
            self.done.refused.append(f"revert: {status} {answer}")

    # --- late events ---

    def _approve_held(self, tenant: TenantId, *, may_revert: bool = False) -> None:
        """Approve all late events of a tenant that wait now."""
        status, page = self.ask(
            tenant, "GET", "/v1/adjustments", None, status="pending", limit="100"
        )
        assert status == _OK, f"adjustments are not listed: {status} {page}"
        ids = [one["id"] for one in page["adjustments"] if one["reason"] == "late_event"]
        first = ids[0] if ids else ""
        while ids:
            body = {"adjustmentIds": ids, "reason": "looked at"}
            status, answer = self.ask(tenant, "POST", "/v1/reconciliation/adjustments", body)
            assert status == _OK, f"approvals are not taken: {status} {answer}"
            ids = [one["id"] for one in answer["results"] if self._must_return(tenant, one)]
        if may_revert and first and self._chance.random() < 0.3:
            self._revert_held(tenant, first)

    def _must_return(self, tenant: TenantId, result: dict[str, Any]) -> bool:
        """Whether an approval must be asked for again."""
        if result["status"] == "failed":
            if not result["retryable"]:
                self.done.refused.append(f"late event: {result['error']}")
            return bool(result["retryable"])
        self._kernel.saw("late event approved")
        self.done.held.setdefault((tenant, _held_key(result["id"])), Fate.APPROVED)
        return False

    def _revert_held(self, tenant: TenantId, held: str) -> None:
        status, answer = self.ask(tenant, "POST", f"/v1/adjustments/{quote(held)}/revert")
        if status != _OK:
            status, answer = self.ask(tenant, "GET", f"/v1/adjustments/{quote(held)}")
        if status == _OK and (answer.get("parentAdjustmentId") or answer["status"] == "reverted"):
            self.done.held[tenant, _held_key(held)] = Fate.REVERTED
            self._kernel.saw("late event's approval reverted")

    # --- operators ---

    def _rebuild(self, tenant: TenantId, why: str) -> None:
        """Ask for it until one is under way that counts all there was when it was asked for."""
        asked_at = times.to_text(self._kernel.now)
        while not self._is_rebuilt_from(asked_at, tenant):
            self._kernel.pause(ASKS_AGAIN_AFTER_MAX * self._kernel.random.random())
        self.done.rebuilds.append((tenant, why))
        self._kernel.saw(f"rebuild: {why}")

    def _is_rebuilt_from(self, instant: str, tenant: TenantId) -> bool:
        answer = self._world.call(functions.REBUILDER, {"tenantId": tenant})
        return not isinstance(answer, Failure) and answer["rebuilds"][0]["cut_at"] > instant

    def operate(self, healed_at: datetime, *, all_is_sent: bool) -> None:
        """What operators do when all is well again and something still waits for them."""
        self._redrive(healed_at)
        self._rebuild_damaged()
        if all_is_sent and not self._is_approved:
            self._is_approved = True
            for tenant in self._world.tenants if self._approves_in_the_end else ():
                self.come(f"approver of {tenant}", partial(self._approve_held, tenant))
        if self._world.needy_streams:
            self._decide()
        if self._kernel.now > healed_at + PATIENCE:
            self._finalize()

    def _finalize(self) -> None:
        """What is still held is let go: somebody else has written to Stripe's books."""
        invoices = self._world.core.world.account().all(INVOICE)
        for invoice in [one["id"] for one in invoices.values() if one["status"] == "draft"]:
            self._world.stripe.v1.invoices.finalize_invoice(invoice)
            self.done.finalized.append(invoice)
            self._kernel.note(f"{invoice} is finalized by hand")
            self._kernel.saw("draft finalized by hand")

    def _redrive(self, healed_at: datetime) -> None:
        if not self._world.queue.dead:
            return
        if self._redrives_late and self._kernel.now < healed_at + REDRIVEN_LATE:
            return
        self.redrives += self._world.redrive()
        self._kernel.saw("dead letters redriven")
        if self._kernel.now > healed_at + HOUR:
            self._kernel.saw("dead letters redriven 30 h later")

    def _rebuild_damaged(self) -> None:
        """What never came to a counter is counted from the ledger."""
        damaged = self._world.damaged
        for tenant, why in damaged[self._rebuilt_for :]:
            self.come(f"rebuild of {tenant}", partial(self._rebuild, tenant, why))
        self._rebuilt_for = len(damaged)

    def _decide(self) -> None:
        """What only a person can decide is decided by a look at Stripe's own books."""
        for tenant in self._world.tenants:
            for stream in self._world.eye.decisions.waiting(tenant):
                name = f"judge of {stream.key.id}"
                if self._is_left(stream) or not is_for_a_person(stream) or name in self._busy:
                    continue
                identifier = str(stream.open.identifier) if stream.open else ""
                self.come(name, partial(self._judge, tenant, stream.key.id, identifier))

    def _is_left(self, stream: PushStream) -> bool:
        """Whether what cannot be billed apart stays so: somebody has had it tried again before, or
        it costs more than Stripe takes at once."""
        item, stream_id = stream.item, stream.key.id
        is_stopped = stream.stopped is not None and stream.stopped.reason == CANNOT_BILL
        self._unbilled[stream_id] += is_stopped
        if self._unbilled[stream_id] > 1 or (item is not None and abs(item.amount) > AMOUNT_MAX):
            self._world.left_as_they_are[stream_id] = None
            self._kernel.saw("late usage could not be billed apart")
        return stream_id in self._world.left_as_they_are

    def _judge(self, tenant: TenantId, stream_id: str, identifier: str) -> None:
        is_there = bool(identifier) and self._world.is_at_stripe(identifier)
        body = {"decision": "counted" if is_there else "not_counted"}
        self.ask(tenant, "POST", f"/v1/pushes/{stream_id}/decision", body)
        if identifier:
            self.done.decided[identifier] = is_there
        self._kernel.saw("stopped push decided")


def _held_key(adjustment_id: str) -> str:
    """The idempotency key of the late event with this id."""
    text = adjustment_id.removeprefix(_HELD)
    return urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
