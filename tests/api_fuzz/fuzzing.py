"""How the API is fuzzed: by which document, how much, by which seed, and what must hold.

The document is the API's own, made stricter in one point: an answer may hold no field that it does
not describe, or nobody would notice one that should not be there.
"""

import json
import os
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from schemathesis.config import SchemathesisConfig
from schemathesis.openapi import from_dict

from functions.api.description import document_of
from functions.api.handler import app
from tests.api_fuzz.whole_api import application

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "4"))
"""Random requests per operation, beside the systematic ones at every field's edges."""
SEED = int(os.environ.get("SCHEMATHESIS_SEED", "1"))

CHECKS_OFF = {
    "positive_data_acceptance": "What is well-formed may still be wrong: a price that Stripe does"
    " not know, an instant at which no billing period begins. That every operation is answered"
    " well at all is checked instead.",
    "unsupported_method": "An unknown method is 404 with the peer's body, not 405.",
    "allow_header_conformance": "As above: there is no 405, so no Allow header either.",
    "ignored_auth": "What each caller may be answered is checked of every answer, and `every route"
    " needs a key` for itself in tests/integration/test_api_access.py; this would send everything"
    " three times.",
    "object_level_authorization": "Two tenants are played by hand, with canaries.",
    "missing_required_header": "The only required headers are those that say who calls.",
    "use_after_free": "A metric or customer that nobody set up has defaults and is 200; that a"
    " deleted mapping is 404 is checked among the links.",
    "ensure_resource_availability": "As above.",
}
"""schemathesis' checks that do not mean what this API means, and why."""


def described() -> dict[str, Any]:
    """The API's own description."""
    document: dict[str, Any] = json.loads(document_of(app))
    return document


def a_schema() -> Any:
    """What schemathesis is to test, over the handlers in this process."""
    settings: dict[str, Any] = {
        "seed": SEED,
        "generation": {
            "max-examples": EXAMPLES,
            "no-shrink": True,
            "database": "none",
            # Who calls, `callers` says.
            "with-security-parameters": False,
        },
        "checks": {name: {"enabled": False} for name in CHECKS_OFF},
        # What an unknown method is answered, is no operation's matter.
        "phases": {"coverage": {"unexpected-methods": []}},
        "warnings": False,
    }
    made = from_dict(strict(described()), config=SchemathesisConfig.from_dict(settings))
    made.app = application
    return made


# --- a stricter document --------------------------------------------------------------------------


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The document with answers that may hold nothing but what it describes."""
    strict_one = deepcopy(document)
    schemas = strict_one["components"]["schemas"]
    for name in _answered(strict_one):
        if "properties" in schemas[name]:
            schemas[name]["additionalProperties"] = False
    return strict_one


def _answered(document: dict[str, Any]) -> set[str]:
    """The names of all schemas that answers are made of."""
    schemas = document["components"]["schemas"]
    found: set[str] = set()
    waiting = [
        name
        for path in document["paths"].values()
        for operation in path.values()
        for name in _referred(operation["responses"])
    ]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += _referred(schemas[name])
    return found


def _referred(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"].rpartition("/")[2]
        for one in value.values():
            yield from _referred(one)
    elif isinstance(value, list):
        for one in value:
            yield from _referred(one)
