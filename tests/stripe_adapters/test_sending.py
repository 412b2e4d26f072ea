"""Sending meter events by both endpoints, and what each refusal of Stripe's is to us."""

import json
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.faults import FaultKind
from metering.adapters.stripe_billing import OWN_BUDGET, StripeBilling, make_billing
from metering.adapters.stripe_client import StripeConnection
from metering.adapters.stripe_key import own_key
from metering.adapters.stripe_meter_events import TRANSPORTS
from metering.config import Config
from metering.delivery import (
    Accepted,
    AlreadyExists,
    InFlight,
    KeyReused,
    NotAllowed,
    OutcomeUnknown,
    RateLimited,
    Refused,
    ServerError,
)
from metering.errors import NotFoundError
from metering.names import Identifier
from metering.period import Span
from metering.ports import UsageRecord
from metering.push import Mode
from tests.builders import A_METER_EVENT

RECORD = UsageRecord(
    account="",
    subscription_item="si_1",
    quantity="5",
    occurred_at=A_METER_EVENT.occurred_at,
    idempotency_key="u1.abc.1",
)
BOTH = pytest.mark.parametrize("transport", ["v1", "v2"])


def make_meter(client: stripe.StripeClient, **more: Any) -> stripe.billing.Meter:
    about: Any = {
        "display_name": "API calls",
        "event_name": "api_calls",
        "default_aggregation": {"formula": "sum"},
        **more,
    }
    return client.v1.billing.meters.create(about)


@pytest.fixture
def meter(client: stripe.StripeClient, stand_in: StandIn) -> stripe.billing.Meter:
    stand_in.add_customers(["cus_A"])
    return make_meter(client)


@pytest.fixture
def billing(transport: str, stripe_config: Config, meter: stripe.billing.Meter) -> StripeBilling:
    return make_billing(replace(stripe_config, stripe_transport=transport))


@BOTH
def test_an_event_arrives_whole(billing: StripeBilling, stand_in: StandIn) -> None:
    assert billing.send(A_METER_EVENT) == Accepted(replayed=False)

    assert stand_in.total("api_calls", "cus_A") == 10


@BOTH
def test_an_event_counts_in_the_minute_it_is_stamped_with(
    billing: StripeBilling, meter: stripe.billing.Meter
) -> None:
    billing.send(A_METER_EVENT)

    minute = Span(A_METER_EVENT.occurred_at, A_METER_EVENT.occurred_at.replace(minute=1))
    before = Span(A_METER_EVENT.occurred_at.replace(hour=11), A_METER_EVENT.occurred_at)
    assert billing.total(meter.id, "cus_A", minute) == Decimal(10)
    assert billing.total(meter.id, "cus_A", before) == 0


@BOTH
def test_a_repeat_under_the_same_key_is_replayed(billing: StripeBilling, stand_in: StandIn) -> None:
    billing.send(A_METER_EVENT)

    assert billing.send(A_METER_EVENT) == Accepted(replayed=True)
    assert stand_in.total("api_calls", "cus_A") == 10


@BOTH
def test_a_repeat_under_another_key_exists_already(
    billing: StripeBilling, stand_in: StandIn
) -> None:
    billing.send(A_METER_EVENT)

    assert isinstance(
        billing.send(replace(A_METER_EVENT, idempotency_key="u1.abc.1.g1")), AlreadyExists
    )
    assert stand_in.total("api_calls", "cus_A") == 10


def test_both_endpoints_know_the_same_identifiers(
    stripe_config: Config, meter: stripe.billing.Meter, stand_in: StandIn
) -> None:
    one, two = (
        make_billing(replace(stripe_config, stripe_transport=transport)) for transport in TRANSPORTS
    )

    assert one.send(A_METER_EVENT) == Accepted()
    assert isinstance(two.send(replace(A_METER_EVENT, idempotency_key="other")), AlreadyExists)
    assert stand_in.total("api_calls", "cus_A") == 10


@BOTH
def test_other_parameters_under_a_used_key_are_a_bug_of_ours(billing: StripeBilling) -> None:
    billing.send(A_METER_EVENT)

    assert isinstance(billing.send(replace(A_METER_EVENT, value="11")), KeyReused)


@BOTH
def test_an_event_for_no_meter_is_refused(billing: StripeBilling) -> None:
    answer = billing.send(replace(A_METER_EVENT, event_name="nobody"))

    assert isinstance(answer, Refused)
    assert answer.code == "no_meter"


@BOTH
def test_an_event_for_an_inactive_meter_is_refused(
    billing: StripeBilling, client: stripe.StripeClient, meter: stripe.billing.Meter
) -> None:
    client.v1.billing.meters.deactivate(meter.id)

    answer = billing.send(A_METER_EVENT)

    assert isinstance(answer, Refused)
    assert answer.code == "archived_meter"


