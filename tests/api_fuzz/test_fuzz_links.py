"""Requests that follow from each other's answers: what is made is read, changed, decided, deleted.

The links are schemathesis' own: which answer's field is which operation's parameter, by the
document's names and schemas.
"""

from typing import Any

import hypothesis
import pytest
from schemathesis.core.transport import Response

from tests.api_fuzz.callers import AnyCase, checks_of, headers_of, made_real, number_of
from tests.api_fuzz.fuzzed_world import FuzzedWorld
from tests.api_fuzz.fuzzing import EXAMPLES, SEED, a_schema

SCENARIOS, STEPS = EXAMPLES + 2, 8
ADJUSTMENT, MAPPING = "/v1/adjustments/{adjustment_id}", "/v1/mappings/{mapping_id}"
LINKED = {
    "adjustments": {f"GET {ADJUSTMENT}", f"POST {ADJUSTMENT}/approve"},
    "mappings": {f"GET {MAPPING}", f"PUT {MAPPING}"},
}
"""One of these must have been answered well: its id can only have come by a link."""


@pytest.mark.parametrize("noun", LINKED)
def test_what_follows_from_an_answer_is_answered_as_the_document_says(
    noun: str, fuzzed: FuzzedWorld
) -> None:
    answered_well: set[str] = set()

    linked = a_schema().include(path_regex=f"^/v1/{noun}")

    machine: Any = linked.as_state_machine()

    class Caller(machine):  # type: ignore[misc]
        """One who holds all scopes, as a tenant that nobody has touched, so that it repeats."""

        def setup(self) -> None:
            fuzzed.renew()
            self.turn = 0

        def before_call(self, case: AnyCase) -> None:
            self.turn += 1
            made_real(case, fuzzed, number_of(case, self.turn), keeps_path=True)

        def get_call_kwargs(self, case: AnyCase) -> dict[str, Any]:
            return {"headers": headers_of("all", fuzzed.tenants[0])}

        def validate_response(self, response: Response, case: AnyCase, **about: Any) -> None:
            super().validate_response(
                response, case, additional_checks=checks_of("all", fuzzed), **about
            )
            if response.status_code < 400:
                answered_well.add(case.operation.label)

    settings = hypothesis.settings(
        max_examples=SCENARIOS,
        stateful_step_count=STEPS,
        phases=[hypothesis.Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.seed(SEED)(Caller)
    Caller.run(settings=settings)

    assert answered_well & LINKED[noun]
