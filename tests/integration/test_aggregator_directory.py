"""The directory of counters and the marks of changed ones: nobody overlooks a counter."""

from collections.abc import Iterable
from datetime import datetime, timedelta

import pytest

from metering.counter import BucketKey, CounterKey
from metering.event import LedgerEntry
from metering.names import CustomerRef, TenantId
from metering.ports import KnownCounter
from metering.wiring import Wiring
from tests.builders import DEMO, NOON, a_counter, an_entry
from tests.conftest import SetClock
from tests.faults import Deaths, FaultyClient, dying, throttled
from tests.readers import another_process, counted, fold

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)
TODAY = NOON.replace(hour=0)


def known(wiring: Wiring, customer: str | None = None) -> dict[CounterKey, datetime]:
    ref = None if customer is None else CustomerRef(customer)
    listed = list(another_process(wiring).counters.known(DEMO, customer=ref))
    assert len(listed) == len({counter for counter, _ in listed})
    return dict(listed)


def changed(wiring: Wiring, since: datetime) -> set[BucketKey]:
    return another_process(wiring).counters.changed_since(since).buckets


def bucket_of(entry: LedgerEntry) -> BucketKey:
    event = entry.event
    start = event.occurred_at.replace(hour=0, minute=0, second=0, microsecond=0)
    return BucketKey(CounterKey(event.tenant, event.customer, event.metric), start)


def buckets_of(entries: Iterable[LedgerEntry]) -> set[BucketKey]:
    return {bucket_of(entry) for entry in entries}


# --- the directory --------------------------------------------------------------------------------


def test_every_counter_that_got_an_event_is_listed_once(wiring: Wiring) -> None:
    entries = [an_entry(customer=f"cus_{number}") for number in range(40)]
    entries += [an_entry(metric="egress_bytes"), an_entry(tenant="acme")]

    fold(wiring, entries + entries)

    counters = {a_counter(f"cus_{number}") for number in range(40)}
    assert known(wiring).keys() == counters | {a_counter(metric="egress_bytes")}
    assert list(wiring.counters.known(TenantId("nobody"))) == []


def test_a_customers_counters_are_listed_alone(wiring: Wiring) -> None:
    names = ["cus_A", "cus_AB", "cus", "A"]
    fold(wiring, [an_entry(customer=name) for name in names] + [an_entry(metric="m")])

    assert known(wiring, "cus_A").keys() == {a_counter("cus_A"), a_counter("cus_A", "m")}
    assert known(wiring, "none") == {}


def test_no_event_of_a_counter_is_newer_than_the_directory_says(wiring: Wiring) -> None:
    fold(wiring, [an_entry(at=NOON), an_entry(at=NOON + HOUR - timedelta(microseconds=1))])

    assert list(wiring.counters.known(DEMO)) == [KnownCounter(a_counter(), NOON + HOUR)]


@pytest.mark.parametrize("same_process", [True, False])
def test_an_older_event_never_lowers_the_newest_bound(
    wiring: Wiring, *, same_process: bool
) -> None:
    other = wiring if same_process else another_process(wiring)
    fold(wiring, [an_entry(at=NOON)], shard="shard-1")

    fold(other, [an_entry(at=NOON - HOUR * 50)], shard="shard-2")

    assert known(wiring) == {a_counter(): NOON + HOUR}


def test_a_newer_event_raises_the_bound_whoever_listed_the_counter(wiring: Wiring) -> None:
    one, other = another_process(wiring), another_process(wiring)
    bounds: list[float] = []
    for process, hours in [(one, 0), (other, -30), (one, 1), (other, 2), (one, 1), (other, 5)]:
        fold(process, [an_entry(at=NOON + HOUR * hours)], shard=f"shard-{hours}-{len(bounds)}")
        bounds.append((known(wiring)[a_counter()] - NOON) / HOUR)

    assert bounds == [1, 1, 2, 3, 3, 6]


def test_a_warm_process_lists_a_counter_once_an_hour_of_event_time(wiring: Wiring) -> None:
    counting = FaultyClient(wiring.dynamodb)
    process = another_process(wiring, counting.client)

    def calls(at: datetime, shard: str) -> int:
        before = counting.calls.count("batch_execute_statement")
        fold(process, [an_entry(at=at)], shard=shard)
        return counting.calls.count("batch_execute_statement") - before

    assert calls(NOON, "1") == len(["insert", "lane", "mark"])
    assert calls(NOON + SECOND, "2") == len(["lane"])
    assert calls(NOON - HOUR, "3") == len(["lane"])
    assert calls(NOON + HOUR, "4") == len(["raise", "lane"])


