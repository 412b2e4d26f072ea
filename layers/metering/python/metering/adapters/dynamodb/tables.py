"""Whether the deployment's tables answer; what each is for stands with those who use it."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from metering.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

_NOBODY = {"S": "readiness"}
_KEYS_OF = {
    "events": ("pk",),
    "counters": ("pk", "sk"),
    "billing": ("pk", "sk"),
    "settings": ("pk", "sk"),
    "quarantine": ("pk", "sk"),
    "adjustments": ("pk", "sk"),
    "rates": ("pk",),
}


class DynamoTables:
    """The `Tables` port: reads one item that does not exist from each table."""

    def __init__(self, dynamodb: "DynamoDBClient", config: Config) -> None:
        self._dynamodb = dynamodb
        self._prefix = config.table_prefix

    def unreadable(self) -> list[str]:
        """See `Tables.unreadable`; ends with the first that cannot be reached at all."""
        trouble = []
        for name, attributes in _KEYS_OF.items():
            key = dict.fromkeys(attributes, _NOBODY)
            try:
                self._dynamodb.get_item(TableName=self._prefix + name, Key=key)
            except ClientError as error:
                trouble.append(f"{name}: {error.response['Error'].get('Code', 'refused')}")
            except BotoCoreError as error:
                # Each further table would cost the same time-outs again.
                return [*trouble, f"{name} and those after it: {type(error).__name__}"]
        return trouble
