from metering.wiring import Wiring


def test_all_tables_stand_and_the_ledger_has_a_stream_of_new_images(wiring: Wiring) -> None:
    table = wiring.dynamodb.describe_table(TableName=wiring.config.table_prefix + "events")["Table"]

    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}
