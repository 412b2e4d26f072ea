"""What a deployment may be told, by `cdk.json` and at the command line."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from infra.context import READERS, DeploymentError, deployment_from
from infra.deployments import DEV, PROD, Deployment, Domain, Provisioned
from infra.functions import CANARY, FUNCTIONS

CDK_JSON: dict[str, Any] = json.loads((Path(__file__).parents[2] / "cdk.json").read_text())
CERTIFICATE = "arn:aws:acm:us-east-1:111111111111:certificate/0a1b"


def test_a_name_alone_has_the_defaults() -> None:
    assert deployment_from({"env": "dev"}) == DEV
    assert deployment_from({"env": "prod"}) == PROD


def test_the_file_goes_before_the_defaults_and_the_command_line_before_the_file() -> None:
    context = {"env": "prod", "stripemeter:prod": {"lateness_h": 72, "log_days": 30}}

    assert deployment_from(context) == replace(PROD, lateness_h=72, log_days=30)
    assert deployment_from(context | {"lateness_h": "24"}) == replace(
        PROD, lateness_h=24, log_days=30
    )


def test_a_deployment_of_the_users_own_keeps_its_data() -> None:
    context = {"env": "eu1", "stripemeter:eu1": {"shadow": True}}

    assert deployment_from(context) == replace(PROD, name="eu1", shadow=True)


def test_another_deployments_settings_change_nothing() -> None:
    assert deployment_from({"env": "dev", "stripemeter:prod": {"lateness_h": 1}}) == DEV


def test_values_of_several_parts_come_as_objects_or_as_their_text() -> None:
    capacity = {
        "write_units_min": 1,
        "write_units_max": 2,
        "read_units_min": 3,
        "read_units_max": 4,
    }
    written = {
        "capacity": capacity,
        "domain": {"name": "usage.example.com", "certificate_arn": CERTIFICATE},
        "schedules_s": {"writer": 120},
        "reserved_concurrency": {"writer": 1},
    }
    expected = replace(
        DEV,
        capacity=Provisioned(1, 2, 3, 4),
        domain=Domain("usage.example.com", CERTIFICATE),
        schedules_s={"writer": 120},
        reserved_concurrency={"writer": 1},
    )

    assert deployment_from({"env": "dev", "stripemeter:dev": written}) == expected
    texts = {name: json.dumps(value) for name, value in written.items()}
    assert deployment_from({"env": "dev"} | texts) == expected


def test_the_cdks_own_context_is_not_taken_for_ours() -> None:
    context = CDK_JSON["context"] | {"aws:cdk:bundling-stacks": ["**"], "env": "prod"}

    assert deployment_from(context) == PROD


def test_the_deployments_of_the_file_are_what_they_are_called() -> None:
    dev, prod = (deployment_from(CDK_JSON["context"] | {"env": name}) for name in ("dev", "prod"))

    assert (dev.name, dev.keeps_data, dev.event_index) == ("dev", False, True)
    assert (prod.name, prod.keeps_data, prod.event_index) == ("prod", True, False)
    assert deployment_from(CDK_JSON["context"]) == dev


def test_every_setting_can_be_read() -> None:
    assert READERS.keys() == {field.name for field in fields(Deployment)} - {"name"}


def test_a_deployment_can_go_without_its_canary() -> None:
    without = deployment_from({"env": "dev", "canary": "false"})

    assert without.functions == tuple(one for one in FUNCTIONS if one is not CANARY)


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (
            {},
            "no env is given; name one of dev, prod by `ENV=...` (cdk: `-c env=...`), or describe",
        ),
        ({"env": "prd"}, "env is 'prd'; name one of dev, prod by `ENV=...`"),
        ({"env": "x", "stripemeter:y": {}}, "env is 'x'; name one of dev, prod, y by"),
        (
            {"env": "Prod1", "stripemeter:Prod1": {}},
            "env 'Prod1' cannot stand in the names of resources; use 10 small letters and digits",
        ),
        (
            {"env": "dev", "stripemeter:dev": {"latenes_h": 3}},
            "stripemeter:dev in cdk.json: there is no setting latenes_h; did you mean lateness_h?",
        ),
        (
            {"env": "dev", "zzz": 3},
            "-c at the command line: there is no setting zzz; there are alarm_email, ",
        ),
        (
            {"env": "dev", "log-days": "30"},
            "-c at the command line: there is no setting log-days; did you mean log_days?",
        ),
        (
            {
                "env": "dev",
                "alarm_email": "ops@example.com",
                "alarm_topic_arn": "arn:aws:sns:us-east-1:111111111111:pager",
            },
            "leave one away, or subscribe the address to your topic",
        ),
        ({"env": "dev", "stripemeter:dev": [1]}, "stripemeter:dev in cdk.json must be an object"),
        (
            {"env": "dev", "lateness_h": "two"},
            "-c at the command line: lateness_h must be a whole number from 0 to 8784, not 'two'",
        ),
        ({"env": "dev", "lateness_h": True}, "lateness_h must be a whole number from 0 to 8784"),
        ({"env": "dev", "log_days": 31}, "log_days must be one of 1, 3, 5, 7, 14, 30, "),
        ({"env": "dev", "keeps_data": "yes"}, "keeps_data must be true or false, not 'yes'"),
        ({"env": "dev", "alarm_email": "ops"}, "alarm_email must be an e-mail address, not 'ops'"),
        ({"env": "dev", "stripe_transport": "v3"}, "stripe_transport must be one of v1, v2, not"),
        ({"env": "dev", "queue_concurrency": 1}, "a whole number from 2 to 1000, not 1"),
        ({"env": "dev", "canary_customer": None}, "canary_customer must be a customer's reference"),
        ({"env": "dev", "domain": "usage.example.com"}, "domain must be an object with name, cert"),
        ({"env": "dev", "domain": {"name": "usage.example.com"}}, "domain must be an object with"),
        (
            {"env": "dev", "domain": {"name": "usage.example.com", "certificate_arn": "x"}},
            "one of them is not the ARN of a certificate of ACM",
        ),
        ({"env": "dev", "schedules_s": {"ingest": 60}}, 'must be an object of seconds, such as {"'),
        (
            {"env": "dev", "schedules_s": {"writer": 61}},
            "; each is a whole number of minutes, in seconds, not {'writer': 61}",
        ),
        ({"env": "dev", "schedules_s": "{writer: 60}"}, "schedules_s must be an object of seconds"),
        (
            {
                "env": "dev",
                "capacity": {
                    "write_units_min": 9,
                    "write_units_max": 8,
                    "read_units_min": 1,
                    "read_units_max": 1,
                },
            },
            "capacity must be an object whose most is no less than its least",
        ),
        (
            {"env": "dev", "partner_event_bus": "default"},
            "must be the name of Stripe's event bus, `aws.partner/stripe.com/...`, not 'default'",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_way_out(context: dict[str, Any], says: str) -> None:
    with pytest.raises(DeploymentError, match=re.escape(says)):
        deployment_from(context)