@BOTH
def test_a_negative_correction_is_taken(billing: StripeBilling, stand_in: StandIn) -> None:
    billing.send(A_METER_EVENT)

    correction = replace(
        A_METER_EVENT, value="-3", identifier=Identifier("u1.abc.2"), idempotency_key="u1.abc.2"
    )
    assert billing.send(correction) == Accepted()
    assert stand_in.total("api_calls", "cus_A") == 7


@BOTH
@pytest.mark.parametrize(
    ("kind", "answer", "counted"),
    [
        (FaultKind.DROP_BEFORE, OutcomeUnknown, 0),
        (FaultKind.DROP_AFTER, OutcomeUnknown, 10),
        (FaultKind.ERROR_BEFORE, ServerError, 0),
        (FaultKind.ERROR_AFTER, ServerError, 10),
        (FaultKind.UNAVAILABLE, OutcomeUnknown, 0),
        (FaultKind.RATE_LIMITED, RateLimited, 0),
    ],
)
def test_each_fault_has_its_answer_and_a_new_key_gets_through(
    billing: StripeBilling, stand_in: StandIn, kind: FaultKind, answer: type, counted: int
) -> None:
    stand_in.plan(kind, times=1)

    assert isinstance(billing.send(A_METER_EVENT), answer)
    assert stand_in.total("api_calls", "cus_A") == counted

    again = billing.send(replace(A_METER_EVENT, idempotency_key="u1.abc.1.g1"))
    assert isinstance(again, AlreadyExists if counted else Accepted)
    assert stand_in.total("api_calls", "cus_A") == 10


@BOTH
def test_a_connected_account_has_totals_of_its_own(
    billing: StripeBilling, client: stripe.StripeClient, stand_in: StandIn
) -> None:
    stand_in.add_customers(["cus_A"], account="acct_9")
    about: Any = {
        "display_name": "API calls",
        "event_name": "api_calls",
        "default_aggregation": {"formula": "sum"},
    }
    client.v1.billing.meters.create(about, {"stripe_account": "acct_9"})

    assert billing.send(replace(A_METER_EVENT, account="acct_9")) == Accepted()
    assert stand_in.total("api_calls", "cus_A", account="acct_9") == 10
    assert stand_in.total("api_calls", "cus_A") == 0


# --- answers of v2 that no fault of the stand-in gives -------------------------------------------


class Recorded(stripe.HTTPClient):
    """Answers as Stripe did once."""

    name = "recorded"

    def __init__(self, status: int, body: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._answer = body, status, headers or {}
        self.requests: list[tuple[str, str, Any, Mapping[str, str]]] = []

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None,
        post_data: Any = None,
        *,
        _usage: list[str] | None = None,
    ) -> tuple[str, int, Mapping[str, str]]:
        self.requests.append((method, url, post_data, headers or {}))
        return self._answer

    def close(self) -> None:
        pass


def recorded_billing(network: Recorded, transport: str = "v2", **config: Any) -> StripeBilling:
    settings = Config(stripe_secret_key="sk_test_x", stripe_transport=transport, **config)
    connection = StripeConnection(own_key(settings), http_client=network)
    return make_billing(settings, connection=connection)


def test_the_request_of_v2_is_json_with_an_rfc_3339_instant() -> None:
    network = Recorded(200, '{"object": "v2.billing.meter_event"}')

    assert recorded_billing(network).send(A_METER_EVENT) == Accepted()

    ((method, url, body, headers),) = network.requests
    assert (method, url) == ("post", "https://api.stripe.com/v2/billing/meter_events")
    assert json.loads(body) == {
        "event_name": "api_calls",
        "payload": {"stripe_customer_id": "cus_A", "value": "10"},
        "identifier": "u1.abc.1",
        "timestamp": "2026-11-20T12:00:00.000Z",
    }
    assert headers["Idempotency-Key"] == "u1.abc.1"
    assert headers["Content-Type"] == "application/json"


