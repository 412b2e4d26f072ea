"""What `make cost` measures, and that its counting of units is DynamoDB's."""

from decimal import Decimal
from typing import Any

import pytest

from infra.cost.measurement import Measurement, Taken
from local.bench.measure import deployment
from local.bench.units import UnitMeter, size_of, units_of
from local.costs.measure import of_events, of_stripe

STORED = Measurement.load()


def alike(found: Taken, stored: Taken, *, within: float = 0.1) -> None:
    """Units and bytes of each thing are the stored ones; CPU is a machine's, so within a factor."""
    for name in ("written", "items"):
        each, before = (float(getattr(one.each(), name)) for one in (found, stored))
        assert each == pytest.approx(before, rel=within, abs=0.1), name
    for name in ("log_bytes", "answer_bytes"):
        each, before = (float(getattr(one.each(), name)) for one in (found, stored))
        assert each == pytest.approx(before, rel=0.3, abs=30), name
    assert stored.cpu_ms / stored.of / 4 < found.cpu_ms / found.of < 4 * stored.cpu_ms / stored.of


def test_taking_and_counting_events_takes_what_the_stored_measurement_says() -> None:
    found = of_events()

    for name in ("single", "batch", "queue_single", "queue_batch", "folded_500", "folded_60"):
        alike(found[name], getattr(STORED, name))
    assert found["entry_bytes"] == STORED.entry_bytes
    assert found["single"].others_read == 0


def test_telling_stripe_and_comparing_takes_what_the_stored_measurement_says() -> None:
    found = of_stripe(customers=5)

    for name in ("writer_new", "writer_more"):
        each, before = found[name].each(), getattr(STORED, name).each()
        assert float(each.written) == pytest.approx(float(before.written), rel=0.15)
        assert float(each.log_bytes) == pytest.approx(float(before.log_bytes), rel=0.3)
    assert found["writer_looked"].written < found["writer_more"].written / 5


@pytest.mark.parametrize(
    ("item", "size"),
    [
        ({"pk": {"S": "a"}}, 3),
        ({"pk": {"S": "a"}, "v": {"S": "é" * 10}}, 24),
        ({"pk": {"S": "a"}, "v": {"BOOL": True}}, 5),
        ({"pk": {"S": "a"}, "v": {"B": b"12345678"}}, 12),
        ({"pk": {"S": "a"}, "v": {"M": {"k": {"S": "ab"}}}}, 3 + 1 + 3 + 1 + 1 + 2),
        ({"pk": {"S": "a"}, "v": {"L": [{"S": "ab"}, {"BOOL": False}]}}, 3 + 1 + 3 + 1 + 2 + 1 + 1),
    ],
)
def test_an_items_size_is_its_names_and_values(item: dict[str, Any], size: int) -> None:
    assert size_of(item) == size


def test_an_attribute_of_a_type_that_we_do_not_write_is_not_guessed() -> None:
    with pytest.raises(ValueError, match="type SS"):
        size_of({"pk": {"SS": ["a"]}})


def test_units_are_what_dynamodb_charges_and_all_kinds_of_writes_are_counted() -> None:
    with deployment(EVENT_INDEX="off") as deployed:
        client, table = deployed.wiring.dynamodb, deployed.wiring.table("settings")
        meter = UnitMeter(client, event_index=False)
        for length in (10, 900, 1010, 1016, 1030, 2035, 2048, 3000):
            item = {"pk": {"S": "a"}, "sk": {"S": str(length)}, "v": {"S": "x" * length}}
            meter.reset()
            answer = client.put_item(TableName=table, Item=item, ReturnConsumedCapacity="TOTAL")
            charged = answer["ConsumedCapacity"]["CapacityUnits"]
            assert meter.written == {table: charged}
            assert units_of(item) == charged
        meter.reset()
        client.batch_execute_statement(
            Statements=[
                {
                    "Statement": f"INSERT INTO \"{table}\" VALUE {{'pk': ?, 'sk': ?, 'v': ?}}",
                    "Parameters": [{"S": "a"}, {"S": "b"}, {"S": "x" * 1500}],
                },
                {
                    "Statement": f'UPDATE "{table}" SET v = ? WHERE pk = ? AND sk = ? AND v = ?',
                    "Parameters": [{"S": "y"}, {"S": "a"}, {"S": "10"}, {"S": "x" * 10}],
                },
            ]
        )
        assert meter.written == {table: 3}
        assert meter.items == {table: 2}
        meter.reset()
        puts = [{"Put": {"TableName": table, "Item": {"pk": {"S": "t"}, "sk": {"S": "1"}}}}]
        client.transact_write_items(TransactItems=puts)  # type: ignore[arg-type]
        assert meter.written == {table: 2}
        meter.reset()
        client.get_item(TableName=table, Key={"pk": {"S": "a"}, "sk": {"S": "10"}})
        client.get_item(
            TableName=table, Key={"pk": {"S": "a"}, "sk": {"S": "10"}}, ConsistentRead=True
        )
        assert meter.read == {table: 1500}


def test_an_entry_of_the_ledger_costs_once_more_in_each_index_that_it_stands_in() -> None:
    entry = {"pk": {"S": "a"}, "v": {"S": "x"}}
    held = entry | {"lp": {"S": "l"}, "ls": {"S": "1"}, "gp": {"S": "g"}, "gs": {"S": "1"}}
    with deployment(EVENT_INDEX="on") as deployed:
        client, table = deployed.wiring.dynamodb, deployed.wiring.table("events")
        meter = UnitMeter(client, event_index=True)
        client.put_item(TableName=table, Item=entry)
        assert meter.written == {table: 1}
        client.put_item(TableName=table, Item=held)
        assert meter.written == {table: 1 + 3}


def test_the_stored_measurement_is_of_a_known_commit() -> None:
    assert "commit" in STORED.at
    assert STORED.batch.of == Decimal(100)
