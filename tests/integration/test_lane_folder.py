"""Lanes at rest are folded into their bucket's base; whoever reads meanwhile reads the same."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from functions.lane_folder.handler import handler
from metering.adapters.dynamodb.counter_item import BASE, read_sort_key
from metering.adapters.dynamodb.counters import READS_MAX
from metering.counter import Usage
from metering.errors import RetryableError
from metering.event import LedgerEntry
from metering.lane_folder import FoldReport
from metering.names import IdempotencyKey
from metering.wiring import Wiring
from tests.builders import DEMO, NOON, an_entry
from tests.conftest import SetClock
from tests.faults import CALLS_MAX, Call, Deaths, FaultyClient, Go, KilledError, dying, throttled
from tests.readers import another_process, counted, fold, lanes_of, true_usage

HOUR = timedelta(hours=1)
AT_REST = timedelta(hours=48)


def run(wiring: Wiring) -> FoldReport:
    return another_process(wiring).lane_folder.run()


def some_lanes(
    wiring: Wiring, *, number: int = 4, customer: str = "cus_A", label: str = ""
) -> list[LedgerEntry]:
    """Entries of one bucket that came through several shards, one of them late."""
    entries = [
        an_entry(f"{at}.5", customer=customer, at=NOON - timedelta(minutes=at % 3), is_late=at == 2)
        for at in range(1, number + 1)
    ]
    process = another_process(wiring)
    for at, entry in enumerate(entries):
        fold(process, [entry], shard=f"shard-{customer}{label}-{at}")
    return entries


def bases_of(wiring: Wiring) -> list[dict[str, Any]]:
    items = wiring.dynamodb.scan(TableName=wiring.table("counters"))["Items"]
    return [item for item in items if item["sk"]["S"].startswith("e0") and is_base(item)]


def is_base(item: Any) -> bool:
    """Of the items of a customer's counters."""
    return read_sort_key(item["sk"]["S"])[3] == BASE


def test_lanes_untouched_for_two_days_become_the_base_and_then_go(
    wiring: Wiring, clock: SetClock
) -> None:
    entries = some_lanes(wiring)
    clock.advance(AT_REST)

    assert handler({}, None) == {"folded": 4, "removed": 0, "skipped": 0}
    assert counted(wiring) == true_usage(entries)
    assert [stored.lane.folded for stored in lanes_of(wiring)] == [True] * 4
    assert len(bases_of(wiring)) == 1

    clock.advance(HOUR)
    assert handler({}, None) == {"folded": 0, "removed": 4, "skipped": 0}
    assert lanes_of(wiring) == []
    assert counted(wiring) == true_usage(entries)

    assert handler({}, None) == {"folded": 0, "removed": 0, "skipped": 0}


def test_a_younger_lane_stays(wiring: Wiring, clock: SetClock) -> None:
    entries = some_lanes(wiring)
    clock.advance(AT_REST - timedelta(microseconds=1))

    assert run(wiring) == FoldReport(folded=0, removed=0, skipped=0)
    assert not any(stored.lane.folded for stored in lanes_of(wiring))
    assert counted(wiring) == true_usage(entries)


def test_folded_lanes_stay_for_an_hour_for_whoever_met_the_old_base(
    wiring: Wiring, clock: SetClock
) -> None:
    some_lanes(wiring)
    clock.advance(AT_REST)
    run(wiring)
    clock.advance(HOUR - timedelta(microseconds=1))

    assert run(wiring).removed == 0
    assert len(lanes_of(wiring)) == 4


def test_lanes_that_come_to_rest_later_join_the_base(wiring: Wiring, clock: SetClock) -> None:
    entries = some_lanes(wiring, label="early")
    clock.advance(timedelta(hours=24))
    entries += some_lanes(wiring, label="late")

    for hours, folded in [(24, 4), (24, 4), (24, 0)]:
        clock.advance(timedelta(hours=hours))
        assert run(wiring).folded == folded
        assert counted(wiring) == true_usage(entries)

    [base] = bases_of(wiring)
    assert base["v"] == {"N": "2"}
    assert lanes_of(wiring) == []


