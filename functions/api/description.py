"""The API's description: `/docs/json` is the OpenAPI document, `/docs` a page to look at it.

`POST /v1/events/ingest` is answered by a function of its own, and described here with the rest.
"""

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aws_lambda_powertools
from aws_lambda_powertools.event_handler.openapi.swagger_ui.html import generate_swagger_html
from pydantic.json_schema import models_json_schema

import metering
from functions.api.fields import ERROR_STATUSES, ErrorBody
from functions.api.ingest_schema import IngestAnswer, IngestRefusal, IngestRequest

if TYPE_CHECKING:
    from aws_lambda_powertools.event_handler import APIGatewayHttpResolver

_REF = "#/components/schemas/{model}"
_ASSETS = Path(aws_lambda_powertools.__file__).parent / "event_handler/openapi/swagger_ui"
_ABOUT = (
    "Usage events in, correct totals in Stripe. Quantities are JSON numbers with all their digits:"
    " read them as decimals. The tenant comes from the API key; a tenantId may only repeat it."
)
_PUBLIC = ("/health", "/health/live", "/health/ready", "/metrics")


@cache
def document_of(app: "APIGatewayHttpResolver") -> str:
    """The OpenAPI document as JSON."""
    raw = app.get_openapi_json_schema(
        title="StripeMeter", version=metering.__version__, description=_ABOUT
    )
    document: dict[str, Any] = json.loads(raw)
    for path in document["paths"].values():
        for operation in path.values():
            # Powertools would answer invalid requests by 422; ours are 400, which stands there too.
            operation["responses"].pop("422", None)
    _add_ingest(document)
    _add_security(document)
    return json.dumps(document)


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


def _add_ingest(document: dict[str, Any]) -> None:
    models = (IngestRequest, IngestAnswer, IngestRefusal, ErrorBody)
    _, schemas = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    document["components"]["schemas"] |= schemas["$defs"]
    document["paths"]["/v1/events/ingest"] = {"post": _ingest_operation()}


def _ingest_operation() -> dict[str, Any]:
    refusals = {str(code): _answer(text, "ErrorBody") for code, text in ERROR_STATUSES.items()}
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
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The key of an event that carries none; with several keyless events,"
                " each gets a key made of this one and its position.",
                "schema": {"type": "string", "maxLength": 255},
            }
        ],
        "requestBody": {"required": True, "content": _content("IngestRequest")},
        "responses": {"200": _answer("One result per event", "IngestAnswer")}
        | refusals
        | {
            "400": _answer("The request as a whole cannot be taken", "IngestRefusal"),
            "413": _answer("The body is over 1 MiB", "ErrorBody"),
            "503": _answer("Nothing could be stored for now; send the same again", "IngestAnswer"),
        },
    }


def _answer(description: str, model: str) -> dict[str, Any]:
    return {"description": description, "content": _content(model)}


def _content(model: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": _REF.format(model=model)}}}


def _add_security(document: dict[str, Any]) -> None:
    document["components"]["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": "sm_<prefix>.<secret>"},
        "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    for name, path in document["paths"].items():
        for operation in path.values():
            operation["security"] = [] if name in _PUBLIC else [{"bearer": []}, {"apiKey": []}]
