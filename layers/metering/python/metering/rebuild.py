"""Rebuilding a tenant's counters from the ledger, exact while events keep arriving.

Three steps, each safe to repeat: `request` opens the next epoch with a cut that lies ahead of every
cached copy of the epochs; once the cut has settled, `advance` recounts the ledger up to the cut and
switches readers over. See `metering.epoch`.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from metering.counter import NO_USAGE, BucketKey, Usage, counter_of, usage_of
from metering.epoch import Epochs
from metering.errors import ConflictError
from metering.names import TenantId
from metering.ports import Clock, EpochReader, Ledger, Settings


class EpochStore(EpochReader, Protocol):
    """The epochs, to be changed."""

    def read(self, tenant: TenantId) -> Epochs:
        """A tenant's epochs as they stand now."""
        ...

    def change(self, tenant: TenantId, before: Epochs, after: Epochs) -> None:
        """Replace them if they still are `before`, else raise `ConflictError`."""
        ...

    def under_rebuild(self) -> list[TenantId]:
        """The tenants whose next epoch is being built."""
        ...


class RecountStore(Protocol):
    """Where a rebuild puts what it counted."""

    def put_recount(self, epoch: int, usage: Mapping[BucketKey, Usage]) -> None:
        """Store each bucket's recount; the same again changes nothing.

        Raises:
            RetryableError: not all could be stored; do it again.
        """
        ...


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What one step of a rebuild came to."""

    tenant: TenantId
    state: str
    """`requested`, `settling` or `done`."""
    cut_at: datetime
    entries: int = 0
    buckets: int = 0


class Rebuilder:
    """Rebuilds counters."""

    def __init__(
        self,
        ledger: Ledger,
        epochs: EpochStore,
        recounts: RecountStore,
        settings: Settings,
        clock: Clock,
        *,
        lead: timedelta,
        settle: timedelta,
    ) -> None:
        self._ledger = ledger
        self._epochs = epochs
        self._recounts = recounts
        self._settings = settings
        self._clock = clock
        self._lead = lead
        self._settle = settle

    def request(self, tenant: TenantId) -> RebuildReport:
        """Open the next epoch; while one is open already, tell its state."""
        epochs = self._epochs.read(tenant)
        if epochs.next_cut_at is not None:
            return RebuildReport(tenant, "settling", epochs.next_cut_at)
        cut_at = self._clock.now() + self._lead
        try:
            self._epochs.change(tenant, epochs, epochs.opened(cut_at))
        except ConflictError:
            # Another request was faster, or our own was repeated after its answer was lost.
            opened_at = self._epochs.read(tenant).next_cut_at
            if opened_at is None:
                raise
            return RebuildReport(tenant, "settling", opened_at)
        return RebuildReport(tenant, "requested", cut_at)

    def advance(self) -> list[RebuildReport]:
        """Take every rebuild under way as far as time allows."""
        reports = []
        for tenant in self._epochs.under_rebuild():
            epochs = self._epochs.read(tenant)
            if epochs.next_cut_at is not None:
                reports.append(self._advance(tenant, epochs, epochs.next_cut_at))
        return reports

    def _advance(self, tenant: TenantId, epochs: Epochs, cut_at: datetime) -> RebuildReport:
        # Until the cut has settled, an ingest call that stamped an earlier time may still write.
        if self._clock.now() < cut_at + self._settle:
            return RebuildReport(tenant, "settling", cut_at)
        entries, usage = self._recount(tenant, cut_at)
        self._recounts.put_recount(epochs.current + 1, usage)
        try:
            switched = epochs.switched(former_until=self._clock.now() + self._lead)
            self._epochs.change(tenant, epochs, switched)
        except ConflictError:
            return RebuildReport(tenant, "settling", cut_at)  # another run was faster
        return RebuildReport(tenant, "done", cut_at, entries, len(usage))

    def _recount(self, tenant: TenantId, cut_at: datetime) -> tuple[int, dict[BucketKey, Usage]]:
        """The usage of everything received before the cut, per bucket."""
        usage: dict[BucketKey, Usage] = defaultdict(lambda: NO_USAGE)
        entries = 0
        for entry in self._ledger.of_tenant(tenant):
            if entry.received_at >= cut_at:
                continue
            entries += 1
            counter = counter_of(entry.event)
            calendar = self._settings.customer(tenant, counter.customer).calendar
            width = self._settings.metric(tenant, counter.metric).bucket
            start = calendar.bucket_of(entry.event.occurred_at, width).start
            usage[BucketKey(counter, start)] += usage_of(entry)
        return entries, usage
