"""One S3 bucket."""

import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from constructs import Construct

from infra.deployments import Deployment
from infra.environment import bucket_name


class MeterBucket(Construct):
    """A private bucket, encrypted, over TLS only; kept when its stack goes."""

    def __init__(
        self,
        scope: Construct,
        name: str,
        deployment: Deployment,
        *rules: s3.LifecycleRule,
        is_versioned: bool = False,
    ) -> None:
        super().__init__(scope, f"{name.title()}Bucket")
        keeps = deployment.keeps_data
        self.bucket = s3.Bucket(
            self,
            "Bucket",
            bucket_name=cdk.Fn.sub(bucket_name(deployment, name)),
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            versioned=is_versioned,
            lifecycle_rules=[_unfinished_uploads(), *rules],
            removal_policy=cdk.RemovalPolicy.RETAIN if keeps else cdk.RemovalPolicy.DESTROY,
            # CloudFormation cannot delete a bucket that holds anything.
            auto_delete_objects=not keeps,
        )


def _unfinished_uploads() -> s3.LifecycleRule:
    """Parts of an upload that was given up are paid for until somebody removes them."""
    return s3.LifecycleRule(
        id="unfinished-uploads", abort_incomplete_multipart_upload_after=cdk.Duration.days(7)
    )
