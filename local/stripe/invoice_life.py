"""The life of an invoice: a draft that waits for usage, and what becomes of it.

A stored draft holds its lines as they were made; `shown` computes them and the totals as of now.
Finalizing freezes them. Nobody pays: what is charged automatically is paid as soon as it is final.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from local.stripe import events, invoice_lines
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.state import CUSTOMER, INVOICE, SUBSCRIPTION
from local.stripe.wire import Json

DAYS_UNTIL_DUE = 30
DAY_S = 86_400
LINES_SHOWN = 10


# --- what an invoice is made of -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Occasion:
    """Why there is an invoice, for what time, and what stands on it."""

    reason: str
    period: tuple[int, int]
    lines: Sequence[Json]
    currency: str
    takes_pending: bool = True


def made(call: Call, customer: Json, subscription: Json | None, occasion: Occasion) -> Json:
    """A new draft, with the invoice items that waited for it.

    Only the draft of a cycle's end gets a time at which it is finalized by itself; the others are
    finalized by whoever made them.
    """
    identity = call.new_id("in_")
    lines = [*occasion.lines]
    if occasion.takes_pending:
        lines += _taken(call, customer["id"], subscription, occasion.currency, identity)
    invoice = blank(call, identity, customer, subscription, occasion)
    if occasion.reason == "subscription_cycle":
        at = call.now + call.world.settings.invoice_grace_s
        invoice |= {"automatically_finalizes_at": at}
    call.put(invoice | {"lines": [line | {"invoice": identity} for line in lines]})
    if subscription:
        latest = call.account.all(SUBSCRIPTION)[subscription["id"]]
        call.put(latest | {"latest_invoice": identity})
    return told(call, "created", call.account.all(INVOICE)[identity])


def _taken(
    call: Call, customer: str, subscription: Json | None, currency: str, invoice: str
) -> list[Json]:
    wanted = subscription["id"] if subscription else None
    items = invoice_lines.pending(call, customer, wanted, currency)
    for item in items:
        call.put(item | {"invoice": invoice})
    return [invoice_lines.of_invoice_item(call, item) for item in items]


def blank(
    call: Call, identity: str, customer: Json, subscription: Json | None, occasion: Occasion
) -> Json:
    """A draft without lines."""
    source = subscription or {}
    return {
        "id": identity,
        "object": INVOICE,
        "account_country": "US",
        "account_name": None,
        "account_tax_ids": None,
        "amount_due": 0,
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": 0,
        "amount_shipping": 0,
        "application": None,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": occasion.reason != "manual",
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": False,
            "liability": None,
            "provider": None,
            "status": None,
        },
        "automatically_finalizes_at": None,
        "billing_reason": occasion.reason,
        "collection_method": source.get("collection_method", "charge_automatically"),
        "created": call.now,
        "currency": occasion.currency,
        "custom_fields": None,
        "customer": customer["id"],
        "customer_address": customer.get("address"),
        "customer_email": customer.get("email"),
        "customer_name": customer.get("name"),
        "customer_phone": customer.get("phone"),
        "customer_shipping": customer.get("shipping"),
        "customer_tax_exempt": customer.get("tax_exempt"),
        "customer_tax_ids": [],
        # Of the subscription; answers show the due date that comes of it.
        "days_until_due": source.get("days_until_due"),
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": source.get("description"),
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": None,
        "footer": None,
        "from_invoice": None,
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "last_finalization_error": None,
        "latest_revision": None,
        "lines": [],
        "livemode": False,
        "metadata": {},
        "next_payment_attempt": None,
        "number": None,
        "on_behalf_of": None,
        "parent": _parent(subscription) if subscription else None,
        "payment_settings": {
            "default_mandate": None,
            "payment_method_options": None,
            "payment_method_types": None,
        },
        "period_end": occasion.period[1],
        "period_start": occasion.period[0],
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "rendering": None,
        "shipping_cost": None,
        "shipping_details": None,
        "starting_balance": 0,
        "statement_descriptor": None,
        "status": "draft",
        "status_transitions": {
            "finalized_at": None,
            "marked_uncollectible_at": None,
            "paid_at": None,
            "voided_at": None,
        },
        "subtotal": 0,
        "subtotal_excluding_tax": 0,
        "test_clock": customer.get("test_clock"),
        "threshold_reason": None,
        "total": 0,
        "total_discount_amounts": [],
        "total_excluding_tax": 0,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": call.now,
    }


def _parent(subscription: Json) -> Json:
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {
        "quote_details": None,
        "subscription_details": details,
        "type": "subscription_details",
    }


def subscription_of(invoice: Json) -> str | None:
    """The subscription that an invoice bills."""
    parent = invoice["parent"]
    return parent["subscription_details"]["subscription"] if parent else None


# --- as of now ------------------------------------------------------------------------------------


def current(call: Call, invoice: Json) -> Json:
    """An invoice with the lines and totals of this instant; only a draft's can differ."""
    if invoice["status"] != "draft":
        return invoice
    lines = [invoice_lines.current(call, invoice["customer"], line) for line in invoice["lines"]]
    total = sum(line["amount"] for line in lines)
    due = max(total, 0)
    totals = dict.fromkeys(
        ("subtotal", "subtotal_excluding_tax", "total", "total_excluding_tax"), total
    )
    return invoice | totals | {"lines": lines, "amount_due": due, "amount_remaining": due}


