"""The driver's page is right: its example runs, and it names what there is."""

import re
from pathlib import Path
from typing import get_args

import pytest
import stripe

from local.stripe.control import StandIn
from metering import delivery
from metering.adapters import stripe_driver

PAGE = (Path(__file__).parents[2] / "docs/driver.md").read_text()


def test_the_example_runs(
    client: stripe.StripeClient, stand_in: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in.follow()  # the example's driver looks at the machine's clock
    meter = client.v1.billing.meters.create(
        {
            "display_name": "Orders",
            "event_name": "orders",
            "default_aggregation": {"formula": "sum"},
        }
    )
    price = client.v1.prices.create(
        {
            "currency": "usd",
            "unit_amount": 2,
            "product_data": {"name": "Orders"},
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    customer = client.v1.customers.create({"name": "Ada"})
    now = int(stand_in.now().timestamp())
    subscription = client.v1.subscriptions.create(
        {
            "customer": customer.id,
            "items": [{"price": price.id}],
            "backdate_start_date": now - 3600,
            "billing_cycle_anchor": now + 86_400,
        }
    )
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

    exec(
        example,
        {"item": subscription["items"].data[0], "key": "sk_test_x", "url": stand_in.url},
    )

    assert capsys.readouterr().out == "5\n"


def test_every_answer_is_named() -> None:
    for answer in get_args(delivery.Answer.__value__):
        assert f"`{answer.__name__}`" in PAGE


def test_every_refusal_of_the_driver_is_named() -> None:
    source = Path(stripe_driver.__file__).read_text()
    codes = set(re.findall(r'Refused\(\s*"(\w+)"', source))

    assert len(codes) == 6
    for code in codes:
        assert f"`{code}`" in PAGE