@pytest.mark.parametrize(
    ("status", "code", "answer"),
    [
        (400, "duplicate_meter_event", AlreadyExists("said")),
        (409, "duplicate_meter_event", AlreadyExists("said")),
        (429, "too_many_concurrent_requests", RateLimited("too_many_concurrent_requests")),
        (400, "too_many_concurrent_requests", RateLimited("too_many_concurrent_requests")),
        (429, "rate_limit_exceeded", RateLimited("lock_timeout")),
        (400, "archived_meter", Refused("archived_meter", "said")),
        (400, "no_meter", Refused("no_meter", "said")),
        (404, "no_meter", Refused("no_meter", "said")),
        (400, "payload_invalid_value", Refused("payload_invalid_value", "said")),
        (400, "payload_no_customer_defined", Refused("payload_no_customer_defined", "said")),
        (400, "payload_no_value_defined", Refused("payload_no_value_defined", "said")),
        (401, "unauthorized", NotAllowed("401: said")),
        (403, "forbidden", NotAllowed("403: said")),
        (409, "idempotency_key_in_use", InFlight()),
        (500, "internal_error", ServerError("said")),
        (503, "service_unavailable", OutcomeUnknown("503: said")),
    ],
)
def test_each_typed_error_of_v2_is_one_kind_of_answer(
    status: int, code: str, answer: object
) -> None:
    network = Recorded(status, f'{{"error": {{"code": "{code}", "message": "said"}}}}')

    assert recorded_billing(network).send(A_METER_EVENT) == answer


def test_a_key_of_v2_that_still_runs_is_in_flight_and_a_reused_one_a_bug() -> None:
    body = '{"error": {"type": "idempotency_error", "code": "c", "message": "said"}}'

    assert recorded_billing(Recorded(409, body)).send(A_METER_EVENT) == InFlight()
    assert recorded_billing(Recorded(400, body)).send(A_METER_EVENT) == KeyReused("said")


def test_an_answer_that_nobody_can_read_is_unknown() -> None:
    answer = recorded_billing(Recorded(200, "<html>")).send(A_METER_EVENT)

    assert isinstance(answer, OutcomeUnknown)


# --- the rate ------------------------------------------------------------------------------------


class Closed:
    """Lets nothing through."""

    def admit(self, account: str, mode: Mode) -> bool:
        return False


def test_beyond_our_own_rate_nothing_is_sent_and_nothing_is_unknown(
    stripe_config: Config, meter: stripe.billing.Meter, stand_in: StandIn
) -> None:
    billing = make_billing(stripe_config, rates=Closed())

    assert billing.send(A_METER_EVENT) == RateLimited(OWN_BUDGET)
    assert stand_in.total("api_calls", "cus_A") == 0


# --- reads ---------------------------------------------------------------------------------------


def test_every_read_is_noted_with_its_account_and_no_write(
    stripe_config: Config, meter: stripe.billing.Meter
) -> None:
    noted: list[tuple[int, str]] = []
    connection = StripeConnection(
        own_key(stripe_config), note_reads=lambda *reads: noted.append(reads)
    )
    billing = make_billing(stripe_config, connection=connection)

    billing.send(A_METER_EVENT)
    assert noted == []
    billing.meter(meter.id)
    billing.reach()
    assert noted == [(1, ""), (1, "")]
    with pytest.raises(NotFoundError, match="no meter"):
        billing.meter(meter.id, "acct_5")
    assert noted[2:] == [(1, "acct_5")]


def test_a_meter_is_read_with_all_that_setting_up_asks_for(
    stripe_config: Config, client: stripe.StripeClient, stand_in: StandIn
) -> None:
    made = make_meter(
        client,
        event_time_window="hour",
        customer_mapping={"type": "by_id", "event_payload_key": "who"},
        value_settings={"event_payload_key": "how_much"},
    )

    meter = make_billing(stripe_config).meter(made.id)

    assert (meter.event_name, meter.formula, meter.active) == ("api_calls", "sum", True)
    assert (meter.window, meter.customer_key, meter.value_key) == ("hour", "who", "how_much")


# --- usage records -------------------------------------------------------------------------------


def test_usage_records_are_refused_unless_they_are_switched_on() -> None:
    network = Recorded(200, "{}")

    answer = recorded_billing(network).send(RECORD)

    assert isinstance(answer, Refused)
    assert answer.code == "legacy_off"
    assert "LEGACY_USAGE_RECORDS=on" in answer.message
    assert network.requests == []


def test_a_usage_record_is_set_through_the_last_version_that_has_them() -> None:
    network = Recorded(200, '{"object": "usage_record"}')

    answer = recorded_billing(network, legacy_usage_records=True).send(RECORD)

    assert answer == Accepted()
    ((method, url, body, headers),) = network.requests
    assert (method, url) == (
        "post",
        "https://api.stripe.com/v1/subscription_items/si_1/usage_records",
    )
    assert body == "quantity=5&timestamp=1795176000&action=set"
    assert headers["Stripe-Version"] == "2025-02-24.acacia"
    assert headers["Idempotency-Key"] == "u1.abc.1"


def test_without_usage_records_at_stripe_the_answer_is_a_refusal() -> None:
    body = '{"error": {"type": "invalid_request_error", "message": "Unrecognized request URL"}}'

    answer = recorded_billing(Recorded(404, body), legacy_usage_records=True).send(RECORD)

    assert answer == Refused("", "Unrecognized request URL")
