"""Lets a month pass: clients send, the schedules run, Stripe bills; then everything heals."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from infra import functions
from infra.tables import TABLES
from local import dynamodb_local, stream_reader
from local.month.acts import Acts
from local.month.clocks import VirtualClock
from local.month.draw import DAY, HOUR, TENANT, Happening, Month
from local.month.setup import Account, move_to, set_up
from local.month.world import DEAD, World
from local.ports import free_port
from local.stripe.state import INVOICE, ITEM, SUBSCRIPTION
from metering.adapters.dynamodb.client import make_client
from metering.config import Config
from metering.period import NEVER
from metering.reconciliation import Report

AROUND_AN_END = tuple(timedelta(minutes=one) for one in (-7, 0, 20, 46, 63))
"""When things are looked at beside a period's end, at which its draft invoice begins to wait."""
A_SECOND = timedelta(seconds=1)
RECONCILED_EVERY = DAY
HEALS_FOR_AT_LEAST = 27 * HOUR
"""Longer than Stripe knows an identifier: whatever is unknown is looked up by then."""
HEALS_FOR_AT_MOST = 8 * DAY
CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": dynamodb_local.ACCESS_KEY,
    "AWS_SECRET_ACCESS_KEY": dynamodb_local.SECRET_KEY,
    "AWS_DEFAULT_REGION": dynamodb_local.REGION,
}
TABLE_NAME = next(one.name for one in TABLES if one.has_stream)

type Look = Callable[[Report], None]
"""Hears of every report that is made."""


@dataclass(slots=True)
class Lived:
    """A month that was lived through."""

    month: Month
    world: World
    acts: Acts
    account: Account
    starts: dict[str, set[datetime]] = field(default_factory=dict)
    """Where Stripe was seen to begin each customer's billing periods."""
    ended_at: dict[str, datetime] = field(default_factory=dict)
    """When a customer's subscription ended."""
    early: set[str] = field(default_factory=set)
    """Invoices that somebody finalized before their time."""
    is_quiet: bool = False
    """Whether nothing was left to do in the end."""


@contextmanager
def a_world(start: datetime, *, endpoint: str, prefix: str) -> Iterator[World]:
    """A world over fresh tables, in which time begins well before a month's start."""
    for name, value in CREDENTIALS.items():
        os.environ.setdefault(name, value)
    config = Config(table_prefix=prefix, dynamodb_endpoint=endpoint)
    dynamodb = make_client(config)
    dynamodb_local.create_tables(dynamodb, prefix=prefix)
    described = dynamodb.describe_table(TableName=prefix + TABLE_NAME)
    stream = stream_reader.StreamReader(
        stream_reader.make_client(endpoint), described["Table"]["LatestStreamArn"]
    )
    yield World(dynamodb, stream, config, VirtualClock(start - 70 * DAY))


@contextmanager
def own_dynamodb() -> Iterator[str]:
    """A DynamoDB Local for this run alone; where it listens."""
    port = free_port()
    process = dynamodb_local.start(port)
    try:
        yield dynamodb_local.endpoint(port)
    finally:
        process.terminate()
        process.wait(timeout=10)


def live(
    month: Month,
    world: World,
    look: Look = lambda _report: None,
    *,
    on_day: Callable[[datetime], None] = lambda _now: None,
) -> Lived:
    """Live through a month and the time in which it heals; `on_day` hears of each moment."""
    account = set_up(world, month.customers, month.start)
    lived = Lived(month, world, Acts(world, account), account)
    days = _Days(lived, look, on_day)
    world.begin_trouble(month.seed, month.rates, disorders=month.is_disordered)
    days.pass_until(month.end + DAY, list(month.happenings))
    world.heal()
    days.heal()
    return lived


