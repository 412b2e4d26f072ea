"""The document leaves nothing out: every route there is, and nothing that is none."""

from typing import Any

from functions.api.handler import app
from infra.functions import FUNCTIONS, Http
from tests.api_fuzz.fuzzing import CHECKS_OFF, described, strict
from tests.api_fuzz.whole_api import DEFAULT_ROUTE, ROUTES

UNDESCRIBED = {"GET /docs", "GET /docs/json"}
"""The description itself."""


def operations() -> dict[str, dict[str, Any]]:
    return {
        f"{method.upper()} {path}": operation
        for path, methods in described()["paths"].items()
        for method, operation in methods.items()
    }


def routes() -> set[str]:
    """What functions are deployed for by name, and what the router of `$default` knows."""
    deployed = {
        route
        for function in FUNCTIONS
        if isinstance(function.trigger, Http)
        for route in function.trigger.routes
    }
    routed = {f"{one.method} {one.openapi_path}" for one in app._dynamic_routes}
    return (
        (deployed - {DEFAULT_ROUTE})
        | routed
        | {f"{one.method} {one.openapi_path}" for one in app._static_routes}
    )


def test_every_route_is_described_and_nothing_else() -> None:
    assert set(operations()) == routes() - UNDESCRIBED
    assert len(operations()) > 40


def test_every_deployed_route_has_a_handler_that_is_fuzzed() -> None:
    assert set(ROUTES) == {DEFAULT_ROUTE, "POST /v1/events/ingest", "POST /v1/stripe/webhook"}


def test_every_operation_says_what_it_answers_when_all_is_well_and_when_not() -> None:
    for name, operation in operations().items():
        answers = operation["responses"]
        assert any(status.startswith("2") for status in answers), name
        for status, said in answers.items():
            assert said["description"], (name, status)
            assert bool(said.get("content")) is (status != "204"), (name, status)
        assert operation["operationId"], name
        if operation["security"] and "stripe" not in operation["security"][0]:
            assert answers.keys() >= {"400", "401", "403", "503"}, name
            assert ("404" in answers) or "{" not in name, name


def test_an_answer_to_be_asked_for_again_says_when() -> None:
    for name, operation in operations().items():
        later = operation["responses"].get("503")
        if later is not None and name != "GET /health/ready":
            assert "retry-after" in later["headers"], name


def test_the_strict_document_forbids_what_an_answer_does_not_describe() -> None:
    schemas = strict(described())["components"]["schemas"]

    assert schemas["EventPage"]["additionalProperties"] is False
    assert schemas["ErrorBody"]["additionalProperties"] is False
    assert "additionalProperties" not in schemas["NewMapping"]


def test_every_check_that_is_off_says_why() -> None:
    assert all(why.endswith(".") for why in CHECKS_OFF.values())
