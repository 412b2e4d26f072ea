"""One event for each function, what surrounds it, and how its answer shows that it did its work.

A new function joins with a case here and a budget in `infra/budgets.py`.
"""

import http.client
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from infra.deployments import Deployment
from infra.environment import environment_of, secret_name
from infra.functions import (
    AGGREGATOR,
    API,
    ARCHIVER,
    CANARY,
    INGEST,
    INGEST_QUEUE,
    LANE_FOLDER,
    PERIOD_CLOSER,
    REBUILDER,
    RECONCILER,
    STRIPE_WEBHOOK,
    WRITER,
    Function,
)
from metering.canary import slots_until
from metering.times import to_iso_ms
from tests.billing_world import BillingWorld
from tests.builders import DEMO
from tests.infra.lambda_host import Host
from tests.stripe_events import SECRET, delivered, signed

EVENTS = Path(__file__).parents[2] / "events"
CUSTOMER = "cus_ada"
STRIPE_KEY = "sk_test_x"


@dataclass(frozen=True)
class Surroundings:
    """A deployment with a tenant whose usage was counted and is not told to Stripe yet."""

    deployment: Deployment
    world: BillingWorld
    api_key: str

    @property
    def now(self) -> datetime:
        """About when the function is started."""
        return self.world.clock.now()


type MakesEvent = Callable[[Surroundings], Mapping[str, Any]]


