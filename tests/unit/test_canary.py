"""The canary over an API of a few lines that takes, counts, loses and doubles as it is told."""

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any

import pytest

from metering.canary import (
    WAIT,
    Canary,
    CanaryBrokenError,
    Slot,
    Taken,
    judge,
    slots_until,
)
from tests.conftest import SetClock

NOON = datetime(2026, 11, 20, 12, 3, 20, tzinfo=UTC)
AN_HOUR = timedelta(hours=1)


def slot(text: str) -> Slot:
    return Slot(datetime.fromisoformat(f"{text}:00+00:00"))


class Place:
    """Clock, machine, metrics and API in one."""

    def __init__(self, now: datetime = NOON) -> None:
        self.clock = SetClock(now)
        self.ledger: set[Slot] = set()
        self.lost: set[Slot] = set()
        self.doubled: set[Slot] = set()
        self.late: list[Slot] = []
        self.counted_after = timedelta(seconds=6)
        self.sent_at: dict[Slot, datetime] = {}
        self.statuses: dict[Slot, str] = {}
        self.at_stripe: Decimal | None = None
        self.gauges: dict[str, float] = {}
        self.requests: list[Sequence[Slot]] = []

    def send(self, slots: Sequence[Slot]) -> list[Taken]:
        self.requests.append(slots)
        return [self._take(one) for one in slots]

    def _take(self, one: Slot) -> Taken:
        status = "duplicate" if one in self.ledger else "accepted"
        self.ledger.add(one)
        self.sent_at.setdefault(one, self.clock.now())
        return Taken(one, self.statuses.get(one, status), is_late=one in self.late)

    def daily(self, first: datetime, last: datetime) -> Mapping[date, Decimal]:
        days: dict[date, Decimal] = {}
        for one in self.ledger - self.lost:
            if self.clock.now() - self.sent_at[one] >= self.counted_after:
                number = 2 if one in self.doubled else 1
                days[one.day] = days.get(one.day, Decimal(0)) + number * one.quantity
        return {day: value for day, value in days.items() if first.date() <= day <= last.date()}

    def stripe_difference(self, month: str) -> Decimal | None:
        return self.at_stripe

    def seconds(self) -> float:
        return self.clock.now().timestamp()

    def sleep(self, seconds: float) -> None:
        self.clock.advance(timedelta(seconds=seconds))

    def token_bytes(self, size: int) -> bytes:
        raise NotImplementedError

    def threads(self, count: int, name: str) -> Any:
        raise NotImplementedError

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        raise NotImplementedError

    def observe(self, name: str, value: float, **labels: str) -> None:
        raise NotImplementedError

    def gauge(self, name: str, value: float, **labels: str) -> None:
        self.gauges[name] = value

    def exposition(self) -> None:
        return None

    def flush(self) -> None:
        raise NotImplementedError

    def runs(self, *, time_left: timedelta = AN_HOUR) -> dict[str, Any]:
        return Canary(self, self, self.clock, self).run(lambda: time_left)

    def runs_for(self, hours: int) -> dict[str, Any]:
        told: dict[str, Any] = {}
        for _ in range(hours * 12):
            began = self.clock.now()
            told = self.runs()
            self.clock.set(began + timedelta(minutes=5))
        return told


@pytest.fixture
def place() -> Place:
    """One where the canary has run for a while."""
    place = Place()
    place.runs_for(1)
    place.requests.clear()
    return place


def test_a_slots_event_follows_from_its_time_alone() -> None:
    first, last = slot("2026-11-20T00:00"), slot("2026-11-20T23:55")

    assert Slot.at(NOON) == slot("2026-11-20T12:00")
    assert Slot.at(last.start + timedelta(minutes=4, seconds=59)) == last
    assert [first.quantity, last.quantity] == [Decimal("1.0000"), Decimal("1.0287")]
    assert first.key == "canary-2026-11-20T00:00"
    assert len(slots_until(NOON)) == 288 + 12 * 12 + 1


def test_where_all_is_counted_there_is_no_difference_and_the_lag_is_measured(
    place: Place,
) -> None:
    told = place.runs()

    assert told == {
        "canary": "agrees",
        "difference": "0",
        "stripeDifference": None,
        "lagSeconds": 6.0,
        "missing": [],
        "filled": 0,
    }
    assert place.gauges == {"canary_lag_seconds": 6.0, "canary_difference": 0.0}
    [request] = place.requests
    assert [one.key for one in request] == ["canary-2026-11-20T12:55", "canary-2026-11-20T13:00"]


def test_the_first_run_fills_in_two_days_and_the_next_agrees() -> None:
    place = Place()

    first = place.runs()
    place.clock.advance(timedelta(minutes=5))
    second = place.runs()

    assert (first["canary"], first["filled"]) == ("agrees", 288 + 12 * 12)
    assert (second["canary"], second["filled"], second["difference"]) == ("agrees", 0, "0")


