"""Stripe through its own SDK: each call once, each outcome named.

The SDK's own retries are off, because the push protocol decides what may be repeated, and so is its
telemetry, which would write a file. Timeouts are short, so that a function's deadline is never what
ends a request.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import stripe

from metering.adapters import stripe_key
from metering.config import Config
from metering.delivery import (
    Accepted,
    AlreadyExists,
    Answer,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
)
from metering.errors import NotFoundError, RetryableError
from metering.period import Span
from metering.ports import MeterEvent, SetupError, StripeMeter, Subscription, SubscriptionItem
from metering.push import Mode

if TYPE_CHECKING:
    from stripe import RequestOptions
    from stripe._base_address import BaseAddresses

CONNECT_TIMEOUT_S = 3.05
READ_TIMEOUT_S = 10.0
DUPLICATE = "duplicate_meter_event"
"""The code of v2; v1 has none and says "An event already exists with identifier ..."."""
DUPLICATE_TEXT = "already exists with identifier"
_CONFLICT, _TOO_MANY, _SERVER_ERROR = 409, 429, 500
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 401, 403, 404

stripe.enable_telemetry = False


class StripeBilling:
    """The `Billing` port on the `stripe` SDK."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._made: tuple[str, stripe.StripeClient] | None = None

    @property
    def mode(self) -> Mode:
        """See `Billing.mode`."""
        return stripe_key.mode_of(self._key_and_client()[0])

    def reach(self) -> None:
        """See `Billing.reach`."""
        with self._reading():
            self._client.v1.billing.meters.list({"limit": 1})

    # --- sending ---

    def send(self, event: MeterEvent) -> Answer:
        """See `Billing.send`. A missing key is an answer too: `NotAllowed`."""
        try:
            client = self._client
            sent = client.v1.billing.meter_events.create(_parameters(event), _options(event))
        except SetupError as error:
            return NotAllowed(str(error))
        except stripe.StripeError as error:
            answer = answer_of(error, event)
            if isinstance(answer, NotAllowed):
                self._forget_key()
            return answer
        headers = sent.last_response.headers if sent.last_response else {}
        return Accepted(replayed=headers.get("Idempotent-Replayed") == "true")

    # --- reading ---

    def total(self, meter_id: str, customer: str, span: Span, account: str = "") -> Decimal:
        """See `Billing.total`."""
        with self._reading():
            summaries = self._client.v1.billing.meters.event_summaries.list(
                meter_id,
                {
                    "customer": customer,
                    "start_time": int(span.start.timestamp()),
                    "end_time": int(span.end.timestamp()),
                },
                _for_account(account),
            )
        # The SDK hands over a float; its shortest text is the number that Stripe wrote.
        return sum((Decimal(str(one.aggregated_value)) for one in summaries.data), Decimal(0))

    def meter_of_price(self, price_id: str, account: str = "") -> StripeMeter | None:
        """See `Billing.meter_of_price`."""
        with self._reading(f"no price {price_id} at Stripe, in this account and mode"):
            price = self._client.v1.prices.retrieve(price_id, None, _for_account(account))
            meter_id = _meter_id(price)
            if not meter_id:
                return None
            meter = self._client.v1.billing.meters.retrieve(meter_id, None, _for_account(account))
        return StripeMeter(
            id=meter.id,
            event_name=meter.event_name,
            formula=meter.default_aggregation.formula,
            active=meter.status == "active",
        )

    def subscription(self, subscription_id: str, account: str = "") -> Subscription:
        """See `Billing.subscription`."""
        with self._reading(
            f"no subscription {subscription_id} at Stripe, in this account and mode"
        ):
            found = self._client.v1.subscriptions.retrieve(
                subscription_id, None, _for_account(account)
            )
        customer = found.customer
        return Subscription(
            id=found.id,
            customer=customer if isinstance(customer, str) else customer.id,
            billing_anchor=_instant(found.billing_cycle_anchor),
            # As an attribute, `items` is the method that every mapping has.
            items=tuple(_item(item) for item in found["items"].data),
        )

    @contextmanager
    def _reading(self, not_found: str = "") -> Iterator[None]:
        try:
            yield
        except stripe.StripeError as error:
            status = error.http_status or 0
            if status in {_UNAUTHORIZED, _FORBIDDEN}:
                self._forget_key()
                raise SetupError(f"Stripe refuses our key: {error}") from error
            if status == _NOT_FOUND and not_found:
                raise NotFoundError(not_found) from error
            if 0 < status < _SERVER_ERROR and status not in {_CONFLICT, _TOO_MANY}:
                raise
            raise RetryableError(f"Stripe cannot answer now: {error}") from error

    # --- the client ---

    @property
    def _client(self) -> stripe.StripeClient:
        return self._key_and_client()[1]

    def _key_and_client(self) -> tuple[str, stripe.StripeClient]:
        if self._made is None:
            key = stripe_key.read_key(self._config)
            self._made = key, _make_client(key, self._config.stripe_api_base)
        return self._made

    def _forget_key(self) -> None:
        """A refused key may have been rotated."""
        stripe_key.forget_secret()
        self._made = None


