"""Invoice items as they stand in the table."""

from datetime import timedelta

import pytest

from metering.adapters.dynamodb.invoice_item_attributes import (
    invoice_item_attributes,
    read_invoice_item,
)
from metering.invoice_item import InvoiceItem, ItemState
from tests.builders import NOON

PLANNED = InvoiceItem(
    id="u1.x.apart.1",
    step=1,
    line="line_1",
    units=-5,
    units_before=2,
    amount=-730,
    currency="usd",
    price_id="price_1",
    invoice="in_1",
    description="five × ä",
    planned_at=NOON,
)
SENT = InvoiceItem(
    id="u1.x.apart.2",
    step=2,
    line="line_1",
    units=999_999_999_999_999,
    units_before=0,
    amount=10**12,
    currency="jpy",
    price_id="price_1",
    invoice="in_1",
    description="",
    planned_at=NOON,
    state=ItemState.SENT,
    attempts=3,
    key_generation=2,
    key_since=NOON + timedelta(microseconds=1),
    last_attempt_at=NOON + timedelta(hours=1),
    not_before=NOON + timedelta(hours=2),
    last_error="500: sorry",
    stripe_id="ii_1",
    billed_at=NOON + timedelta(hours=3),
)


@pytest.mark.parametrize("item", [PLANNED, SENT])
def test_an_invoice_item_is_read_as_it_was_written(item: InvoiceItem) -> None:
    assert read_invoice_item(invoice_item_attributes(item)) == item
