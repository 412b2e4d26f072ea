import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from infra.functions import AGGREGATOR
from local.chaos import Chaos
from local.checkpoints import CheckpointError, Checkpoints
from local.environment import Environment
from local.handlers import Loaded
from local.shard_delivery import DeliverySettings, Discarded
from local.stream_reader import Record, StreamReader, make_client
from local.streams import MappingSettings, StreamMapping
from metering.wiring import Wiring, current
from tests.local.helpers import an_event, wait_for

SETTINGS = DeliverySettings(
    batch_size=4, window_s=0.05, tumbling_window_s=60, retry_delay_s=0.01, retry_delay_max_s=0.02
)
type Events = list[dict[str, Any]]
type Handler = Callable[[dict[str, Any], Any], Any]


class Mapped:
    """A stream mapping under test and the table that feeds it."""

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self.table = wiring.config.table_prefix + "events"
        self.dynamodb = wiring.dynamodb
        described = self.dynamodb.describe_table(TableName=self.table)["Table"]
        assert wiring.config.dynamodb_endpoint
        client = make_client(wiring.config.dynamodb_endpoint)
        self.reader = StreamReader(client, described["LatestStreamArn"])
        self.chaos = Chaos()
        self.discarded: list[Discarded] = []
        self._mappings: list[StreamMapping] = []

    def insert(self, *keys: str, n: int = 1) -> None:
        for key in keys:
            item = {"pk": {"S": key}, "n": {"N": str(n)}, "h": {"B": b"abc"}}
            self.dynamodb.put_item(TableName=self.table, Item=item)  # type: ignore[arg-type]

    def remove(self, key: str) -> None:
        self.dynamodb.delete_item(TableName=self.table, Key={"pk": {"S": key}})

    def start(
        self,
        handler: Handler,
        delivery: DeliverySettings = SETTINGS,
        *,
        virtual_shards: int = 1,
        checkpoints: Checkpoints | None = None,
    ) -> StreamMapping:
        config = self.wiring.config
        loaded = Loaded(AGGREGATOR, handler)
        mapping = StreamMapping(
            self.reader,
            lambda: Environment(loaded, lambda: Wiring(config)),
            MappingSettings(delivery, virtual_shards=virtual_shards),
            checkpoints=checkpoints,
            chaos=self.chaos,
            on_discard=self.discarded.append,
        )
        self._mappings.append(mapping)
        mapping.start()
        return mapping

    def settle(self) -> None:
        since = time.monotonic()
        wait_for(lambda: all(mapping.is_caught_up(since) for mapping in self._mappings))

    def stop(self) -> None:
        self.chaos.resume()
        for mapping in self._mappings:
            mapping.stop()


@pytest.fixture
def mapped(wiring: Wiring) -> Iterator[Mapped]:
    under_test = Mapped(wiring)
    yield under_test
    under_test.stop()


class Recorder:
    """A handler that notes its events and answers what it is told to."""

    def __init__(self, *answers: object) -> None:
        self.events: Events = []
        self._answers = list(answers)

    def __call__(self, event: dict[str, Any], context: Any) -> Any:
        self.events.append(event)
        answer = self._answers.pop(0) if self._answers else {"state": {}}
        if callable(answer):
            return answer(event)
        return answer

    @property
    def batches(self) -> list[list[str]]:
        return [keys_of(event) for event in self.events if event["Records"]]

    @property
    def keys(self) -> list[str]:
        return [key for batch in self.batches for key in batch]


def key_of(record: Record) -> str:
    return str(record["dynamodb"]["Keys"]["pk"]["S"])


def keys_of(event: dict[str, Any]) -> list[str]:
    return [key_of(record) for record in event["Records"]]


def fail(event: dict[str, Any]) -> Any:
    raise RuntimeError("cannot fold")


def report(*places: int) -> Callable[[dict[str, Any]], Any]:
    def answer(event: dict[str, Any]) -> Any:
        records = event["Records"]
        failures = [
            {"itemIdentifier": records[place]["dynamodb"]["SequenceNumber"]} for place in places
        ]
        return {"state": {}, "batchItemFailures": failures}

    return answer


def names(count: int) -> list[str]:
    return [f"k{number:02d}" for number in range(count)]


def test_records_arrive_in_the_order_of_their_writes_in_batches_of_the_set_size(
    mapped: Mapped,
) -> None:
    handler = Recorder()
    mapped.insert(*names(10))

    mapped.start(handler)
    mapped.settle()

    assert handler.keys == names(10)
    assert max(len(batch) for batch in handler.batches) == 4


def test_an_event_has_the_shape_of_lambdas_own(mapped: Mapped) -> None:
    real = an_event("stream-insert")
    handler = Recorder()
    mapped.insert("k")

    mapped.start(handler)
    mapped.settle()

    [event] = handler.events
    [record] = event["Records"]
    assert event.keys() == real.keys()
    assert record.keys() == real["Records"][0].keys()
    assert record["dynamodb"].keys() == real["Records"][0]["dynamodb"].keys()
    assert record["dynamodb"]["NewImage"] == {"pk": {"S": "k"}, "n": {"N": "1"}, "h": {"B": "YWJj"}}
    assert isinstance(record["dynamodb"]["ApproximateCreationDateTime"], float)
    assert record["eventSourceARN"] == event["eventSourceARN"] == mapped.reader.arn
    assert (record["eventSource"], record["awsRegion"]) == ("aws:dynamodb", "us-east-1")
    assert event["shardId"].startswith("shardId-")
    assert (event["state"], event["isFinalInvokeForWindow"]) == ({}, False)


