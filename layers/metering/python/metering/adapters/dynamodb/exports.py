"""Exports of the ledger's table to S3, out of its point-in-time backups: no read unit is used."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from metering.adapters.dynamodb.refusals import code_of, retryable
from metering.archive import ExportStatus, Window
from metering.period import Span
from metering.ports import SetupError

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

PREFIX = "ledger"


class DynamoExports:
    """The `Exports` port on DynamoDB."""

    def __init__(self, client: "DynamoDBClient", table: str, bucket: str) -> None:
        self._client = client
        self._table = table
        self._bucket = bucket

    def restorable(self) -> Span:
        """See `Exports.restorable`."""
        with retryable():
            answer = self._client.describe_continuous_backups(TableName=self._table)
        backups = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
        if backups.get("PointInTimeRecoveryStatus") != "ENABLED":
            raise SetupError(
                f"the table {self._table} has no point-in-time recovery, so nothing can be"
                " exported; switch it on (the CDK app does) or unset ARCHIVE_BUCKET"
            )
        return Span(
            _utc(backups["EarliestRestorableDateTime"]), _utc(backups["LatestRestorableDateTime"])
        )

    def begin(self, window: Window, at: datetime) -> str:
        """See `Exports.begin`."""
        request: dict[str, Any] = {
            "TableArn": self._arn(),
            "S3Bucket": self._bucket,
            "S3Prefix": f"{PREFIX}/{window.name}",
            "S3SseAlgorithm": "AES256",
            "ExportFormat": "DYNAMODB_JSON",
            # A token is known to the whole account, and another table has the same windows.
            "ClientToken": f"{self._table}-{window.token}",
        }
        request |= (
            {"ExportType": "FULL_EXPORT", "ExportTime": at} if window.is_full else _changes(window)
        )
        with retryable():
            answer = self._client.export_table_to_point_in_time(**request)
        return answer["ExportDescription"]["ExportArn"]

    def status(self, export: str) -> ExportStatus:
        """See `Exports.status`."""
        try:
            with retryable():
                found = self._client.describe_export(ExportArn=export)["ExportDescription"]
        except ClientError as error:
            if code_of(error) == "ExportNotFoundException":
                return ExportStatus(is_running=False, failure="DynamoDB knows it no more")
            raise
        if found["ExportStatus"] == "FAILED":
            reason = f"{found.get('FailureCode', '')}: {found.get('FailureMessage', '')}"
            return ExportStatus(is_running=False, failure=reason)
        return ExportStatus(
            is_running=found["ExportStatus"] == "IN_PROGRESS",
            manifest=found.get("ExportManifest", ""),
            entries=found.get("ItemCount", 0),
            billed_bytes=found.get("BilledSizeBytes", 0),
        )

    def _arn(self) -> str:
        with retryable():
            return self._client.describe_table(TableName=self._table)["Table"]["TableArn"]


def _changes(window: Window) -> dict[str, Any]:
    return {
        "ExportType": "INCREMENTAL_EXPORT",
        "IncrementalExportSpecification": {
            "ExportFromTime": window.start,
            "ExportToTime": window.end,
            "ExportViewType": "NEW_IMAGES",
        },
    }


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC)
