"""However a shard's records are cut, repeated, doubled and lost, each counts exactly once."""

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from metering.aggregator import Aggregator
from metering.counter import counter_of
from metering.event import LedgerEntry
from metering.lane import Record, position_of
from tests.books import decided
from tests.builders import NOON, an_entry
from tests.conftest import SetClock
from tests.held import FirstEpoch, HeldLanes, HeldQuarantine, NoSettings, Step
from tests.readers import true_usage

CLOCK = SetClock(datetime(2026, 11, 20, 12, tzinfo=UTC))
MOST = 30


class Delivery(NamedTuple):
    """One invocation: from how far before what is done, how long, by whom, in what trouble."""

    back: int
    length: int
    process: int
    is_reborn: bool
    troubles: list[str | None]
    zombies_arrive: bool


entries = st.lists(
    st.builds(
        an_entry,
        st.decimals("0.000000000001", 10**14, places=12).map(str),
        customer=st.sampled_from("AB"),
        at=st.sampled_from([NOON, NOON - timedelta(days=1), NOON - timedelta(hours=1)]),
        is_late=st.booleans(),
    ),
    min_size=1,
    max_size=MOST,
)
ledgers = st.builds(decided, entries, st.lists(st.integers(0, 2), min_size=1, max_size=5))
deliveries = st.lists(
    st.builds(
        Delivery,
        st.integers(0, MOST),
        st.integers(1, MOST),
        st.integers(0, 1),
        st.booleans(),
        st.lists(st.sampled_from([None, None, "refused", "lost", "late"]), max_size=8),
        st.booleans(),
    ),
    max_size=12,
)


class Shard:
    """One shard's records on their way to two aggregators over the same lanes."""

    def __init__(self, ledger: list[LedgerEntry]) -> None:
        self.lanes = HeldLanes()
        self.quarantine = HeldQuarantine()
        self._records = [Record(position_of(str(at)), one) for at, one in enumerate(ledger, 1)]
        self._processes = [self._process(), self._process()]
        self._done = 0

    def _process(self) -> Aggregator:
        return Aggregator(self.lanes, FirstEpoch(), NoSettings(), self.quarantine, CLOCK)

    def deliver(self, delivery: Delivery) -> None:
        if delivery.is_reborn:
            self._processes[delivery.process] = self._process()
        troubles = iter(delivery.troubles)

        def trouble(step: Step) -> str | None:
            return next(troubles, None)

        self.lanes.trouble = trouble
        start = max(0, self._done - delivery.back)
        self._fold(delivery.process, start, start + delivery.length)
        if delivery.zombies_arrive:
            self.bury()

    def bury(self) -> None:
        """The writes of the dead arrive at last."""
        while self.lanes.zombies:
            self.lanes.put(self.lanes.zombies.pop())

    def finish(self) -> None:
        """Deliver until all is answered, as Lambda does."""
        self.lanes.trouble = lambda step: None
        rounds = 0
        while self._done < len(self._records):
            self._fold(0, self._done, len(self._records))
            rounds += 1
            assert rounds <= 3, "a batch without trouble is answered"
        self._fold(1, 0, len(self._records))
        self.bury()

    def _fold(self, process: int, start: int, end: int) -> None:
        batch = self._records[start:end]
        if not batch:
            return
        failed_from = self._processes[process].fold("shard", batch).failed_from
        # Lambda's checkpoint: everything before the reported record is done.
        reached = int(failed_from) - 1 if failed_from else start + len(batch)
        self._done = max(self._done, reached)


@settings(max_examples=2 * settings().max_examples)
@given(ledgers, deliveries)
def test_every_record_counts_exactly_once(
    ledger: list[LedgerEntry], script: list[Delivery]
) -> None:
    shard = Shard(ledger)

    for delivery in script:
        shard.deliver(delivery)
    shard.finish()

    for counter in {counter_of(entry.event) for entry in ledger}:
        own = [entry for entry in ledger if counter_of(entry.event) == counter]
        assert shard.lanes.usage(counter) == true_usage(own)
        assert shard.lanes.newest[counter] == max(one.event.occurred_at for one in own)
    assert {bucket.counter for bucket in shard.lanes.changed} == {
        counter_of(entry.event) for entry in ledger
    }
    assert shard.quarantine.items == {}


def test_these_tests_notice_lanes_that_forget_compare_and_set() -> None:
    """The write of a dead aggregator arrives after its successor's, and takes two events back."""
    ledger = [an_entry("1") for _ in range(4)]
    shard = Shard(ledger)
    shard.deliver(Delivery(0, 2, 0, is_reborn=False, troubles=["late"], zombies_arrive=False))
    [(key, step)] = shard.lanes.zombies
    shard.finish()
    assert shard.lanes.usage(key.counter) == true_usage(ledger)

    shard.lanes.lanes[key] = step.after

    assert shard.lanes.usage(key.counter) == true_usage(ledger[:2])
