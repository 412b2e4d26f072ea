"""The one DynamoDB client of a process."""

from typing import TYPE_CHECKING

import boto3
from botocore.config import Config as BotoConfig

from metering.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient


def make_client(config: Config) -> "DynamoDBClient":
    """A client for the deployment's tables.

    Our own schema has checked every value, so botocore's parameter validation is off (a tenth of a
    call's CPU). Retries are few and short: whoever redelivers owns the long loop.
    """
    settings = BotoConfig(
        parameter_validation=False,
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=64,
        tcp_keepalive=True,
    )
    return boto3.client("dynamodb", endpoint_url=config.dynamodb_endpoint, config=settings)
