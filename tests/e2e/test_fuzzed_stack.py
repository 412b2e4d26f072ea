"""A few made-up requests over HTTP: what is fuzzed in process holds for the running stack, too."""

import pytest
from schemathesis.checks import not_a_server_error
from schemathesis.config import SchemathesisConfig
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from local.stack import Stack
from tests.api_fuzz.callers import AnyCase
from tests.api_fuzz.fuzzing import SEED, described, strict

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("stack")]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXAMPLES = 2

api = from_dict(
    strict(described()),
    config=SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "generation": {"max-examples": EXAMPLES, "no-shrink": True, "database": "none"},
            "phases": {"coverage": {"enabled": False}},
            "warnings": False,
        }
    ),
)


@api.parametrize()
def test_the_stack_answers_as_the_document_says(case: AnyCase, stack: Stack) -> None:
    """The gateway in front may refuse by itself what no HTTP is: those requests are not made."""
    if "tenantId" not in (case.query or {}):
        case.query = (case.query or {}) | {"tenantId": "fuzzed"}
    headers = {"authorization": "", "x-api-key": ""}
    case.call_and_validate(base_url=stack.api_url, headers=headers, checks=CHECKS)
