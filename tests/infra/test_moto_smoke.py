"""The templates, deployed into moto's CloudFormation as far as it goes.

moto makes tables, queues, roles, functions and event source mappings; it passes over what stands in
`SKIPPED` without a word, so the tests of the templates look at that. It runs no function.
"""

import io
import json
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from infra.functions import FUNCTIONS, INGEST_QUEUE, Queue
from infra.tables import TABLES
from local.dynamodb_local import PROJECT
from local.ports import LOOPBACK, free_port, wait_until_listening
from tests.infra.conftest import Synthesized
from tests.infra.template import REGION

SKIPPED = {
    "AWS::ApiGatewayV2::Api",
    "AWS::ApiGatewayV2::Integration",
    "AWS::ApiGatewayV2::Route",
    "AWS::ApiGatewayV2::Stage",
    "AWS::CloudWatch::Alarm",
    "AWS::KMS::Alias",
    "AWS::KMS::Key",  # it stumbles over a key with tags
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::LayerVersion",  # it makes them, and no function finds them
    "AWS::Lambda::Permission",
    "AWS::S3::BucketPolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SQS::QueuePolicy",
    "AWS::Scheduler::Schedule",
    "AWS::SecretsManager::Secret",
}
BOOTSTRAP_VERSION = "/cdk-bootstrap/hnb659fds/version"
NOT_THERE = "https://not-made-by-moto"


class Moto:
    """A server of our own: its account holds one deployment."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint

    def client(self, service: str) -> Any:
        make: Any = boto3.client  # by a name that is a variable here
        return make(
            service,
            endpoint_url=self._endpoint,
            region_name=REGION,
            aws_access_key_id="moto",
            aws_secret_access_key="moto",
        )

    def bootstrap(self, stacks: Synthesized) -> None:
        """What `cdk bootstrap` and the CDK's upload of assets leave."""
        self.client("ssm").put_parameter(Name=BOOTSTRAP_VERSION, Value="30", Type="String")
        account = self.client("sts").get_caller_identity()["Account"]
        s3, bucket = self.client("s3"), f"cdk-hnb659fds-assets-{account}-{REGION}"
        s3.create_bucket(Bucket=bucket)
        for asset in stacks.folder.glob("asset.*"):
            key = asset.name.removeprefix("asset.") + ".zip"
            s3.put_object(Bucket=bucket, Key=key, Body=_zip())

    def deploy(self, name: str, template: dict[str, Any]) -> None:
        self.client("cloudformation").create_stack(
            StackName=name,
            TemplateBody=json.dumps(template),
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as packed:
        packed.writestr("stands_for.py", "")
    return out.getvalue()


@pytest.fixture(scope="module")
def moto(prod: Synthesized) -> Iterator[Moto]:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.infra.moto_cloudformation", "--port", str(port)], cwd=PROJECT
    )
    try:
        assert wait_until_listening(port, within_s=30)
        moto = Moto(f"http://{LOOPBACK}:{port}")
        moto.bootstrap(prod)
        for stack in ("data", "pipeline", "observability"):
            template = _as_moto_can(prod.templates[stack].raw)
            moto.deploy(prod.deployment.prefix + stack, template)
        yield moto
    finally:
        process.terminate()
        process.wait(timeout=10)


def _as_moto_can(template: Any) -> dict[str, Any]:
    """Without what moto skips; what refers to it gets a text instead."""
    resources = template["Resources"]
    skipped = {name for name, one in resources.items() if one["Type"] in SKIPPED}
    kept = {name: one for name, one in resources.items() if name not in skipped}
    whole = template | {"Resources": kept}
    without: dict[str, Any] = _replaced(whole, skipped)
    return without


def _replaced(value: Any, skipped: set[str]) -> Any:
    match value:
        case {"Ref": name} if name in skipped:
            return NOT_THERE
        case {"Fn::GetAtt": [name, _]} if name in skipped:
            return NOT_THERE
        case dict():
            return {name: _replaced(one, skipped) for name, one in value.items()}
        case list():
            return [_replaced(one, skipped) for one in value]
    return value


def _deployed(moto: Moto, stack: str) -> Counter[str]:
    """How many of each kind a stack has made."""
    client = moto.client("cloudformation")
    assert client.describe_stacks(StackName=stack)["Stacks"][0]["StackStatus"] == "CREATE_COMPLETE"
    pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
    return Counter(
        one["ResourceType"]
        for page in pages
        for one in page["StackResourceSummaries"]
        if one.get("PhysicalResourceId")
    )


@pytest.mark.parametrize("stack", ["data", "pipeline", "observability"])
def test_every_resource_that_moto_can_make_is_made(
    moto: Moto, prod: Synthesized, stack: str
) -> None:
    kinds = Counter(one.kind for one in prod.templates[stack].all())
    expected = {kind: count for kind, count in kinds.items() if kind not in SKIPPED}

    assert dict(_deployed(moto, prod.deployment.prefix + stack)) == expected


def test_tables_are_there_and_the_ledger_has_its_stream(moto: Moto, prod: Synthesized) -> None:
    dynamodb = moto.client("dynamodb")
    prefix = prod.deployment.prefix
    streams = {
        table.name: dynamodb.describe_table(TableName=prefix + table.name)["Table"].get(
            "StreamSpecification"
        )
        for table in TABLES
    }

    assert {name for name, stream in streams.items() if stream} == {"events"}
    assert streams["events"] == {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}


def test_what_failed_five_times_goes_to_the_dead_letters(moto: Moto, prod: Synthesized) -> None:
    trigger = INGEST_QUEUE.trigger
    assert isinstance(trigger, Queue)
    sqs = moto.client("sqs")
    url = sqs.get_queue_url(QueueName=prod.deployment.prefix + trigger.name)["QueueUrl"]
    told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"])["Attributes"]
    redrive = json.loads(told["RedrivePolicy"])

    dead = prod.deployment.prefix + trigger.dead_letter_name
    assert redrive["deadLetterTargetArn"].endswith(f":{dead}")
    assert int(redrive["maxReceiveCount"]) == 5


def test_functions_are_made_with_what_they_need(moto: Moto, prod: Synthesized) -> None:
    made = {one["FunctionName"]: one for one in moto.client("lambda").list_functions()["Functions"]}

    assert made.keys() == {prod.deployment.prefix + one.name for one in FUNCTIONS}
    for function in FUNCTIONS:
        one = made[prod.deployment.prefix + function.name]
        assert (one["MemorySize"], one["Timeout"]) == (function.memory_mb, function.timeout_s)
        assert one["Handler"] == function.handler


def test_the_stream_and_the_queue_are_mapped(moto: Moto, prod: Synthesized) -> None:
    mappings = moto.client("lambda").list_event_source_mappings()["EventSourceMappings"]
    sources = {one["EventSourceArn"].split(":")[2]: one["FunctionArn"] for one in mappings}

    assert sources.keys() == {"dynamodb", "sqs"}
    assert sources["dynamodb"].endswith("stripemeter-prod-aggregator")
    assert sources["sqs"].endswith("stripemeter-prod-ingest_queue")


def test_an_inline_policy_is_all_that_a_role_has(moto: Moto) -> None:
    iam = moto.client("iam")
    roles = [one["RoleName"] for one in iam.list_roles()["Roles"]]

    assert len(roles) == len(FUNCTIONS) + 1
    for role in roles:
        assert len(iam.list_role_policies(RoleName=role)["PolicyNames"]) == 1
        assert iam.list_attached_role_policies(RoleName=role)["AttachedPolicies"] == []
