"""How finely tables are partitioned: most worlds take the coarsest, which costs the fewest calls.

The numbers only say over how many partitions a hot list is spread; nothing but the keys depends on
them. The rest of the worlds run with the product's own.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

_PARTITIONS = {
    "metering.adapters.dynamodb.counters": ("DIRECTORY_SHARDS", "CHANGED_SHARDS"),
    "metering.adapters.dynamodb.lanes": ("CHANGED_SHARDS",),
    "metering.adapters.dynamodb.ledger": ("HELD_SHARDS",),
    "metering.adapters.dynamodb.ledger_item": ("HELD_SHARDS",),
    "metering.adapters.dynamodb.notices": ("SHARDS",),
    "metering.adapters.dynamodb.period_closes": ("CLOSE_SHARDS", "CLOSING_SHARDS"),
    "metering.adapters.dynamodb.push_item": ("STREAM_SHARDS", "IN_NEED_SHARDS"),
}


@contextmanager
def partitions(number: int | None) -> Iterator[None]:
    """Spread lists over so many partitions; None: over as many as the product does."""
    with ExitStack() as stack:
        if number is not None:
            for module, names in _PARTITIONS.items():
                for name in names:
                    stack.enter_context(patch(f"{module}.{name}", number))
        yield
