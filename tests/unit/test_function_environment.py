"""What functions are told, on AWS and locally, against what they read."""

import re
from dataclasses import replace
from pathlib import Path

import metering.config
from infra.deployments import DEV, PROD, Deployment
from infra.environment import LEFT_ALONE, ONLY_ON_AWS, VARIABLES, environment_of
from infra.functions import FUNCTIONS, INGEST, STRIPE_WEBHOOK, WRITER
from local.runner import LOCAL, RunnerSettings, deployed_environment, function_environment
from metering.config import Config

FULL = replace(PROD, shadow=True)
READ = set(re.findall(r'"([A-Z][A-Z_]+)"', Path(metering.config.__file__).read_text()))
NOT_READ_BY_CONFIG = {"QUEUE_URL"}
"""People and tools find the local queue by it."""


def _told(deployment: Deployment) -> set[str]:
    return {name for one in FUNCTIONS for name in environment_of(one, deployment)}


def test_every_variable_that_is_read_is_set_or_excused() -> None:
    assert len(READ) > 20
    assert {one.name for one in VARIABLES} | LEFT_ALONE.keys() == READ


def test_no_variable_is_both_set_and_excused() -> None:
    assert _told(FULL) & LEFT_ALONE.keys() == set()
    assert all(len(why.split()) > 4 for why in LEFT_ALONE.values())


def test_every_variable_is_set_where_its_deployment_has_what_it_names() -> None:
    assert {one.name for one in VARIABLES} - _told(DEV) == {"STRIPE_SHADOW_SECRET_NAME"}
    assert {one.name for one in VARIABLES} == _told(FULL)


def test_only_functions_that_need_stripe_are_told_of_it() -> None:
    of_stripe = {
        one.name
        for one in FUNCTIONS
        if any(name.startswith("STRIPE_") for name in environment_of(one, FULL))
    }

    assert of_stripe == {one.name for one in FUNCTIONS if one.calls_stripe} | {"stripe_webhook"}
    assert of_stripe == {"writer", "period_closer", "reconciler", "api", "stripe_webhook"}


def test_ingest_is_told_this_and_nothing_else() -> None:
    assert environment_of(INGEST, PROD) == {
        "TABLE_PREFIX": "stripemeter-prod-",
        "EVENT_INDEX": "off",
        "EVENT_INDEX_SHARDS": "4",
        "LATENESS_H": "48",
        "TENANT_EVENTS_A_SECOND": "0",
        "METRICS": "emf",
        "DEPLOYMENT": "prod",
    }


def test_functions_read_what_a_deployment_says() -> None:
    deployment = replace(PROD, event_index=True, event_index_shards=8, lateness_h=72, shadow=True)

    writer = Config.from_environment(environment_of(WRITER, deployment))
    webhook = Config.from_environment(environment_of(STRIPE_WEBHOOK, deployment))

    assert writer == Config(
        table_prefix="stripemeter-prod-",
        event_index=True,
        event_index_shards=8,
        lateness_h=72,
        stripe_secret_name="stripemeter/prod/stripe-key",
        stripe_shadow_secret_name="stripemeter/prod/stripe-shadow-key",
        calls_at_once=4,
        deployment="prod",
        metrics="emf",
    )
    assert webhook.stripe_secret_name == "stripemeter/prod/stripe-key"
    assert webhook.stripe_webhook_secrets_name == "stripemeter/prod/stripe-webhook"
    assert webhook.stripe_shadow_secret_name is None


def test_the_local_stack_says_what_a_deployment_would() -> None:
    local = function_environment(
        RunnerSettings(3000, "http://d", "http://s", "http://x"), "http://q"
    )
    shared = {name: value for name, value in deployed_environment().items() if local[name] == value}

    assert _told(LOCAL) - ONLY_ON_AWS <= local.keys()
    assert deployed_environment().keys() - shared.keys() == {"TABLE_PREFIX", "METRICS"}
    assert not ONLY_ON_AWS & local.keys()


def test_what_only_the_local_stack_sets_is_read_too() -> None:
    local = function_environment(
        RunnerSettings(3000, "http://d", "http://s", "http://x"), "http://q"
    )

    ours = {name for name in local if not name.startswith("AWS_")}
    assert ours - READ == NOT_READ_BY_CONFIG
