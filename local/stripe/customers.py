"""Customers: who is billed. The stand-in keeps what it is told about them and bills nobody."""

from local.stripe import events, params, refusals, subscriptions
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import (
    Array,
    Boolean,
    Choice,
    Fields,
    Instants,
    Integer,
    Metadata,
    Text,
    merged_metadata,
    within,
)
from local.stripe.state import CUSTOMER, SUBSCRIPTION, TEST_CLOCK
from local.stripe.wire import Json

_TEXT = Text(unset=True)
_ADDRESS_FIELDS = dict.fromkeys(
    ("city", "country", "line1", "line2", "postal_code", "state"), _TEXT
)
_ADDRESS = Fields(_ADDRESS_FIELDS, unset=True)
_SHIPPING = Fields(
    {"address": Fields(_ADDRESS_FIELDS), "name": Text(), "phone": _TEXT},
    required=("address", "name"),
    unset=True,
)
_NOT_YET = (
    "cash_balance",
    "default_source",
    "invoice_settings",
    "payment_method",
    "source",
    "tax",
    "tax_id_data",
)
CUSTOMERS_OF_CLOCK_MAX = 3

UPDATE = Fields(
    {
        "address": _ADDRESS,
        "balance": Integer(),
        "business_name": _TEXT,
        "description": _TEXT,
        "email": Text(512, unset=True),
        "individual_name": _TEXT,
        "invoice_prefix": _TEXT,
        "metadata": Metadata(),
        "name": Text(256, unset=True),
        "next_invoice_sequence": Integer(least=1),
        "phone": _TEXT,
        "preferred_locales": Array(Text(), unset=True),
        "shipping": _SHIPPING,
        "tax_exempt": Choice("exempt", "none", "reverse", unset=True),
        "validate": Boolean(),
    },
    not_yet=_NOT_YET,
)
CREATE = UPDATE.plus({"test_clock": Text()})
LIST = Fields({**params.LIST_FIELDS, "created": Instants(), "email": Text(), "test_clock": Text()})

# Stripe keeps an address whole, with null for what is not known.
_NO_ADDRESS = dict.fromkeys(_ADDRESS_FIELDS)


def create(call: Call) -> Json:
    """A new customer, perhaps on a test clock.

    Raises:
        RefusedError: there is no such clock, or it has three customers already.
    """
    clock = call.params.get("test_clock")
    if clock:
        _check_room(call, clock)
        call = call.on_clock_of({"test_clock": clock})
    return _told(call, "created", call.put(_applied(blank(call, call.new_id("cus_")), call)))


def _check_room(call: Call, clock: str) -> None:
    call.referred(TEST_CLOCK, clock, "test_clock")
    living = [one for one in call.account.newest_first(CUSTOMER) if one["test_clock"] == clock]
    if len(living) >= CUSTOMERS_OF_CLOCK_MAX:
        message = (
            f"A test clock can have at most {CUSTOMERS_OF_CLOCK_MAX} customers, and {clock} has."
        )
        raise refusals.RefusedError(message, param="test_clock")


def _told(call: Call, what: str, customer: Json) -> Json:
    events.emit(call.world, call.account, f"customer.{what}", customer, call.now)
    return customer


def blank(call: Call, identity: str) -> Json:
    """A customer of whom nothing is known yet."""
    return {
        "id": identity,
        "object": CUSTOMER,
        "address": None,
        "balance": 0,
        "created": call.now,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": None,
        "invoice_prefix": identity.removeprefix("cus_")[:8].upper(),
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "livemode": False,
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
    }


def _applied(customer: Json, call: Call) -> Json:
    given = dict(call.params)
    given.pop("validate", None)
    if "metadata" in given:
        given["metadata"] = merged_metadata(customer["metadata"], given["metadata"])
    if given.get("address"):
        given["address"] = _NO_ADDRESS | given["address"]
    if "tax_exempt" in given:
        given["tax_exempt"] = given["tax_exempt"] or "none"
    if "preferred_locales" in given:
        given["preferred_locales"] = given["preferred_locales"] or []
    return customer | given


def retrieve(call: Call) -> Json:
    """One customer, or the stub that is left of a deleted one."""
    return call.account.all(CUSTOMER).get(call.target) or call.targeted(CUSTOMER)


def update(call: Call) -> Json:
    """The customer with the given fields changed."""
    customer = call.targeted(CUSTOMER)
    call = call.on_clock_of(customer)
    return _told(call, "updated", call.put(_applied(customer, call)))


def list_all(call: Call) -> Json:
    """The account's customers, newest first; those on a test clock only on demand."""
    email, created = call.params.get("email"), call.params.get("created", {})
    clock = call.params.get("test_clock")
    found = (
        customer
        for customer in call.account.newest_first(CUSTOMER)
        if email in (None, customer["email"])
        and within(customer["created"], created)
        and customer["test_clock"] == clock
    )
    return page(found, call.params, call.path)


def delete(call: Call) -> Json:
    """The customer is gone for good, and all subscriptions with it."""
    customer = call.targeted(CUSTOMER)
    return gone(call.on_clock_of(customer), customer)


def gone(call: Call, customer: Json) -> Json:
    """Delete a customer at the instant of its clock."""
    for subscription in list(call.account.newest_first(SUBSCRIPTION)):
        if subscription["customer"] == customer["id"] and subscription["status"] != "canceled":
            subscriptions.end(call, subscription)
    _told(call, "deleted", customer)
    return call.put({"id": customer["id"], "object": CUSTOMER, "deleted": True})
