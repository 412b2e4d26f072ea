"""What waits for Stripe: how old it is, how doubtful, and how soon its period ends."""

from dataclasses import replace
from datetime import datetime, timedelta

from metering.backlog import NOTHING_ENDS, Backlog, backlog_of
from metering.push import PushState, PushStream, Stop
from tests.builders import NOON
from tests.unit.test_reconciliation import HOUR, MINUTE, NOVEMBER, TOLD, sent

ZERO = timedelta()


def planned_at(instant: datetime, **changes: object) -> PushStream:
    stream = sent(5)
    assert stream.open is not None
    push = replace(stream.open, planned_at=instant, first_attempt_at=instant, **changes)  # type: ignore[arg-type]
    return replace(stream, open=push)


def test_nothing_waits_when_all_changes_were_dealt_with() -> None:
    assert backlog_of([TOLD], NOON, NOON) == Backlog(ZERO, ZERO, NOTHING_ENDS, 0)
    assert Backlog(ZERO, ZERO, NOTHING_ENDS, 0).told() == {
        "oldest_unsent_s": 0.0,
        "oldest_unresolved_s": 0.0,
        "ends_in_s": 31 * 86_400.0,
        "stopped": 0,
    }


def test_changes_that_were_not_looked_at_are_as_old_as_the_oldest_of_them() -> None:
    assert backlog_of([], NOON - 40 * MINUTE, NOON).oldest_unsent == 40 * MINUTE


def test_an_open_push_waits_since_it_was_planned() -> None:
    streams = [planned_at(NOON - 20 * HOUR), planned_at(NOON - 3 * MINUTE)]

    found = backlog_of(streams, NOON, NOON)

    assert found.oldest_unsent == 20 * HOUR
    assert found.oldest_unresolved == 20 * HOUR
    assert found.ends_in == NOVEMBER.end - NOON


def test_a_push_that_never_left_has_no_outcome_to_find_out() -> None:
    planned = planned_at(NOON - HOUR, state=PushState.PLANNED)

    found = backlog_of([planned], NOON, NOON)

    assert (found.oldest_unsent, found.oldest_unresolved) == (HOUR, ZERO)


def test_usage_that_is_on_its_way_is_not_late_however_soon_its_period_ends() -> None:
    before_the_end = NOVEMBER.end - MINUTE
    young = planned_at(before_the_end - 14 * MINUTE)
    late = planned_at(before_the_end - 15 * MINUTE)

    assert backlog_of([young], before_the_end, before_the_end).ends_in == NOTHING_ENDS
    assert backlog_of([young, late], before_the_end, before_the_end).ends_in == MINUTE


def test_a_period_that_has_ended_is_its_closes_business() -> None:
    after = NOVEMBER.end

    assert backlog_of([planned_at(after - HOUR)], after, after).ends_in == NOTHING_ENDS


def test_only_streams_that_wait_for_a_person_count_as_stopped() -> None:
    waits = replace(TOLD, stopped=Stop("ambiguous_minute", "look", NOON - 2 * HOUR, None))
    tries = replace(TOLD, stopped=Stop("refused", "archived", NOON - HOUR, NOON + HOUR))

    found = backlog_of([waits, tries], NOON, NOON)

    assert found.stopped == 1
    assert found.oldest_unsent == 2 * HOUR
