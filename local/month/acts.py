"""What clients and people do in a month, and what came of it: the only input of the model."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from itertools import batched
from typing import Any
from urllib.parse import quote

from local.month.draw import (
    METRICS,
    TENANT,
    Adjust,
    ApproveLate,
    Cancel,
    Happening,
    MoveAnchor,
    Outage,
    Reprice,
    Send,
    SwitchMeter,
)
from local.month.setup import Account, make_price
from local.month.world import NO_ANSWER, World

EVENTS_A_REQUEST = 100
_OK, _MADE = 200, 201


@dataclass(frozen=True, slots=True)
class Correction:
    """An adjustment that was approved and stands."""

    customer: str
    metric: str
    counts_at: datetime
    """An instant of the period that it is of; one of the present period counts when it is made,
    which is in another one if Stripe has begun that meanwhile."""
    delta: Decimal


@dataclass(slots=True)
class Done:
    """What was done in the month, and taken."""

    events: list[dict[str, Any]] = field(default_factory=list)
    """As they were first sent with their keys, in the order in which they were accepted."""
    received_at: dict[str, datetime] = field(default_factory=dict)
    """When an event was first accepted, by key."""
    approved_at: datetime | None = None
    """When somebody last approved all late events."""
    corrections: list[Correction] = field(default_factory=list)
    cut_short: dict[tuple[str, str], datetime] = field(default_factory=dict)
    """When somebody let Stripe bill, in the middle of a period, what it had heard of a customer's
    metric by then: what it had not heard is on no invoice."""


class Acts:
    """Does what happens, and notes what was taken."""

    def __init__(self, world: World, account: Account) -> None:
        self._world = world
        self._account = account
        self.done = Done()

    def do(self, happenings: Sequence[Happening]) -> list[Happening]:
        """Do what happens now; answers what could not be done now and must be tried again."""
        sends = [one for one in happenings if isinstance(one, Send)]
        for some in batched(sends, EVENTS_A_REQUEST, strict=False):
            self._send([one.event for one in some])
        rest = [one for one in happenings if not isinstance(one, Send)]
        return [one for one in rest if not self._act(one)]

    # --- usage ---

    def _send(self, events: list[dict[str, Any]]) -> None:
        """As a client does: the same request again until it is answered."""
        for _ in range(EVENTS_A_REQUEST):
            status, answer = self._world.http("POST", "/v1/events/ingest", {"events": events})
            if status == _OK:
                self._note(events, answer)
                return
        raise AssertionError(f"events are not taken: {status} {answer}")

    def _note(self, events: list[dict[str, Any]], answer: dict[str, Any]) -> None:
        for event, result in zip(events, answer["results"], strict=True):
            status = result["status"]
            self._world.counts[f"events {status}"] += 1
            # After an answer that was lost, an event's first answer may be `duplicate`.
            if status in {"accepted", "duplicate"}:
                self._note_event(event)

    def _note_event(self, event: dict[str, Any]) -> None:
        key = event["idempotencyKey"]
        if key not in self.done.received_at:
            self.done.received_at[key] = self._world.clock.now()
            self.done.events.append(event)

    # --- people ---

    def _act(self, one: Happening) -> bool:
        """Whether it was done."""
        at_stripe = isinstance(one, Cancel | Reprice | MoveAnchor | SwitchMeter)
        if at_stripe and self._world.troubled.is_out:
            return False  # Nobody gets at Stripe now.
        match one:
            case Adjust():
                return self._adjust(one)
            case ApproveLate():
                return self.approve_late()
            case Cancel():
                return self._cancel(one)
            case Reprice():
                self._reprice(one)
            case MoveAnchor():
                self._move_anchor(one)
            case SwitchMeter():
                self._switch_meter(one)
            case Outage(begins=begins):
                self._world.troubled.is_out = begins
                self._world.counts["outages"] += begins
        return True

    def _adjust(self, one: Adjust) -> bool:
        start = self._period_start(one)
        if start is None:
            return False
        wanted = {
            "tenantId": TENANT,
            "metric": one.metric,
            "customerRef": one.customer,
            "periodStart": start,
            "delta": str(one.delta),
            "reason": "correction",
            "requestId": f"{one.customer} {one.at.isoformat()}",
        }
        status, made = self._world.http("POST", "/v1/adjustments", wanted)
        if status not in {_OK, _MADE}:
            return self._refused("adjustment", status, made)
        began_at = datetime.fromisoformat(made["periodStart"])
        made_at = datetime.fromisoformat(made["createdAt"])
        return self._approve(one, made, began_at if one.in_former_period else made_at)

    def _period_start(self, one: Adjust) -> str | None:
        """Where the customer's present period begins, or the one before."""
        query = {"tenantId": TENANT, "customerRef": one.customer}
        status, periods = self._world.http("GET", "/v1/periods", query=query)
        if status != _OK:
            return None
        return str(periods[1 if one.in_former_period else 0]["period"]["start"])

    def _approve(self, one: Adjust, made: dict[str, Any], counts_at: datetime) -> bool:
        path = f"/v1/adjustments/{quote(made['id'])}"
        status, answer = self._world.http("POST", f"{path}/approve", query={"tenantId": TENANT})
        if status != _OK:
            return self._refused("approval", status, answer)
        if one.is_reverted:
            status, answer = self._world.http("POST", f"{path}/revert", query={"tenantId": TENANT})
            if status != _OK:
                return self._refused("revert", status, answer)
            self._world.counts["adjustments reverted"] += 1
            return True
        self._world.counts["adjustments approved"] += 1
        self.done.corrections.append(Correction(one.customer, one.metric, counts_at, one.delta))
        return True

    def _refused(self, what: str, status: int, answer: Any) -> bool:
        """Whether it was refused for good; an answer that did not come is waited for."""
        if status == NO_ANSWER or status >= 500 or status == 409:  # noqa: PLR2004 (not now)
            return False
        raise AssertionError(f"an {what} was answered {status}: {answer}")

    def approve_late(self) -> bool:
        """Approve all late events that wait for it."""
        query = {"tenantId": TENANT, "status": "pending", "limit": "100"}
        for _ in range(EVENTS_A_REQUEST):
            status, page = self._world.http("GET", "/v1/adjustments", query=query)
            if status != _OK:
                return False
            if not page["adjustments"]:
                self.done.approved_at = self._world.clock.now()
                return True
            for one in page["adjustments"]:
                path = f"/v1/adjustments/{quote(one['id'])}/approve"
                status, _ = self._world.http("POST", path, query={"tenantId": TENANT})
                self._world.counts["late events approved"] += status == _OK
        return False

    # --- at Stripe ---

    def _cancel(self, one: Cancel) -> bool:
        subscription = self._account.subscriptions[one.customer]
        if not one.at_once:
            self._world.stripe.v1.subscriptions.update(subscription, {"cancel_at_period_end": True})
            self._world.counts["cancelled with the period"] += 1
            return True
        path = f"/v1/customers/{one.customer}/cancel"
        status, _ = self._world.http("POST", path, {"tenantId": TENANT, "invoiceNow": True})
        standing = self._world.stripe.v1.subscriptions.retrieve(subscription)
        is_done = standing.status == "canceled"
        self._world.counts["cancelled at once"] += is_done
        return is_done or status == _OK

    def _reprice(self, one: Reprice) -> None:
        # Stripe bills by the former price what it has heard of by now, and loses the rest.
        self._world.tell_all()
        metric = next(metric for metric in METRICS if metric.name == one.metric)
        dearer = replace(metric, price={"unit_amount_decimal": "0.2"})
        before = self._account.prices[one.metric]
        price = self._account.prices[one.metric] = make_price(self._world, self._account, dearer)
        for subscription in self._account.subscriptions.values():
            standing = self._world.stripe.v1.subscriptions.retrieve(subscription)
            items: Any = [
                {"id": item.id, "price": price}
                for item in standing["items"].data
                if item.price.id == before
            ]
            if standing.status == "active":
                self._cut_short(subscription, [one.metric])
                self._world.stripe.v1.subscriptions.update(subscription, {"items": items})
        self._remap(one.metric, price)
        self._world.counts["prices changed"] += 1

    def _remap(self, metric: str, price: str) -> None:
        mappings = self._world.http("GET", "/v1/mappings", query={"tenantId": TENANT})[1]
        (mapping,) = (one for one in mappings if one["metric"] == metric)
        change = {"tenantId": TENANT, "priceId": price}
        for _ in range(EVENTS_A_REQUEST):
            status, _ = self._world.http("PUT", f"/v1/mappings/{mapping['id']}", change)
            if status == _OK:
                return

    def _move_anchor(self, one: MoveAnchor) -> None:
        self._world.tell_all()  # The period that ends here is billed at once.
        subscription = self._account.subscriptions[one.customer]
        change: Any = {
            "billing_cycle_anchor": {"type": "now"},
            "proration_behavior": "none",
        }
        self._world.stripe.v1.subscriptions.update(subscription, change)
        self._cut_short(subscription, [metric.name for metric in METRICS])
        self._world.counts["anchors moved"] += 1

    def _cut_short(self, subscription: str, metrics: list[str]) -> None:
        ref = next(ref for ref, one in self._account.subscriptions.items() if one == subscription)
        now = self._world.clock.now()
        self.done.cut_short |= {(ref, metric): now for metric in metrics}

    def _switch_meter(self, one: SwitchMeter) -> None:
        meters = self._world.stripe.v1.billing.meters
        codes = frozenset({"archived_meter"} if one.asynchronous else ())
        self._world.core.world.settings = replace(
            self._world.core.world.settings, asynchronous=codes
        )
        switch = meters.reactivate if one.on else meters.deactivate
        switch(self._account.meters[one.metric])
        self._world.counts["meters switched off"] += not one.on
