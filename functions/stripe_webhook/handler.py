"""`POST /v1/stripe/webhook`, and Stripe's partner event bus at AWS: events to be kept as notices.

Two doors to one room. Over HTTPS a signature proves that Stripe sent the event; on the bus AWS
vouches for it, and only a rule of ours may invoke this function. Our API keys mean nothing here:
Stripe has none.
"""

import logging
from collections.abc import Mapping
from typing import Any

from functions.http import body_of, respond
from functions.invocation import invocation
from metering import wiring
from metering.errors import InvariantBrokenError, RetryableError
from metering.ports import SetupError
from metering.webhook import Taken, WebhookOutcome, WebhookRefusedError

BUS_SOURCE = "aws.partner/stripe.com/"
RETRY_AFTER_S = "5"

log = logging.getLogger(__name__)


@invocation
def handler(event: Mapping[str, Any], context: object) -> dict[str, Any]:
    """Answer one API Gateway request (payload 2.0), or take one event of the bus."""
    if "requestContext" in event:
        return _answer(event)
    return _take_from_bus(event)


def _answer(event: Mapping[str, Any]) -> dict[str, Any]:
    """200 only for what is kept, or needs no keeping: everything else Stripe delivers again."""
    signature = event["headers"].get("stripe-signature", "")
    try:
        taken = wiring.current().webhook.take(body_of(event), signature)
    except WebhookRefusedError as refusal:
        log.warning("a webhook was refused: %s", refusal.message)
        body = {"error": refusal.error, "code": refusal.reason, "message": refusal.message}
        return respond(refusal.status, body)
    except (RetryableError, SetupError) as trouble:
        log.warning("a webhook could not be kept: %s", trouble)
        body = {"error": "Service Unavailable", "message": f"{trouble}; deliver the event again"}
        return respond(503, body, {"retry-after": RETRY_AFTER_S})
    _note(taken)
    return respond(200, {"received": True, "outcome": taken.outcome})


def _take_from_bus(event: Mapping[str, Any]) -> dict[str, Any]:
    """What is raised, EventBridge retries and then puts into the function's dead letters."""
    source = str(event.get("source", ""))
    if not source.startswith(BUS_SOURCE):
        raise InvariantBrokenError(
            f"this function was invoked by {source or 'nobody knows whom'}: let the rule match only"
            f" sources that begin with {BUS_SOURCE}"
        )
    taken = wiring.current().webhook.take_unsigned(event.get("detail"))
    _note(taken)
    return {"outcome": taken.outcome}


def _note(taken: Taken) -> None:
    notice = taken.notice
    if notice is not None and taken.outcome is WebhookOutcome.OTHER_MODE:
        world = "live" if notice.is_live else "test"
        log.warning("%s %s is of %s mode, our key is not: ignored", notice.id, notice.type, world)
