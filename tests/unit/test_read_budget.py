"""The reads that Stripe rations are counted, and those that are left are known."""

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta

import pytest

from metering.errors import RetryableError
from metering.read_budget import PENDING_MAX, ReadBudget
from tests.conftest import SetClock

DAY = timedelta(days=1)


class KeptCounts:
    """Counts in memory; `trouble` is raised instead of counting."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, date]] = Counter()
        self.writes = 0
        self.trouble: Exception | None = None

    def add(self, account: str, day: date, reads: int) -> None:
        if self.trouble:
            raise self.trouble
        self.writes += 1
        self.counts[account, day] += reads

    def since(self, account: str, day: date) -> Mapping[date, int]:
        return {at: n for (whose, at), n in self.counts.items() if whose == account and at >= day}


@pytest.fixture
def counts() -> KeptCounts:
    return KeptCounts()


@pytest.fixture
def budget(counts: KeptCounts, clock: SetClock) -> ReadBudget:
    return ReadBudget(counts, clock, 10_000)


def test_reads_are_noted_in_memory_and_written_once(budget: ReadBudget, counts: KeptCounts) -> None:
    for _ in range(40):
        budget.note()

    assert counts.writes == 0
    budget.flush()
    budget.flush()
    assert counts.writes == 1
    assert counts.counts.total() == 40


def test_a_crash_forgets_few(budget: ReadBudget, counts: KeptCounts) -> None:
    for _ in range(PENDING_MAX * 3 + 1):
        budget.note()

    assert counts.counts.total() == PENDING_MAX * 3


def test_reads_of_a_quiet_process_are_written_after_a_minute(
    budget: ReadBudget, counts: KeptCounts, clock: SetClock
) -> None:
    budget.note()
    clock.advance(timedelta(seconds=59))
    budget.note()
    assert counts.writes == 0

    clock.advance(timedelta(seconds=1))
    budget.note()

    assert counts.counts.total() == 3


def test_what_is_left_is_the_grant_less_thirty_days(budget: ReadBudget, clock: SetClock) -> None:
    budget.note(1_000)
    clock.advance(29 * DAY)
    budget.note(200)

    assert budget.left(clock.now()) == 8_800
    clock.advance(DAY)
    assert budget.left(clock.now()) == 9_800


def test_nothing_is_left_rather_than_less_than_nothing(budget: ReadBudget, clock: SetClock) -> None:
    budget.note(10_001)

    assert budget.left(clock.now()) == 0


def test_each_account_has_its_own_grant(budget: ReadBudget, clock: SetClock) -> None:
    budget.note(7, "acct_1")

    assert budget.left(clock.now()) == 10_000
    assert budget.left(clock.now(), "acct_1") == 9_993


def test_reads_that_cannot_be_written_now_are_still_counted(
    budget: ReadBudget, counts: KeptCounts, clock: SetClock
) -> None:
    counts.trouble = RetryableError("throttled")
    budget.note(250)

    assert budget.left(clock.now()) == 9_750
    counts.trouble = None
    assert budget.left(clock.now()) == 9_750
    assert counts.counts.total() == 250


def test_reads_noted_while_others_cannot_be_written_are_added_to_them(
    budget: ReadBudget,
    counts: KeptCounts,
    clock: SetClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def busy(account: str, day: date, reads: int) -> None:
        budget.note(3)
        raise RetryableError("throttled")

    monkeypatch.setattr(counts, "add", busy)
    budget.note(50)
    budget.flush()

    assert budget.left(clock.now()) == 10_000 - 50 - 3 - 3
    assert "50 reads of Stripe are written down later: throttled" in caplog.text
