"""The operator's smoke test and the canary against a running stack that asks for API keys."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from infra.operate import canary_key
from infra.operate.cli import main
from local.stack import Stack, running_stack
from local.stripe.control import StandIn
from metering.adapters.machine import SystemMachine
from metering.auth import DEFAULT_SCOPES, Scope
from metering.canary import CUSTOMER, METRIC, TENANT
from metering.config import Config
from metering.mapping import LatePolicy, MetricSettings
from metering.names import Metric, TenantId
from metering.ports import SetupError
from metering.times import to_iso_ms
from metering.wiring import Wiring
from tests.e2e.shop import Shop

pytestmark = [pytest.mark.stack, pytest.mark.xdist_group("own-stacks")]


@pytest.fixture(scope="module")
def guarded() -> Iterator[Stack]:
    with running_stack(free_ports=True, auth=True, summary_delay_s=0) as stack:
        yield stack


class Hasty(SystemMachine):
    """A machine whose time runs ten times as fast, so that patience costs little."""

    def seconds(self) -> float:
        return 10 * super().seconds()

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds / 10)


def wired(stack: Stack, **settings: Any) -> Wiring:
    """Our own objects on the stack's tables."""
    config = Config(dynamodb_endpoint=stack.dynamodb_endpoint, event_index_shards=1, **settings)
    return Wiring(config, machine=Hasty())


def key_of(stack: Stack, tenant: str, *scopes: Scope) -> str:
    issued = wired(stack).key_issuer.create_key(TenantId(tenant), scopes or DEFAULT_SCOPES)
    return issued.text


def smoke(stack: Stack, key: str, *options: str) -> Result:
    command = ["smoke", "--api-url", stack.api_url, *options]
    return CliRunner().invoke(main, command, env={"STRIPEMETER_KEY": key})


# --- smoke ---


def test_the_smoke_test_sends_twice_and_reads_back_once(guarded: Stack) -> None:
    result = smoke(guarded, key_of(guarded, "acme"), "--events", "10")

    assert result.exit_code == 0, result.output
    assert "✗" not in result.output
    lines = [line.strip().removeprefix("✓ ") for line in result.output.splitlines()[1:]]
    assert lines[:4] == [
        "health: everything that is needed answers",
        "no key: a request without a key is answered 401",
        "accepted: of 10 events sent once, 10 accepted, 0 duplicates, 0 conflicts",
        "duplicates: of 10 events sent again, 0 accepted, 10 duplicates, 0 conflicts",
    ]
    assert lines[4].startswith("counted: 10 events, 10.045 of 10.045 sent, after ")
    assert lines[5].endswith("-0 is counted")


def test_a_wrong_key_fails_the_smoke_test_and_says_what_to_do(guarded: Stack) -> None:
    result = smoke(guarded, "sm_0123456789ab.c2VjcmV0")

    assert result.exit_code == 1
    assert '✗ accepted: answered 401: {"error":"Invalid API key"}' in result.output
    assert "fix: make a key with the scopes" in result.output


def test_what_is_not_counted_in_time_fails_the_smoke_test(guarded: Stack) -> None:
    guarded.chaos("aggregator", "pause")

    result = smoke(guarded, key_of(guarded, "acme"), "--events", "3", "--within", "1")

    guarded.chaos("aggregator", "resume")
    assert result.exit_code == 1
    assert "✗ counted: 0 events, 0 of 3.003 sent, after 1." in result.output
    assert "is accepted" in result.output, "the trace tells how far it came"


def test_an_address_where_nobody_listens_is_one_cross(guarded: Stack) -> None:
    result = CliRunner().invoke(main, ["smoke", "--api-url", "http://127.0.0.1:1", "--key", "k"])

    assert result.exit_code == 1
    assert result.output.count("✗") == 1
    assert "✗ connection" in result.output


# --- canary ---


@pytest.fixture(scope="module")
def canary(guarded: Stack) -> Wiring:
    """One with a key that opens no more than it needs."""
    settings = MetricSettings(Metric(METRIC), late_policy=LatePolicy.COUNT)
    wired(guarded).settings_store.put_metric(TENANT, settings)
    key = key_of(guarded, TENANT, *canary_key.SCOPES)
    return wired(guarded, canary_api_url=guarded.api_url, canary_key=key)


def run(canary: Wiring) -> dict[str, Any]:
    assert canary.canary is not None
    return canary.canary.run(lambda: timedelta(minutes=1))


def test_the_canary_of_the_local_stack_is_off_and_so_is_the_archiver(guarded: Stack) -> None:
    assert guarded.run("canary") == {"canary": "off"}
    assert guarded.run("archiver") == {"archived": "off"}


def test_the_canary_agrees_then_finds_usage_that_it_did_not_send(
    guarded: Stack, canary: Wiring
) -> None:
    first = run(canary)
    guarded.drain()
    second = run(canary)

    assert first["filled"] > 280, "yesterday and today so far"
    assert (second["canary"], second["difference"]) == ("agrees", "0")
    assert (second["missing"], second["filled"]) == ([], 0)
    assert second["stripeDifference"] is None

    with Shop(guarded, "intruder") as intruder:
        intruder.tenant = TENANT
        intruder.shows_key()
        event = intruder.event(
            metric=METRIC,
            customerRef=CUSTOMER,
            quantity=Decimal("0.5"),
            ts=to_iso_ms(guarded.now()),
        )
        intruder.sends(event)
    guarded.drain()
    third = run(canary)

    assert (third["canary"], third["difference"]) == ("differs", "0.5000")


def test_a_canary_without_a_valid_key_says_how_to_get_one(guarded: Stack) -> None:
    unknown = wired(guarded, canary_api_url=guarded.api_url, canary_key="sm_0123456789ab.c2VjcmV0")

    with pytest.raises(SetupError, match="`stripemeter canary` makes"):
        run(unknown)


def test_the_reconcilers_report_is_read_where_the_customer_is_told_to_stripe(
    guarded: Stack,
) -> None:
    with Shop(guarded, "told") as shop:
        shop.tenant = TENANT
        shop.shows_key()
        shop.maps(METRIC, scale=4)
        key = key_of(guarded, TENANT, *canary_key.SCOPES)
        told = wired(
            guarded,
            canary_api_url=guarded.api_url,
            canary_key=key,
            canary_customer=shop.customer,
        )
        differences = [run(told)["stripeDifference"]]
        for _ in range(2):
            shop.is_counted()
            shop.is_told()
            shop.is_compared()
            differences.append(run(told)["stripeDifference"])
            with StandIn(guarded.stripe_url) as stand_in:
                stand_in.send_foreign_event(shop.event_name(METRIC), shop.customer, "5")
                stand_in.settle()

    assert differences == [None, "0", "-0.0005"]
