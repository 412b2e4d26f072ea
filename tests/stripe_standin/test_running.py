"""The stand-in as a process: alone, with its state on disk, and without a socket."""

import os
import re
import runpy
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import stripe

from local.stripe.control import StandIn
from local.stripe.core import StripeCore
from local.stripe.faults import Fault, FaultKind
from local.stripe.in_process import InProcessClient
from local.stripe.journal import FILE_NAME
from local.stripe.server import running
from local.stripe.state import Settings
from tests.stripe_standin.conftest import NOON
from tests.stripe_standin.description import DESCRIPTION

PROJECT = Path(__file__).parent.parent.parent


def client_of(stand_in: StandIn) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_x", base_addresses=stand_in.base_addresses())


def a_meter_and_a_customer(client: stripe.StripeClient) -> tuple[str, str]:
    meter = client.v1.billing.meters.create(
        {
            "display_name": "API calls",
            "event_name": "api_calls",
            "default_aggregation": {"formula": "sum"},
        }
    )
    return meter.id, client.v1.customers.create({"name": "Ada"}).id


def send(client: stripe.StripeClient, customer: str, identifier: str, key: str) -> None:
    client.v1.billing.meter_events.create(
        {
            "event_name": "api_calls",
            "payload": {"stripe_customer_id": customer, "value": "5"},
            "identifier": identifier,
        },
        {"idempotency_key": key},
    )


# --- on disk --------------------------------------------------------------------------------------


def test_a_restart_keeps_objects_events_and_keys(tmp_path: Path) -> None:
    with running(data=tmp_path) as stand_in:
        client = client_of(stand_in)
        meter, customer = a_meter_and_a_customer(client)
        send(client, customer, "u1.a.1", "k1")
        before = stand_in.state()["accounts"]

    with running(data=tmp_path) as stand_in:
        client = client_of(stand_in)
        assert stand_in.state()["accounts"] == before
        assert client.v1.billing.meters.retrieve(meter).event_name == "api_calls"
        send(client, customer, "u1.a.1", "k1")  # replayed
        with pytest.raises(stripe.InvalidRequestError, match="already exists"):
            send(client, customer, "u1.a.1", "k2")
        other = client.v1.customers.create({"name": "Bob"}).id
        assert other != customer
        assert stand_in.total("api_calls", customer) == 5

    with running(data=tmp_path) as stand_in:
        assert client_of(stand_in).v1.customers.retrieve(other).name == "Bob"


def test_a_restart_keeps_the_whole_state(tmp_path: Path) -> None:
    with running(data=tmp_path) as stand_in:
        stand_in.stand_at(NOON)
        stand_in.set(asynchronous=["meter_event_customer_not_found"])
        client = client_of(stand_in)
        meter, customer = a_meter_and_a_customer(client)
        price = client.v1.prices.create(
            {
                "currency": "usd",
                "unit_amount": 1,
                "product_data": {"name": "API"},
                "recurring": {"interval": "month", "usage_type": "metered", "meter": meter},
            }
        )
        subscription = client.v1.subscriptions.create(
            {"customer": customer, "items": [{"price": price.id}]}
        )
        with pytest.raises(stripe.InvalidRequestError, match="metered price"):
            client.v1.subscriptions.create(
                {"customer": customer, "items": [{"price": price.id, "quantity": 2}]}
            )
        send(client, customer, "u1.a.1", "k1")
        send(client, "cus_nobody", "u1.a.2", "k2")
        send(client, customer, "u1.a.3", "k3")
        client.v1.billing.meter_event_adjustments.create(
            {"event_name": "api_calls", "type": "cancel", "cancel": {"identifier": "u1.a.1"}}
        )
        stand_in.settle()
        client.v1.customers.delete(client.v1.customers.create({}).id)
        stand_in.advance(timedelta(days=3))
        before = stand_in.state()

    for _ in range(2):
        with running(data=tmp_path) as stand_in:
            after = stand_in.state()
            assert after["accounts"] == before["accounts"]
            assert after["now"] == before["now"]
    with running(data=tmp_path) as stand_in:
        stand_in.advance(timedelta(days=30))
        found = client_of(stand_in).v1.subscriptions.retrieve(subscription.id)
        assert found["items"].data[0].current_period_start == int(NOON.timestamp()) + 30 * 86_400


