"""Whose an object at Stripe is, where several tenants share one Stripe account.

A tenant that could map another's price, or name another's customer, could bill that tenant's
customers. So the first tenant that names one claims it, and another's mapping or customer that
names it later is refused. See `docs/decisions/0025`.
"""

from typing import NamedTuple

from metering.keys import join
from metering.mapping import Customer, Mapping

ID_PREFIXES = ("price_", "mtr_", "si_", "cus_", "sub_")


class StripeName(NamedTuple):
    """One thing at Stripe that only one tenant may name."""

    space: str
    """Empty for ids, which are unique at Stripe; event names are so within their account."""
    name: str


def name_of(text: str, account: str = "") -> StripeName:
    """What a person wrote: an id, or the event name of a meter of an account."""
    if text.startswith(ID_PREFIXES):
        return StripeName("", text)
    return _event_name(account, text)


def named_by_mapping(mapping: Mapping) -> list[StripeName]:
    """What a mapping tells usage to."""
    ids = (mapping.price_id, mapping.meter_id, mapping.subscription_item_id)
    names = [StripeName("", one) for one in ids if one]
    if mapping.meter_event_name:
        names.append(_event_name(mapping.stripe_account, mapping.meter_event_name))
    return names


def named_by_customer(customer: Customer) -> list[StripeName]:
    """Who a customer is at Stripe, and what tells its periods."""
    ids = (customer.stripe_customer, customer.subscription)
    return [StripeName("", one) for one in ids if one]


def _event_name(account: str, name: str) -> StripeName:
    return StripeName(join("event_name", account), name)
