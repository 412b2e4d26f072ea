"""Ending a subscription at once, after Stripe was told all usage of its last period."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from metering.advance import Life, World
from metering.errors import BadRequestError, ConflictError
from metering.flush import Flush
from metering.mapping import Customer, unmapped_customer
from metering.names import CustomerRef, TenantId
from metering.period import Span
from metering.ports import SettingsStore, Subscriptions
from metering.push import PushStream
from metering.pusher import Pauses
from metering.subscriptions import SubscriptionSync


class CancellationPorts(NamedTuple):
    """What ending a subscription needs."""

    world: World
    store: SettingsStore
    subscriptions: Subscriptions
    sync: SubscriptionSync


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A subscription that was ended, and what Stripe had been told by then."""

    customer: Customer
    """As it stands afterwards."""
    subscription: str
    period: Span
    """Its last one, up to the end."""
    streams: tuple[PushStream, ...]
    trouble: str
    """What was not told, where it was ended all the same."""


class Cancellation:
    """Ends subscriptions."""

    def __init__(self, ports: CancellationPorts) -> None:
        self._ports = ports

    def cancel(
        self,
        tenant: TenantId,
        ref: CustomerRef,
        *,
        invoice_now: bool,
        force: bool,
        has_time: Callable[[], bool],
    ) -> Cancelled:
        """End a customer's subscription at once; with `invoice_now` its open usage is billed.

        With `force` it is ended though Stripe does not have all usage; that is not billed then.

        Raises:
            BadRequestError: the customer has no subscription.
            ConflictError: Stripe does not have all usage; the message says what is missing.
            RetryableError: Stripe or a table cannot answer now.
            SetupError: Stripe refuses our key.
        """
        customer = self._customer(tenant, ref)
        world = self._ports.world
        period = customer.calendar.period_of(world.clock.now())
        life = Life(world.billing.mode, world.pushes.incarnation())
        flush = Flush(world, life, Pauses(world.pushes, world.clock), has_time)
        told = flush.tell(customer, period)
        trouble = told.trouble or flush.check(told, period, None)
        if trouble and not force:
            raise ConflictError(
                f"{customer.subscription} was not cancelled: {trouble}. Try again in a minute, or"
                " send force: true to cancel it without"
            )
        ended = self._ports.subscriptions.cancel(customer.subscription, invoice_now=invoice_now)
        after = self._ports.sync.refresh(customer)
        last = Span(period.start, ended.ended_at or world.clock.now())
        return Cancelled(after, ended.id, last, told.streams, trouble)

    def _customer(self, tenant: TenantId, ref: CustomerRef) -> Customer:
        stands = self._ports.store.stored_customer(tenant, ref) or unmapped_customer(tenant, ref)
        customer = self._ports.sync.refresh(stands)
        if not customer.subscription:
            raise BadRequestError(
                f"Customer {ref} has no subscription that could be cancelled",
                error="Validation Error",
            )
        return customer