def shown(call: Call, invoice: Json) -> Json:
    """An invoice as answers show it, with its first lines."""
    found = current(call, invoice)
    url = f"/v1/invoices/{invoice['id']}/lines"
    lines = page(found["lines"], {"limit": LINES_SHOWN}, url)
    return {name: value for name, value in found.items() if name != "days_until_due"} | {
        "lines": lines
    }


def told(call: Call, what: str, invoice: Json) -> Json:
    """Note what happened to an invoice."""
    events.emit(call.world, call.account, f"invoice.{what}", shown(call, invoice), call.now)
    return invoice


# --- its life -------------------------------------------------------------------------------------


def finalized(call: Call, invoice: Json) -> Json:
    """A draft with its lines frozen.

    Paid at once when it is charged automatically or nothing is due; open when the customer is sent
    an invoice, or while `auto_advance` is off.
    """
    final = current(call, invoice) | {
        "automatically_finalizes_at": None,
        "effective_at": call.now,
        "ending_balance": 0,
        "number": _number(call, invoice),
        "status": "open",
        "status_transitions": invoice["status_transitions"] | {"finalized_at": call.now},
    }
    if final["collection_method"] == "send_invoice":
        days = final["days_until_due"]
        due_in = DAYS_UNTIL_DUE if days is None else days
        final["due_date"] = call.now + due_in * DAY_S
    told(call, "finalized", call.put(final))
    return paid(call, final) if pays_itself(final) else final


def pays_itself(invoice: Json) -> bool:
    """Whether a final invoice waits for nobody."""
    charged = invoice["auto_advance"] and invoice["collection_method"] == "charge_automatically"
    return bool(charged or not invoice["amount_due"])


def _number(call: Call, invoice: Json) -> str:
    customer = call.account.all(CUSTOMER)[invoice["customer"]]
    sequence = customer.get("next_invoice_sequence", 1)
    if not customer.get("deleted"):
        call.put(customer | {"next_invoice_sequence": sequence + 1})
    prefix = customer.get("invoice_prefix") or customer["id"].removeprefix("cus_")[:8].upper()
    return f"{prefix}-{sequence:04d}"


def paid(call: Call, invoice: Json) -> Json:
    """An open invoice that somebody has paid."""
    done = invoice | {
        "amount_paid": invoice["amount_due"],
        "amount_remaining": 0,
        "attempt_count": 1 if invoice["amount_due"] else 0,
        "attempted": True,
        "auto_advance": False,
        "status": "paid",
        "status_transitions": invoice["status_transitions"] | {"paid_at": call.now},
    }
    return told(call, "paid", call.put(done))


def attend(call: Call, invoice: Json) -> None:
    """Finalize a draft whose time has come."""
    at = invoice["automatically_finalizes_at"]
    if invoice["status"] == "draft" and at is not None and at <= call.now:
        finalized(call, invoice)


# --- lines of invoice items -----------------------------------------------------------------------


def with_item(call: Call, invoice: Json, item: Json) -> Json:
    """A draft with one invoice item more."""
    line = invoice_lines.of_invoice_item(call, item) | {"invoice": invoice["id"]}
    return told(call, "updated", call.put(invoice | {"lines": [*invoice["lines"], line]}))


def without_item(call: Call, invoice: Json, item: Json) -> Json:
    """A draft with one invoice item less."""
    left = [line for line in invoice["lines"] if invoice_lines.item_of(line) != item["id"]]
    return told(call, "updated", call.put(invoice | {"lines": left}))
