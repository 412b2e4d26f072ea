"""Legacy usage records: usage on a subscription item itself, before there were meters.

They live behind API versions older than 2025-03-31; newer ones do not know their paths. A legacy
price is metered and has no meter.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from local.stripe import params, prices, refusals
from local.stripe.billing_cycle import Cycle
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import Choice, Either, Fields, Integer
from local.stripe.state import ITEM, PRICE, SUBSCRIPTION, USAGE_RECORD, Account
from local.stripe.wire import Json

LAST_VERSION = "2025-02-24.acacia"
"""The newest API version that has usage records."""
AGGREGATIONS = ("last_during_period", "last_ever", "max", "sum")
FUTURE_MAX_S = 300

CREATE = Fields(
    {
        "action": Choice("increment", "set"),
        "quantity": Integer(least=0),
        "timestamp": Either("now", params.INSTANT),
    },
    required=("quantity",),
)
LIST = Fields(params.LIST_FIELDS)


def create(call: Call) -> Json:
    """Add to the usage at an instant of the current period, or set it.

    Raises:
        RefusedError: the version has no usage records (404), the item's price is none of them, or
            the instant is not in the current period.
    """
    item = _item(call)
    timestamp = call.params.get("timestamp", "now")
    timestamp = call.now if timestamp == "now" else timestamp
    _check_timestamp(call, item, timestamp)
    record = {
        "id": call.new_id("mbur_"),
        "object": USAGE_RECORD,
        "livemode": False,
        "quantity": call.params["quantity"],
        "subscription_item": item["id"],
        "timestamp": timestamp,
    }
    call.put(record | {"action": call.params.get("action", "increment")})
    return record


def _item(call: Call) -> Json:
    if call.version >= prices.METERS_REQUIRED_SINCE:
        method = "GET" if call.path.endswith("summaries") else "POST"
        raise refusals.unrecognized_url(method, call.path)
    item = call.targeted(ITEM)
    recurring = call.account.all(PRICE)[item["price"]]["recurring"]
    if recurring["usage_type"] != "metered" or recurring["meter"]:
        message = (
            f"Cannot create the usage record: the price {item['price']} is not metered, or counts "
            "by a billing meter. Send meter events for it."
        )
        raise refusals.RefusedError(message)
    return item


def _check_timestamp(call: Call, item: Json, timestamp: int) -> None:
    start, end = item["current_period_start"], item["current_period_end"]
    latest = min(end - 1, call.now + FUTURE_MAX_S)
    if not start <= timestamp <= latest:
        message = (
            f"Cannot create the usage record with this timestamp: {timestamp} is not in the "
            f"current period of the subscription, or in the future ({start} to {latest})."
        )
        raise refusals.RefusedError(message, param="timestamp")


def list_of_item(call: Call) -> Json:
    """The usage of an item period by period, newest first."""
    item = _item(call)
    rows = [_summary(call, item, *period) for period in _periods(call.account, item)]
    return page(rows, call.params, call.path)


def _periods(account: Account, item: Json) -> Iterator[tuple[int, int]]:
    subscription = account.all(SUBSCRIPTION)[item["subscription"]]
    cycle = Cycle.of(subscription, account.all(PRICE)[item["price"]])
    start, end = item["current_period_start"], item["current_period_end"]
    yield start, end
    while start > item["created"]:
        start, end = cycle.period_at(start - 1)
        yield start, end


def _summary(call: Call, item: Json, start: int, end: int) -> Json:
    usage = legacy_usage(call.account, item, start, end)
    return {
        "id": f"sis_{item['id']}_{start}",
        "object": "usage_record_summary",
        "invoice": None,
        "livemode": False,
        "period": {"start": start, "end": end},
        "subscription_item": item["id"],
        "total_usage": int(usage),
    }


def legacy_usage(account: Account, item: Json, start: int, end: int) -> Decimal:
    """What an item's usage records come to in `start <= timestamp < end`, by its price's rule.

    `sum` (the default) adds up, `max` takes the greatest, `last_during_period` the latest of the
    period, `last_ever` the latest of all until its end.
    """
    recurring = account.all(PRICE)[item["price"]]["recurring"]
    rule = recurring.get("aggregate_usage") or "sum"
    first = 0 if rule == "last_ever" else start
    found = [
        (timestamp, quantity)
        for timestamp, quantity in sorted(_quantities(account, item["id"]).items())
        if first <= timestamp < end
    ]
    return _aggregated(rule, [quantity for _, quantity in found])


def _quantities(account: Account, item: str) -> dict[int, Decimal]:
    """The usage at each instant: records of one instant add up, until one of them sets it."""
    found: dict[int, Decimal] = {}
    for record in account.all(USAGE_RECORD).values():
        if record["subscription_item"] == item:
            earlier = found.get(record["timestamp"], Decimal(0))
            base = Decimal(0) if record["action"] == "set" else earlier
            found[record["timestamp"]] = base + record["quantity"]
    return found


def _aggregated(rule: str, quantities: Sequence[Decimal]) -> Decimal:
    if not quantities:
        return Decimal(0)
    match rule:
        case "max":
            return max(quantities)
        case "last_during_period" | "last_ever":
            return quantities[-1]
        case _:
            return sum(quantities, Decimal(0))