def test_more_lanes_than_one_transaction_takes_are_folded_in_several(
    wiring: Wiring, clock: SetClock
) -> None:
    entries = some_lanes(wiring, number=120) + some_lanes(wiring, customer="cus_B")
    clock.advance(AT_REST)

    assert run(wiring) == FoldReport(folded=124, removed=0, skipped=0)

    assert counted(wiring) == true_usage(entries[:120])
    assert counted(wiring, "cus_B") == true_usage(entries[120:])
    clock.advance(HOUR)
    assert run(wiring).removed == 124
    assert counted(wiring) == true_usage(entries[:120])


# --- trouble --------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_folder_killed_at_any_call_leaves_every_read_exact(
    wiring: Wiring, clock: SetClock, *, after_effect: bool
) -> None:
    """Old lanes to be removed, younger ones to be folded onto a base, and the next run after."""
    entries: list[LedgerEntry] = []
    deaths = Deaths(wiring.dynamodb, after_effect=after_effect)
    for world, mortal in enumerate(deaths):
        entries += some_lanes(wiring, number=2, label=f"{world}")
        clock.advance(AT_REST)
        with dying():
            another_process(wiring, mortal.client).lane_folder.run()
        assert counted(wiring) == true_usage(entries)

        run(wiring)
        assert counted(wiring) == true_usage(entries)
    assert deaths.number >= len(["scan", "remove", "base", "fold"])


def test_two_folders_at_once_fold_each_lane_once(wiring: Wiring, clock: SetClock) -> None:
    """The whole run of one at any moment of the other."""
    entries: list[LedgerEntry] = []
    for world in range(CALLS_MAX):
        entries += some_lanes(wiring, number=2, label=f"{world}")
        clock.advance(AT_REST)
        faulty = FaultyClient(wiring.dynamodb)
        faulty.before(None, lambda: run(wiring), at=world + 1)

        report = another_process(wiring, faulty.client).lane_folder.run()

        assert counted(wiring) == true_usage(entries)
        assert report.folded + report.skipped <= 2
        if len(faulty.calls) <= world:
            return
    raise AssertionError("never done")


def test_a_base_that_another_folder_made_of_other_lanes_is_not_written_over(
    wiring: Wiring, clock: SetClock
) -> None:
    entries = some_lanes(wiring, number=1, label="first")
    clock.advance(AT_REST)
    run(wiring)
    entries += some_lanes(wiring, number=1, customer="cus_A", label="z")
    clock.advance(HOUR)
    entries += some_lanes(wiring, number=50, label="a")
    clock.advance(AT_REST - HOUR)

    def fold_fifty_younger_ones_and_die() -> None:
        clock.advance(HOUR)
        mortal = FaultyClient(wiring.dynamodb)
        mortal.fail("transact_write_items", KilledError(), at={2})
        with dying():
            another_process(wiring, mortal.client).lane_folder.run()

    slow = FaultyClient(wiring.dynamodb)
    slow.before("transact_write_items", fold_fifty_younger_ones_and_die, at=1)

    report = another_process(wiring, slow.client).lane_folder.run()

    assert (report.folded, report.skipped) == (0, 1)
    assert sum(stored.lane.folded for stored in lanes_of(wiring)) == 50
    assert counted(wiring) == true_usage(entries)


def test_a_lane_that_is_written_while_it_is_folded_is_left_for_another_time(
    wiring: Wiring, clock: SetClock
) -> None:
    first, second = an_entry("1"), an_entry("2")
    fold(wiring, [first])
    clock.advance(AT_REST)
    faulty = FaultyClient(wiring.dynamodb)
    faulty.before("transact_write_items", lambda: fold(wiring, [second], first=2), at=1)

    report = another_process(wiring, faulty.client).lane_folder.run()

    assert report == FoldReport(folded=0, removed=0, skipped=1)
    assert counted(wiring) == true_usage([first, second])
    clock.advance(AT_REST)
    assert run(wiring).folded == 1
    assert counted(wiring) == true_usage([first, second])


def test_a_record_for_a_lane_that_is_closed_for_good_is_quarantined_and_stops_nothing(
    wiring: Wiring, clock: SetClock
) -> None:
    """No shard is read for so long; if one ever were, its stream must go on all the same."""
    entries = [an_entry("1"), an_entry("2", key="too-old"), an_entry("3", customer="cus_B")]
    fold(wiring, entries[:1])
    clock.advance(AT_REST)
    run(wiring)

    for process in (wiring, another_process(wiring)):
        assert fold(process, entries) == []

    assert counted(wiring) == true_usage(entries[:1])
    assert counted(wiring, "cus_B") == true_usage(entries[2:])
    [kept] = wiring.quarantine.of_key(DEMO, IdempotencyKey("too-old"))
    assert kept.kind == "unfoldable"


