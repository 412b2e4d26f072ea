"""The ledger's stream folded into counters: each entry exactly once, and never stopped by data."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import boto3
import pytest

from functions.aggregator.handler import handler
from metering.counter import EMPTY, Aggregation, Tally, Usage, total
from metering.errors import InvariantBrokenError
from metering.event import LedgerEntry
from metering.lane import position_of
from metering.mapping import LatePolicy, MetricSettings
from metering.names import CustomerRef, IdempotencyKey, Metric
from metering.period import Span
from metering.wiring import Wiring, using
from tests.builders import DEMO, NOON, a_sent_event, a_stream_batch, a_subscriber, an_entry
from tests.conftest import SetClock
from tests.faults import FaultyClient, throttled
from tests.readers import another_process, counted, fold, lanes_of, ledger_of, send, true_usage

CUS_A = CustomerRef("cus_A")
MINUTE = timedelta(minutes=1)
ACCEPTED_ALL: dict[str, Any] = {"state": {}, "batchItemFailures": []}


def ten_entries() -> list[LedgerEntry]:
    return [an_entry(str(number), at=NOON - MINUTE * number) for number in range(1, 11)]


def values(usage: Usage) -> dict[str, str]:
    return {kind.value: str(usage.counted.value(kind)) for kind in Aggregation}


# --- what a counter holds -------------------------------------------------------------------------


def test_a_counter_holds_sum_count_max_and_last_of_its_events(wiring: Wiring) -> None:
    entries = [
        an_entry("2.5", at=NOON - MINUTE * 2),
        an_entry("10", at=NOON - MINUTE * 3),
        an_entry("0.000000000001", at=NOON - MINUTE),
        an_entry("99", customer="cus_B"),
    ]

    assert handler(a_stream_batch(entries), None) == ACCEPTED_ALL

    assert values(counted(wiring)) == {
        "sum": "12.500000000001",
        "count": "3",
        "max": "10",
        "last": "1E-12",
    }
    assert counted(wiring).counted.watermark == NOON - MINUTE
    assert values(counted(wiring, "cus_B"))["sum"] == "99"


def test_every_digit_reaches_the_counter(wiring: Wiring) -> None:
    fold(wiring, [an_entry("12345678901234.123457"), an_entry("12345678901234.123457")])

    assert counted(wiring).counted.sum == Decimal("24691357802468.246914")


def test_what_the_real_stream_brings_is_folded(wiring: Wiring, dynamodb_endpoint: str) -> None:
    send(a_sent_event(quantity="2.5", meta={"a": 1}), a_sent_event(quantity=3, resourceId="r"))
    streams = boto3.client("dynamodbstreams", endpoint_url=dynamodb_endpoint)
    table = wiring.dynamodb.describe_table(TableName=wiring.table("events"))["Table"]
    stream = table["LatestStreamArn"]
    [shard] = streams.describe_stream(StreamArn=stream)["StreamDescription"]["Shards"]
    iterator = streams.get_shard_iterator(
        StreamArn=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    records = streams.get_records(ShardIterator=iterator)["Records"]
    event = {"Records": records, "shardId": shard["ShardId"], "eventSourceARN": stream}

    assert handler(event, None) == ACCEPTED_ALL

    assert counted(wiring) == true_usage(ledger_of(wiring))
    assert counted(wiring).counted.sum == Decimal("5.5")


def test_the_longest_names_are_counted(wiring: Wiring) -> None:
    entry = an_entry(tenant="é" * 100, customer="é" * 255, metric="é" * 100, key="😀" * 255)

    assert fold(wiring, [entry, an_entry()], shard="shardId-" + "0" * 30) == []

    assert counted(wiring, "é" * 255, "é" * 100, "é" * 100) == true_usage([entry])
    assert counted(wiring).counted.count == 1


def test_hostile_names_do_not_run_into_each_other(wiring: Wiring) -> None:
    names = [("a|b", "c"), ("a", "b|c"), ("a#1", "m"), ("a", "#1m"), ("1:a", "B"), ("1", ":aB")]
    entries = [
        an_entry(str(number), customer=customer, metric=metric)
        for number, (customer, metric) in enumerate(names, start=1)
    ]

    fold(wiring, entries)

    for entry in entries:
        assert counted(wiring, entry.event.customer, entry.event.metric) == true_usage([entry])


# --- repeats --------------------------------------------------------------------------------------


@pytest.mark.parametrize("warm", [True, False])
def test_a_batch_that_comes_twice_counts_once(wiring: Wiring, *, warm: bool) -> None:
    entries = ten_entries()

    for _ in range(3):
        assert fold(wiring if warm else another_process(wiring), entries) == []

    assert counted(wiring) == true_usage(entries)
    assert counted(wiring).counted.count == 10


def test_a_batch_that_was_cut_anew_adds_its_unseen_tail(wiring: Wiring) -> None:
    entries = ten_entries()

    fold(wiring, entries[:4])
    fold(another_process(wiring), entries[2:7], first=3)
    fold(wiring, entries[:3])
    fold(another_process(wiring), entries)
    fold(wiring, entries[9:], first=10)

    assert counted(wiring) == true_usage(entries)


def test_a_warm_lane_that_another_process_moved_is_dropped_and_read_anew(wiring: Wiring) -> None:
    entries = ten_entries()
    other = another_process(wiring)
    fold(wiring, entries[:2])
    fold(other, entries[:5])

    assert fold(wiring, entries[2:8], first=3) == []
    assert fold(other, entries[5:], first=6) == []

    assert counted(wiring) == true_usage(entries)


def test_two_shards_have_two_lanes_and_one_total(wiring: Wiring) -> None:
    entries = ten_entries()

    fold(wiring, entries[:5], shard="shardId-1")
    fold(wiring, entries[5:], shard="shardId-2")

    assert len(lanes_of(wiring)) == 2
    assert counted(wiring) == true_usage(entries)


def test_the_lanes_of_a_table_made_anew_do_not_mix_with_those_of_the_old(wiring: Wiring) -> None:
    old, new = ten_entries(), ten_entries()
    fold(wiring, old, first=1000)

    again = a_stream_batch(new, first=1) | {"eventSourceARN": "arn:aws:dynamodb:other/stream/2"}
    handler(again, None)
    handler(again, None)

    assert counted(wiring) == true_usage(old + new)


# --- time -----------------------------------------------------------------------------------------


def test_buckets_are_cut_at_a_customers_billing_anchor_to_the_second(wiring: Wiring) -> None:
    anchor = datetime(2026, 1, 20, 11, 58, 30, tzinfo=UTC)
    wiring.settings_store.put_customer(a_subscriber("cus_A", anchor))
    cut = datetime(2026, 11, 20, 11, 58, 30, tzinfo=UTC)
    midnight = datetime(2026, 11, 20, tzinfo=UTC)
    before = an_entry("1", at=cut - timedelta(microseconds=1))
    after = an_entry("2", at=cut)

    fold(wiring, [before, after, an_entry("4", customer="cus_B", at=cut)])

    usage = wiring.counters.usage(DEMO, CUS_A, Span(midnight, NOON))
    assert usage == {
        (Metric("api_calls"), midnight): true_usage([before]),
        (Metric("api_calls"), cut): true_usage([after]),
    }
    ended = Span(datetime(2026, 10, 20, 11, 58, 30, tzinfo=UTC), cut)
    assert wiring.counters.usage(DEMO, CUS_A, ended) == {
        (Metric("api_calls"), midnight): true_usage([before])
    }
    other = wiring.counters.usage(DEMO, CustomerRef("cus_B"), Span(midnight, NOON))
    assert [start for _, start in other] == [midnight]


@pytest.mark.parametrize("anchored", [True, False])
def test_events_of_the_first_instants_there_are_do_not_stop_the_stream(
    wiring: Wiring, *, anchored: bool
) -> None:
    if anchored:
        anchor = datetime(2026, 1, 31, 10, 20, 30, tzinfo=UTC)
        wiring.settings_store.put_customer(a_subscriber("cus_A", anchor))
    entries = [an_entry(at=datetime(1, 1, 1, tzinfo=UTC), is_late=True), an_entry()]

    assert fold(wiring, entries) == []

    assert counted(wiring) == true_usage(entries)


def test_late_events_are_held_back_where_they_await_approval(
    wiring: Wiring, clock: SetClock
) -> None:
    old = "2026-11-01T00:00:00Z"
    send(a_sent_event(ts=old, quantity=5), a_sent_event(quantity=1))

    fold(wiring, ledger_of(wiring))

    assert counted(wiring).counted.sum == 1
    assert counted(wiring).late.sum == 5


def test_late_events_count_where_the_metric_says_so(wiring: Wiring) -> None:
    settings = MetricSettings(Metric("api_calls"), late_policy=LatePolicy.COUNT)
    wiring.settings_store.put_metric(DEMO, settings)
    send(a_sent_event(ts="2026-11-01T00:00:00Z", quantity=5), a_sent_event(quantity=1))

    fold(wiring, ledger_of(wiring))

    assert counted(wiring).counted.sum == 6
    assert counted(wiring).late == EMPTY


# --- what cannot be folded ------------------------------------------------------------------------


def spoiled(batch: dict[str, Any], at: int, image: object) -> dict[str, Any]:
    batch["Records"][at]["dynamodb"]["NewImage"] = image
    return batch


GOOD: dict[str, Any] = a_stream_batch([an_entry()])["Records"][0]["dynamodb"]["NewImage"]


@pytest.mark.parametrize(
    "image",
    [
        {},
        {"pk": {"S": "alone"}},
        None,
        "text",
        GOOD | {"q": {"N": "five"}},
        GOOD | {"q": {"S": "5"}},
        GOOD | {"ts": {"S": "yesterday"}},
        GOOD | {"ts": {"S": "2026-11-20T12:00:00"}},
        GOOD | {"ra": {"S": "2026-11-20T12:00:00"}},
        GOOD | {"ts": {"N": 5}},
        GOOD | {"src": {"S": "somewhere"}},
        GOOD | {"t": "demo"},
        GOOD | {"k": {"B": b"\0"}},
    ],
    ids=lambda image: str(image)[-30:],
)
def test_what_is_no_entry_is_quarantined_and_the_rest_counts(wiring: Wiring, image: object) -> None:
    entries = ten_entries()[:3]

    assert handler(spoiled(a_stream_batch(entries), 1, image), None) == ACCEPTED_ALL

    assert counted(wiring) == true_usage([entries[0], entries[2]])
    [kept] = wiring.quarantine.newest(None, 10)
    assert kept.kind == "unreadable"
    assert kept.origin == f"stream:{position_of('2')}"
    assert kept.reason.startswith("not a ledger entry: ")


def test_changes_and_removals_count_nothing(wiring: Wiring) -> None:
    batch = a_stream_batch(ten_entries())
    batch["Records"][0]["eventName"] = "MODIFY"
    batch["Records"][1]["eventName"] = "REMOVE"
    del batch["Records"][1]["dynamodb"]["NewImage"]

    assert handler(batch, None) == ACCEPTED_ALL

    assert counted(wiring).counted.count == 8
    assert wiring.quarantine.newest(None, 10) == []


def fill(wiring: Wiring, *, amount: Decimal) -> LedgerEntry:
    """A lane that holds all that 38 digits can, written by hand."""
    entry = an_entry("1")
    fold(wiring, [entry])
    [stored] = lanes_of(wiring)
    counters = wiring.table("counters")
    [item] = [item for item in wiring.dynamodb.scan(TableName=counters)["Items"] if "h" in item]
    assert total(stored.lane.buckets.values()).counted.sum == 1
    bucket: Any = next(iter(item["b"]["M"].values()))
    held = bucket["M"]["c"]["M"]
    held["s"] = {"N": str(amount)}
    wiring.dynamodb.put_item(TableName=counters, Item=item)
    return entry


def test_a_quantity_that_cannot_be_added_exactly_is_quarantined_and_the_rest_counts(
    wiring: Wiring,
) -> None:
    fill(wiring, amount=Decimal("1E+36"))
    too_fine = an_entry("0.001", key="too-fine")

    assert fold(another_process(wiring), [an_entry("2"), too_fine, an_entry("4")], first=2) == []

    assert counted(wiring).counted.sum == Decimal("1" + "0" * 35 + "6")
    [kept] = wiring.quarantine.of_key(DEMO, IdempotencyKey("too-fine"))
    assert (kept.kind, kept.payload) == ("unfoldable", "0.001")


def test_what_cannot_be_folded_is_kept_before_the_lane_passes_it(wiring: Wiring) -> None:
    fill(wiring, amount=Decimal("1E+36"))
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail("put_item", throttled(), at={1})
    batch = [an_entry("2"), an_entry("0.001", key="too-fine")]

    with pytest.raises(Exception, match="quarantine"):
        fold(another_process(wiring, faulty.client), batch, first=2)
    assert fold(another_process(wiring), batch, first=2) == []

    assert len(wiring.quarantine.of_key(DEMO, IdempotencyKey("too-fine"))) == 1
    assert counted(wiring).counted.count == 2


# --- how Lambda calls -----------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["shardId", "eventSourceARN"])
def test_a_mapping_without_a_tumbling_window_fails_loudly(wiring: Wiring, missing: str) -> None:
    batch = a_stream_batch(ten_entries())
    del batch[missing]

    with pytest.raises(InvariantBrokenError, match="TumblingWindowInSeconds"):
        handler(batch, None)
    assert lanes_of(wiring) == []


def test_the_last_call_of_an_empty_window_is_answered(wiring: Wiring) -> None:
    empty = a_stream_batch([]) | {"isFinalInvokeForWindow": True}

    assert handler(empty, None) == ACCEPTED_ALL
    del empty["Records"]
    assert handler(empty, None) == ACCEPTED_ALL


def test_a_lane_that_cannot_be_written_is_reported_from_its_first_record(wiring: Wiring) -> None:
    """30 counters are two calls; the second is refused."""
    entries = [an_entry(str(at), customer=f"cus_{at % 30:02}") for at in range(1, 91)]
    faulty = FaultyClient(wiring.dynamodb)
    lanes: list[int] = []

    def refuse_second_chunk(call: Any, go: Any) -> Any:
        if "'h': ?" not in call.request["Statements"][0]["Statement"]:
            return go()
        lanes.append(len(call.request["Statements"]))
        if len(lanes) == 2:
            raise throttled()
        return go()

    faulty.around("batch_execute_statement", refuse_second_chunk)

    [failed_from] = fold(another_process(wiring, faulty.client), entries, first=100)

    assert lanes == [25, 5]
    unfolded = [
        entry for entry in entries if counted(wiring, entry.event.customer).counted == EMPTY
    ]
    assert len({entry.event.customer for entry in unfolded}) == 5
    assert failed_from == str(100 + entries.index(unfolded[0])).zfill(21)

    assert fold(wiring, entries[int(failed_from) - 100 :], first=int(failed_from)) == []
    assert [counted(wiring, f"cus_{at:02}") for at in range(30)] == [
        true_usage(entry for entry in entries if entry.event.customer == f"cus_{at:02}")
        for at in range(30)
    ]


@pytest.mark.parametrize("code", ["ThrottlingError", "InternalServerError"])
@pytest.mark.parametrize("first_write", [True, False])
def test_one_lane_that_is_refused_does_not_hold_up_its_neighbours(
    wiring: Wiring, code: str, *, first_write: bool
) -> None:
    customers = ["cus_A", "cus_B", "cus_C"]
    before = [an_entry("1", customer=customer) for customer in customers]
    entries = [an_entry("2", customer=customer) for customer in customers]
    if not first_write:
        fold(wiring, before)
    faulty = FaultyClient(wiring.dynamodb)
    lane_call = 2 if first_write else 3  # after the directory's insert, and its update
    faulty.refuse_statements({1: code}, at=lane_call)

    failed = fold(another_process(wiring, faulty.client), entries, first=4)

    sums = [counted(wiring, customer).counted.sum for customer in customers]
    refused = sums.index(min(sums))
    assert sorted(sums) == ([0, 2, 2] if first_write else [1, 3, 3])
    assert failed == [str(4 + refused).zfill(21)]

    assert fold(wiring, entries[refused:], first=4 + refused) == []
    assert {counted(wiring, customer).counted.sum for customer in customers} == {
        Decimal(2 if first_write else 3)
    }


@pytest.mark.parametrize("operation", ["batch_get_item", "get_item", "batch_execute_statement"])
def test_a_table_that_refuses_brings_the_whole_batch_again(wiring: Wiring, operation: str) -> None:
    entries = ten_entries()
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail(operation, throttled(), at={1})
    process = another_process(wiring, faulty.client)

    with pytest.raises(Exception, match=r"for now|ThrottlingException"):
        fold(process, entries)
    assert counted(wiring) == Usage()

    assert fold(process, entries) == []
    assert counted(wiring) == true_usage(entries)


def test_lanes_that_dynamodb_left_unread_bring_the_batch_again(wiring: Wiring) -> None:
    entries = ten_entries()
    fold(wiring, entries[:5])
    faulty = FaultyClient(wiring.dynamodb)
    counters = wiring.table("counters")

    def unread(call: Any, go: Any) -> Any:
        if counters not in call.request["RequestItems"]:
            return go()
        return {"Responses": {}, "UnprocessedKeys": call.request["RequestItems"]}

    faulty.around("batch_get_item", unread)

    with pytest.raises(Exception, match="could not all be read"):
        fold(another_process(wiring, faulty.client), entries)
    assert counted(wiring) == true_usage(entries[:5])


def test_a_tally_of_nothing_is_never_stored(wiring: Wiring) -> None:
    fold(wiring, [an_entry(is_late=True)])

    assert counted(wiring).counted == Tally()
    with using(wiring):
        assert handler(a_stream_batch([]), None) == ACCEPTED_ALL


@pytest.mark.parametrize("hour", [11, 12, 13])
def test_a_batch_that_comes_again_after_the_billing_anchor_moved_counts_once(
    wiring: Wiring, hour: int
) -> None:
    """The anchor cuts the day anew, before, at and after the events' time."""
    entries = [an_entry("5"), an_entry("7", at=NOON + timedelta(hours=1))]
    fold(wiring, entries)
    anchor = datetime(2026, 1, 20, hour, 30, tzinfo=UTC)
    wiring.settings_store.put_customer(a_subscriber("cus_A", anchor))

    fold(another_process(wiring), entries)

    assert counted(wiring) == true_usage(entries)
