"""A tenant's ledger and counters, for tests of what people decide about them."""

import itertools
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from functions.aggregator.handler import handler as aggregate
from metering.adjustment import Adjustment, Reason, approval_of, entry_of, held_as, revert_of
from metering.adjustments import Wanted
from metering.counter import Aggregation, Usage
from metering.event import LedgerEntry
from metering.mapping import MetricSettings
from metering.names import CustomerRef, IdempotencyKey, Metric
from metering.period import CALENDAR_MONTHS
from metering.ports import Appended
from metering.tenant_settings import TenantSettings
from metering.wiring import Wiring
from tests.builders import DEMO, NOON, a_stream_batch, an_entry
from tests.readers import counted, ledger_of

NOVEMBER_1 = datetime(2026, 11, 1, tzinfo=UTC)
ANN, BOB = "api:sm_ann", "api:sm_bob"
DAY = timedelta(days=1)
_shards = (f"shardId-d{number:04}" for number in itertools.count())
_numbers = itertools.count(1)


class Books:
    """What a tenant used and what was decided about it."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self._delivered: set[IdempotencyKey] = set()

    # --- set-up ---

    def count_by(self, aggregation: Aggregation) -> None:
        """How the metric is aggregated."""
        self.wiring.settings_store.put_metric(
            DEMO, MetricSettings(Metric("api_calls"), aggregation)
        )

    def decide(self, **settings: Any) -> None:
        """What the tenant decides."""
        self.wiring.settings_store.put_tenant(TenantSettings(DEMO, **settings))

    # --- what happens ---

    def use(self, quantity: str = "1", **about: Any) -> LedgerEntry:
        """A usage event, accepted and counted."""
        entry = an_entry(quantity, **about)
        assert self.wiring.ledger.append([entry]) == [Appended.ACCEPTED]
        self.deliver()
        return entry

    def use_late(self, quantity: str, **about: Any) -> LedgerEntry:
        """A late event that is held back."""
        return self.use(quantity, is_late=True, **({"at": NOON - 5 * DAY} | about))

    def adjust(self, delta: str, by: str = ANN, **about: Any) -> Adjustment:
        """A pending adjustment."""
        wanted = Wanted(
            tenant=DEMO,
            metric=Metric("api_calls"),
            customer=CustomerRef("cus_A"),
            period_start=NOVEMBER_1,
            delta=Decimal(delta),
            reason=Reason.CORRECTION,
        )
        return self.wiring.adjustments.create(wanted._replace(**about), by)

    def approve(self, adjustment: Adjustment | str, by: str = BOB) -> bool:
        """Approve it and count it; whether this call changed anything."""
        adjustment_id = adjustment if isinstance(adjustment, str) else adjustment.id
        decision = self.wiring.adjustments.approve(DEMO, adjustment_id, by)
        self.deliver()
        return decision.is_new

    def revert(self, adjustment: Adjustment | str, by: str = BOB) -> Adjustment:
        """Take it back and count that; the revert's own record."""
        adjustment_id = adjustment if isinstance(adjustment, str) else adjustment.id
        decision = self.wiring.adjustments.revert(DEMO, adjustment_id, by)
        self.deliver()
        return decision.adjustment

    def deliver(self) -> None:
        """Bring everything new of the ledger to the aggregator."""
        new = [one for one in ledger_of(self.wiring) if one.event.key not in self._delivered]
        self._delivered |= {one.event.key for one in new}
        answer = aggregate(a_stream_batch(new, shard=next(_shards)), None)
        assert answer["batchItemFailures"] == []

    # --- what is seen ---

    @property
    def usage(self) -> Usage:
        """What the counter holds."""
        return counted(self.wiring)

    def value(self, aggregation: Aggregation = Aggregation.SUM) -> Decimal:
        """The counter's number."""
        return self.usage.value(aggregation)


def an_adjustment(delta: str, **changes: Any) -> Adjustment:
    """A pending adjustment with an id of its own."""
    whole: dict[str, Any] = {
        "id": f"adj_{next(_numbers)}",
        "tenant": DEMO,
        "metric": Metric("api_calls"),
        "customer": CustomerRef("cus_A"),
        "period_start": NOVEMBER_1,
        "occurred_at": NOON,
        "delta": Decimal(delta),
        "reason": Reason.CORRECTION,
        "actor": ANN,
        "created_at": NOON,
    }
    return Adjustment(**(whole | changes))


def adjusting(delta: str, **changes: Any) -> LedgerEntry:
    """The ledger's entry of an approved adjustment."""
    return entry_of(an_adjustment(delta, **changes), BOB, NOON)


def decided(entries: Iterable[LedgerEntry], choices: Iterable[int]) -> list[LedgerEntry]:
    """The entries with decisions about them: by choice none, one, or one that is taken back.

    A late event is approved; beside another event the counter is adjusted by its negative.
    """
    ledger: list[LedgerEntry] = []
    for entry, choice in zip(entries, itertools.cycle(choices), strict=False):
        ledger.append(entry)
        if choice:
            record, decision = _decision(entry)
            ledger.append(decision)
            ledger += [revert_of(record, decision, ANN, NOON)] if choice > 1 else []
    return ledger


def _decision(entry: LedgerEntry) -> tuple[Adjustment, LedgerEntry]:
    event = entry.event
    about = {"customer": event.customer, "occurred_at": event.occurred_at}
    if not entry.is_late:
        record = an_adjustment(str(event.quantity.copy_negate()), **about)
        return record, entry_of(record, BOB, NOON)
    return held_as(entry, CALENDAR_MONTHS), approval_of(entry, BOB, NOON)