class _Days:
    """Time passing in one world."""

    def __init__(self, lived: Lived, look: Look, on_day: Callable[[datetime], None]) -> None:
        self._lived = lived
        self._world = lived.world
        self._look = look
        self._on_day = on_day
        self._reconciled_at = lived.month.start
        self._ends: set[datetime] = set()
        """Just after where billing periods ended, or will."""
        self._note_periods()

    # --- time ---

    def pass_until(self, end: datetime, happenings: list[Happening]) -> None:
        """Let time pass up to an instant, with all that happens until then."""
        waiting: list[Happening] = []
        while self._world.clock.now() < end:
            self._move_on(end)
            now = self._world.clock.now()
            due = waiting + [one for one in happenings if one.at <= now]
            happenings = [one for one in happenings if one.at > now]
            waiting = self._lived.acts.do(due)
            self._tick()
        while waiting:  # What could not be done in all that time is done now, or never.
            self._move_on(self._world.clock.now() + HOUR)
            waiting = self._lived.acts.do(waiting)
            self._tick()
            assert self._world.clock.now() < end + 10 * DAY, f"never done: {waiting}"

    def heal(self) -> None:
        """Let time pass without any trouble until nothing is left to do."""
        self._lived.acts.approve_late()
        began_at = self._world.clock.now()
        while self._world.clock.now() < began_at + HEALS_FOR_AT_MOST:
            self._move_on(NEVER)
            self._decide()
            self._tick()
            self._reconcile()
            is_long_enough = self._world.clock.now() >= began_at + HEALS_FOR_AT_LEAST
            if is_long_enough and self._is_quiet():
                self._lived.is_quiet = True
                break
        self._world.clock.set(self._world.clock.now() + HOUR)
        self._reconcile(verify=True)

    def _move_on(self, end: datetime) -> None:
        """To the next instant at which something is to be done."""
        now = self._world.clock.now()
        moments = [one + by for one in self._ends for by in AROUND_AN_END]
        later = [end, now + self._lived.month.step, *(one for one in moments if one > now)]
        move_to(self._world, self._lived.account, min(later))

    def _objects(self, kind: str) -> dict[str, Any]:
        return self._world.core.world.account().all(kind)

    # --- one moment ---

    def _tick(self) -> None:
        """Everything that runs from time to time runs once."""
        self._on_day(self._world.clock.now())
        self._world.feed()
        self._world.carry_webhooks()
        self._note_periods()
        self._finalize_early()
        for function in (functions.REBUILDER, functions.WRITER, functions.PERIOD_CLOSER):
            self._note(function.name, self._world.run(function))
        self._world.carry_webhooks()
        if self._world.clock.now() - self._reconciled_at >= RECONCILED_EVERY:
            self._reconcile()

    def _note(self, name: str, answer: Any) -> None:
        """Count what a run did."""
        if answer is DEAD or not isinstance(answer, dict):
            return
        counts = self._world.counts
        if name == functions.WRITER.name:
            for what in ("planned", "sent", "accepted", "carried"):
                counts[f"pushes {what}"] += answer.get(what, 0)
        if name == functions.PERIOD_CLOSER.name:
            for what in ("closed", "held"):
                counts[f"periods {what}"] += answer["closing"].get(what, 0)

    def _note_periods(self) -> None:
        ref_of = {known: ref for ref, known in self._lived.account.subscriptions.items()}
        items_of = self._world.core.world.account().items_of
        for subscription in self._objects(SUBSCRIPTION).values():
            ref = ref_of[subscription["id"]]
            items = [self._objects(ITEM)[one] for one in items_of[subscription["id"]]]
            starts = {_utc(item["current_period_start"]) for item in items}
            self._lived.starts.setdefault(ref, set()).update(starts)
            self._ends |= {_utc(item["current_period_end"]) + A_SECOND for item in items}
            if subscription["ended_at"]:
                self._lived.ended_at[ref] = _utc(subscription["ended_at"])

    def _finalize_early(self) -> None:
        for invoice in list(self._objects(INVOICE).values()):
            is_draft = invoice["status"] == "draft"
            if is_draft and self._world.chance(self._world.rates.finalized_early):
                self._world.stripe.v1.invoices.finalize_invoice(invoice["id"])
                self._lived.early.add(invoice["id"])
                self._world.counts["invoices finalized early"] += 1

    def _reconcile(self, *, verify: bool = False) -> None:
        self._reconciled_at = self._world.clock.now()
        for month in self._world.eye.reconciler.months():
            event = {"tenantId": TENANT, "period": month, "verify": verify}
            if self._world.run(functions.RECONCILER, event) is not DEAD:
                report = self._world.eye.reports.latest(self._world.tenant, month)
                if report is not None:
                    self._world.counts["repairs"] += len(report.repairs)
                    self._look(report)

    # --- in the end ---

    def _decide(self) -> None:
        """What only a person can decide is decided by a look at Stripe's own books."""
        for stream in self._world.eye.decisions.waiting(self._world.tenant):
            if stream.stopped is None or stream.stopped.until is not None:
                continue
            push = stream.open
            is_there = push is not None and self._is_at_stripe(push.identifier)
            body = {"tenantId": TENANT, "decision": "counted" if is_there else "not_counted"}
            path = f"/v1/pushes/{stream.key.id}/decision"
            status, _ = self._world.http("POST", path, body)
            self._world.counts[f"decisions answered {status}"] += 1

    def _is_at_stripe(self, identifier: str) -> bool:
        events = self._world.core.world.account().events()
        return any(one.identifier == identifier and one.cancelled_from is None for one in events)

    def _is_quiet(self) -> bool:
        eye = self._world.eye
        return not list(eye.pushes.in_need()) and not list(eye.period_closes.unfinished())


def _utc(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
