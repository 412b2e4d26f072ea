"""Who sends a fuzzed request, which of its names are real, and what each caller may be answered."""

import json
from collections.abc import Callable
from typing import Any
from zlib import crc32

from schemathesis import Case
from schemathesis.checks import CheckContext
from schemathesis.core.transport import Response
from schemathesis.generation import GenerationMode

from tests.api_fuzz.fuzzed_world import CANARY, MONTH, FuzzedWorld, Tenant

PUBLIC = {"/health", "/health/live", "/health/ready", "/metrics", "/v1/stripe/webhook"}
INGEST = "POST /v1/events/ingest"
CALLERS = (*("all",) * 16, "reads", "ingests", "nothing", "unknown", "nobody")
"""Mostly a key that may do all; otherwise one of few scopes, one that nobody issued, or none."""
UNKNOWN_KEY = "sm_000000000000.c2VjcmV0"
OF_CALLERS = {401, 403}
"""Refusals that are the caller's; their `error` may say it all."""

type AnyCase = Case[Any]
type Names = dict[str, list[Any]]
type Check = Callable[[CheckContext, Response, AnyCase], bool | None]


def number_of(case: AnyCase, turn: int) -> int:
    """A number for choices that repeat: the same for an operation's n-th request in every run."""
    return crc32(f"{case.operation.label} {turn}".encode())


def caller_of(case: AnyCase, number: int) -> str:
    """Who sends this."""
    return "public" if case.path in PUBLIC else CALLERS[number % len(CALLERS)]


def headers_of(caller: str, tenant: Tenant) -> dict[str, str]:
    """The headers by which a caller is known; "nobody" overwrites what was made up."""
    key = {"public": "", "nobody": "", "unknown": UNKNOWN_KEY}.get(caller)
    return {"authorization": tenant.keys[caller] if key is None else key, "x-api-key": ""}


# --- real names -----------------------------------------------------------------------------------


def made_real(case: AnyCase, world: FuzzedWorld, number: int, *, keeps_path: bool = False) -> None:
    """Replace the names in most well-formed requests by real ones, at times the canary's."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if number % 8 == 0:
        return
    own, canary = world.tenants
    known: Names = (canary if number % 6 == 0 else own).has | _times(case, world)
    if case.operation.label == INGEST:
        # Each event is a new one, and as often as not of a quantity that is taken.
        known |= {"idempotencyKey": [], "quantity": [3.25] if number % 2 else []}
    if case.operation.label == "POST /v1/mappings":
        # Its own metric is mapped already: another one may be.
        known |= {"metric": []}
    if case.operation.label == "POST /v1/adjustments" and number % 2:
        known |= {"customerRef": known["customerRef"][:1], "delta": [-1.5]}
    if not keeps_path:
        case.path_parameters = _replaced(case.path_parameters, known, number)
    case.query = _replaced(case.query, known, number)
    if isinstance(case.body, dict):
        case.body = _replaced(case.body, known, number)


def _times(case: AnyCase, world: FuzzedWorld) -> Names:
    """Instants and months at which there is something."""
    now = world.clock.now()
    start, end = f"{MONTH}-01T00:00:00Z", now.isoformat()
    known = {"ts": [end], "month": [MONTH], "period": [MONTH], "startTime": [start]}
    if case.path.endswith("/summary"):
        return known | {"periodStart": [MONTH], "periodEnd": [MONTH]}
    if case.path.startswith("/v1/adjustments"):
        start = world.period_start
    return known | {"periodStart": [start], "periodEnd": [end]}


def _replaced(value: Any, known: Names, number: int, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _replaced(one, known, number, key) for key, one in value.items()}
    if isinstance(value, list):
        return [_replaced(one, known, number) for one in value]
    found = known.get(name)
    return found[number % len(found)] if found else value


# --- what must hold of every answer ---------------------------------------------------------------


def checks_of(caller: str, world: FuzzedWorld) -> list[Check]:
    """What is checked beside schemathesis' own checks."""

    def only_what_the_caller_may(_: CheckContext, response: Response, case: AnyCase) -> None:
        _check_caller(caller, response, case)

    def nothing_of_others(_: CheckContext, response: Response, case: AnyCase) -> None:
        _check_leaks(world, response, case)

    return [only_what_the_caller_may, nothing_of_others, says_what_is_wrong]


def says_what_is_wrong(_: CheckContext, response: Response, case: AnyCase) -> None:
    """A refusal has `error` and `message`, or ingest's list of errors."""
    if response.status_code < 400 or case.path == "/health/ready":
        return
    body = json.loads(response.text)
    if case.operation.label == INGEST and body.get("errors"):
        said = all(one["error"] for one in body["errors"])
    else:
        said = bool(body["error"]) and (
            bool(body.get("message")) or response.status_code in OF_CALLERS
        )
    assert said, f"a refusal that does not say what is wrong: {response.text}"


def _check_caller(caller: str, response: Response, case: AnyCase) -> None:
    status, label = response.status_code, case.operation.label
    is_well = status < 400
    match caller:
        case "nobody" | "unknown":
            assert status == 401, f"{caller} was answered {status}"
        case "nothing":
            assert not is_well, "a key without any scope of the route's was answered well"
        case "reads":
            assert case.method == "GET" or not is_well, "a key that may read has written"
        case "ingests":
            assert label == INGEST or not is_well, "a key that may only ingest was answered well"


def _check_leaks(world: FuzzedWorld, response: Response, case: AnyCase) -> None:
    own, canary = world.tenants
    secrets = [*own.secrets, *canary.secrets, *world.secrets]
    # An operator's metrics name everybody's.
    names = [] if case.path == "/metrics" else [CANARY, *canary.names]
    text = response.text
    sent = repr((case.path_parameters, case.query, case.body))
    for name in sorted(secrets + names, key=len, reverse=True):
        # What a request says itself, its answer may repeat.
        if name in sent:
            text = text.replace(name, "")
    for name in secrets + names:
        assert name not in text, f"an answer holds {name}"