def test_runs_that_were_missed_are_no_difference(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.clock.advance(timedelta(hours=3))

    told = place.runs()

    assert (told["canary"], told["filled"]) == ("agrees", 36)
    assert "did not hold 36 of the canary's events" in caplog.text
    assert place.runs_for(1)["difference"] == "0"


def test_an_event_that_was_accepted_and_is_accepted_again_was_lost(place: Place) -> None:
    canary = Canary(place, place, place.clock, place)
    canary.run(lambda: AN_HOUR)
    place.ledger.remove(Slot.at(place.clock.now()))
    place.clock.advance(timedelta(minutes=5))

    with pytest.raises(CanaryBrokenError, match=r"canary-2026-11-20T13:00 was accepted twice"):
        canary.run(lambda: AN_HOUR)


def test_an_event_that_the_run_before_did_not_leave_is_told_as_filled_in(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.ledger.remove(Slot.at(place.clock.now() - timedelta(minutes=5)))

    told = place.runs()

    assert (told["canary"], told["filled"]) == ("agrees", 1)
    assert "did not hold 1 of the canary's events" in caplog.text


def test_a_repeated_run_of_one_slot_counts_nothing_twice(place: Place) -> None:
    place.runs()
    told = place.runs()

    assert (told["canary"], told["lagSeconds"]) == ("agrees", 0.0)


def test_a_lost_event_is_a_difference_whose_digits_name_its_slot(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.lost.add(slot("2026-11-20T12:10"))

    told = place.runs()

    assert (told["canary"], told["difference"]) == ("differs", "-1.0146")
    assert place.gauges["canary_difference"] == -1.0146
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_event_that_counted_twice_is_a_difference(place: Place) -> None:
    place.doubled.add(slot("2026-11-20T12:10"))

    assert place.runs()["difference"] == "1.0146"


def test_a_lost_event_of_yesterday_is_still_a_difference() -> None:
    place = Place(datetime(2026, 11, 20, 23, 30, tzinfo=UTC))
    place.runs_for(1)
    place.lost.add(slot("2026-11-20T23:35"))

    told = place.runs()

    assert place.clock.now().day == 21
    assert told["difference"] == "-1.0283"


def test_events_that_are_young_and_not_counted_are_late_and_not_lost(place: Place) -> None:
    place.counted_after = timedelta(minutes=7)

    told = place.runs()

    assert (told["canary"], told["difference"]) == ("agrees", "0")
    assert told["missing"] == ["canary-2026-11-20T12:55", "canary-2026-11-20T13:00"]
    assert told["lagSeconds"] == 300 + WAIT / timedelta(seconds=1)


def test_events_that_stay_uncounted_are_a_difference_after_twenty_minutes(place: Place) -> None:
    place.counted_after = timedelta(hours=2)
    place.sent_at = dict.fromkeys(place.sent_at, NOON - timedelta(days=1))
    differing = []
    for _ in range(6):
        began = place.clock.now()
        differing.append(place.runs()["canary"])
        place.clock.set(began + timedelta(minutes=5))

    assert differing == ["agrees"] * 4 + ["differs"] * 2


def test_without_time_left_it_looks_once_more_and_waits_for_nothing(place: Place) -> None:
    before = place.clock.now()

    told = place.runs(time_left=timedelta(seconds=5))

    assert place.clock.now() == before
    assert told["missing"] == ["canary-2026-11-20T13:00"]


@pytest.mark.parametrize("status", ["conflict", "error"])
def test_any_other_answer_than_accepted_or_duplicate_is_an_alarm(place: Place, status: str) -> None:
    place.statuses[Slot.at(place.clock.now())] = status

    with pytest.raises(CanaryBrokenError, match=status):
        place.runs()


def test_an_event_held_back_as_late_says_what_to_set(place: Place) -> None:
    place.late.append(Slot.at(place.clock.now()))

    with pytest.raises(CanaryBrokenError, match="latePolicy"):
        place.runs()


def test_what_the_report_cannot_explain_at_stripe_is_a_difference(place: Place) -> None:
    place.at_stripe = Decimal("2.5")

    told = place.runs()

    assert (told["canary"], told["difference"], told["stripeDifference"]) == ("differs", "0", "2.5")
    assert place.gauges["canary_difference"] == 2.5


def test_no_loss_of_old_events_looks_like_young_ones_on_their_way() -> None:
    slots = slots_until(NOON)
    today = slots[-1].day
    whole = {
        day: sum((one.quantity for one in slots if one.day == day), Decimal(0))
        for day in {one.day for one in slots}
    }
    old = [one for one in slots if one.day == today][:-4]
    pairs = list(combinations(old[-20:], 2))

    for lost in [*((one,) for one in old), *pairs]:
        counted = whole | {today: whole[today] - sum(one.quantity for one in lost)}
        assert judge(slots, counted).difference == -sum(one.quantity for one in lost)
