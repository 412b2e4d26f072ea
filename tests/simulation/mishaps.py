"""What goes wrong by the hour: outages of Stripe, meters switched off, silent drift; deploys."""

import random
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

from local.stripe import meter_events
from local.stripe.call import Call
from local.stripe.refusals import RefusedError
from local.stripe.state import DEFAULT_ACCOUNT, METER, EventCancelled, MeterEvent, StreamKey
from metering.push import PushStream
from tests.simulation.draw import HOUR, LONG_OUTAGE, Kind
from tests.simulation.stripe_side import Account
from tests.simulation.world import World

MINUTE = timedelta(minutes=1)
_LENGTHS = (5 * MINUTE, 30 * MINUTE, 2 * HOUR, 6 * HOUR)
_ARCHIVED = "archived_meter"
MEDDLED_WITH = 0.3
"""How likely somebody else writes to a meter while Stripe is out for long."""
FAILS_FOR_LONG = 0.2
"""How likely the queue's function fails until messages die."""


@dataclass(frozen=True, slots=True)
class Drift:
    """What Stripe silently did to a total, for the reconciler to name: F16."""

    kind: str
    """`lost`, `doubled` or `gained`."""
    event_name: str
    customer: str
    """At Stripe."""
    timestamp: int
    """Of the meter event, in epoch seconds."""
    value: Decimal
    """By how much Stripe's total is off, in units of the meter; `lost` is negative."""
    identifier: str
    """Of the event that was lost or doubled; of a gained one its own."""