@pytest.mark.parametrize("after_effect", [False, True])
def test_no_counter_ever_holds_what_the_directory_does_not_list(
    wiring: Wiring, *, after_effect: bool
) -> None:
    for world, mortal in enumerate(Deaths(wiring.dynamodb, after_effect=after_effect)):
        customer, shard = f"cus_{world}", f"shard-{world}"
        fold(wiring, [an_entry(customer=customer, at=NOON - HOUR * 2)], shard=shard)
        newest = [an_entry(customer=customer), an_entry(customer=f"new_{world}")]
        with dying():
            fold(another_process(wiring, mortal.client), newest, first=2, shard=shard)

        for ref, seen_before in [(customer, 1), (f"new_{world}", 0)]:
            if counted(wiring, ref).counted.count > seen_before:
                assert known(wiring, ref)[a_counter(ref)] == NOON + HOUR


# --- the marks ------------------------------------------------------------------------------------


def test_every_bucket_written_after_an_instant_is_found(wiring: Wiring, clock: SetClock) -> None:
    start = clock.now()
    written: list[tuple[datetime, LedgerEntry]] = []
    for number in range(30):
        entry = an_entry(customer=f"cus_{number % 7}", at=NOON - HOUR * 24 * (number % 3))
        written.append((clock.now(), entry))
        fold(wiring, [entry], first=number + 1)
        clock.advance(SECOND * 17)

    for seconds in range(0, 520, 23):
        since = start + SECOND * seconds
        assert changed(wiring, since) >= buckets_of(entry for at, entry in written if at >= since)


def test_a_bucket_is_found_though_its_mark_was_set_earlier_in_the_slot(
    wiring: Wiring, clock: SetClock
) -> None:
    entry = an_entry()
    clock.set(NOON + SECOND)
    fold(wiring, [entry], first=1)
    clock.set(NOON + SECOND * 58)

    fold(wiring, [entry], first=2)

    assert changed(wiring, NOON + SECOND * 50) == {bucket_of(entry)}


def test_what_was_written_long_before_is_not_found(wiring: Wiring, clock: SetClock) -> None:
    fold(wiring, [an_entry()])
    clock.advance(timedelta(minutes=10))
    fold(wiring, [an_entry(customer="cus_B")], shard="other")

    assert changed(wiring, clock.now() - SECOND) == {BucketKey(a_counter("cus_B"), TODAY)}


def test_a_reader_whose_clock_is_behind_finds_what_a_writer_ahead_has_marked(
    wiring: Wiring, clock: SetClock
) -> None:
    entry = an_entry()
    clock.set(NOON + SECOND * 90)
    fold(wiring, [entry])
    clock.set(NOON + SECOND * 45)

    assert changed(wiring, NOON + SECOND * 44) == {bucket_of(entry)}


@pytest.mark.parametrize("after_effect", [False, True])
def test_whatever_a_killed_aggregator_wrote_is_marked_by_the_next_delivery(
    wiring: Wiring, clock: SetClock, *, after_effect: bool
) -> None:
    for world, mortal in enumerate(Deaths(wiring.dynamodb, after_effect=after_effect)):
        entries = [an_entry(customer=f"{name}_{world}") for name in "ABC"]
        began = clock.now()
        with dying():
            fold(another_process(wiring, mortal.client), entries, shard=f"shard-{world}")
        clock.advance(timedelta(minutes=5))

        fold(another_process(wiring), entries, shard=f"shard-{world}")

        assert changed(wiring, began) >= buckets_of(entries)


def test_a_mark_that_could_not_be_set_brings_the_batch_again(wiring: Wiring) -> None:
    entry = an_entry()
    faulty = FaultyClient(wiring.dynamodb)
    faulty.refuse_statements({0: "ThrottlingError"}, at=3)  # after the directory and the lane
    process = another_process(wiring, faulty.client)

    with pytest.raises(Exception, match="for now"):
        fold(process, [entry])
    assert changed(wiring, NOON) == set()

    fold(process, [entry])
    assert changed(wiring, NOON) == {bucket_of(entry)}


def test_a_counter_that_could_not_be_listed_brings_the_batch_again(wiring: Wiring) -> None:
    entries = [an_entry(customer=f"cus_{number}") for number in range(3)]
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail("batch_execute_statement", throttled(), at={1})
    process = another_process(wiring, faulty.client)

    with pytest.raises(Exception, match="for now"):
        fold(process, entries)
    assert known(wiring) == {}

    fold(process, entries)
    assert len(known(wiring)) == 3
