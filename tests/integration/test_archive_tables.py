"""The archive's adapters: windows on DynamoDB Local, exports on moto and on a fake client."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters
from moto import mock_aws

from functions.archiver.handler import handler
from infra.tables import EVENTS
from metering.adapters.dynamodb.archive_windows import DynamoArchiveWindows
from metering.adapters.dynamodb.exports import DynamoExports
from metering.archive import EVER, ExportStatus, State, Window
from metering.errors import RetryableError
from metering.ports import SetupError
from metering.wiring import Wiring
from tests.faults import throttled
from tests.local.helpers import wait_for

DAY = timedelta(days=1)
NOVEMBER = datetime(2026, 11, 1, 3, tzinfo=UTC)
FIRST = Window(EVER, NOVEMBER, is_full=True)
SECOND = Window(NOVEMBER, NOVEMBER + DAY)


def test_without_a_bucket_the_archiver_is_off(wiring: Wiring) -> None:
    assert handler({}, None) == {"archived": "off"}


# --- windows ---


@pytest.fixture
def windows(wiring: Wiring) -> DynamoArchiveWindows:
    return DynamoArchiveWindows(wiring.dynamodb, wiring.config)


def test_windows_are_read_as_they_were_kept_in_the_order_of_time(
    windows: DynamoArchiveWindows,
) -> None:
    done = replace(
        FIRST, state=State.DONE, attempt=3, export="arn:1", manifest="m", entries=5, billed_bytes=9
    )

    assert [windows.add(SECOND), windows.add(done)] == [True, True]

    assert windows.all() == [done, SECOND]


def test_a_windows_start_can_be_taken_once(windows: DynamoArchiveWindows) -> None:
    assert windows.add(SECOND)
    assert not windows.add(replace(SECOND, end=SECOND.end + DAY))
    assert windows.all() == [SECOND]


def test_a_window_that_was_changed_meanwhile_is_left_alone(windows: DynamoArchiveWindows) -> None:
    windows.add(SECOND)
    begun = replace(SECOND, state=State.EXPORTING, export="arn:1")

    assert windows.change(SECOND, begun)
    assert not windows.change(SECOND, replace(begun, export="arn:2"))
    assert not windows.change(replace(begun, attempt=2), SECOND)
    assert windows.all() == [begun]


# --- exports ---


class Client:
    """DynamoDB's calls for exports, as botocore shapes them; each answer can be set."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.description: dict[str, Any] = {"ExportStatus": "IN_PROGRESS"}
        self.backups: dict[str, Any] = {
            "PointInTimeRecoveryStatus": "ENABLED",
            "EarliestRestorableDateTime": NOVEMBER - DAY,
            "LatestRestorableDateTime": NOVEMBER,
        }
        self.trouble: Exception | None = None

    def describe_table(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803 (botocore's)
        return {"Table": {"TableArn": f"arn:aws:dynamodb:eu-west-1:1:table/{TableName}"}}

    def describe_continuous_backups(self, *, TableName: str) -> dict[str, Any]:  # noqa: N803
        found = {"PointInTimeRecoveryDescription": self.backups}
        return {"ContinuousBackupsDescription": found}

    def export_table_to_point_in_time(self, **request: Any) -> dict[str, Any]:
        if self.trouble:
            raise self.trouble
        self.asked.append(request)
        return {"ExportDescription": {"ExportArn": "arn:export/1"}}

    def describe_export(self, *, ExportArn: str) -> dict[str, Any]:  # noqa: N803
        if self.trouble:
            raise self.trouble
        return {"ExportDescription": self.description}


def exports(client: Any) -> DynamoExports:
    return DynamoExports(client, "dev-events", "archive-bucket")


def test_a_window_is_asked_for_by_its_changes_and_the_whole_ledger_by_a_moment() -> None:
    client = Client()

    exports(client).begin(FIRST, FIRST.end)
    exports(client).begin(SECOND, SECOND.end)

    both = {
        "TableArn": "arn:aws:dynamodb:eu-west-1:1:table/dev-events",
        "S3Bucket": "archive-bucket",
        "S3SseAlgorithm": "AES256",
        "ExportFormat": "DYNAMODB_JSON",
    }
    assert client.asked == [
        both
        | {
            "S3Prefix": "ledger/ever--2026-11-01T0300-full",
            "ClientToken": "dev-events-ever--2026-11-01T0300-full-1",
            "ExportType": "FULL_EXPORT",
            "ExportTime": NOVEMBER,
        },
        both
        | {
            "S3Prefix": "ledger/2026-11-01T0300--2026-11-02T0300",
            "ClientToken": "dev-events-2026-11-01T0300--2026-11-02T0300-1",
            "ExportType": "INCREMENTAL_EXPORT",
            "IncrementalExportSpecification": {
                "ExportFromTime": NOVEMBER,
                "ExportToTime": NOVEMBER + DAY,
                "ExportViewType": "NEW_IMAGES",
            },
        },
    ]


def test_what_is_asked_for_is_what_botocore_knows() -> None:
    """The deployment's client checks no parameters, so a test does."""
    client = Client()
    exports(client).begin(FIRST, FIRST.end)
    exports(client).begin(SECOND, SECOND.end)

    model = boto3.client("dynamodb").meta.service_model
    shape = model.operation_model("ExportTableToPointInTime").input_shape
    assert shape is not None
    for request in client.asked:
        validate_parameters(request, shape)


@pytest.mark.parametrize(
    ("description", "expected"),
    [
        ({"ExportStatus": "IN_PROGRESS"}, ExportStatus(is_running=True)),
        (
            {"ExportStatus": "FAILED", "FailureCode": "S3NoSuchBucket", "FailureMessage": "gone"},
            ExportStatus(is_running=False, failure="S3NoSuchBucket: gone"),
        ),
        (
            {
                "ExportStatus": "COMPLETED",
                "ExportManifest": "m",
                "ItemCount": 3,
                "BilledSizeBytes": 4,
            },
            ExportStatus(is_running=False, manifest="m", entries=3, billed_bytes=4),
        ),
    ],
)
def test_an_export_runs_fails_or_is_done(
    description: dict[str, Any], expected: ExportStatus
) -> None:
    client = Client()
    client.description = description

    assert exports(client).status("arn:export/1") == expected


def test_a_table_without_backups_is_a_matter_of_set_up() -> None:
    client = Client()
    client.backups = {"PointInTimeRecoveryStatus": "DISABLED"}

    with pytest.raises(SetupError, match="dev-events has no point-in-time recovery"):
        exports(client).restorable()


def test_too_many_exports_at_once_are_a_matter_of_time_and_a_wrong_moment_is_loud() -> None:
    client = Client()
    client.trouble = throttled()
    with pytest.raises(RetryableError):
        exports(client).begin(SECOND, SECOND.end)

    error = {"Error": {"Code": "InvalidExportTimeException"}}
    client.trouble = ClientError(error, "ExportTableToPointInTime")  # type: ignore[arg-type]
    with pytest.raises(ClientError):
        exports(client).begin(SECOND, SECOND.end)


def test_an_export_that_dynamodb_has_forgotten_has_failed() -> None:
    client = Client()
    error = {"Error": {"Code": "ExportNotFoundException"}}
    client.trouble = ClientError(error, "DescribeExport")  # type: ignore[arg-type]

    forgotten = exports(client).status("arn:export/1")

    assert forgotten == ExportStatus(is_running=False, failure="DynamoDB knows it no more")
    client.trouble = throttled()
    with pytest.raises(RetryableError):
        exports(client).status("arn:export/1")


@pytest.fixture
def moto_table() -> Iterator[Any]:
    """moto exports a whole table at once; it knows no incremental export and no window."""
    with mock_aws():
        client = boto3.client("dynamodb")
        client.create_table(**EVENTS.creation_request(prefix="dev-"))
        client.update_continuous_backups(
            TableName="dev-events",
            PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True},
        )
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="archive-bucket")
        yield client


def test_moto_takes_the_whole_export_and_says_when_it_is_done(moto_table: Any) -> None:
    moto_table.put_item(TableName="dev-events", Item={"pk": {"S": "one"}})
    archive = exports(moto_table)
    now = archive.restorable().end

    name = archive.begin(FIRST, now)
    wait_for(lambda: not archive.status(name).is_running)
    status = archive.status(name)

    assert (status.is_running, status.failure, status.entries) == (False, "", 1)
    files = boto3.client("s3").list_objects_v2(Bucket="archive-bucket")["Contents"]
    assert all(one["Key"].startswith("ledger/ever--2026-11-01T0300-full/") for one in files)
