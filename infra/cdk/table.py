"""One DynamoDB table."""

import aws_cdk as cdk
from aws_cdk import aws_dynamodb as dynamodb
from constructs import Construct

from infra.deployments import Deployment, Provisioned
from infra.tables import COUNTERS, EVENTS, Index, Table

FOLLOW_THE_LOAD = frozenset({EVENTS.name, COUNTERS.name})
"""The tables that every event touches; provisioned capacity is for them."""


class MeterTable(Construct):
    """A table of `infra.tables`: with its past 35 days, kept when its stack goes.

    `Table` and not `TableV2`, which is a global table to CloudFormation: two regions that count
    the same events count them twice, and one kind cannot be turned into the other.
    """

    def __init__(self, scope: Construct, table: Table, deployment: Deployment) -> None:
        super().__init__(scope, f"{table.name.title()}Table")
        capacity = deployment.capacity if table.name in FOLLOW_THE_LOAD else None
        keeps = deployment.keeps_data
        self.table = dynamodb.Table(
            self,
            "Table",
            table_name=deployment.prefix + table.name,
            partition_key=_text(table.partition_key),
            sort_key=_text(table.sort_key) if table.sort_key else None,
            billing_mode=_billing_mode(capacity),
            read_capacity=capacity.read_units_min if capacity else None,
            write_capacity=capacity.write_units_min if capacity else None,
            stream=dynamodb.StreamViewType.NEW_IMAGE if table.has_stream else None,
            time_to_live_attribute=table.expires_by,
            # Also where nothing is kept: the archiver exports from it.
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            deletion_protection=keeps,
            removal_policy=cdk.RemovalPolicy.RETAIN if keeps else cdk.RemovalPolicy.DESTROY,
        )
        indexes = deployment.indexes_of(table)
        for index in indexes:
            self._add_index(index, capacity)
        if capacity:
            self._follow_the_load(capacity, indexes)

    def _add_index(self, index: Index, capacity: Provisioned | None) -> None:
        self.table.add_global_secondary_index(
            index_name=index.name,
            partition_key=_text(index.partition_key),
            sort_key=_text(index.sort_key),
            read_capacity=capacity.read_units_min if capacity else None,
            write_capacity=capacity.write_units_min if capacity else None,
        )

    def _follow_the_load(self, capacity: Provisioned, indexes: tuple[Index, ...]) -> None:
        """An index is written as often as its table: too little of it would hold the table up."""
        writes = {
            "min_capacity": capacity.write_units_min,
            "max_capacity": capacity.write_units_max,
        }
        reads = {"min_capacity": capacity.read_units_min, "max_capacity": capacity.read_units_max}
        followed = [
            self.table.auto_scale_write_capacity(**writes),
            self.table.auto_scale_read_capacity(**reads),
        ]
        for index in indexes:
            name = index.name
            followed.append(
                self.table.auto_scale_global_secondary_index_write_capacity(name, **writes)
            )
            followed.append(
                self.table.auto_scale_global_secondary_index_read_capacity(name, **reads)
            )
        for one in followed:
            one.scale_on_utilization(target_utilization_percent=capacity.target_percent)


def _text(name: str) -> dynamodb.Attribute:
    return dynamodb.Attribute(name=name, type=dynamodb.AttributeType.STRING)


def _billing_mode(capacity: Provisioned | None) -> dynamodb.BillingMode:
    modes = dynamodb.BillingMode
    return modes.PROVISIONED if capacity else modes.PAY_PER_REQUEST
