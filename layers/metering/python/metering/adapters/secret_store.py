"""Secrets in AWS Secrets Manager."""

from botocore.exceptions import BotoCoreError, ClientError

from metering.adapters import aws
from metering.adapters.dynamodb.refusals import is_not_now
from metering.errors import RetryableError
from metering.ports import SetupError


def read_secret(name: str, what: str) -> str:
    """The text of a secret; `what` says in errors what it is, as in "the canary's key".

    Raises:
        RetryableError: it cannot be read for now.
        SetupError: there is none, or we may not read it.
    """
    try:
        answer = aws.client("secretsmanager").get_secret_value(SecretId=name)
    except (BotoCoreError, ClientError) as error:
        if is_not_now(error):
            raise RetryableError(f"Secrets Manager cannot answer now: {error}") from error
        raise SetupError(f"{what} {name} cannot be read: {error}") from error
    return str(answer["SecretString"]).strip()