def test_only_inserts_are_delivered(mapped: Mapped) -> None:
    handler = Recorder()
    mapped.insert("a")
    mapped.insert("a", n=2)
    mapped.remove("a")
    mapped.insert("b")

    mapped.start(handler)
    mapped.settle()

    assert handler.keys == ["a", "b"]


def test_a_failed_batch_comes_again_before_anything_later(mapped: Mapped) -> None:
    handler = Recorder(fail, fail)
    mapped.insert(*names(6))

    mapped.start(handler, replace(SETTINGS, bisects_on_error=False))
    mapped.settle()

    first = names(4)
    assert handler.batches[:3] == [first, first, first]
    assert handler.keys[8:] == names(6)


def test_bisection_finds_the_one_poison_record_and_gives_up_only_that(mapped: Mapped) -> None:
    def handler(event: dict[str, Any], context: Any) -> Any:
        if "k02" in keys_of(event):
            raise RuntimeError("poison")
        done.extend(keys_of(event))
        return {"state": {}}

    done: list[str] = []
    mapped.insert(*names(6))

    mapped.start(handler, replace(SETTINGS, retries_max=2))
    mapped.settle()

    assert done == [key for key in names(6) if key != "k02"]
    assert [[key_of(record) for record in one.records] for one in mapped.discarded] == [["k02"]]


def test_without_a_limit_a_poison_record_blocks_its_shard(mapped: Mapped) -> None:
    def handler(event: dict[str, Any], context: Any) -> Any:
        tried.append(keys_of(event))
        raise RuntimeError("poison")

    tried: list[list[str]] = []
    mapped.insert(*names(5))

    mapped.start(handler)
    wait_for(lambda: len(tried) > 12)

    assert tried[:3] == [names(4), names(2), names(1)]
    assert tried[3:12] == [names(1)] * 9
    assert not mapped.discarded


def test_a_partial_failure_restarts_from_the_lowest_reported_record(mapped: Mapped) -> None:
    handler = Recorder(report(3, 1))
    mapped.insert(*names(4))

    mapped.start(handler)
    mapped.settle()

    assert handler.batches == [names(4), ["k01", "k02", "k03"]]


@pytest.mark.parametrize("identifier", ["", None, "1234"])
def test_a_report_that_names_no_record_of_the_batch_fails_all_of_it(
    mapped: Mapped, identifier: str | None
) -> None:
    handler = Recorder({"state": {}, "batchItemFailures": [{"itemIdentifier": identifier}]})
    mapped.insert("a", "b")

    mapped.start(handler, replace(SETTINGS, bisects_on_error=False))
    mapped.settle()

    assert handler.batches == [["a", "b"], ["a", "b"]]


@pytest.mark.parametrize("answer", [None, {}, {"batchItemFailures": []}, "done"])
def test_a_response_without_state_counts_as_failed(mapped: Mapped, answer: object) -> None:
    handler = Recorder(answer)
    mapped.insert("a")

    mapped.start(handler)
    mapped.settle()

    assert handler.batches == [["a"], ["a"]]


def test_without_windows_no_state_is_asked_for_and_no_shard_is_told(mapped: Mapped) -> None:
    handler = Recorder(None)
    mapped.insert("a")

    mapped.start(handler, replace(SETTINGS, tumbling_window_s=0))
    mapped.settle()

    assert [event.keys() for event in handler.events] == [{"Records"}]


def test_a_window_that_is_over_gets_its_final_call_with_the_last_state(mapped: Mapped) -> None:
    handler = Recorder({"state": {"seen": 1}}, fail)
    mapped.insert("a")

    # Creation times are at least a second old when read, so a window of a second is over.
    mapped.start(handler, replace(SETTINGS, tumbling_window_s=1))
    wait_for(lambda: len(handler.events) >= 3)

    final = handler.events[1]
    assert (final["Records"], final["state"]) == ([], {"seen": 1})
    assert final["isFinalInvokeForWindow"] is True
    assert handler.events[2] == final, "the shard waits until the final call succeeds"


def test_too_much_state_ends_a_window_early(mapped: Mapped) -> None:
    handler = Recorder({"state": {"blob": "x" * 1_000_001}})
    mapped.insert("a")

    mapped.start(handler)
    wait_for(lambda: len(handler.events) >= 2)

    early = handler.events[1]
    assert (early["isFinalInvokeForWindow"], early["isWindowTerminatedEarly"]) == (True, True)


