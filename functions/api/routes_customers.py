"""`/v1/customers`: who a tenant's customers are at Stripe, and when their billing periods begin."""

from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import (
    Body,
    CustomerFilter,
    CustomerName,
    StripeId,
    TenantQuery,
    When,
)
from functions.api.routes_mappings import READ, WRITE
from functions.api.routes_usage import Period
from functions.api.routing import new_router, serve
from metering import wiring
from metering.errors import BadRequestError
from metering.mapping import Customer, unmapped_customer
from metering.mapping_setup import check_customer, with_subscription
from metering.names import CustomerRef, TenantId
from metering.stripe_claims import named_by_customer

router = new_router()

CustomerPath = Annotated[CustomerName, Path()]


class CustomerChange(Body):
    """Who a customer is at Stripe; it replaces what stood there."""

    tenant_id: str | None = None
    customer_ref: CustomerName | None = None
    """Only where the path does not name it."""
    stripe_customer: StripeId = ""
    """`cus_...`; with a subscription it may be left out."""
    shadow_stripe_customer: StripeId = ""
    """`cus_...` in the test account that hears the same; without it nothing is shadowed for it."""
    subscription: StripeId = ""
    """`sub_...`; its periods become the customer's. Without one they are calendar months."""


class CustomerState(Body):
    """A customer as it stands."""

    tenant_id: str
    customer_ref: str
    stripe_customer: str
    """Empty while unknown: then nothing is told for it."""
    shadow_stripe_customer: str
    subscription: str
    billing_anchor: When | None
    period: Period
    """The present billing period."""
    trouble: str
    """What a person must look at in its subscriptions at Stripe; empty when all is well."""


class CustomerPage(Body):
    """Part of a tenant's customers, by ref."""

    customers: list[CustomerState]
    next_after: str | None
    """What to send as `after` for the next part; null at the end."""


@serve(router, "GET /v1/customers", CustomerPage, scopes=READ, tag="customers")
def list_customers(
    tenant_id: TenantQuery = None,
    customer: CustomerFilter = None,
    after: Annotated[CustomerName | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Response[Any]:
    """The customers that were set up; or with `customerRef` that one, set up or not."""
    tenant = call.current().owner()
    if customer:
        found = [wiring.current().settings.customer(tenant, CustomerRef(customer))]
        return answer(CustomerPage(customers=[_state(one) for one in found], next_after=None))
    start = CustomerRef(after) if after else None
    found = wiring.current().settings_store.customers_after(tenant, start, limit)
    next_after = found[-1].ref if len(found) == limit else None
    return answer(CustomerPage(customers=[_state(one) for one in found], next_after=next_after))


@serve(router, "GET /v1/customers/<customer_ref>", CustomerState, scopes=READ, tag="customers")
def get_customer(customer_ref: CustomerPath, tenant_id: TenantQuery = None) -> Response[Any]:
    """One customer, set up or not."""
    tenant = call.current().owner()
    return answer(_state(wiring.current().settings.customer(tenant, CustomerRef(customer_ref))))


@serve(
    router,
    "PUT /v1/customers/<customer_ref>",
    CustomerState,
    scopes=WRITE,
    tag="customers",
    may={409, 502},
)
def put_customer(
    customer_ref: CustomerPath,
    sent: Annotated[CustomerChange, FromBody()],
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Say who a customer is at Stripe; a subscription is read there, for its billing periods.

    Both belong to the tenant that names them first: to others they are refused, 409.
    """
    tenant = call.current().owner()
    if sent.customer_ref not in {None, customer_ref}:
        raise BadRequestError("customerRef: differs from the path's", error="Validation Error")
    return answer(_state(_put(tenant, CustomerRef(customer_ref), sent)))


@serve(
    router, "PUT /v1/customers", CustomerState, scopes=WRITE, tag="customers", may={404, 409, 502}
)
def put_customer_named_in_body(
    sent: Annotated[CustomerChange, FromBody()], tenant_id: TenantQuery = None
) -> Response[Any]:
    """The same for a customer whose ref cannot stand in a path (`/`, `?`, `#`)."""
    tenant = call.current().owner()
    if sent.customer_ref is None:
        raise BadRequestError("customerRef: Required", error="Validation Error")
    return answer(_state(_put(tenant, CustomerRef(sent.customer_ref), sent)))


def _put(tenant: TenantId, ref: CustomerRef, sent: CustomerChange) -> Customer:
    wired = wiring.current()
    stripe_customer = sent.stripe_customer
    if not stripe_customer and not sent.subscription:
        stripe_customer = unmapped_customer(tenant, ref).stripe_customer
    customer = Customer(
        tenant,
        ref,
        stripe_customer,
        shadow_stripe_customer=sent.shadow_stripe_customer,
        subscription=sent.subscription,
    )
    check_customer(customer)
    before = wired.settings_store.stored_customer(tenant, ref)
    if customer.subscription:
        customer = with_subscription(before, customer, wired.subscriptions)
    wired.stripe_claims.take(tenant, named_by_customer(customer), wired.clock.now())
    wired.settings_store.put_customer(customer)
    wired.subscription_sync.recount(before or unmapped_customer(tenant, ref), customer)
    return customer


def _state(customer: Customer) -> CustomerState:
    period = customer.calendar.period_of(wiring.current().clock.now())
    return CustomerState(
        tenant_id=customer.tenant,
        customer_ref=customer.ref,
        stripe_customer=customer.stripe_customer,
        shadow_stripe_customer=customer.shadow_stripe_customer,
        subscription=customer.subscription,
        billing_anchor=customer.billing_anchor,
        period=Period(start=period.start, end=period.end),
        trouble=customer.trouble,
    )
