"""When a subscription is billed, and for what: usage afterwards, licensed items in advance.

`billed_until` of an item says up to where it has been billed: from there on, usage is open.
Only the draft of a cycle's end waits for late usage; every other invoice is final at once.
"""

from collections.abc import Iterable

from local.stripe import invoice_life, invoice_lines
from local.stripe.billing_cycle import Cycle
from local.stripe.call import Call
from local.stripe.invoice_life import Occasion
from local.stripe.state import CUSTOMER, INVOICE, PRICE
from local.stripe.wire import Json


def first(call: Call, subscription: Json) -> Json:
    """The first invoice, final at once.

    Licensed items for their first period, and in flexible billing mode the usage since a backdated
    start (Stripe: classic ones bill that with the first cycle).
    """
    items = call.account.items(subscription["id"])
    lines: list[Json] = []
    backdated = subscription["start_date"] < call.now
    if backdated and is_flexible(subscription) and subscription["status"] != "trialing":
        lines += invoice_lines.of_usage(call, subscription, items, call.now)
        close_usage(call, items)
    lines += invoice_lines.in_advance(call, subscription, items)
    period = (call.now, call.now)
    return _final(call, subscription, _occasion(subscription, "subscription_create", period, lines))


def renew(call: Call, subscription: Json, ended: list[Json], *, was_trial: bool) -> None:
    """The periods of some items are over: their next ones begin, and a draft holds the usage."""
    period = (min(item["current_period_start"] for item in ended), call.now)
    lines: list[Json] = []
    if not was_trial:
        lines += invoice_lines.of_usage(call, subscription, ended, call.now)
    renewed = [_in_next_period(call, subscription, item) for item in ended]
    lines += invoice_lines.in_advance(call, subscription, renewed)
    _made(call, subscription, _occasion(subscription, "subscription_cycle", period, lines))


def _in_next_period(call: Call, subscription: Json, item: Json) -> Json:
    start, end = next_period(call, subscription, item)
    period = {"current_period_start": start, "current_period_end": end}
    return call.put(item | period | {"billed_until": _billed_until(call, item, start, end)})


def next_period(call: Call, subscription: Json, item: Json) -> tuple[int, int]:
    """The period that follows an item's present one."""
    price = call.account.all(PRICE)[item["price"]]
    start = item["current_period_end"]
    return start, Cycle.of(subscription, price).period_at(start)[1]


def _billed_until(call: Call, item: Json, start: int, end: int) -> int:
    return start if invoice_lines.is_metered(call.account.all(PRICE)[item["price"]]) else end


def closing_lines(call: Call, subscription: Json) -> list[Json]:
    """The open usage of all items, when their periods end now; none of a trial."""
    items = call.account.items(subscription["id"])
    in_trial = subscription["status"] == "trialing"
    lines = [] if in_trial else invoice_lines.of_usage(call, subscription, items, call.now)
    close_usage(call, items)
    return lines


def last(call: Call, subscription: Json, *, waits: bool) -> None:
    """The open usage of a subscription that ends; no invoice where there is nothing to bill.

    One that ends as planned gets a draft that `waits` for late usage like any cycle's.
    """
    lines = closing_lines(call, subscription)
    if not lines and not _pending(call, subscription):
        return
    items = call.account.items(subscription["id"])
    start = min(item["current_period_start"] for item in items)
    reason = "subscription_cycle" if waits else "subscription_update"
    occasion = _occasion(subscription, reason, (start, call.now), lines)
    if waits:
        _made(call, subscription, occasion)
    else:
        _final(call, subscription, occasion)


def restarted(call: Call, subscription: Json, closing: list[Json], since: int) -> None:
    """Invoice what the ended periods came to, and licensed items for the new ones."""
    items = call.account.items(subscription["id"])
    lines = closing + invoice_lines.in_advance(call, subscription, items)
    occasion = _occasion(subscription, "subscription_update", (since, call.now), lines)
    _final(call, subscription, occasion)


def invoice_pending(call: Call, subscription: Json) -> None:
    """Invoice at once what waits for a subscription's next invoice, if anything does."""
    if _pending(call, subscription):
        period = (call.now, call.now)
        _final(call, subscription, _occasion(subscription, "subscription_update", period, []))


def close_usage(call: Call, items: Iterable[Json]) -> None:
    """Usage up to now is billed, or never will be."""
    for item in items:
        if invoice_lines.is_metered(call.account.all(PRICE)[item["price"]]):
            call.put(item | {"billed_until": call.now})


def is_flexible(subscription: Json) -> bool:
    """Whether a subscription is in flexible billing mode."""
    return bool(subscription["billing_mode"]["type"] == "flexible")


def _occasion(
    subscription: Json, reason: str, period: tuple[int, int], lines: list[Json]
) -> Occasion:
    return Occasion(reason, period, lines, subscription["currency"])


def _made(call: Call, subscription: Json, occasion: Occasion) -> Json:
    customer = call.account.all(CUSTOMER)[subscription["customer"]]
    return invoice_life.made(call, customer, subscription, occasion)


def _final(call: Call, subscription: Json, occasion: Occasion) -> Json:
    draft = _made(call, subscription, occasion)
    return invoice_life.finalized(call, call.account.all(INVOICE)[draft["id"]])


def _pending(call: Call, subscription: Json) -> list[Json]:
    return invoice_lines.pending(
        call, subscription["customer"], subscription["id"], subscription["currency"]
    )
