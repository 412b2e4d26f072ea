"""Every operation of the document, asked at the edges of every field and at random.

`SCHEMATHESIS_EXAMPLES=500 SCHEMATHESIS_SEED=7` asks more and other things; the same seed and number
ask the same again. A failure shows the request as a `curl` command.
"""

from collections import Counter
from collections.abc import Iterator

import pytest

from tests.api_fuzz.callers import AnyCase, caller_of, checks_of, headers_of, made_real, number_of
from tests.api_fuzz.fuzzed_world import METRICS_TOKEN, FuzzedWorld
from tests.api_fuzz.fuzzing import a_schema

NEVER_WELL = {
    "POST /v1/pushes/incarnation": "no tenant's key may; without keys it is one request",
    "POST /v1/pushes/{stream_id}/decision": "needs a stream that waits for a person",
    "POST /v1/reconciliation/corrections": "needs a stranger's proven meter events",
    "POST /v1/customers/{customer_ref}/cancel": "needs a subscription that the others left alone",
}
"""Operations whose good answers are tested elsewhere; all others must be seen to answer well."""

api = a_schema()
_asked: Counter[str] = Counter()
_answered_well: Counter[str] = Counter()


@pytest.fixture(autouse=True)
def _is_answered_well(request: pytest.FixtureRequest, fuzzed: FuzzedWorld) -> Iterator[None]:
    """A run in which everything was refused has tested nothing but refusals.

    Each operation gets a tenant that no other has touched, so that it repeats alone, too.
    """
    fuzzed.renew()
    label = request.node.name.partition("[")[2].removesuffix("]")
    yield
    if label not in NEVER_WELL:
        assert _answered_well[label], f"{label} never answered well: give it names that exist"


@api.parametrize()  # type: ignore[untyped-decorator]
def test_every_answer_is_what_the_document_says(case: AnyCase, fuzzed: FuzzedWorld) -> None:
    own, _ = fuzzed.tenants
    _asked[case.operation.label] += 1
    number = number_of(case, _asked[case.operation.label])
    made_real(case, fuzzed, number)
    caller = caller_of(case, number)
    headers = headers_of(caller, own)
    if case.path == "/metrics":
        headers["authorization"] = f"Bearer {METRICS_TOKEN}"
    answered = case.call_and_validate(headers=headers, additional_checks=checks_of(caller, fuzzed))
    _answered_well[case.operation.label] += answered.status_code < 400
