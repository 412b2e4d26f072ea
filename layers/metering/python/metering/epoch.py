"""Epochs: how counters are rebuilt from the ledger while events keep arriving.

Each epoch is a complete set of counters. A rebuild opens the next one with a cut in time: the
aggregator folds entries received at or after the cut into both, the rebuilder recounts the ledger
for all received before it, and then readers are switched over. `received_at` never changes, so each
entry is on exactly one side of the cut.
"""

from dataclasses import dataclass, replace
from datetime import datetime

FIRST_EPOCH = 1


@dataclass(frozen=True, slots=True)
class Epochs:
    """Which epochs of a tenant's counters exist: the one that is read and the one being built."""

    current: int = FIRST_EPOCH
    current_cut_at: datetime | None = None
    """The current epoch's lanes hold what was received from here on; None: everything."""
    next_cut_at: datetime | None = None
    """Set while a rebuild is under way: the cut of epoch `current + 1`."""
    former_cut_at: datetime | None = None
    """The cut of epoch `current - 1`."""
    former_until: datetime | None = None
    """What is received before this goes into epoch `current - 1` too: who has not heard of the
    switch yet still reads it, and must not see less than it told Stripe."""

    def of(self, received_at: datetime) -> tuple[int, ...]:
        """The epochs whose lanes take an entry."""
        epochs = []
        if self.former_until is not None and received_at < self.former_until:
            is_in_lanes = self.former_cut_at is None or received_at >= self.former_cut_at
            epochs += [self.current - 1] if is_in_lanes else []
        if self.current_cut_at is None or received_at >= self.current_cut_at:
            epochs.append(self.current)
        if self.next_cut_at is not None and received_at >= self.next_cut_at:
            epochs.append(self.current + 1)
        return tuple(epochs)

    def opened(self, cut_at: datetime) -> "Epochs":
        """With the next epoch open."""
        return replace(self, next_cut_at=cut_at)

    def switched(self, former_until: datetime) -> "Epochs":
        """With the next epoch as the one that is read."""
        return Epochs(
            current=self.current + 1,
            current_cut_at=self.next_cut_at,
            former_cut_at=self.current_cut_at,
            former_until=former_until,
        )
