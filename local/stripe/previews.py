"""Invoice previews: what the next invoice of a subscription would be, from the usage so far.

Nothing is stored. The usage is that which is aggregated by now, with the same lag as in summaries.
"""

from local.stripe import invoice_life, invoice_lines, refusals, subscription_billing
from local.stripe.call import Call
from local.stripe.invoice_life import Occasion
from local.stripe.params import Choice, Fields, Text
from local.stripe.state import CUSTOMER, SUBSCRIPTION
from local.stripe.wire import Json

CREATE = Fields(
    {
        "currency": Text(3),
        "customer": Text(),
        "preview_mode": Choice("next", "recurring"),
        "subscription": Text(),
    },
    not_yet=(
        "automatic_tax",
        "customer_account",
        "customer_details",
        "discounts",
        "invoice_items",
        "issuer",
        "on_behalf_of",
        "schedule",
        "schedule_details",
        "subscription_details",
    ),
)


def create(call: Call) -> Json:
    """The invoice that the end of the present period would bring, if it came with today's usage.

    Without a subscription, that of the customer's which renews first; without any, only what waits
    for the customer's next invoice.

    Raises:
        RefusedError: neither customer nor subscription, they do not match, or nothing will come.
    """
    subscription, customer = _whose(call)
    call = call.on_clock_of(customer)
    occasion = _upcoming(call, customer, subscription)
    identity = call.new_id("upcoming_in_")
    invoice = invoice_life.blank(call, identity, customer, subscription, occasion)
    lines = [line | {"invoice": identity} for line in occasion.lines]
    return invoice_life.shown(call, invoice | {"created": occasion.period[1], "lines": lines})


def _whose(call: Call) -> tuple[Json | None, Json]:
    given = call.params
    if "subscription" in given:
        subscription = call.referred(SUBSCRIPTION, given["subscription"], "subscription")
        if given.get("customer") not in (None, subscription["customer"]):
            message = f"The subscription {subscription['id']} is not of {given['customer']}."
            raise refusals.RefusedError(message, param="subscription")
        return subscription, call.referred(CUSTOMER, subscription["customer"], "customer")
    if "customer" not in given:
        raise refusals.missing_parameter("customer")
    customer = call.referred(CUSTOMER, given["customer"], "customer")
    return _next_to_renew(call, customer), customer


def _next_to_renew(call: Call, customer: Json) -> Json | None:
    living = [
        one
        for one in call.account.all(SUBSCRIPTION).values()
        if one["customer"] == customer["id"] and one["status"] != "canceled"
    ]
    return min(living, key=lambda one: _end(call, one), default=None)


def _end(call: Call, subscription: Json) -> int:
    """When the next invoice of a subscription is due."""
    ends = [item["current_period_end"] for item in call.account.items(subscription["id"])]
    if subscription["cancel_at"]:
        ends.append(subscription["cancel_at"])
    return int(min(ends))


def _upcoming(call: Call, customer: Json, subscription: Json | None) -> Occasion:
    lines: list[Json] = []
    if subscription is None:
        currency = str(call.params.get("currency") or "usd").lower()
        period = (call.now, call.now)
    elif subscription["status"] == "canceled":
        raise _nothing()
    else:
        currency, end = subscription["currency"], _end(call, subscription)
        lines, period = _of_subscription(call, subscription, end)
    if call.params.get("preview_mode") != "recurring":
        own = subscription["id"] if subscription else None
        waiting = invoice_lines.pending(call, customer["id"], own, currency)
        lines += [invoice_lines.of_invoice_item(call, item) for item in waiting]
    if subscription is None and not lines:
        raise _nothing()
    return Occasion("upcoming", period, lines, currency)


def _of_subscription(
    call: Call, subscription: Json, end: int
) -> tuple[list[Json], tuple[int, int]]:
    items = call.account.items(subscription["id"])
    due = [item for item in items if end in (item["current_period_end"], subscription["cancel_at"])]
    lines: list[Json] = []
    if subscription["status"] != "trialing":
        lines += invoice_lines.of_usage(call, subscription, due, end)
    if subscription["cancel_at"] != end:
        renewed = [item | _next(call, subscription, item) for item in due]
        lines += invoice_lines.in_advance(call, subscription | {"status": "active"}, renewed)
    return lines, (min(item["current_period_start"] for item in due), end)


def _next(call: Call, subscription: Json, item: Json) -> Json:
    start, end = subscription_billing.next_period(call, subscription, item)
    return {"current_period_start": start, "current_period_end": end}


def _nothing() -> refusals.RefusedError:
    message = "No upcoming invoices for customer."
    return refusals.RefusedError(message, status=refusals.NOT_FOUND, code="invoice_upcoming_none")