def test_virtual_shards_keep_the_order_of_each_item(mapped: Mapped) -> None:
    handler = Recorder()
    keys = names(20)
    mapped.insert(*keys)
    for key in keys:
        mapped.remove(key)
    mapped.insert(*keys, n=2)

    mapped.start(handler, virtual_shards=3)
    mapped.settle()

    seen: dict[str, list[tuple[str, str]]] = {key: [] for key in keys}
    for event in handler.events:
        for record in event["Records"]:
            seen[key_of(record)].append(
                (event["shardId"], record["dynamodb"]["NewImage"]["n"]["N"])
            )
    assert all([n for _, n in deliveries] == ["1", "2"] for deliveries in seen.values())
    assert all(len({shard for shard, _ in deliveries}) == 1 for deliveries in seen.values())
    shards = {shard for deliveries in seen.values() for shard, _ in deliveries}
    assert len(shards) == 3
    assert all(shard.startswith("shardId-") for shard in shards)


# --- faults ---------------------------------------------------------------------------------------


def test_a_batch_delivered_twice_at_once_runs_in_two_environments_together(mapped: Mapped) -> None:
    together = threading.Barrier(2, timeout=10)
    wirings: list[Wiring] = []

    def handler(event: dict[str, Any], context: Any) -> Any:
        wirings.append(current())
        together.wait()
        return {"state": {}}

    mapped.chaos.deliver_twice()
    mapped.insert("a")

    mapped.start(handler)
    mapped.settle()

    assert len(wirings) == 2
    assert wirings[0] is not wirings[1]


@pytest.mark.parametrize(("answered", "written"), [(False, ["w1"]), (True, ["w1", "w2"])])
def test_a_handler_is_killed_before_or_after_its_second_call_and_starts_cold(
    mapped: Mapped,
    answered: bool,  # noqa: FBT001 (a parameter of the test)
    written: list[str],
) -> None:
    wirings: list[Wiring] = []
    found: list[list[str]] = []

    def handler(event: dict[str, Any], context: Any) -> Any:
        wirings.append(current())
        found.append(sorted(stored()))
        for name in ("w1", "w2", "w3"):
            item = {"pk": {"S": name}, "sk": {"S": "-"}}
            current().dynamodb.put_item(TableName=counters, Item=item)
        return {"state": {}}

    def stored() -> list[str]:
        return [item["pk"]["S"] for item in mapped.dynamodb.scan(TableName=counters)["Items"]]

    counters = mapped.wiring.config.table_prefix + "counters"
    mapped.chaos.kill(2, answered=answered)
    mapped.insert("a")

    mapped.start(handler)
    mapped.settle()

    assert found == [[], written]
    assert wirings[0] is not wirings[1]


def test_rewound_records_come_again_cut_otherwise_and_before_what_is_new(mapped: Mapped) -> None:
    handler = Recorder()
    mapped.insert(*names(8))
    mapped.start(handler)
    mapped.settle()

    mapped.chaos.pause()
    mapped.chaos.recut(100, seed=7)
    mapped.chaos.rewind(5)
    mapped.insert("new")
    mapped.chaos.resume()
    wait_for(lambda: handler.keys[-1] == "new")

    assert handler.keys[8:] == [*names(8)[3:], "new"]
    assert len({len(batch) for batch in handler.batches[2:]}) > 1


def test_a_paused_mapping_delivers_nothing_until_it_is_resumed(mapped: Mapped) -> None:
    handler = Recorder()
    mapped.chaos.pause()
    mapping = mapped.start(handler)
    mapped.insert("a")

    wait_for(lambda: mapping.status()["pending"] == 1)
    assert handler.keys == []

    mapped.chaos.resume()
    mapped.settle()
    assert handler.keys == ["a"]


# --- checkpoints ----------------------------------------------------------------------------------


def test_a_restart_goes_on_after_the_last_checkpoint(mapped: Mapped, data: Path) -> None:
    def kept() -> Checkpoints:
        return Checkpoints(data / "a.json", stream=mapped.reader.arn, virtual_shards=2)

    before, after = Recorder(), Recorder()
    mapped.insert(*names(6))
    first = mapped.start(before, virtual_shards=2, checkpoints=kept())
    mapped.settle()
    first.stop()

    mapped.insert("late-1", "late-2")
    second = mapped.start(after, virtual_shards=2, checkpoints=kept())
    wait_for(lambda: second.is_caught_up(0.0) and len(after.keys) >= 2)

    assert sorted(before.keys) == names(6)
    assert sorted(after.keys) == ["late-1", "late-2"]


def test_other_virtual_shards_than_before_are_refused_since_they_would_count_twice(
    data: Path,
) -> None:
    Checkpoints(data / "a.json", stream="s", virtual_shards=2).set("shardId-1-00", "7")

    with pytest.raises(CheckpointError, match="written with 2 virtual shards, not 3"):
        Checkpoints(data / "a.json", stream="s", virtual_shards=3)


def test_checkpoints_of_a_table_made_anew_start_from_nothing(data: Path) -> None:
    Checkpoints(data / "a.json", stream="old", virtual_shards=2).set("shardId-1-00", "7")

    assert Checkpoints(data / "a.json", stream="new").all() == {}