make_billing: Callable[[Config], StripeBilling] = StripeBilling


def _make_client(key: str, api_base: str | None) -> stripe.StripeClient:
    # An address that is left out stays Stripe's own, so all of them are set or none.
    addresses: BaseAddresses = {}
    if api_base is not None:
        base = api_base.rstrip("/")
        addresses = {"api": base, "connect": base, "files": base, "meter_events": base}
    return stripe.StripeClient(
        key,
        base_addresses=addresses,
        max_network_retries=0,
        http_client=stripe.RequestsClient(timeout=(CONNECT_TIMEOUT_S, READ_TIMEOUT_S)),
    )


def _parameters(event: MeterEvent) -> Any:
    return {
        "event_name": event.event_name,
        "payload": {"stripe_customer_id": event.customer, "value": event.value},
        "identifier": event.identifier,
        "timestamp": int(event.occurred_at.timestamp()),
    }


def _options(event: MeterEvent) -> "RequestOptions":
    return {"idempotency_key": event.idempotency_key, **_for_account(event.account)}


def _for_account(account: str) -> "RequestOptions":
    return {"stripe_account": account} if account else {}


def _meter_id(price: stripe.Price) -> str:
    return (price.recurring.meter or "") if price.recurring else ""


def _item(item: stripe.SubscriptionItem) -> SubscriptionItem:
    period = Span(_instant(item.current_period_start), _instant(item.current_period_end))
    return SubscriptionItem(item.id, item.price.id, _meter_id(item.price), period)


def _instant(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)


# --- what an error means --------------------------------------------------------------------------


def answer_of(  # noqa: PLR0911 (one line per kind of answer)
    error: stripe.StripeError, event: MeterEvent
) -> Answer:
    """What the SDK's exception for a sent meter event says about it."""
    status, message = error.http_status or 0, str(error)
    match error:
        case stripe.APIConnectionError():
            return OutcomeUnknown(f"no answer: {_cause(error)}")
        case stripe.RateLimitError():
            return RateLimited(_header(error, "Stripe-Rate-Limited-Reason") or "lock_timeout")
        case stripe.IdempotencyError():
            return KeyReused(message)
        case stripe.AuthenticationError() | stripe.PermissionError():
            return NotAllowed(f"{status}: {message}")
        case stripe.InvalidRequestError():
            return _invalid(error, event)
    if status == _CONFLICT:
        return InFlight()
    if status == _SERVER_ERROR:
        return ServerError(message)
    # 502 to 504, and bodies that nobody can read, whatever their status.
    return OutcomeUnknown(f"{status}: {message}")


def _invalid(error: stripe.InvalidRequestError, event: MeterEvent) -> Answer:
    message = error.user_message or str(error)
    code = _code(error)
    is_ours = DUPLICATE_TEXT in message and event.identifier in message
    if code == DUPLICATE or is_ours:
        return AlreadyExists(message)
    return Refused(code, message)


def _code(error: stripe.StripeError) -> str:
    # On some errors the SDK fills only the parsed body's code.
    return error.code or (error.error.code if error.error else None) or ""


def _header(error: stripe.StripeError, name: str) -> str:
    return (error.headers or {}).get(name, "")


def _cause(error: stripe.StripeError) -> str:
    return str(error.__cause__ or error)
