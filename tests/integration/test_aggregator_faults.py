"""The aggregator killed at any call, repeated, doubled and overtaken: every counter stays exact."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Barrier
from typing import Any

import pytest

from metering.event import LedgerEntry
from metering.wiring import Wiring
from tests.builders import NOON, an_entry
from tests.faults import CALLS_MAX, Deaths, FaultyClient, KilledError, dying, timed_out
from tests.readers import another_process, counted, fold, lanes_of, of_customer, true_usage

CUSTOMERS = ("A", "B", "C")


def twelve_entries(world: object = "") -> list[LedgerEntry]:
    """Of three customers on two days, in one shard; some late."""
    return [
        an_entry(
            str(number),
            customer=f"{CUSTOMERS[number % 3]}{world}",
            at=NOON - timedelta(hours=7 * (number % 4)),
            is_late=number % 5 == 0,
        )
        for number in range(1, 13)
    ]


def assert_exact(wiring: Wiring, entries: list[LedgerEntry]) -> None:
    for customer in {entry.event.customer for entry in entries}:
        assert counted(wiring, customer) == true_usage(of_customer(entries, customer)), customer


# --- killed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("after_effect", [False, True])
@pytest.mark.parametrize("seen_before", [0, 5])
def test_an_aggregator_killed_at_any_call_is_taken_up_by_the_next_exactly(
    wiring: Wiring, seen_before: int, *, after_effect: bool
) -> None:
    deaths = Deaths(wiring.dynamodb, after_effect=after_effect)
    for world, mortal in enumerate(deaths):
        entries, shard = twelve_entries(world), f"shard-{world}"
        fold(another_process(wiring), entries[:seen_before], shard=shard)
        start = min(seen_before, 2)
        with dying():
            process = another_process(wiring, mortal.client)
            fold(process, entries[start:9], first=start + 1, shard=shard)

        # The stream never skips: what was not answered comes again, cut in whatever way.
        successor = another_process(wiring)
        assert fold(successor, entries[:10], shard=shard) == []
        assert fold(successor, entries[6:], first=7, shard=shard) == []

        assert_exact(wiring, entries)
    assert deaths.number >= len(["customers", "epochs", "directory", "read", "lanes", "marks"])


@pytest.mark.parametrize("after_effect", [False, True])
def test_a_call_that_times_out_anywhere_is_answered_by_the_redelivery(
    wiring: Wiring, *, after_effect: bool
) -> None:
    """The process lives on with what it remembers, which may be less than what was written."""
    for world in range(CALLS_MAX):
        entries, shard = twelve_entries(world), f"shard-{world}"
        faulty = FaultyClient(wiring.dynamodb)
        faulty.fail(None, timed_out(), at={world + 1}, after_effect=after_effect)
        process = another_process(wiring, faulty.client)

        deliveries = 0
        while deliver_again(process, entries, shard):
            deliveries += 1
            assert deliveries < 3

        assert_exact(wiring, entries)
        if len(faulty.calls) <= world:
            return
    raise AssertionError("never done")


def deliver_again(process: Wiring, entries: list[LedgerEntry], shard: str) -> bool:
    """One delivery; whether Lambda would deliver again."""
    try:
        return bool(fold(process, entries, shard=shard))
    except Exception:  # noqa: BLE001 (whatever a handler raises, Lambda redelivers)
        return True


@pytest.mark.parametrize("seen_before", [0, 5])
def test_the_client_librarys_own_retry_of_a_write_adds_nothing(
    wiring: Wiring, seen_before: int
) -> None:
    """botocore sends a call again when the answer is lost; the second try meets the first."""
    entries = twelve_entries()
    fold(another_process(wiring), entries[:seen_before])
    faulty = FaultyClient(wiring.dynamodb)
    faulty.around("batch_execute_statement", lambda call, go: (go(), go())[1])
    process = another_process(wiring, faulty.client)

    fold(process, entries)  # a new lane cannot tell its own write from another's
    assert fold(process, entries) == []

    assert_exact(wiring, entries)


# --- two at once ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("start", "end"), [(0, 12), (0, 7), (4, 12), (2, 5)])
def test_a_second_aggregator_may_run_at_any_moment_of_the_first(
    wiring: Wiring, start: int, end: int
) -> None:
    """The whole second run, on the same batch or on another cut of it, before each call."""
    for world in range(CALLS_MAX):
        entries, shard = twelve_entries(world), f"shard-{world}"
        fold(another_process(wiring), entries[:start], shard=shard)
        faulty = FaultyClient(wiring.dynamodb)
        second, part = another_process(wiring), entries[start:end]
        interfere = partial(fold, second, part, first=start + 1, shard=shard)
        faulty.before(None, interfere, at=world + 1)
        first = another_process(wiring, faulty.client)

        while fold(first, entries, shard=shard):  # a lane that somebody made meanwhile
            assert len(faulty.calls) < CALLS_MAX

        assert_exact(wiring, entries)
        if len(faulty.calls) <= world:
            return
    raise AssertionError("never done")


def test_two_aggregators_side_by_side_count_every_batch_once(wiring: Wiring) -> None:
    entries = [an_entry(str(at), customer=CUSTOMERS[at % 3]) for at in range(1, 61)]
    processes = [another_process(wiring), another_process(wiring)]
    barrier = Barrier(2, timeout=10)

    def run(process: Wiring) -> None:
        for start in range(0, 60, 10):
            barrier.wait()
            while fold(process, entries[start : start + 10], first=start + 1):
                pass

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(run, processes))

    assert_exact(wiring, entries)


# --- zombies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seen_before", [0, 3])
@pytest.mark.parametrize("successor_sees", [4, 12])
def test_the_write_of_a_dead_aggregator_that_arrives_late_is_refused(
    wiring: Wiring, seen_before: int, successor_sees: int
) -> None:
    entries = twelve_entries()
    fold(another_process(wiring), entries[:seen_before])
    zombie: list[Callable[[], Any]] = []
    dying_client = FaultyClient(wiring.dynamodb)

    def hold(call: Any, go: Any) -> Any:
        statement = call.request["Statements"][0]["Statement"]
        if "'h': ?" not in statement and "SET h = ?" not in statement:
            return go()  # of the directory
        zombie.append(go)
        raise KilledError

    dying_client.around("batch_execute_statement", hold)
    with dying():
        fold(another_process(wiring, dying_client.client), entries[:6])
    assert len(zombie) == 1
    assert fold(another_process(wiring), entries[:successor_sees]) == []

    codes = [answer.get("Error", {}).get("Code") for answer in zombie[0]()["Responses"]]

    if successor_sees == len(entries):
        assert None not in codes
    assert fold(another_process(wiring), entries) == []
    assert_exact(wiring, entries)


# --- a storm --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_repeats_cuts_deaths_and_lost_answers_leaves_every_counter_exact(
    wiring: Wiring, seed: int
) -> None:
    dice = random.Random(seed)
    entries = [
        an_entry(
            f"{dice.randrange(1, 10**9)}.{dice.randrange(10**6):06}",
            customer=dice.choice(CUSTOMERS),
            at=NOON - timedelta(minutes=dice.randrange(60 * 48)),
            is_late=dice.random() < 0.1,
        )
        for _ in range(300)
    ]
    done, process = 0, another_process(wiring)
    while done < len(entries):
        start = max(0, done - dice.randrange(60))
        end = min(len(entries), done + dice.randrange(1, 40))
        faulty = FaultyClient(wiring.dynamodb)
        at, lost = {dice.randrange(1, 8)}, dice.random() < 0.5
        trouble = dice.choice([KilledError(), timed_out(), None])
        if trouble:
            faulty.fail(None, trouble, at=at, after_effect=lost)
            process = another_process(wiring, faulty.client)
        try:
            failed = fold(process, entries[start:end], first=start + 1)
        except (Exception, KilledError):  # noqa: BLE001 (whatever it raises, Lambda redelivers)
            process = another_process(wiring)
            continue
        done = int(failed[0]) - 1 if failed else max(done, end)

    assert_exact(wiring, entries)
    assert len(lanes_of(wiring)) <= len(CUSTOMERS) * 3


@pytest.mark.parametrize("after_effect", [False, True])
def test_an_aggregator_killed_while_several_calls_are_under_way_is_taken_up_exactly(
    wiring: Wiring, *, after_effect: bool
) -> None:
    """60 lanes in three writes, all at once; the process ends at any one of its calls."""
    at_once = replace(wiring.config, calls_at_once=4)
    deaths = Deaths(wiring.dynamodb, after_effect=after_effect)
    for world, mortal in enumerate(deaths):
        entries = [an_entry(customer=f"{world}-{number}") for number in range(60)]
        shard = f"shard-{world}"
        with dying():
            process = Wiring(at_once, clock=wiring.clock, dynamodb=mortal.client)
            fold(process, entries, shard=shard)

        successor = Wiring(at_once, clock=wiring.clock, dynamodb=wiring.dynamodb)
        assert fold(successor, entries, shard=shard) == []

        assert_exact(wiring, entries[:5] + entries[30:35] + entries[-5:])
        assert len(lanes_of(wiring)) == 60 * (world + 1)
    assert deaths.number >= len(["customers", "epoch", "directory", "read", "lanes", "marks"])
