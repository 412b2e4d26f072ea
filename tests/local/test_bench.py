import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import httpx
import pytest
import stripe
from typer.testing import CliRunner

from infra.functions import RECONCILER, WRITER
from local.bench.arrival import METRIC, Watch
from local.bench.billed import TENANT, billed, together
from local.bench.measure import Size
from local.cli import main
from local.dynamodb_local import LocalServiceError
from local.stripe import server
from local.stripe.control import StandIn
from local.stripe.state import Settings
from metering.names import Metric

CALLS = Metric("api_calls")


def test_a_quick_benchmark_measures_a_part_of_everything_and_never_nothing() -> None:
    assert Size.FULL.of(10_000) == 10_000
    assert Size.QUICK.of(10_000) == 400
    assert Size.QUICK.of(3) == 1


def test_an_unknown_part_of_the_benchmark_is_refused_with_those_that_there_are() -> None:
    answer = CliRunner().invoke(main, ["bench", "--only", "strip"])

    assert answer.exit_code == 2
    assert "arrival" in answer.output


def test_functions_measured_in_processes_of_their_own_tell_stripe_everything_and_agree() -> None:
    with billed(reads_a_month=1_000) as world:
        world.map(CALLS)
        customers = world.add_customers(3)
        world.use([(one, CALLS, Decimal("1.5")) for one in customers], stores=True)
        with world.process(WRITER) as process:
            written = world.write_all(process)
        with world.process(RECONCILER) as process:
            month = f"{world.stand_in.now():%Y-%m}"
            compared = world.cost(process, {"tenantId": TENANT, "period": month})

        assert world.told() == (3, Decimal(3))
        assert written[-1].function.answer["complete"]
        assert together(written).function.cpu_s > 0
        (report,) = compared.function.answer["reports"]
        assert (report["rows"], report["investigate"]) == (3, 0)
        assert [one.stripe for one in world.rows(month)] == [Decimal(1)] * 3


@contextmanager
def summed_up_after(seconds: float) -> Iterator[tuple[httpx.Client, StandIn]]:
    """An API that tells Stripe each event at once, and a Stripe that takes its time."""
    settings = Settings(summary_delay_s=seconds)
    with server.running(settings=settings) as stand_in:
        people = stripe.StripeClient("sk_test_x", base_addresses=stand_in.base_addresses())
        people.v1.billing.meters.create(
            {
                "display_name": METRIC,
                "event_name": METRIC,
                "default_aggregation": {"formula": "sum"},
            }
        )
        stand_in.add_customers(["cus_A", "cus_B"])

        def take(request: httpx.Request) -> httpx.Response:
            (event,) = json.loads(request.content)["events"]
            stand_in.send_foreign_event(METRIC, event["customerRef"], str(event["quantity"]))
            return httpx.Response(200, json={"accepted": 1})

        with httpx.Client(base_url="http://api", transport=httpx.MockTransport(take)) as api:
            yield api, stand_in


def test_an_event_has_arrived_when_stripes_summary_shows_it_and_not_when_it_was_taken() -> None:
    with summed_up_after(0.5) as (api, stand_in):
        watch = Watch(api, stand_in)
        watch.run([0.0, 0.0, 0.2], ["cus_A", "cus_B"])

    assert len(watch.took_s) == 3
    assert min(watch.took_s) >= 0.4


def test_events_that_never_arrive_end_the_benchmark() -> None:
    with summed_up_after(3600) as (api, stand_in):
        watch = Watch(api, stand_in, within_s=0.2)
        with pytest.raises(LocalServiceError, match="2 events have not arrived"):
            watch.run([0.0, 0.0], ["cus_A", "cus_B"])
