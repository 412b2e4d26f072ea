"""`/v1/periods`: how far the ends of customers' billing periods have come."""

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Path

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, CustomerQuery, TenantQuery, When
from functions.api.routes_mappings import READ
from functions.api.routes_reconciliation import Month
from functions.api.routes_usage import Period
from functions.api.routing import new_router, serve
from metering import wiring
from metering.mapping import Customer
from metering.names import CustomerRef
from metering.period import NEVER, Span
from metering.period_close import PeriodClose, PeriodState, takes_usage_until
from metering.work import MOMENT

router = new_router()

PERIODS_SHOWN = 13
"""Of one customer: the present one and a year of months."""


class PeriodView(Body):
    """A customer's billing period and its close."""

    customer_ref: str
    period: Period
    state: str
    """`open`, `closing` or `closed`."""
    subscription: str
    invoice: str
    """Empty while there is none."""
    takes_usage_until: When | None
    """Usage that is told later reaches no invoice of this period; null while its draft is held."""
    held: bool
    """We told Stripe not to finalize the draft by itself."""
    held_at: When | None
    released_at: When | None
    agreed_at: When | None
    """When all numbers were last found equal."""
    closed_at: When | None
    message: str
    """What it waits for, or what came of it."""


@serve(router, "GET /v1/periods", list[PeriodView], scopes=READ, tag="periods")
def list_periods_of_customer(
    customer_ref: CustomerQuery, tenant_id: TenantQuery = None
) -> Response[Any]:
    """A customer's billing periods, the present one first, with how far each was closed."""
    tenant = call.current().owner()
    wired = wiring.current()
    customer = wired.settings.customer(tenant, CustomerRef(customer_ref))
    closes = (
        wired.period_closes.of(tenant, customer.ref, period) or _not_begun(customer, period)
        for period in _latest_periods(customer)
    )
    return answer([_state(close) for close in closes])


@serve(router, "GET /v1/periods/<month>", list[PeriodView], scopes=READ, tag="periods")
def list_periods_of_month(
    month: Annotated[Month, Path()], tenant_id: TenantQuery = None
) -> Response[Any]:
    """The tenant's periods that begin in a month `YYYY-MM` and have ended, by customer."""
    tenant = call.current().owner()
    closes = wiring.current().period_closes.of_month(tenant, month)
    in_order = sorted(closes, key=lambda one: (one.customer, one.period.start))
    return answer([_state(close) for close in in_order])


def _latest_periods(customer: Customer) -> Iterator[Span]:
    period = customer.calendar.period_of(wiring.current().clock.now())
    for _ in range(PERIODS_SHOWN):
        yield period
        period = customer.calendar.period_of(period.start - MOMENT)


def _not_begun(customer: Customer, period: Span) -> PeriodClose:
    """A period of whose end nothing is stored: it is open, or held no usage when it ended."""
    is_open = wiring.current().clock.now() < period.end
    return PeriodClose(
        customer.tenant,
        customer.ref,
        period,
        PeriodState.OPEN if is_open else PeriodState.CLOSED,
        began_at=period.end,
        subscription=customer.calendar.era_of(period.start).subscription,
        message="" if is_open else "nothing was used, or it ended before closes were kept",
    )


def _state(close: PeriodClose) -> PeriodView:
    return PeriodView(
        customer_ref=close.customer,
        period=Period(start=close.period.start, end=close.period.end),
        state=close.state,
        subscription=close.subscription,
        invoice=close.invoice,
        takes_usage_until=_known(takes_usage_until(close.period, close)),
        held=close.is_held,
        held_at=close.held_at,
        released_at=close.released_at,
        agreed_at=close.agreed_at,
        closed_at=close.closed_at,
        message=close.message,
    )


def _known(instant: datetime) -> datetime | None:
    return instant if instant < NEVER else None
