"""The canary and the archiver, run once: one has only its key's secret, the other asks for exports.

DynamoDB in memory exports nothing, so what it would answer to that stands here.
"""

from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any
from unittest.mock import patch

from functions.archiver.handler import handler as archive
from functions.canary.handler import handler as check
from infra.functions import CANARY
from infra.permissions import ARCHIVE_BUCKET
from infra.tables import TABLES
from metering.adapters import canary_api
from metering.config import Config
from metering.errors import RetryableError
from metering.wiring import Wiring, using
from tests.billing_world import Context
from tests.builders import NOON
from tests.conftest import SetClock
from tests.infra.iam_recorder import Recorder
from tests.simulation.aws.client import Client
from tests.simulation.aws.dynamodb import MemoryDynamoDB

CANARY_KEY = "canary-key"
NOBODY_LISTENS = "http://127.0.0.1:9"
TABLE_ARN = "arn:aws:dynamodb:eu-west-1:000000000000:table/events"
DAY = timedelta(days=1)


def drive_canary(recorder: Recorder) -> None:
    """It reads its key's secret; nobody answers what it then asks over HTTPS."""

    def stored(name: str, what: str) -> str:
        recorder.reads(CANARY.name, name)
        return "sm_canary.secret"

    config = Config(canary_api_url=NOBODY_LISTENS, canary_key_name=CANARY_KEY)
    with (
        using(Wiring(config, clock=SetClock(NOON))),
        patch.object(canary_api, "read_secret", stored),
        suppress(RetryableError),
    ):
        check({}, Context(CANARY))


def drive_archiver(recorder: Recorder) -> None:
    """It begins an export, and a day later looks after it and begins the next."""
    clock = SetClock(NOON)
    config = Config(archive_bucket=ARCHIVE_BUCKET)
    wiring = Wiring(config, clock=clock, dynamodb=_Exporting(recorder, clock))  # type: ignore[arg-type]
    with recorder.listening(), using(wiring):
        for _ in range(2):
            archive({}, None)
            clock.advance(DAY)


class _Exporting(Client):
    """The client with what exports need of it."""

    def __init__(self, recorder: Recorder, clock: SetClock) -> None:
        tables = MemoryDynamoDB(TABLES, now=clock.now)
        self._clock = clock
        self._recorder = recorder

        def call(operation: str, params: dict[str, Any]) -> dict[str, Any]:
            recorder.hear_call(operation, params)
            return tables.execute(operation, params)

        super().__init__(call)

    def describe_continuous_backups(self, **params: Any) -> dict[str, Any]:
        now = self._clock.now()
        backups = {
            "PointInTimeRecoveryStatus": "ENABLED",
            "EarliestRestorableDateTime": now - 35 * DAY,
            "LatestRestorableDateTime": now,
        }
        description = {"PointInTimeRecoveryDescription": backups}
        answer = {"ContinuousBackupsDescription": description}
        return self._heard("DescribeContinuousBackups", params, answer)

    def describe_table(self, **params: Any) -> dict[str, Any]:
        return self._heard("DescribeTable", params, {"Table": {"TableArn": TABLE_ARN}})

    def export_table_to_point_in_time(self, **params: Any) -> dict[str, Any]:
        answer = {"ExportDescription": {"ExportArn": f"{TABLE_ARN}/export/1"}}
        return self._heard("ExportTableToPointInTime", params, answer)

    def describe_export(self, **params: Any) -> dict[str, Any]:
        return self._heard("DescribeExport", params, {"ExportDescription": _finished()})

    def _heard(
        self, operation: str, params: Mapping[str, Any], answer: dict[str, Any]
    ) -> dict[str, Any]:
        self._recorder.hear_call(operation, params)
        return answer


def _finished() -> dict[str, Any]:
    return {"ExportStatus": "COMPLETED", "ExportManifest": "manifest", "ItemCount": 1}