@dataclass(frozen=True)
class Case:
    """How one function is started."""

    function: Function
    event: MakesEvent
    did_it: Callable[[Any], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    """Instead of what the deployment says."""


def host_of(case: Case, around: Surroundings) -> Host:
    """What the function meets when it is started."""
    secret = partial(secret_name, around.deployment)
    secrets = {
        secret("stripe-key"): STRIPE_KEY,
        secret("stripe-webhook"): SECRET,
        secret("canary-key"): around.api_key,
    }
    services = partial(_other_services, around)
    return Host(case.event(around), case.function.timeout_s, secrets, services)


def environment_for(case: Case, around: Surroundings) -> dict[str, str]:
    """What the deployment tells the function, with local services in AWS's and Stripe's place."""
    own = environment_of(case.function, around.deployment)
    config = around.world.wiring.config
    local = {
        "DYNAMODB_ENDPOINT": config.dynamodb_endpoint or "",
        "STRIPE_API_BASE": config.stripe_api_base or "",
    }
    return own | local | dict(case.environment)


# --- events ---------------------------------------------------------------------------------------


def _file(name: str, _: Surroundings | None = None) -> dict[str, Any]:
    event: dict[str, Any] = json.loads((EVENTS / f"{name}.json").read_text())
    return event


def _with_key(name: str, around: Surroundings) -> dict[str, Any]:
    """A request that carries the tenant's own key."""
    event = _file(name)
    event["headers"]["authorization"] = f"Bearer {around.api_key}"
    return event


def _signed_now(around: Surroundings) -> dict[str, Any]:
    """The webhook, signed as late as Stripe would."""
    body = _file("http-stripe-webhook")["body"]
    return delivered(body, signed(body, at=around.now))


# --- the services that no stand-in plays ----------------------------------------------------------


def _other_services(
    around: Surroundings, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    """DynamoDB with its backups, as the archiver sees it, and our own API, as the canary does."""
    target = headers.get("x-amz-target", "").removeprefix("DynamoDB_20120810.")
    if target in _BACKUPS:
        return 200, json.dumps(_BACKUPS[target](around.now)).encode()
    if target:
        return _ask_dynamodb(around, method, path, headers, body)
    return 200, json.dumps(_api(around.now, path, body)).encode()


def _ask_dynamodb(
    around: Surroundings, method: str, path: str, headers: Mapping[str, str], body: bytes
) -> tuple[int, bytes]:
    address = urlsplit(around.world.wiring.config.dynamodb_endpoint or "").netloc
    connection = http.client.HTTPConnection(address, timeout=10)
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def _backups(now: datetime) -> dict[str, Any]:
    recovery = {
        "PointInTimeRecoveryStatus": "ENABLED",
        "EarliestRestorableDateTime": now.timestamp() - 86_400,
        "LatestRestorableDateTime": now.timestamp() - 300,
    }
    return {
        "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": recovery,
        }
    }


def _export(now: datetime) -> dict[str, Any]:
    arn = f"arn:aws:dynamodb:us-east-1:1:table/events/export/{int(now.timestamp())}"
    return {"ExportDescription": {"ExportArn": arn, "ExportStatus": "IN_PROGRESS"}}


_BACKUPS: Mapping[str, Callable[[datetime], dict[str, Any]]] = {
    "DescribeContinuousBackups": _backups,
    "ExportTableToPointInTime": _export,
}


def _api(now: datetime, path: str, body: bytes) -> dict[str, Any]:
    """Everything that the canary ever sent is counted."""
    if path == "/v1/events/ingest":
        return {"results": [{"status": "accepted"} for _ in json.loads(body)["events"]]}
    days: dict[datetime, Decimal] = {}
    for slot in slots_until(now):
        day = datetime.combine(slot.day, datetime.min.time(), UTC)
        days[day] = days.get(day, Decimal(0)) + slot.quantity
    return {"usage": [{"ts": to_iso_ms(day), "value": str(sum_)} for day, sum_ in days.items()]}


# --- what each must answer ------------------------------------------------------------------------


def _http(**part: Any) -> Callable[[Any], bool]:
    def did_it(answer: Any) -> bool:
        said: dict[str, Any] = json.loads(answer["body"])
        return bool(answer["statusCode"] == 200 and said.items() >= part.items())

    return did_it


def _answers(**part: Any) -> Callable[[Any], bool]:
    return lambda answer: answer.items() >= part.items()


def _usage_is_there(answer: Any) -> bool:
    return answer["statusCode"] == 200 and CUSTOMER in answer["body"]


def _a_report_with_usage(answer: Any) -> bool:
    found = [report["rows"] for report in answer["reports"] if report["tenantId"] == DEMO]
    return 1 in found


def _asked_stripe_for_subscriptions(answer: Any) -> bool:
    return bool(answer["subscriptions"] == {"looked_at": 0, "changed": 0})


_ON_SCHEDULE = partial(_file, "schedule")

CASES = (
    Case(INGEST, partial(_with_key, "http-ingest"), _http(accepted=2)),
    Case(INGEST_QUEUE, partial(_file, "sqs-batch"), _answers(batchItemFailures=[])),
    Case(AGGREGATOR, partial(_file, "stream-insert"), _answers(state={}, batchItemFailures=[])),
    Case(WRITER, _ON_SCHEDULE, _answers(accepted=1)),
    Case(PERIOD_CLOSER, _ON_SCHEDULE, _asked_stripe_for_subscriptions),
    Case(RECONCILER, _ON_SCHEDULE, _a_report_with_usage),
    Case(LANE_FOLDER, _ON_SCHEDULE, _answers(folded=0)),
    Case(REBUILDER, _ON_SCHEDULE, _answers(rebuilds=[])),
    Case(STRIPE_WEBHOOK, _signed_now, _http(received=True, outcome="kept")),
    Case(STRIPE_WEBHOOK, partial(_file, "eventbridge-stripe"), _answers(outcome="kept")),
    Case(API, partial(_with_key, "http-get"), _usage_is_there),
    Case(
        CANARY,
        _ON_SCHEDULE,
        _answers(canary="agrees", difference="0", missing=[]),
        {"CANARY_API_URL": "http://{host}"},
    ),
    Case(ARCHIVER, _ON_SCHEDULE, _answers(archived="on"), {"DYNAMODB_ENDPOINT": "http://{host}"}),
)
