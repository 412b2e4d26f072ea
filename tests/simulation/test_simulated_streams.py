"""The simulation's DynamoDB stream and its event source mapping do what AWS says, and no more."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest

from infra.functions import TableStream
from metering.adapters.dynamodb.ledger_item import to_item
from metering.adapters.dynamodb.stream import read_batch
from tests.builders import an_entry
from tests.simulation.aws.dynamodb import Change
from tests.simulation.aws.mapping import Failure, Invocation, Mapping, MappingFaults
from tests.simulation.aws.stream import Stream

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/events/stream/2026-11-20T09:00:00.000"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
SETTINGS = TableStream("events", batch_size=10, batching_window_s=5, tumbling_window_s=60)
DONE: dict[str, Any] = {"state": {}}
STEPS_MAX = 5_000

type Function = Callable[[Invocation], Any]


# --- builders ---


def a_change(item: str, version: int = 0, event_name: str = "INSERT") -> Change:
    image = {"pk": {"S": item}, "v": {"N": str(version)}}
    return Change("events", event_name, {"pk": {"S": item}}, image, by_ttl=False)


def a_stream(*items: str, shards: int = 1, seed: int = 1, at: datetime = NOON) -> Stream:
    stream = Stream(ARN, shards, Random(seed))
    write(stream, items, at)
    return stream


def write(stream: Stream, items: Iterable[str], at: datetime = NOON) -> None:
    for version, item in enumerate(items):
        stream.append(a_change(item, version), at)


def a_mapping(
    stream: Stream,
    faults: MappingFaults | None = None,
    *,
    seed: int = 2,
    parallel: int = 1,
    **settings: Any,
) -> Mapping:
    return Mapping(
        stream,
        replace(SETTINGS, **settings),
        Random(seed),
        parallel=parallel,
        faults=faults or MappingFaults(),
    )


def names(count: int) -> list[str]:
    return [f"item-{number:03d}" for number in range(count)]


def items_of(records: Sequence[Any]) -> list[str]:
    return [record["dynamodb"]["Keys"]["pk"]["S"] for record in records]


def versions_of(records: Sequence[Any]) -> list[tuple[str, int]]:
    images = [record["dynamodb"]["NewImage"] for record in records]
    return [(image["pk"]["S"], int(image["v"]["N"])) for image in images]


def report(invocation: Invocation, place: int) -> dict[str, Any]:
    number = invocation.records[place]["dynamodb"]["SequenceNumber"]
    return {"state": {}, "batchItemFailures": [{"itemIdentifier": number}]}


def first_batch(mapping: Mapping, at: datetime = NOON + 5 * SECOND) -> Invocation:
    (invocation,) = mapping.due(at)
    return invocation


def run(
    mapping: Mapping, function: Function, now: datetime = NOON, *, windows: bool = False
) -> list[Invocation]:
    """Deliver until nothing is due, each invocation over before the next begins."""
    done: list[Invocation] = []
    for _ in range(STEPS_MAX):
        at = mapping.due_at(now)
        if at is None:
            return [one for one in done if one.records or windows]
        now = max(now, at)
        for invocation in mapping.due(now):
            done.append(invocation)
            mapping.finished(invocation, function(invocation), now)
    raise AssertionError(f"not through after {STEPS_MAX} steps")


def succeed(_: Invocation) -> dict[str, Any]:
    return DONE


def all_items(invocations: Sequence[Invocation]) -> list[str]:
    return [item for one in invocations for item in items_of(one.records)]


# --- the stream ---


def test_a_record_has_the_shape_in_which_lambda_hands_it_over() -> None:
    example = json.loads(Path("events/stream-insert.json").read_text())
    entry = an_entry(quantity="10485.76")
    item = to_item(entry, index_shards=0)
    stream = Stream(ARN, 1, Random(1))
    stream.append(Change("events", "INSERT", {"pk": item["pk"]}, item, by_ttl=False), NOON)

    event = first_batch(a_mapping(stream)).event

    sent = json.loads(json.dumps(event))
    assert sent.keys() == example.keys()
    assert sent["Records"][0].keys() == example["Records"][0].keys()
    assert sent["Records"][0]["dynamodb"].keys() == example["Records"][0]["dynamodb"].keys()
    assert sent["window"] == {"start": "2026-11-20T12:00:00Z", "end": "2026-11-20T12:01:00Z"}
    assert [record.entry for record in read_batch(sent).records] == [entry]


def test_sequence_numbers_rise_and_the_order_of_their_texts_does_not() -> None:
    stream = a_stream(*names(300))

    (shard,) = stream.shards
    numbers = [entry.record["dynamodb"]["SequenceNumber"] for entry in shard.entries]
    assert [int(number) for number in numbers] == sorted({int(number) for number in numbers})
    assert all(21 <= len(number) <= 40 for number in numbers)
    assert numbers != sorted(numbers)


def test_an_item_stays_in_one_shard_and_items_are_spread_over_all() -> None:
    stream = a_stream(*names(100), *names(100), shards=4)

    held = [Counter(items_of([one.record for one in shard.entries])) for shard in stream.shards]

    assert all(len(items) > 10 for items in held)
    assert all(set(items.values()) == {2} for items in held)


def test_a_split_halves_a_shard_and_a_roll_gives_each_one_child() -> None:
    stream = a_stream(shards=2)
    left, right = stream.open_shards

    stream.split(left, NOON)
    stream.roll(NOON)

    assert [shard.parent for shard in stream.shards[:4]] == [None, None, left, left]
    assert [shard.parent for shard in stream.open_shards] == [*stream.shards[2:4], right]
    edges = [(shard.low, shard.high) for shard in stream.open_shards]
    assert edges == [(0, 2**30), (2**30, 2**31), (2**31, 2**32)]
    assert all(shard.closed_at == NOON for shard in stream.shards[:4])


def test_an_items_changes_stay_in_order_from_parent_to_child() -> None:
    stream = a_stream(*names(40) * 2, shards=2)
    for _ in range(3):
        stream.split(stream.open_shards[0], NOON)
        stream.roll(NOON)
        write(stream, [name for name in names(40) for _ in range(2)])

    records = [one for batch in run(a_mapping(stream), succeed) for one in batch.records]

    written = [one for shard in stream.shards for one in shard.entries]
    assert len(records) == len(written) == 320
    for shard in stream.shards:
        assert all(shard.low <= one.item < shard.high for one in shard.entries)
    for item in names(40):
        delivered = [one["eventID"] for one in records if items_of([one]) == [item]]
        assert delivered == [e.record["eventID"] for e in written if items_of([e.record]) == [item]]


def test_a_ttl_delete_says_who_deleted_and_carries_no_image() -> None:
    stream = Stream(ARN, 1, Random(1))
    stream.append(Change("events", "REMOVE", {"pk": {"S": "a"}}, None, by_ttl=True), NOON)

    record = stream.shards[0].entries[0].record

    assert record["userIdentity"]["principalId"] == "dynamodb.amazonaws.com"
    assert "NewImage" not in record["dynamodb"]


def test_the_same_seed_gives_the_same_stream() -> None:
    one, other = (a_stream(*names(20), shards=3, seed=9) for _ in range(2))

    assert [shard.entries for shard in one.shards] == [shard.entries for shard in other.shards]
    assert [shard.id for shard in one.shards] == [shard.id for shard in other.shards]


# --- batches ---


def test_in_a_perfect_world_each_record_comes_once_in_full_batches() -> None:
    batches = run(a_mapping(a_stream(*names(25))), succeed)

    assert all_items(batches) == names(25)
    assert [len(batch.records) for batch in batches] == [10, 10, 5]


def test_a_batch_waits_for_its_window_or_until_it_is_full() -> None:
    stream = a_stream("a")
    mapping = a_mapping(stream)

    assert mapping.due(NOON + 4 * SECOND) == []
    assert mapping.due_at(NOON) == NOON + 5 * SECOND
    write(stream, names(9), NOON + 4 * SECOND)
    assert len(first_batch(mapping, NOON + 4 * SECOND).records) == 10


def test_one_batch_of_a_shard_is_under_way_at_a_time() -> None:
    mapping = a_mapping(a_stream(*names(20)))

    first = first_batch(mapping)

    assert mapping.due(NOON + HOUR) == []
    mapping.finished(first, DONE, NOON + HOUR)
    assert items_of(first_batch(mapping, NOON + HOUR).records) == names(20)[10:]


def test_records_other_than_inserts_cost_no_invocation_and_hold_nothing_back() -> None:
    stream = a_stream()
    stream.append(a_change("a", 1, "MODIFY"), NOON)
    mapping = a_mapping(stream)

    assert mapping.due_at(NOON) is None
    assert mapping.is_drained(NOON)


def test_with_a_parallelization_factor_batches_of_one_shard_overlap_but_not_those_of_an_item() -> (
    None
):
    mapping = a_mapping(a_stream(*names(20) * 2), parallel=4)

    under_way = mapping.due(NOON + 5 * SECOND)

    assert len(under_way) == 4
    assert len({one.shard for one in under_way}) == 1
    parts = [set(items_of(one.records)) for one in under_way]
    assert sum(map(len, parts)) == len(set.union(*parts))


# --- windows ---


def test_a_window_ends_with_a_call_without_records_and_hands_its_state_from_call_to_call() -> None:
    mapping = a_mapping(a_stream(*names(11)))

    calls = run(mapping, lambda call: {"state": {"n": len(call.records)}}, windows=True)

    assert [len(call.records) for call in calls] == [10, 1, 0]
    assert [call.event["state"] for call in calls] == [{}, {"n": 10}, {"n": 1}]
    assert [call.event["isFinalInvokeForWindow"] for call in calls] == [False, False, True]
    assert not any(call.event["isWindowTerminatedEarly"] for call in calls)


def test_no_batch_reaches_over_the_end_of_a_window() -> None:
    stream = a_stream(*names(3))
    write(stream, names(2), NOON + 70 * SECOND)

    calls = run(a_mapping(stream), succeed, NOON + HOUR, windows=True)

    assert [len(call.records) for call in calls] == [3, 0, 2, 0]
    starts = [call.event["window"]["start"][11:16] for call in calls]
    assert starts == ["12:00", "12:00", "12:01", "12:01"]


def test_too_large_a_state_ends_its_window_early() -> None:
    mapping = a_mapping(a_stream(*names(11)))

    calls = run(mapping, lambda call: {"state": {"x": "y" * 10**6}}, windows=True)

    assert [call.event["isWindowTerminatedEarly"] for call in calls[:3]] == [False, True, False]
    assert [len(call.records) for call in calls[:3]] == [10, 0, 1]


def test_an_answer_without_state_is_a_failure_under_a_window_and_only_there() -> None:
    for window_s, failures in ((60, 1), (0, 0)):
        mapping = a_mapping(a_stream("a"), tumbling_window_s=window_s)
        mapping.finished(first_batch(mapping), None, NOON + 5 * SECOND)

        assert mapping.seen["an invocation failed"] == failures


# --- what an answer means ---


@pytest.mark.parametrize("failures", [[], None])
def test_no_reported_failure_is_success(failures: object) -> None:
    mapping = a_mapping(a_stream(*names(5)))
    mapping.finished(first_batch(mapping), {"state": {}, "batchItemFailures": failures}, NOON)

    assert mapping.is_drained(NOON)


@pytest.mark.parametrize(
    "failures",
    [[{"itemIdentifier": ""}], [{"itemIdentifier": "17"}], [{"id": "1"}], [{}], [None], 3],
)
def test_an_unknown_or_empty_identifier_fails_the_whole_batch(failures: object) -> None:
    mapping = a_mapping(a_stream(*names(5)), bisects_on_error=False)
    mapping.finished(first_batch(mapping), {"state": {}, "batchItemFailures": failures}, NOON)

    assert items_of(first_batch(mapping, NOON + HOUR).records) == names(5)


def test_a_reported_failure_makes_exactly_the_rest_come_again() -> None:
    mapping = a_mapping(a_stream(*names(20)))
    first = first_batch(mapping)

    lower, higher = (report(first, place)["batchItemFailures"][0] for place in (4, 7))
    mapping.finished(first, {"state": {}, "batchItemFailures": [higher, lower]}, NOON + MINUTE)

    again = first_batch(mapping, NOON + HOUR)
    assert items_of(again.records) == names(20)[4:10]
    assert again.records == first.records[4:]
    mapping.finished(again, DONE, NOON + HOUR)
    assert items_of(first_batch(mapping, NOON + HOUR).records) == names(20)[10:]


# --- failures ---


def fails_on(poison: str) -> Function:
    return lambda call: Failure("poison") if poison in items_of(call.records) else DONE


def test_cutting_in_two_isolates_a_poison_record_which_alone_is_given_up() -> None:
    mapping = a_mapping(a_stream(*names(30)), retries_max=3)

    batches = run(mapping, fails_on("item-013"))

    (discarded,) = mapping.discarded
    assert items_of(discarded.records) == ["item-013"]
    assert discarded.reason == "poison"
    assert all_items(batches).count("item-013") > 3
    sizes = [len(batch.records) for batch in batches]
    assert sizes == [10, 10, 5, 2, 3, 1, 2, *[1] * (1 + 3), 1, 5, 10]
    assert set(all_items(batches)) == set(names(30))
    assert mapping.is_drained(NOON)


def test_without_cutting_the_whole_batch_is_given_up_with_the_poison_record() -> None:
    mapping = a_mapping(a_stream(*names(30)), retries_max=0, bisects_on_error=False)

    batches = run(mapping, fails_on("item-013"))

    assert items_of(mapping.discarded[0].records) == names(30)[10:20]
    assert all_items(batches) == names(30)


def test_a_batch_that_fails_for_ever_blocks_its_shard_until_its_records_are_lost() -> None:
    stream = a_stream("first", *names(3))
    mapping = a_mapping(stream, tumbling_window_s=0)
    now = NOON + 5 * SECOND
    while now < NOON + timedelta(hours=23):
        mapping.finished(first_batch(mapping, now), Failure("down"), now)
        now += HOUR
    write(stream, ["late"], now)

    assert mapping.iterator_age(now) > timedelta(hours=22)
    later = first_batch(mapping, NOON + timedelta(hours=24))
    assert items_of(later.records) == ["late"]
    assert items_of(mapping.lost) == ["first", *names(3)]


def test_a_record_that_expires_after_it_was_done_is_not_lost() -> None:
    mapping = a_mapping(a_stream(*names(5)))
    first = first_batch(mapping)
    mapping.finished(first, DONE, NOON + MINUTE)

    assert mapping.rewind(first.shard, 3) == 3
    assert not mapping.is_drained(NOON + HOUR)
    assert mapping.is_drained(NOON + timedelta(hours=24))
    assert mapping.lost == []


def test_a_record_that_expires_while_its_invocation_succeeds_is_not_lost() -> None:
    mapping = a_mapping(a_stream(*names(5)))
    slow = first_batch(mapping, NOON + timedelta(hours=23, minutes=59))

    assert not mapping.is_drained(NOON + timedelta(hours=24))
    mapping.finished(slow, DONE, NOON + timedelta(hours=24))
    assert mapping.is_drained(NOON + timedelta(hours=24))
    assert mapping.lost == []


def test_a_timed_out_invocation_that_answers_after_all_moves_nothing() -> None:
    mapping = a_mapping(a_stream(*names(5)), bisects_on_error=False)
    zombie = first_batch(mapping)
    mapping.finished(zombie, Failure("timed out"), NOON + MINUTE)
    retry = first_batch(mapping, NOON + HOUR)

    mapping.finished(zombie, DONE, NOON + HOUR)

    assert not mapping.is_drained(NOON + HOUR)
    assert retry.records == zombie.records
    mapping.finished(retry, DONE, NOON + HOUR)
    assert mapping.is_drained(NOON + HOUR)


def test_two_pollers_hand_over_the_same_batch_and_one_of_them_decides() -> None:
    mapping = a_mapping(a_stream(*names(5)), MappingFaults(twice=1.0))

    heard, stray = mapping.due(NOON + 5 * SECOND)

    assert heard.records == stray.records
    mapping.finished(stray, Failure("killed"), NOON + MINUTE)
    mapping.finished(heard, DONE, NOON + MINUTE)
    assert mapping.is_drained(NOON + MINUTE)
    assert mapping.seen["an invocation failed"] == 0


def test_a_lost_checkpoint_brings_done_records_again_in_order_at_other_edges() -> None:
    mapping = a_mapping(a_stream(*names(30)))
    firsts = [first_batch(mapping)]
    mapping.finished(firsts[0], DONE, NOON + MINUTE)
    firsts.append(first_batch(mapping, NOON + MINUTE))

    assert mapping.rewind(firsts[0].shard, 7) == 7
    again = run(mapping, succeed, NOON + MINUTE)

    assert all_items(again) == names(30)[3:]
    assert items_of(again[0].records) != names(30)[3:13]
    mapping.finished(firsts[1], Failure("unheard"), NOON + HOUR)
    assert mapping.is_drained(NOON + HOUR)


# --- shards ---


def test_a_childs_records_come_when_its_parent_is_drained() -> None:
    stream = a_stream("old")
    (parent,) = stream.open_shards
    stream.roll(NOON)
    write(stream, ["new"])
    mapping = a_mapping(stream)

    first = first_batch(mapping, NOON)
    assert mapping.iterator_age(NOON + HOUR) == HOUR
    mapping.finished(first, Failure("down"), NOON)
    retry = first_batch(mapping, NOON + HOUR)
    assert retry.shard == parent.id
    mapping.finished(retry, DONE, NOON + HOUR)
    last_call = first_batch(mapping, NOON + HOUR)
    assert last_call.event["isFinalInvokeForWindow"]
    mapping.finished(last_call, DONE, NOON + HOUR)

    assert items_of(first_batch(mapping, NOON + HOUR).records) == ["new"]


@pytest.mark.parametrize("rewinds_drained", [True, False])
def test_a_drained_parent_comes_again_beside_its_child_only_where_the_world_says_so(
    rewinds_drained: bool,  # noqa: FBT001 (a parameter of the test)
) -> None:
    stream = a_stream(*names(5))
    (parent,) = stream.open_shards
    stream.roll(NOON)
    mapping = a_mapping(stream, MappingFaults(rewinds_drained=rewinds_drained))
    run(mapping, succeed)
    write(stream, ["new"], NOON + HOUR)
    child = first_batch(mapping, NOON + HOUR + MINUTE)

    assert mapping.rewind(parent.id, 2) == (2 if rewinds_drained else 0)

    beside = [items_of(one.records) for one in mapping.due(NOON + HOUR + MINUTE)]
    assert items_of(child.records) == ["new"]
    assert [item for items in beside for item in items][:1] == names(5)[3:4] * rewinds_drained


# --- all at once ---


@pytest.mark.parametrize("seed", range(12))
def test_whatever_fails_everything_is_delivered_and_a_shards_first_deliveries_are_in_order(
    seed: int,
) -> None:
    random = Random(seed)
    stream = Stream(ARN, random.randint(1, 4), Random(seed))
    faults = MappingFaults(
        recut=0.2, rewind=0.1, rewind_max=20, twice=0.1, rewinds_drained=seed % 2 == 0
    )
    mapping = a_mapping(stream, faults, seed=seed, bisects_on_error=seed % 3 > 0)
    applied: dict[str, list[int]] = {}

    def function(call: Invocation) -> Any:
        done = random.randint(0, len(call.records))
        numbers = [int(one["dynamodb"]["SequenceNumber"]) for one in call.records]
        seen = applied.setdefault(call.shard, [])
        match random.randint(0, 5):
            case 0:
                seen += numbers[:done]
                return Failure("killed")
            case 1 if done < len(numbers):
                seen += numbers[:done]
                return report(call, done)
            case 2:
                seen += numbers
                return Failure("timed out")
        seen += numbers
        return DONE

    now = NOON
    for _ in range(12):
        write(stream, names(random.randint(0, 25)), now)
        if random.random() < 0.3:
            stream.split(random.choice(stream.open_shards), now)
        elif random.random() < 0.2:
            stream.roll(now)
        for call in mapping.due(now):
            mapping.finished(call, function(call), now)
        now += timedelta(seconds=random.randint(1, 90))
    run(mapping, function, now)

    assert mapping.is_drained(now)
    assert (mapping.lost, mapping.discarded) == ([], [])
    for shard in stream.shards:
        written = [int(one.record["dynamodb"]["SequenceNumber"]) for one in shard.entries]
        assert list(dict.fromkeys(applied.get(shard.id, ()))) == written
