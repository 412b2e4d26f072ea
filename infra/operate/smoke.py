"""The smoke test: events sent twice through a deployment's front door, and read back."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx

from infra.operate.checks import Check
from metering import times
from metering.adapters.clock import SystemClock
from metering.adapters.stripe_key import is_loopback

METRIC = "smoke"
"""Nobody maps it, so that nobody is billed for a test."""
LOCAL_TENANT = "smoke"
"""Whose events they are where no key says it."""
TIMEOUT_S = 30.0
LOOK_EVERY_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, and where."""

    api_url: str
    key: str
    """Empty only on loopback."""
    events: int
    within_s: float
    """How long it may take until all is counted."""


def is_local(url: str) -> bool:
    """Whether the API is this machine's, which asks for no key unless told to."""
    return is_loopback(urlsplit(url).hostname or "")


def run(plan: Plan) -> Iterator[Check]:
    """Each check, in order; the first that leaves nothing to look at ends it."""
    headers = {"authorization": f"Bearer {plan.key}"} if plan.key else {}
    with httpx.Client(
        base_url=plan.api_url,
        headers=headers,
        params={} if plan.key else {"tenantId": LOCAL_TENANT},
        timeout=TIMEOUT_S,
        trust_env=not is_local(plan.api_url),
    ) as api:
        try:
            yield from _Smoke(plan, api).checks()
        except httpx.HTTPError as trouble:
            fix = "see that the address is the deployment's, and that you reach it from here"
            yield Check("connection", is_right=False, said=str(trouble), fix=fix)


class _Smoke:
    """One run; its customer is nobody else's, so that its numbers are exact."""

    def __init__(self, plan: Plan, api: httpx.Client) -> None:
        self._plan = plan
        self._api = api
        self._customer = f"smoke-{uuid.uuid4().hex[:12]}"
        now = times.to_iso_ms(SystemClock().now())
        self._events = [
            {
                "metric": METRIC,
                "customerRef": self._customer,
                # No two alike, and with decimals: a lost or doubled one shows by its digits.
                "quantity": str(1 + Decimal(number).scaleb(-3)),
                "ts": now,
                "idempotencyKey": f"{self._customer}-{number}",
            }
            | ({} if plan.key else {"tenantId": LOCAL_TENANT})
            for number in range(plan.events)
        ]

    def checks(self) -> Iterator[Check]:
        ready = self._api.get("/health/ready")
        fix = "its body names the part that does not answer; see docs/runbook.md"
        yield _answered("health", ready, "everything that is needed answers", fix)
        if self._plan.key:
            yield self._keyless()
        first = self._send("accepted")
        yield first
        if not first.is_right:
            return
        yield self._send("duplicates")
        yield self._counted()
        yield self._traced()

    def _keyless(self) -> Check:
        query, nobody = {"customerRef": self._customer}, {"authorization": ""}
        answer = self._api.get("/v1/usage/current", params=query, headers=nobody)
        refused = httpx.codes.UNAUTHORIZED
        return Check(
            "no key",
            answer.status_code == refused,
            f"a request without a key is answered {answer.status_code}",
            fix="set AUTH=on: anybody can read and write the usage of every tenant now",
        )

    def _send(self, wanted: str) -> Check:
        answer = self._api.post("/v1/events/ingest", json={"events": self._events})
        number = len(self._events)
        if not answer.is_success:
            fix = "make a key with the scopes events:write, events:read and usage:read"
            if not self._plan.key:
                fix = "put an API key into the environment variable STRIPEMETER_KEY"
            return _answered(wanted, answer, "", fix)
        told = answer.json()
        counts = {name: told[name] for name in ("accepted", "duplicates", "conflicts")}
        said = f"of {number} events sent " + ("once" if wanted == "accepted" else "again")
        said += ", " + ", ".join(f"{count} {name}" for name, count in counts.items())
        fix = f"look at the answer: {answer.text[:400]}"
        return Check(wanted, counts[wanted] == number, said, fix)

    def _counted(self) -> Check:
        sent = sum((Decimal(one["quantity"]) for one in self._events), Decimal(0))
        began = time.monotonic()
        while True:
            count, value = self._usage()
            waited = time.monotonic() - began
            is_right = (count, value) == (len(self._events), sent)
            if is_right or waited > self._plan.within_s:
                break
            time.sleep(LOOK_EVERY_S)
        said = f"{count} events, {value} of {sent} sent, after {waited:.1f} s"
        fix = "see the alarms of the aggregator, its iterator age and its errors first"
        return Check("counted", is_right, said, fix)

    def _usage(self) -> tuple[int, Decimal]:
        query = {"customerRef": self._customer}
        answer = self._api.get("/v1/usage/current", params=query).raise_for_status()
        metrics = [one for one in _exactly(answer)["metrics"] if one["name"] == METRIC]
        return (int(metrics[0]["count"]), metrics[0]["current"]) if metrics else (0, Decimal(0))

    def _traced(self) -> Check:
        key = self._events[0]["idempotencyKey"]
        answer = self._api.get("/v1/events/trace", params={"idempotencyKey": key})
        if not answer.is_success:
            return _answered("trace", answer, "", "give the key the scope events:read")
        outcome = answer.json()["outcome"]
        return Check("trace", outcome == "counted", f"{key} is {outcome}", "see docs/runbook.md")


def _answered(name: str, answer: httpx.Response, said: str, fix: str) -> Check:
    what = said if answer.is_success else f"answered {answer.status_code}: {answer.text[:400]}"
    return Check(name, answer.is_success, what, fix)


def _exactly(answer: httpx.Response) -> Any:
    """JSON with every digit kept; httpx hands on what `json.loads` takes."""
    return answer.json(parse_float=Decimal, parse_int=Decimal)