class Mishaps:
    """Has them happen at drawn moments."""

    def __init__(self, world: World, account: Account) -> None:
        self.drifts: list[Drift] = []
        self.outage = timedelta()
        """For how long Stripe is out in this world."""
        self._world = world
        self._kernel = world.kernel
        self._account = account
        self._chance = random.Random(f"mishaps {world.drawn.seed}")
        self._is_drifting = False

    def start(self) -> None:
        """From now on they may happen."""
        for _ in range(self._world.drawn.deploys):
            self._kernel.later(self._some_time(), self._deploy)
        faults = self._world.drawn.faults
        if faults.queue_repeats and self._chance.random() < FAILS_FOR_LONG:
            self._kernel.later(self._some_time(0.7), self._disable_queue)
        if self._world.drawn.kind is Kind.COUNTING:
            return
        is_long = faults.outage > 0 and self._world.drawn.span >= LONG_OUTAGE
        if self._chance.random() < faults.outage or is_long:
            self._plan_outage()
        if self._chance.random() < faults.refused_later:
            self._plan_switch()
        may_meddle = is_long and self._chance.random() < MEDDLED_WITH
        may_drift = may_meddle or self._chance.random() < faults.drift
        # A new life of the store takes what Stripe holds for its own, and puts right what differs.
        self._is_drifting = may_drift and not self._world.drawn.restores
        if self._is_drifting:
            self._kernel.later(self._some_time(), self._drift)

    def heal(self) -> None:
        """Everything is there again."""
        self._world.stripe_network.is_out = False
        self._enable_queue()
        for metric in self._account.meters:
            self._switch(metric, on=True)

    def _some_time(self, last: float = 0.95) -> timedelta:
        return self._world.drawn.span * self._chance.uniform(0.05, last)

    def _deploy(self) -> None:
        self._kernel.saw("deployed")
        for deployed in self._world.lambdas.values():
            deployed.deploy()

    def _disable_queue(self) -> None:
        """A broken release: what lies in the queue dies."""
        self._kernel.note("the queue's function fails")
        self._kernel.saw("the queue's function failed for long")
        self._world.queue_is_disabled = True
        length = HOUR * self._chance.uniform(0.3, 1.5)
        self._kernel.later(length, self._enable_queue)

    def _enable_queue(self) -> None:
        self._world.queue_is_disabled = False

    # --- outages ---

    def _plan_outage(self) -> None:
        span = self._world.drawn.span
        if span >= LONG_OUTAGE:
            begins, self.outage = self._some_time(0.15), self._chance.uniform(24, 30) * HOUR
        else:
            begins = self._some_time(0.6)
            self.outage = min(self._chance.choice(_LENGTHS), span - begins)
        self._kernel.later(begins, lambda: self._be_out(is_out=True))
        self._kernel.later(begins + self.outage, lambda: self._be_out(is_out=False))

    def _be_out(self, *, is_out: bool) -> None:
        self._kernel.note(f"Stripe is {'out' if is_out else 'back'}")
        self._kernel.saw("Stripe was out" if is_out else "Stripe was back")
        self._world.stripe_network.is_out = is_out

    # --- meters ---

    def _plan_switch(self) -> None:
        metric = self._chance.choice(list(self._account.meters))
        off_at = self._some_time(0.7)
        length = self._world.drawn.span * self._chance.uniform(0.05, 0.3)
        is_later = self._chance.random() < 0.7
        self._kernel.later(off_at, lambda: self._switch(metric, on=False, is_later=is_later))
        self._kernel.later(off_at + length, lambda: self._switch(metric, on=True))

    def _switch(self, metric: str, *, on: bool, is_later: bool = False) -> None:
        """Switch a meter; while it is off, its events are refused at once or only afterwards."""
        state = self._world.core.world
        meter = self._account.meters[metric]
        is_on = state.account().all(METER)[meter]["status"] == "active"
        if is_on is on:
            return
        self._kernel.note(f"the meter of {metric} is switched {'on' if on else 'off'}")
        self._kernel.saw("meter switched on" if on else "meter switched off")
        codes = frozenset({_ARCHIVED} if is_later else ())
        state.settings = replace(state.settings, asynchronous=codes)
        meters = self._world.stripe.v1.billing.meters
        (meters.reactivate if on else meters.deactivate)(meter)

    # --- drift ---

    def plant(self) -> None:
        """Let what was to drift do so now, at the latest."""
        if self._is_drifting and not self.drifts:
            self._drift()

    def _drift(self) -> None:
        """Stripe loses, doubles or gains one event of a push that is settled."""
        account = self._world.core.world.account()
        waiting = [one for one in self._world.eye.pushes.in_need() if one.open is not None]
        if waiting and self._world.stripe_network.is_out:
            self._meddle(self._chance.choice(waiting))
            return
        unsettled = {one.open.identifier for one in waiting if one.open is not None}
        found = [
            (key, event)
            for key, stream in sorted(account.streams.items())
            for event in stream
            if event.cancelled_from is None and event.identifier not in unsettled
        ]
        if not found:
            return
        key, event = self._chance.choice(found)
        kind = self._chance.choice(("lost", "doubled", "gained"))
        self._kernel.note(f"drift: {event.identifier} is {kind}")
        self._kernel.saw(f"drift: {kind}")
        if kind == "lost":
            self._lose(key, event)
            return
        value = event.value if kind == "doubled" else self._some_value()
        drift = Drift(
            kind, event.event_name, event.customer, event.timestamp, value, event.identifier
        )
        self._gain(drift)

    def _meddle(self, stream: PushStream) -> None:
        """Somebody else writes in the minute of a push that nobody knows the outcome of."""
        assert stream.open is not None
        self._kernel.saw("somebody wrote in the minute of an open push")
        at = int(stream.open.occurred_at.timestamp())
        target = stream.key.target
        self._gain(Drift("gained", target.event_name, target.customer, at, self._some_value(), ""))

    def _some_value(self) -> Decimal:
        return Decimal(self._chance.randrange(1, 10**4))

    def _lose(self, key: StreamKey, event: MeterEvent) -> None:
        now = self._kernel.now
        self._world.core.world.record(EventCancelled(DEFAULT_ACCOUNT, key, event.number, now))
        drift = Drift(
            "lost",
            event.event_name,
            event.customer,
            event.timestamp,
            -event.value,
            event.identifier,
        )
        self.drifts.append(drift)

    def _gain(self, drift: Drift) -> None:
        state = self._world.core.world
        params: dict[str, Any] = {"timestamp": drift.timestamp}
        call = Call(
            world=state, account=state.account(), at=self._kernel.now, params=params, path=""
        )
        payload = {"stripe_customer_id": drift.customer, "value": str(drift.value)}
        try:
            identifier = meter_events.foreign(call, payload, event_name=drift.event_name)
        except RefusedError as refused:
            self._kernel.note(f"no drift: {refused.message}")  # Too old, or its meter is off.
            return
        is_new = drift.kind == "gained"
        self.drifts.append(replace(drift, identifier=identifier) if is_new else drift)
