"""Stripe's events as they are delivered, signed by the SDK's own means."""

import base64
import itertools
import json
from collections.abc import Mapping
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

from stripe import WebhookSignature

from tests.builders import NOON

EVENTS = Path(__file__).parent.parent / "events"
REQUEST: dict[str, Any] = json.loads((EVENTS / "http-stripe-webhook.json").read_text())
ON_BUS: dict[str, Any] = json.loads((EVENTS / "eventbridge-stripe.json").read_text())
SECRET = "whsec_example"
_numbers = itertools.count(1)


def a_snapshot(event_type: str = "invoice.created", **changes: Any) -> dict[str, Any]:
    """A snapshot event of an id of its own, unless given one."""
    event: dict[str, Any] = json.loads(REQUEST["body"])
    return event | {"id": f"evt_{next(_numbers)}", "type": event_type} | changes


def a_thin_event(
    event_type: str = "v1.billing.meter.error_report_triggered", **changes: Any
) -> dict[str, Any]:
    """A thin event of an id of its own, unless given one."""
    event: dict[str, Any] = ON_BUS["detail"]
    return event | {"id": f"evt_{next(_numbers)}", "type": event_type} | changes


def text_of(event: Mapping[str, Any]) -> str:
    """The body that Stripe sends: JSON, indented."""
    return json.dumps(event, indent=2, ensure_ascii=False)


def signed(body: str, *secrets: str, at: datetime = NOON) -> str:
    """The header of a body: one signature per secret."""
    seconds = int(at.timestamp())
    headers = [
        WebhookSignature.generate_signature_header(body, secret, seconds)
        for secret in secrets or (SECRET,)
    ]
    return ",".join([f"t={seconds}", *(header.partition(",")[2] for header in headers)])


def delivered(body: str, signature: str | None, *, in_base64: bool = False) -> dict[str, Any]:
    """The request that API Gateway makes of a webhook; without a signature, it has no header."""
    request: dict[str, Any] = deepcopy(REQUEST)
    del request["headers"]["stripe-signature"]
    if signature is not None:
        request["headers"]["stripe-signature"] = signature
    request["body"] = base64.b64encode(body.encode()).decode() if in_base64 else body
    request["isBase64Encoded"] = in_base64
    return request


def on_the_bus(event: Mapping[str, Any]) -> dict[str, Any]:
    """The event as a rule of EventBridge hands it over."""
    return ON_BUS | {"detail-type": event["type"], "detail": dict(event)}
