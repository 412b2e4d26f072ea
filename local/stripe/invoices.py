"""The endpoints of invoices."""

from collections.abc import Mapping
from typing import Any

from local.stripe import invoice_life, params, refusals
from local.stripe.call import Call
from local.stripe.invoice_life import Occasion
from local.stripe.lists import page
from local.stripe.params import (
    Boolean,
    Choice,
    Fields,
    Instants,
    Integer,
    Kind,
    Metadata,
    Text,
    merged_metadata,
    within,
)
from local.stripe.state import CUSTOMER, INVOICE, SUBSCRIPTION
from local.stripe.wire import Json

_COLLECTION = Choice("charge_automatically", "send_invoice")
_NOT_YET = (
    "account_tax_ids",
    "application_fee_amount",
    "automatic_tax",
    "custom_fields",
    "customer_account",
    "default_payment_method",
    "default_source",
    "default_tax_rates",
    "discounts",
    "due_date",
    "effective_at",
    "footer",
    "from_invoice",
    "issuer",
    "number",
    "on_behalf_of",
    "payment_settings",
    "rendering",
    "shipping_cost",
    "shipping_details",
    "statement_descriptor",
    "transfer_data",
)
_CHANGES: Mapping[str, Kind] = {
    "auto_advance": Boolean(),
    "automatically_finalizes_at": params.INSTANT,
    "collection_method": _COLLECTION,
    "days_until_due": Integer(least=0),
    "description": Text(1500, unset=True),
    "metadata": Metadata(),
}
CREATE = Fields(
    {
        **_CHANGES,
        "currency": Text(3),
        "customer": Text(),
        "pending_invoice_items_behavior": Choice("exclude", "include"),
        "subscription": Text(),
    },
    required=("customer",),
    not_yet=_NOT_YET,
)
UPDATE = Fields(_CHANGES, not_yet=_NOT_YET)
FINALIZE = Fields({"auto_advance": Boolean()})
PAY = Fields(
    {"off_session": Boolean(), "paid_out_of_band": Boolean()},
    not_yet=("forgive", "mandate", "payment_method", "source"),
)
LINES = Fields(params.LIST_FIELDS)
LIST = Fields(
    {
        **params.LIST_FIELDS,
        "collection_method": _COLLECTION,
        "created": Instants(),
        "customer": Text(),
        "due_date": Instants(),
        "status": Choice("draft", "open", "paid", "uncollectible", "void"),
        "subscription": Text(),
    },
    not_yet=("customer_account",),
)


def create(call: Call) -> Json:
    """A new draft, empty or with the customer's pending invoice items.

    Raises:
        RefusedError: there is no such customer, or the subscription is another one's.
    """
    given = call.params
    customer = call.referred(CUSTOMER, given["customer"], "customer")
    call = call.on_clock_of(customer)
    subscription = _subscription(call, customer)
    currency = given.get("currency") or (subscription["currency"] if subscription else "usd")
    occasion = Occasion(
        reason="manual",
        period=(call.now, call.now),
        lines=(),
        currency=str(currency).lower(),
        takes_pending=given.get("pending_invoice_items_behavior") == "include",
    )
    invoice = invoice_life.made(call, customer, subscription, occasion)
    return invoice_life.shown(call, call.put(invoice | _changes(call, invoice)))


def _subscription(call: Call, customer: Json) -> Json | None:
    if "subscription" not in call.params:
        return None
    subscription = call.referred(SUBSCRIPTION, call.params["subscription"], "subscription")
    if subscription["customer"] != customer["id"]:
        message = f"The subscription {subscription['id']} is not of customer {customer['id']}."
        raise refusals.RefusedError(message, param="subscription")
    return subscription


def retrieve(call: Call) -> Json:
    """One invoice, a draft with the usage aggregated by now."""
    return invoice_life.shown(call, call.targeted(INVOICE))


