"""Rate limits over DynamoDB Local: what is refused, and that nothing of it was written."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from functions.ingest.handler import handler as ingest
from metering.names import TenantId
from metering.rate_limit import RateKind, TenantLimits
from metering.wiring import Wiring, using
from tests.api_client import api_of
from tests.builders import a_sent_event, an_http_request
from tests.conftest import SetClock
from tests.readers import ledger_of

ACME, OTHER = TenantId("acme"), TenantId("other")


@pytest.fixture
def limited(wiring: Wiring, clock: SetClock) -> Iterator[Wiring]:
    """A deployment of 10 events and 2 requests a second, keys required."""
    config = replace(
        wiring.config, auth=True, tenant_events_a_second=10, tenant_requests_a_second=2
    )
    with using(Wiring(config, clock=clock, dynamodb=wiring.dynamodb)) as wired:
        yield wired


def send(wired: Wiring, count: int, tenant: TenantId = ACME) -> tuple[int, dict[str, str], Any]:
    """A request with so many events, each of its own."""
    send.number += 1  # type: ignore[attr-defined]
    key = wired.key_issuer.create_key(tenant).text
    events = [
        a_sent_event(tenantId=tenant, idempotencyKey=f"{send.number}-{n}")  # type: ignore[attr-defined]
        for n in range(count)
    ]
    request = an_http_request({"events": events}, headers={"authorization": f"Bearer {key}"})
    answer = ingest(request, None)
    return answer["statusCode"], answer["headers"], json.loads(answer["body"])


send.number = 0  # type: ignore[attr-defined]


def test_events_beyond_the_limit_are_refused_whole_and_taken_later(
    limited: Wiring, clock: SetClock
) -> None:
    assert send(limited, 120)[0] == 200

    status, headers, body = send(limited, 5)

    assert (status, body["error"], headers["retry-after"]) == (429, "Rate limit exceeded", "3")
    assert "10 events a second" in body["message"]
    assert len(ledger_of(limited, ACME)) == 120
    clock.advance(timedelta(seconds=int(headers["retry-after"])))
    assert send(limited, 5)[0] == 200
    assert len(ledger_of(limited, ACME)) == 125


def test_another_tenant_notices_nothing(limited: Wiring) -> None:
    assert send(limited, 150)[0] == 200
    assert send(limited, 1)[0] == 429

    assert send(limited, 50, OTHER)[0] == 200


def test_a_second_environment_hears_of_it(limited: Wiring, clock: SetClock) -> None:
    assert send(limited, 150)[0] == 200

    with using(Wiring(limited.config, clock=clock, dynamodb=limited.dynamodb)) as second:
        assert send(second, 10)[0] == 200  # with this it tells, and hears
        assert send(second, 10)[0] == 429


def test_an_operator_sets_another_limit_for_a_tenant(limited: Wiring) -> None:
    limited.tenant_rates.put_limits(ACME, TenantLimits(events_a_second=40))

    assert send(limited, 200)[0] == 200
    assert send(limited, 200)[0] == 200
    assert send(limited, 200, OTHER)[0] == 200
    assert send(limited, 1, OTHER)[0] == 429


def test_limits_are_kept_as_they_were_set_and_can_be_taken_back(limited: Wiring) -> None:
    rates = limited.tenant_rates
    for limits in (TenantLimits(5, 0), TenantLimits(requests_a_second=7), TenantLimits()):
        rates.put_limits(ACME, limits)
        assert rates.limits(ACME) == limits
    assert rates.limits(OTHER) == TenantLimits()


def test_the_shared_instant_begins_when_usage_did_and_never_runs_backwards(limited: Wiring) -> None:
    rates = limited.tenant_rates

    def spend(seconds: float, *, since: float, heard: float = 0) -> float:
        return rates.spend(RateKind.EVENTS, ACME, seconds, since=since, heard=heard)

    assert spend(2.5, since=1000) == 1002.5
    assert spend(2.5, since=1001, heard=1002.5) == 1005
    assert spend(1, since=1001) == 1006  # one who has heard of nothing
    assert spend(1, since=1007, heard=1006) == 1008
    other = rates.spend(RateKind.REQUESTS, ACME, 1, since=1000, heard=0)
    assert other == 1001


def test_requests_to_other_routes_have_a_limit_of_their_own(
    limited: Wiring, clock: SetClock
) -> None:
    api = api_of(limited, ACME)
    answers = [api.get("/v1/metrics") for _ in range(21)]

    assert [one.status for one in answers] == [200] * 20 + [429]
    assert answers[-1].body["error"] == "Rate limit exceeded"
    assert answers[-1].headers["retry-after"] == "1"
    assert send(limited, 1)[0] == 200
    clock.advance(timedelta(seconds=1))
    assert api.get("/v1/metrics").status == 200


def test_w21_guessed_keys_are_refused_without_a_look_up(limited: Wiring) -> None:
    statuses = []
    for number in range(100):
        headers = {"x-api-key": f"sm_{number:012}.guess", "x-forwarded-for": f"10.0.0.{number}"}
        answer = ingest(an_http_request({"events": []}, headers=headers), None)
        statuses.append(answer["statusCode"])

    assert statuses == [401] * 60 + [429] * 40
    # Whoever has a good key is looked up again as soon as the address has an attempt left.
    assert "retry-after" in answer["headers"]
