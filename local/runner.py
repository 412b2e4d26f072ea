"""The one process that plays API Gateway, the event source mappings and the scheduler.

`python -m local.runner --help` tells what it needs; `local.stack` starts it beside the services.
"""

import argparse
import logging
import os
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from infra.deployments import Deployment
from infra.environment import ONLY_ON_AWS, environment_of
from infra.functions import FUNCTIONS, Function, Http, Queue, Schedule, TableStream
from local import dynamodb_local, queues, stream_reader
from local.checkpoints import Checkpoints
from local.control import Control
from local.dynamodb_local import ACCESS_KEY, REGION, SECRET_KEY
from local.environment import Environment, wiring_from_environment
from local.gateway import Gateway, routes_of
from local.handlers import Loaded, load
from local.ports import LOOPBACK
from local.queues import QueueMapping, QueueSettings
from local.schedules import Scheduled
from local.shard_delivery import DeliverySettings
from local.stream_reader import StreamReader
from local.streams import MappingSettings, StreamMapping
from local.stripe.clock import SettableClock
from local.time_travel import TimeTravel
from metering.adapters.clock import SystemClock
from metering.wiring import Wiring, using

BATCHING_WINDOW_S = 0.25
"""AWS gathers for seconds to save calls; a person at a desk would rather see the number move."""
SWITCH_INTERVAL_S = 0.001
"""Python hands the interpreter on after 5 ms by default, which a request would feel as delay."""
STRIPE_KEY = "sk_test_local"
LOCAL = Deployment(
    "local",
    keeps_data=False,
    log_days=1,
    event_index=True,
    # DynamoDB Local has no partitions that an index could spread over.
    event_index_shards=1,
    # The stand-in rations no reads.
    stripe_reads_a_month=1_000_000_000,
)
"""What a deployment to this machine would say."""


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """Where the services are and how the functions run."""

    port: int
    dynamodb_endpoint: str
    sqs_endpoint: str
    stripe_url: str
    data: Path | None = None
    virtual_shards: int = 1
    auth: bool = False
    table_prefix: str = ""
    webhook_secrets: str = ""
    """What the Stripe stand-in signs its webhooks with, separated by commas."""
    ahead_s: float = 0.0
    """How far the Stripe stand-in's time is ahead of the machine's already."""


def function_environment(settings: RunnerSettings, queue_url: str) -> dict[str, str]:
    """The environment variables that CDK would set, and instead of some those of the services."""
    return deployed_environment() | {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_SQS": settings.sqs_endpoint,
        "AWS_ENDPOINT_URL_SECRETS_MANAGER": settings.sqs_endpoint,
        "DYNAMODB_ENDPOINT": settings.dynamodb_endpoint,
        "TABLE_PREFIX": settings.table_prefix,
        "QUEUE_URL": queue_url,
        "STRIPE_API_BASE": settings.stripe_url,
        "STRIPE_SECRET_KEY": STRIPE_KEY,
        "STRIPE_WEBHOOK_SECRETS": settings.webhook_secrets,
        "AUTH": "on" if settings.auth else "off",
        "METRICS": "prometheus",
        "SETTINGS_CACHE_S": "2",
        # Still longer than the epoch's cache and than an ingest call with its retries.
        "REBUILD_LEAD_S": "5",
        "REBUILD_SETTLE_S": "20",
    }


def deployed_environment() -> dict[str, str]:
    """What a deployment sets, of all functions together: here they share one process."""
    told = [environment_of(function, LOCAL) for function in LOCAL.functions]
    return {name: value for one in told for name, value in one.items() if name not in ONLY_ON_AWS}