def update(call: Call) -> Json:
    """The invoice with the given fields changed; what is final keeps its terms.

    Raises:
        RefusedError: a field of drafts, and the invoice is none.
    """
    invoice = call.targeted(INVOICE)
    call = call.on_clock_of(invoice)
    always = ("auto_advance", "description", "metadata")
    later = [name for name in call.params if name not in always]
    if later and invoice["status"] != "draft":
        message = f"Finalized invoices can't be updated in this way ({', '.join(later)})."
        raise refusals.RefusedError(message, code="invoice_not_editable", param=later[0])
    changed = invoice_life.told(call, "updated", call.put(invoice | _changes(call, invoice)))
    if (
        changed["status"] == "open"
        and "auto_advance" in call.params
        and invoice_life.pays_itself(changed)
    ):
        changed = invoice_life.paid(call, changed)
    return invoice_life.shown(call, changed)


def _changes(call: Call, invoice: Json) -> Json:
    given = call.params
    plain = ("auto_advance", "collection_method", "days_until_due", "description")
    fields: Json = {name: given[name] for name in plain if name in given}
    if "metadata" in given:
        fields["metadata"] = merged_metadata(invoice["metadata"], given["metadata"])
    timed = "auto_advance" in given or "automatically_finalizes_at" in given
    if timed and invoice["status"] == "draft":
        fields["automatically_finalizes_at"] = _due(call, invoice | fields)
    return fields


def _due(call: Call, invoice: Json) -> int | None:
    """When a draft is finalized by itself: never while it is held."""
    if not invoice["auto_advance"]:
        return None
    if "automatically_finalizes_at" in call.params:
        at = int(call.params["automatically_finalizes_at"])
        if at <= call.now:
            message = "automatically_finalizes_at must be in the future."
            raise refusals.RefusedError(message, param="automatically_finalizes_at")
        return at
    return max(call.now, int(invoice["created"]) + call.world.settings.invoice_grace_s)


def list_all(call: Call) -> Json:
    """The account's invoices, newest first; those on test clocks only for their customer."""
    found = (
        invoice for invoice in call.account.newest_first(INVOICE) if _matches(invoice, call.params)
    )
    listed = page(found, call.params, call.path)
    return listed | {"data": [invoice_life.shown(call, invoice) for invoice in listed["data"]]}


def _matches(invoice: Json, given: dict[str, Any]) -> bool:
    plain = {
        name: given[name] for name in ("collection_method", "customer", "status") if name in given
    }
    on_clock = invoice["test_clock"] and not given.keys() & {"customer", "subscription"}
    due = given.get("due_date")
    return (
        not on_clock
        and plain.items() <= {name: invoice[name] for name in plain}.items()
        and given.get("subscription") in (None, invoice_life.subscription_of(invoice))
        and within(invoice["created"], given.get("created", {}))
        and (due is None or (invoice["due_date"] is not None and within(invoice["due_date"], due)))
    )


def lines(call: Call) -> Json:
    """An invoice's lines."""
    invoice = invoice_life.current(call, call.targeted(INVOICE))
    return page(invoice["lines"], call.params, call.path)


def finalize(call: Call) -> Json:
    """The draft is final now, whether its time had come or not."""
    invoice = _in_status(call, "draft", "finalized")
    call = call.on_clock_of(invoice)
    advance = {name: call.params[name] for name in ("auto_advance",) if name in call.params}
    return invoice_life.shown(call, invoice_life.finalized(call, invoice | advance))


def pay(call: Call) -> Json:
    """The invoice is paid; a draft is finalized first."""
    invoice = call.targeted(INVOICE)
    call = call.on_clock_of(invoice)
    if invoice["status"] == "draft":
        invoice = invoice_life.finalized(call, invoice)
        if invoice["status"] == "paid":
            return invoice_life.shown(call, invoice)
    return invoice_life.shown(call, invoice_life.paid(call, _in_status(call, "open", "paid")))


def void(call: Call) -> Json:
    """Nobody owes the open invoice any longer."""
    invoice = _in_status(call, "open", "voided")
    call = call.on_clock_of(invoice)
    transitions = invoice["status_transitions"] | {"voided_at": call.now}
    voided = call.put(invoice | {"status": "void", "status_transitions": transitions})
    return invoice_life.shown(call, invoice_life.told(call, "voided", voided))


def _in_status(call: Call, wanted: str, done: str) -> Json:
    invoice = call.targeted(INVOICE)
    if invoice["status"] != wanted:
        message = (
            f"The invoice {invoice['id']} cannot be {done}: it is {invoice['status']}, "
            f"not {wanted}."
        )
        raise refusals.RefusedError(message, code="status_transition_invalid")
    return invoice
