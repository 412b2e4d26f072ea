"""What must not be lost."""

from typing import Any

import pytest

from infra.environment import secrets_of
from infra.tables import OPTIONAL_INDEXES, TABLES, Table
from metering.config import SECRET_NOT_SET
from tests.infra.conftest import Synthesized
from tests.infra.template import ACCOUNT, REGION, Resource


def _table(stacks: Synthesized, table: Table) -> Resource:
    name = stacks.deployment.prefix + table.name
    return stacks.data.one("AWS::DynamoDB::Table", TableName=name)


def test_there_are_our_tables_and_no_others(stacks: Synthesized) -> None:
    made = {one.properties["TableName"] for one in stacks.data.all("AWS::DynamoDB::Table")}

    assert made == {stacks.deployment.prefix + table.name for table in TABLES}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_a_table_is_what_the_local_stack_makes(stacks: Synthesized, table: Table) -> None:
    made = _table(stacks, table).properties
    request = table.creation_request(
        prefix=stacks.deployment.prefix, indexes=stacks.deployment.event_index
    )

    assert made["KeySchema"] == request["KeySchema"]
    assert _by_name(made["AttributeDefinitions"]) == _by_name(request["AttributeDefinitions"])
    assert _indexes(made) == _indexes(request)
    assert made.get("StreamSpecification") == (
        {"StreamViewType": "NEW_IMAGE"} if table.has_stream else None
    )
    assert made.get("TimeToLiveSpecification") == (
        {"AttributeName": table.expires_by, "Enabled": True} if table.expires_by else None
    )


def _by_name(attributes: list[dict[str, str]]) -> dict[str, str]:
    return {one["AttributeName"]: one["AttributeType"] for one in attributes}


def _indexes(properties: Any) -> dict[str, Any]:
    return {
        one["IndexName"]: (one["KeySchema"], one["Projection"])
        for one in properties.get("GlobalSecondaryIndexes", ())
    }


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_table_can_be_restored_and_is_kept_where_data_is(
    stacks: Synthesized, table: Table
) -> None:
    made = _table(stacks, table)
    keeps = stacks.deployment.keeps_data
    policy = "Retain" if keeps else "Delete"

    assert made.properties["PointInTimeRecoverySpecification"] == {
        "PointInTimeRecoveryEnabled": True
    }
    assert made.properties["DeletionProtectionEnabled"] is keeps
    assert (made.raw["DeletionPolicy"], made.raw["UpdateReplacePolicy"]) == (policy, policy)


def test_the_event_index_is_there_only_where_it_is_asked_for(
    dev: Synthesized, prod: Synthesized
) -> None:
    events = TABLES[0]

    assert _indexes(_table(dev, events).properties).keys() >= OPTIONAL_INDEXES
    assert _indexes(_table(prod, events).properties).keys() == {"by_held"}


def test_capacity_is_paid_by_request_unless_it_is_provisioned(
    prod: Synthesized, full: Synthesized
) -> None:
    modes = {
        one.properties["TableName"].rpartition("-")[2]: one.properties.get("BillingMode")
        for one in full.data.all("AWS::DynamoDB::Table")
    }

    assert {name for name, mode in modes.items() if mode is None} == {"events", "counters"}
    assert prod.data.all("AWS::ApplicationAutoScaling::ScalableTarget") == []
    assert all(
        one.properties["BillingMode"] == "PAY_PER_REQUEST"
        for one in prod.data.all("AWS::DynamoDB::Table")
    )


def test_provisioned_capacity_follows_the_load_in_tables_and_indexes(full: Synthesized) -> None:
    targets = full.data.all("AWS::ApplicationAutoScaling::ScalableTarget")
    parts = ("ScalableDimension", "MinCapacity", "MaxCapacity")
    bounds = {tuple(one.properties[part] for part in parts) for one in targets}

    # Two tables and the two indexes of one, each in reads and writes.
    assert len(targets) == 8
    assert bounds == {
        ("dynamodb:table:WriteCapacityUnits", 100, 4_000),
        ("dynamodb:table:ReadCapacityUnits", 50, 1_000),
        ("dynamodb:index:WriteCapacityUnits", 100, 4_000),
        ("dynamodb:index:ReadCapacityUnits", 50, 1_000),
    }
    ledger = _table(full, TABLES[0]).properties
    begins = {"ReadCapacityUnits": 50, "WriteCapacityUnits": 100}
    assert ledger["ProvisionedThroughput"] == begins
    for index in ledger["GlobalSecondaryIndexes"]:
        assert index["ProvisionedThroughput"] == begins
    for policy in full.data.all("AWS::ApplicationAutoScaling::ScalingPolicy"):
        tracked = policy.properties["TargetTrackingScalingPolicyConfiguration"]
        assert tracked["TargetValue"] == 70


def test_every_bucket_is_private_encrypted_and_kept_where_data_is(stacks: Synthesized) -> None:
    buckets = stacks.data.all("AWS::S3::Bucket")
    names = {"failures", "archive"} | ({"warehouse"} if stacks.deployment.warehouse else set())
    prefix = stacks.deployment.prefix

    assert {one.properties["BucketName"] for one in buckets} == {
        f"{prefix}{name}-{ACCOUNT}-{REGION}" for name in names
    }
    for bucket in buckets:
        assert set(bucket.properties["PublicAccessBlockConfiguration"].values()) == {True}
        assert "BucketEncryption" in bucket.properties
        kept = "Retain" if stacks.deployment.keeps_data else "Delete"
        assert bucket.raw["DeletionPolicy"] == kept


def test_every_bucket_is_reached_over_tls_only(stacks: Synthesized) -> None:
    refused = {
        policy.properties["Bucket"]
        for policy in stacks.data.all("AWS::S3::BucketPolicy")
        for statement in policy.properties["PolicyDocument"]["Statement"]
        if statement["Effect"] == "Deny"
        and statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    }

    assert refused == {f"<{one.logical_id}>" for one in stacks.data.all("AWS::S3::Bucket")}


def test_the_archive_grows_cold_and_keeps_what_is_overwritten(stacks: Synthesized) -> None:
    name = f"{stacks.deployment.prefix}archive-{ACCOUNT}-{REGION}"
    archive = stacks.data.one("AWS::S3::Bucket", BucketName=name).properties
    moves = [rule["Transitions"] for rule in archive["LifecycleConfiguration"]["Rules"][1:]]

    assert archive["VersioningConfiguration"] == {"Status": "Enabled"}
    assert moves == [[{"StorageClass": "GLACIER_IR", "TransitionInDays": 30}]]


def test_secrets_are_made_empty_and_by_name(stacks: Synthesized) -> None:
    made = {
        one.properties["Name"]: one.properties["SecretString"]
        for one in stacks.data.all("AWS::SecretsManager::Secret")
    }
    prefix = f"stripemeter/{stacks.deployment.name}/"

    assert made == {prefix + name: SECRET_NOT_SET for name in secrets_of(stacks.deployment)}


def test_a_stack_with_data_cannot_be_deleted_by_accident(stacks: Synthesized) -> None:
    manifest = stacks.artifact("data")["properties"]

    assert manifest.get("terminationProtection", False) is stacks.deployment.keeps_data
