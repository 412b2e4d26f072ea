import threading
from collections.abc import Iterator
from typing import Any

from infra.functions import AGGREGATOR
from local.checkpoints import FINISHED, Checkpoints
from local.environment import Environment
from local.handlers import Loaded
from local.shard_delivery import DeliverySettings
from local.stream_reader import Record, StreamReader, StreamShard
from local.streams import MappingSettings, StreamMapping
from tests.local.helpers import wait_for


def a_record(key: str, number: int) -> Record:
    return {
        "eventName": "INSERT",
        "dynamodb": {
            "Keys": {"pk": {"S": key}},
            "SequenceNumber": str(number),
            "ApproximateCreationDateTime": 1795176001.0,
        },
    }


class SplitStream(StreamReader):
    """A stream whose one shard has ended and split in two; the children are listed first."""

    def __init__(self) -> None:
        self.arn = "arn:stream"
        self._pages = {
            "shardId-parent": [a_record("p1", 1), a_record("p2", 2)],
            "shardId-left": [a_record("l", 3)],
            "shardId-right": [a_record("r", 4)],
        }

    def shards(self) -> list[StreamShard]:
        return [
            StreamShard("shardId-left", "shardId-parent", is_closed=True),
            StreamShard("shardId-right", "shardId-parent", is_closed=True),
            StreamShard("shardId-parent", "shardId-trimmed-long-ago", is_closed=True),
        ]

    def pages(self, shard: str, *, after: str | None) -> Iterator[list[Record]]:
        del after
        yield self._pages[shard]


def test_a_parent_shard_is_finished_before_its_children_begin() -> None:
    seen: list[str] = []
    lock = threading.Lock()

    def handler(event: dict[str, Any], context: Any) -> Any:
        with lock:
            seen.extend(record["dynamodb"]["Keys"]["pk"]["S"] for record in event["Records"])
        return {"state": {}}

    checkpoints = Checkpoints()
    mapping = StreamMapping(
        SplitStream(),
        lambda: Environment(Loaded(AGGREGATOR, handler)),
        MappingSettings(DeliverySettings(batch_size=1, window_s=0, tumbling_window_s=60)),
        checkpoints=checkpoints,
    )
    mapping.start()
    children = ("shardId-left", "shardId-right")
    wait_for(lambda: all(checkpoints.get(child) == FINISHED for child in children))
    mapping.stop()

    assert seen[:2] == ["p1", "p2"]
    assert sorted(seen[2:]) == ["l", "r"]


class FlakyStream(StreamReader):
    """One shard of three pages; the second read fails once."""

    def __init__(self) -> None:
        self.arn = "arn:stream"
        self.asked_after: list[str | None] = []

    def shards(self) -> list[StreamShard]:
        return [StreamShard("shardId-1", None, is_closed=True)]

    def pages(self, shard: str, *, after: str | None) -> Iterator[list[Record]]:
        del shard
        self.asked_after.append(after)
        for number in (1, 2, 3):
            if number > int(after or 0):
                yield [a_record(f"k{number}", number)]
            if number == 1 and len(self.asked_after) == 1:
                raise ConnectionError("the service went away")


class FullDisk(Checkpoints):
    """The first checkpoint of the second record cannot be written."""

    def __init__(self) -> None:
        super().__init__()
        self.refused = False

    def set(self, shard: str, sequence_number: str) -> None:
        if sequence_number == "2" and not self.refused:
            self.refused = True
            raise OSError("no space left on device")
        super().set(shard, sequence_number)


def keys_delivered(reader: StreamReader, checkpoints: Checkpoints) -> list[str]:
    seen: list[str] = []

    def handler(event: dict[str, Any], context: Any) -> Any:
        seen.extend(record["dynamodb"]["Keys"]["pk"]["S"] for record in event["Records"])
        return {"state": {}}

    delivery = DeliverySettings(1, window_s=0, tumbling_window_s=60, retry_delay_s=0.01)
    mapping = StreamMapping(
        reader,
        lambda: Environment(Loaded(AGGREGATOR, handler)),
        MappingSettings(delivery),
        checkpoints=checkpoints,
    )
    mapping.start()
    wait_for(lambda: checkpoints.get("shardId-1") == FINISHED)
    mapping.stop()
    return seen


def test_a_failed_read_goes_on_where_reading_stood() -> None:
    reader = FlakyStream()

    assert keys_delivered(reader, Checkpoints()) == ["k1", "k2", "k3"]
    assert reader.asked_after == [None, "1"]


def test_a_batch_whose_checkpoint_cannot_be_kept_is_delivered_again() -> None:
    assert keys_delivered(FlakyStream(), FullDisk()) == ["k1", "k2", "k2", "k3"]


class LateChild(SplitStream):
    """Its children are listed only when the parent is done."""

    def __init__(self, checkpoints: Checkpoints) -> None:
        super().__init__()
        self._checkpoints = checkpoints

    def shards(self) -> list[StreamShard]:
        is_done = self._checkpoints.get("shardId-parent") == FINISHED
        return [one for one in super().shards() if is_done or one.id == "shardId-parent"]


def test_a_stream_is_not_caught_up_while_a_child_of_an_ended_shard_waits() -> None:
    def handler(event: dict[str, Any], context: Any) -> Any:
        return {"state": {}}

    checkpoints = Checkpoints()
    mapping = StreamMapping(
        LateChild(checkpoints),
        lambda: Environment(Loaded(AGGREGATOR, handler)),
        MappingSettings(DeliverySettings(batch_size=9, window_s=0, tumbling_window_s=60)),
        checkpoints=checkpoints,
    )
    mapping.start()
    wait_for(lambda: checkpoints.get("shardId-parent") == FINISHED)
    too_early = mapping.is_caught_up(0.0)
    wait_for(lambda: mapping.is_caught_up(0.0))
    mapping.stop()

    assert too_early is False
    assert checkpoints.get("shardId-left") == checkpoints.get("shardId-right") == FINISHED
