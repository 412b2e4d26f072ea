"""`python -m local month`: one month from a seed, told and judged."""

import logging
import time

from local.month.check import check
from local.month.draw import draw
from local.month.run import a_world, live, own_dynamodb
from local.month.show import console, tell


def run(seed: int, *, days: int, customers: int, faults: bool) -> int:
    """Live through the month of a seed; exit code 0 when every number agrees, else 1."""
    month = draw(seed, days=days, customers=customers, faults=faults)
    started = time.process_time()
    logging.disable(logging.ERROR)  # The functions tell of every fault, and there are many.
    with (
        console.status("a month passes") as status,
        own_dynamodb() as endpoint,
        a_world(month.start, endpoint=endpoint, prefix="") as world,
    ):
        lived = live(month, world, on_day=lambda now: status.update(f"it is {now:%Y-%m-%d}"))
        outcome = check(lived)
    tell(lived, outcome)
    console.print(f"{time.process_time() - started:.0f} s of CPU", highlight=False)
    return 1 if outcome.wrongs else 0
