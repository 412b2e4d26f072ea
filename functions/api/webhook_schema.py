"""What the API's document says of `POST /v1/stripe/webhook`.

For readers only, Stripe itself among them: what is really taken stands in `metering.stripe_event`.
"""

from typing import Literal

from functions.api.fields import Body
from metering.webhook import Reason, WebhookOutcome


class StripeEvent(Body):
    """Stripe's event, a snapshot or a thin one; of a type that matters here, more is read."""

    id: str
    object: Literal["event", "v2.core.event"]
    type: str


class WebhookTaken(Body):
    """The event needs no second delivery."""

    received: Literal[True]
    outcome: WebhookOutcome


class WebhookRefusal(Body):
    """The event is not taken, and nothing of it was kept."""

    error: str
    code: Reason
    message: str
