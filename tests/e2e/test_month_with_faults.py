"""Months in which Stripe, webhooks, clocks and processes fail, from fixed seeds.

`python -m local month --seed N` lives through a longer one with more customers.
"""

from datetime import timedelta

import pytest

from local.month.check import check
from local.month.draw import draw
from local.month.run import a_world, live


@pytest.mark.parametrize("seed", [1, 3])
def test_a_month_with_faults_ends_with_every_number_equal_or_its_difference_named(
    seed: int, dynamodb_endpoint: str
) -> None:
    month = draw(seed, days=8, customers=2, faults=True, step=timedelta(days=1))

    with a_world(month.start, endpoint=dynamodb_endpoint, prefix=f"faults-{seed}-") as world:
        lived = live(month, world)
        outcome = check(lived)

    assert outcome.wrongs == ()
    assert lived.world.troubled.met, "nothing went wrong, so nothing was shown"