def test_a_request_that_was_cut_off_while_being_written_never_happened(tmp_path: Path) -> None:
    with running(data=tmp_path) as stand_in:
        client = client_of(stand_in)
        _, customer = a_meter_and_a_customer(client)
        send(client, customer, "u1.a.1", "k1")
    journal = tmp_path / FILE_NAME
    journal.write_text(journal.read_text()[:-2])

    with running(data=tmp_path) as stand_in:
        assert stand_in.total("api_calls", customer) == 0
        send(client_of(stand_in), customer, "u1.a.1", "k1")
        assert stand_in.total("api_calls", customer) == 5


def test_a_reset_is_kept_too(tmp_path: Path) -> None:
    with running(data=tmp_path) as stand_in:
        a_meter_and_a_customer(client_of(stand_in))
        stand_in.reset()

    with running(data=tmp_path) as stand_in:
        assert client_of(stand_in).v1.billing.meters.list().data == []


# --- as a process -------------------------------------------------------------------------------


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_is_and_stops_cleanly(tmp_path: Path, stop: signal.Signals) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "local.stripe", "--port", "0", "--data", str(tmp_path)],
        cwd=PROJECT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout
        line = process.stdout.readline()
        url = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert url, line
        with StandIn(url[0]) as stand_in:
            assert stand_in.add_customers(["cus_A"]) == 1
        process.send_signal(stop)
        rest, errors = process.communicate(timeout=10)

    assert (rest, errors) == ("", "")
    with running(data=tmp_path) as stand_in:
        assert client_of(stand_in).v1.customers.retrieve("cus_A").id == "cus_A"


def test_a_taken_port_is_said_in_one_line() -> None:
    with running() as stand_in:
        port = stand_in.url.rpartition(":")[2]
        process = subprocess.run(
            [sys.executable, "-m", "local.stripe", "--port", port],
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    assert process.returncode == 1
    assert process.stderr == (
        f"Stripe stand-in: port {port} cannot be used (Address already in use); "
        "choose another with --port, or 0\n"
    )


# --- without a socket -----------------------------------------------------------------------------


def run_a_day(seed: str) -> tuple[object, list[str]]:
    core = StripeCore(lambda: NOON, settings=Settings(summary_delay_s=0), seed=seed)
    client = stripe.StripeClient("sk_test_x", http_client=InProcessClient(core))
    meter, customer = a_meter_and_a_customer(client)
    core.faults.add(Fault(FaultKind.DROP_AFTER))
    with pytest.raises(stripe.APIConnectionError):
        send(client, customer, "u1.a.1", "k1")
    send(client, customer, "u1.a.1", "k1")
    start = int(NOON.timestamp())
    [row] = client.v1.billing.meters.event_summaries.list(
        meter, {"customer": customer, "start_time": start, "end_time": start + 60}
    ).data
    return row.aggregated_value, [meter, customer]


def test_the_core_answers_the_sdk_without_a_socket() -> None:
    assert run_a_day("a")[0] == 5


def test_the_core_is_a_function_of_its_seed_clock_and_requests() -> None:
    assert run_a_day("a") == run_a_day("a")
    assert run_a_day("a") != run_a_day("b")


def test_a_delay_is_handed_to_the_caller_and_may_end_in_its_timeout() -> None:
    core = StripeCore(lambda: datetime(2026, 11, 20, tzinfo=UTC))

    def time_out(delay_s: float) -> None:
        raise TimeoutError(delay_s)

    client = stripe.StripeClient("sk_test_x", http_client=InProcessClient(core, time_out))
    core.faults.add(Fault(FaultKind.DELAY, delay_s=30))
    with pytest.raises(TimeoutError):
        client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})

    found = client.v1.customers.create({"name": "Ada"}, {"idempotency_key": "k1"})
    assert [one.id for one in client.v1.customers.list().data] == [found.id]


# --- the description the tests check against ------------------------------------------------------


def test_the_api_description_is_that_of_the_installed_sdk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "made.json"
    monkeypatch.setattr(sys, "argv", ["stripe_openapi_reduce.py", str(made)])

    runpy.run_path(str(PROJECT / "scripts/stripe_openapi_reduce.py"), run_name="__main__")

    assert made.read_bytes() == DESCRIPTION.read_bytes()
