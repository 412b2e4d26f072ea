"""The API's description: `/docs/json` is the OpenAPI document, `/docs` a page to look at it.

Ingest and Stripe's webhook are answered by functions of their own, and described here with the
rest.
"""

import json
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aws_lambda_powertools
from aws_lambda_powertools.event_handler.openapi.swagger_ui.html import generate_swagger_html
from pydantic.json_schema import models_json_schema

import metering
from functions.api.fields import ERROR_STATUSES, ErrorBody, RefusedCaller
from functions.api.ingest_schema import IngestAnswer, IngestRefusal, IngestRequest
from functions.api.routing import JSON, LISTINGS, RETRY_AFTER, SCOPES, TOO_MUCH
from functions.api.webhook_schema import StripeEvent, WebhookRefusal, WebhookTaken

if TYPE_CHECKING:
    from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

INGEST_PATH = "/v1/events/ingest"
WEBHOOK_PATH = "/v1/stripe/webhook"

_REF = "#/components/schemas/{model}"
_ASSETS = Path(aws_lambda_powertools.__file__).parent / "event_handler/openapi/swagger_ui"
_ABOUT = (
    "Usage events in, correct totals in Stripe. Quantities are JSON numbers with all their digits:"
    " read them as decimals. The tenant comes from the API key; a tenantId may only repeat it."
)
_PUBLIC = ("/health", "/health/live", "/health/ready", "/metrics")
_NO_CONTENT = "204"


@cache
def document_of(app: "APIGatewayHttpResolver") -> str:
    """The OpenAPI document as JSON."""
    raw = app.get_openapi_json_schema(
        title="StripeMeter", version=metering.__version__, description=_ABOUT
    )
    document: dict[str, Any] = json.loads(raw)
    for path in document["paths"].values():
        for operation in path.values():
            _correct(operation)
    _add_unrouted(document)
    _add_security(document)
    return json.dumps(document)


def _correct(operation: dict[str, Any]) -> None:
    """Put right what Powertools says of every operation and is not so here."""
    scopes = SCOPES.get(operation["operationId"])
    if scopes:
        needed = f"Needs a key with any one of the scopes {', '.join(scopes)}."
        operation["description"] = f"{operation.get('description', '')}\n\n{needed}".strip()
    # It would answer invalid requests by 422; ours are 400, which stands there too.
    del operation["responses"][str(TOO_MUCH)]
    if operation["operationId"] in LISTINGS:
        operation["responses"] |= _refusals({TOO_MUCH})
    # It knows no answer without a body.
    operation["responses"].get(_NO_CONTENT, {}).pop("content", None)


def page_of(app: "APIGatewayHttpResolver") -> str:
    """A page that shows the document; its scripts are in the page, nothing is loaded from afar."""
    return generate_swagger_html(
        # `</` in a description must not end the page's script.
        document_of(app).replace("</", "<\\/"),
        (_ASSETS / "swagger-ui-bundle.min.js").read_text(),
        (_ASSETS / "swagger-ui.min.css").read_text(),
        swagger_base_url="",
        oauth2_config=None,
    )


def _add_unrouted(document: dict[str, Any]) -> None:
    """Describe the functions that have no router."""
    models = (
        *(IngestRequest, IngestAnswer, IngestRefusal, ErrorBody, RefusedCaller),
        *(StripeEvent, WebhookTaken, WebhookRefusal),
    )
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    document["components"]["schemas"] |= schemas["$defs"]
    document["paths"][INGEST_PATH] = {"post": _ingest_operation()}
    document["paths"][WEBHOOK_PATH] = {"post": _webhook_operation()}


def _ingest_operation() -> dict[str, Any]:
    return {
        "tags": ["events"],
        "summary": "Take usage events",
        "description": (
            "Each event is answered by itself, in the order sent; one that is wrong refuses no"
            " other. `accepted` is durable and counts exactly once, however often it is sent."
        ),
        "operationId": "ingest",
        "parameters": [
            {
                "name": "tenantId",
                "in": "query",
                "required": False,
                "description": "Only to repeat the API key's own tenant.",
                "schema": {"type": "string"},
            },
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The key of an event that carries none; with several keyless events,"
                " each gets a key made of this one and its position.",
                "schema": {"type": "string", "maxLength": 255},
            },
        ],
        "requestBody": {"required": True, "content": _content("IngestRequest")},
        "responses": {"200": _answer("One result per event", "IngestAnswer")}
        | _refusals({401, 403, 413})
        | {
            "429": _later(ERROR_STATUSES[429], "RefusedCaller"),
            "400": _answer("The request as a whole cannot be taken", "IngestRefusal"),
            "503": _later("Nothing could be stored for now; send the same again", "IngestRefusal"),
        },
    }


def _webhook_operation() -> dict[str, Any]:
    return {
        "tags": ["stripe"],
        "summary": "Keep an event of Stripe's",
        "description": (
            "For Stripe alone, which signs what it sends; an API key means nothing here. 200 is"
            " said only of what is kept or needs no keeping: Stripe delivers all else again."
        ),
        "operationId": "stripe_webhook",
        "requestBody": {"required": True, "content": _content("StripeEvent")},
        "responses": {
            "200": _answer("The event needs no second delivery", "WebhookTaken"),
            "400": _answer("It is not Stripe's, not of now, or no event", "WebhookRefusal"),
            "503": _later("It could not be kept for now, or no secret is set up", "ErrorBody"),
        },
    }


def _refusals(statuses: Collection[int]) -> dict[str, Any]:
    return {
        str(status): _answer(
            ERROR_STATUSES[status], "RefusedCaller" if status in {401, 403} else "ErrorBody"
        )
        for status in sorted(statuses)
    }


def _later(description: str, model: str) -> dict[str, Any]:
    return _answer(description, model) | {"headers": RETRY_AFTER}


def _answer(description: str, model: str) -> dict[str, Any]:
    return {"description": description, "content": _content(model)}


def _content(model: str) -> dict[str, Any]:
    return {JSON: {"schema": {"$ref": _REF.format(model=model)}}}


def _add_security(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "sm_<prefix>.<secret>"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        "stripe": {
            "type": "apiKey",
            "in": "header",
            "name": "Stripe-Signature",
            "description": "t=<epoch seconds>,v1=<hex>: the body, signed by the endpoint's secret.",
        },
    }
    for name, path in document["paths"].items():
        for operation in path.values():
            operation["security"] = _security_of(name)


def _security_of(path: str) -> list[dict[str, list[str]]]:
    if path in _PUBLIC:
        return []
    return [{"stripe": []}] if path == WEBHOOK_PATH else [{"bearer": []}, {"apiKey": []}]