class Runner:
    """All functions that can be imported, each behind its trigger."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._dynamodb = dynamodb_local.client(settings.dynamodb_endpoint)
        self._sqs = queues.client(settings.sqs_endpoint)
        self.clock = SettableClock(SystemClock().now)
        self.clock.advance(timedelta(seconds=settings.ahead_s))
        self.control = Control(self._time_travel())
        self._create_tables_and_queues()
        loaded = {function.name: load(function) for function in FUNCTIONS}
        self.control.missing = [name for name, one in loaded.items() if one is None]
        self._functions = [one for one in loaded.values() if one is not None]
        self.gateway = Gateway(routes_of(self._functions), control=self.control, clock=self.clock)
        for one in self._functions:
            self._connect(one)

    def _time_travel(self) -> TimeTravel:
        """Time moves for all functions between two runs of each schedule."""
        return TimeTravel(
            self.clock,
            self._settings.stripe_url,
            lambda: [one.between_runs() for one in self.control.schedules.values()],
        )

    def wiring(self) -> Wiring:
        """A cold start's wiring, by the clock that can be moved."""
        return wiring_from_environment(self.clock)

    def _create_tables_and_queues(self) -> None:
        prefix = self._settings.table_prefix
        dynamodb_local.create_tables(self._dynamodb, prefix=prefix)
        self._queue_urls = {
            function.name: queues.create_queue(
                self._sqs, function.trigger, timeout_s=function.timeout_s, prefix=prefix
            )
            for function in FUNCTIONS
            if isinstance(function.trigger, Queue)
        }
        first = next(iter(self._queue_urls.values()), "")
        os.environ.update(function_environment(self._settings, first))
        self.control.facts = {
            "queue_urls": self._queue_urls,
            "http": {
                function.name: function.trigger.routes
                for function in FUNCTIONS
                if isinstance(function.trigger, Http)
            },
        }

    def _connect(self, loaded: Loaded) -> None:
        """Put a function behind its trigger; HTTP ones stand behind the gateway already."""
        function = loaded.function
        match function.trigger:
            case TableStream() as stream:
                self.control.streams[function.name] = self._stream(loaded, stream)
            case Queue() as queue:
                self.control.queues[function.name] = self._queue(loaded, queue)
            case Schedule():
                self.control.schedules[function.name] = Scheduled(
                    function, lambda: Environment(loaded, self.wiring), clock=self.clock
                )

    def _stream(self, loaded: Loaded, stream: TableStream) -> StreamMapping:
        table = self._dynamodb.describe_table(TableName=self._settings.table_prefix + stream.table)[
            "Table"
        ]
        client = stream_reader.make_client(self._settings.dynamodb_endpoint)
        reader = StreamReader(client, table["LatestStreamArn"])
        shards = self._settings.virtual_shards
        path = self._checkpoint_path(loaded.function)
        return StreamMapping(
            reader,
            lambda: Environment(loaded, self.wiring),
            MappingSettings(_delivery(loaded.function, stream), virtual_shards=shards),
            checkpoints=Checkpoints(path, stream=reader.arn, virtual_shards=shards),
        )

    def _checkpoint_path(self, function: Function) -> Path | None:
        data = self._settings.data
        return data / "checkpoints" / f"{function.name}.json" if data else None

    def _queue(self, loaded: Loaded, queue: Queue) -> QueueMapping:
        url = self._queue_urls[loaded.function.name]
        arn = queues.arn_of(self._sqs, url)
        settings = QueueSettings(url, arn, queue.batch_size, BATCHING_WINDOW_S)
        return QueueMapping(self._sqs, Environment(loaded, self.wiring), settings)

    def start(self) -> None:
        """Begin to poll and to run schedules."""
        for trigger in self._triggers():
            trigger.start()

    def stop(self) -> None:
        """End after what is under way."""
        for trigger in self._triggers():
            trigger.stop()

    def _triggers(self) -> list[StreamMapping | QueueMapping | Scheduled]:
        control = self.control
        return [*control.schedules.values(), *control.queues.values(), *control.streams.values()]


def _delivery(function: Function, stream: TableStream) -> DeliverySettings:
    return DeliverySettings(
        batch_size=stream.batch_size,
        window_s=min(BATCHING_WINDOW_S, stream.batching_window_s),
        tumbling_window_s=stream.tumbling_window_s,
        retries_max=stream.retries_max,
        bisects_on_error=stream.bisects_on_error,
        timeout_s=function.timeout_s,
    )


def _arguments(argv: list[str]) -> RunnerSettings:
    parser = argparse.ArgumentParser(prog="python -m local.runner", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--dynamodb", required=True, help="DynamoDB Local's URL")
    parser.add_argument("--sqs", required=True, help="moto's URL")
    parser.add_argument("--stripe", required=True, help="the Stripe stand-in's URL")
    parser.add_argument("--data", type=Path, help="keeps the stream checkpoints here")
    parser.add_argument("--virtual-shards", type=int, default=1)
    parser.add_argument("--auth", action="store_true", help="ask for API keys on loopback too")
    parser.add_argument("--table-prefix", default="")
    parser.add_argument("--webhook-secrets", default="", help="what the stand-in signs with")
    parser.add_argument("--ahead-s", type=float, default=0.0, help="the stand-in's time is ahead")
    given = parser.parse_args(argv)
    return RunnerSettings(
        port=given.port,
        dynamodb_endpoint=given.dynamodb,
        sqs_endpoint=given.sqs,
        stripe_url=given.stripe,
        data=given.data,
        virtual_shards=given.virtual_shards,
        auth=given.auth,
        table_prefix=given.table_prefix,
        webhook_secrets=given.webhook_secrets,
        ahead_s=given.ahead_s,
    )


def main(argv: list[str] | None = None) -> None:
    """Run until SIGTERM or Ctrl-C."""
    import uvicorn  # noqa: PLC0415 (only the process itself needs it)

    settings = _arguments(sys.argv[1:] if argv is None else argv)
    # `LOG_LEVEL=INFO make dev` shows a line for every decision of the functions too.
    level = os.environ.get("LOG_LEVEL", "WARNING")
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    runner = Runner(settings)
    runner.start()
    try:
        # The functions behind the gateway share one wiring.
        with using(runner.wiring()):
            uvicorn.run(
                runner.gateway,
                host=LOOPBACK,
                port=settings.port,
                loop="uvloop",
                http="httptools",
                lifespan="off",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=3,
            )
    finally:
        runner.stop()


if __name__ == "__main__":
    main()