def test_lanes_that_dynamodb_did_not_remove_are_removed_by_the_next_run(
    wiring: Wiring, clock: SetClock
) -> None:
    entries = some_lanes(wiring)
    clock.advance(AT_REST)
    run(wiring)
    clock.advance(HOUR)
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail("batch_write_item", throttled(), at={1})

    with pytest.raises(Exception, match="ThrottlingException"):
        another_process(wiring, faulty.client).lane_folder.run()
    assert run(wiring).removed == 4
    assert counted(wiring) == true_usage(entries)


# --- reading meanwhile ----------------------------------------------------------------------------


def read_page_by_page(wiring: Wiring, between: Callable[[Call], object]) -> Usage:
    """A read whose every item is a page of its own, with something done before each page."""
    faulty = FaultyClient(wiring.dynamodb)

    def one_item(call: Call, go: Go) -> Any:
        between(call)
        return wiring.dynamodb.query(**(call.request | {"Limit": 1}))

    faulty.around("query", one_item)
    return counted(another_process(wiring, faulty.client))


@pytest.mark.parametrize("base_before", [False, True])
def test_a_read_that_meets_a_fold_between_its_pages_is_exact(
    wiring: Wiring, clock: SetClock, *, base_before: bool
) -> None:
    entries: list[LedgerEntry] = []
    if base_before:
        entries += some_lanes(wiring, number=2, label="before")
        clock.advance(AT_REST)
        run(wiring)
    for page in range(1, CALLS_MAX):
        entries += some_lanes(wiring, number=3, label=f"{page}")
        clock.advance(AT_REST)
        pages: list[int] = []

        def at_page(call: Call, *, page: int = page, pages: list[int] = pages) -> None:
            pages.append(call.number)
            if call.number == page:
                run(wiring)

        assert read_page_by_page(wiring, at_page) == true_usage(entries)

        clock.advance(HOUR)
        run(wiring)
        if len(pages) < page:
            return
    raise AssertionError("never done")


@pytest.mark.parametrize("base_before", [False, True])
@pytest.mark.parametrize("newer", ["base", "lanes"])
def test_a_read_that_meets_half_of_a_fold_is_done_again(
    wiring: Wiring, clock: SetClock, newer: str, *, base_before: bool
) -> None:
    """A query is no snapshot: it may show one write of a transaction and not yet another."""
    entries = some_lanes(wiring, number=2, label="before") if base_before else []
    clock.advance(AT_REST)
    run(wiring)
    entries += some_lanes(wiring, number=2)
    clock.advance(AT_REST)

    def half(call: Call, go: Go) -> Any:
        if call.number > 1:
            return go()
        before = go()["Items"]
        run(wiring)
        after = go()["Items"]
        bases, lanes = (after, before) if newer == "base" else (before, after)
        seen = [item for item in bases if is_base(item)]
        return {"Items": seen + [item for item in lanes if not is_base(item)]}

    faulty = FaultyClient(wiring.dynamodb)
    faulty.around("query", half)

    assert counted(another_process(wiring, faulty.client)) == true_usage(entries)
    assert faulty.calls.count("query") == 2


def test_a_read_that_meets_a_fold_every_time_gives_up_rather_than_be_wrong(
    wiring: Wiring, clock: SetClock
) -> None:
    entries = some_lanes(wiring, number=2)
    clock.advance(AT_REST)
    run(wiring)

    def fold_another(call: Call) -> None:
        after = call.request.get("ExclusiveStartKey")
        if after and is_base(after):
            entries.extend(some_lanes(wiring, number=1, label=f"{call.number}"))
            clock.advance(AT_REST)
            run(wiring)

    with pytest.raises(RetryableError, match="are being folded; read them again"):
        read_page_by_page(wiring, fold_another)

    assert len(entries) == 2 + READS_MAX
    assert counted(wiring) == true_usage(entries)
