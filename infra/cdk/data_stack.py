"""What must not be lost: tables, buckets and secrets. Nothing in here runs."""

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.cdk.bucket import MeterBucket
from infra.cdk.secret import MeterSecret
from infra.cdk.table import MeterTable
from infra.deployments import Deployment
from infra.environment import secrets_of
from infra.tables import EVENTS, TABLES

FAILURES_KEPT = cdk.Duration.days(90)
COLD_AFTER = cdk.Duration.days(30)


class DataStack(cdk.Stack):
    """Apart from the pipeline, so that the pipeline can be removed and made anew around it."""

    def __init__(self, scope: Construct, deployment: Deployment) -> None:
        super().__init__(
            scope,
            f"{deployment.prefix}data",
            description=f"StripeMeter {deployment.name}: tables, buckets and secrets",
            termination_protection=deployment.keeps_data,
        )
        tables = {table.name: MeterTable(self, table, deployment) for table in TABLES}
        self.ledger = tables[EVENTS.name].table
        self._add_buckets(deployment)
        for name, purpose in secrets_of(deployment).items():
            MeterSecret(self, name, purpose, deployment)

    def _add_buckets(self, deployment: Deployment) -> None:
        # Stream records that the aggregator never took, whole: what a person looks at, and what
        # says from when on to rebuild.
        gone = s3.LifecycleRule(id="looked-at-by-now", expiration=FAILURES_KEPT)
        MeterBucket(self, "failures", deployment, gone)
        # The ledger, exported day by day. Glacier Instant Retrieval costs a sixth, and is read
        # like any other object.
        cold = s3.LifecycleRule(id="cold", transitions=[_to_glacier()])
        MeterBucket(self, "archive", deployment, cold, is_versioned=True)
        if deployment.warehouse:
            # Every event within minutes, as lines of JSON, for whatever reads them there.
            MeterBucket(self, "warehouse", deployment)


def _to_glacier() -> s3.Transition:
    return s3.Transition(
        storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL, transition_after=COLD_AFTER
    )
