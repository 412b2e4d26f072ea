"""What runs: the HTTP API, the queue, the functions behind them, and their schedules.

Everything in here can be removed and made anew; what must be kept stands in the data stack.
"""

from collections.abc import Mapping
from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from infra.cdk.arns import Arns
from infra.cdk.data_stack import DataStack
from infra.cdk.function import Code, MeterFunction, Surroundings
from infra.cdk.http_api import MeterApi
from infra.cdk.mappings import LedgerStreamMapping, QueueMapping
from infra.cdk.partner_events import PartnerEvents
from infra.cdk.queue import EventQueue
from infra.cdk.schedules import Scheduled, Schedules
from infra.cdk.warehouse import Warehouse
from infra.deployments import Deployment
from infra.functions import (
    Function,
    Http,
    Queue,
    Schedule,
    TableStream,
)


class PipelineStack(cdk.Stack):
    """Every function of `infra.functions`, each behind its trigger."""

    def __init__(
        self,
        scope: Construct,
        deployment: Deployment,
        data: DataStack,
        assets: Mapping[str, Path],
    ) -> None:
        super().__init__(
            scope,
            f"{deployment.prefix}pipeline",
            description=f"StripeMeter {deployment.name}: API, queue, functions and schedules",
        )
        self._deployment = deployment
        self._ledger_stream = str(data.ledger.table_stream_arn)
        self.api = MeterApi(self, deployment)
        self.queue: EventQueue | None = None
        self.ledger_mapping_id = ""
        self._scheduled: list[Scheduled] = []
        arns = Arns(self, deployment, self._ledger_stream)
        around = Surroundings(deployment, Code(self, assets), arns)
        for function in deployment.functions:
            made = MeterFunction(self, function, around, {"ApiUrl": self.api.url})
            self._connect(function, made)
        self.schedules = Schedules(self, self._scheduled, deployment)
        if deployment.warehouse:
            Warehouse(self, self._ledger_stream, deployment)
        self._tell()

    def _connect(self, function: Function, made: MeterFunction) -> None:
        """Put a function behind its triggers."""
        deployment, deployed = self._deployment, made.function
        match function.trigger:
            case Http() as http:
                self.api.add_routes(http, deployed)
            case TableStream() as stream:
                arn = self._ledger_stream
                mapping = LedgerStreamMapping(made, stream, deployed, arn, deployment)
                self.ledger_mapping_id = mapping.ref
            case Queue() as queue:
                timeout_s = function.timeout_s
                self.queue = EventQueue(made, queue, deployment, timeout_s=timeout_s)
                QueueMapping(made, queue, deployed, self.queue, deployment)
            case Schedule() as schedule:
                self._scheduled.append(Scheduled(function, schedule, deployed))
        if function.also and deployment.partner_event_bus:
            bus = deployment.partner_event_bus
            PartnerEvents(made, function.also, bus, deployed, deployment)

    def _tell(self) -> None:
        """What `make deploy` prints, and `make smoke` goes by."""
        told = {"ApiUrl": self.api.url, "TablePrefix": self._deployment.prefix}
        if self.queue:
            told["QueueUrl"] = self.queue.queue_url
        if self.api.domain_target:
            told["DomainTarget"] = self.api.domain_target
        for name, value in told.items():
            cdk.CfnOutput(self, name, value=value)
