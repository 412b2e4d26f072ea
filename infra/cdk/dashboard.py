"""The dashboard of `infra.dashboard`, drawn."""

from collections.abc import Sequence
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.cdk.metric import Dimensions
from infra.dashboard import STATIONS, WIDTH, Graph, Station
from infra.deployments import Deployment

PERIOD = cdk.Duration.minutes(5)
HEADING_HEIGHT = 2
GRAPH_HEIGHT = 5


class MeterDashboard(cloudwatch.Dashboard):
    """The state of every alarm on top; below, the way of events from left to right."""

    def __init__(
        self,
        scope: Construct,
        deployment: Deployment,
        dimensions: Dimensions,
        alarms: Sequence[cloudwatch.CfnAlarm],
    ) -> None:
        super().__init__(scope, "Dashboard", dashboard_name=f"{deployment.prefix}events")
        self._dimensions = dimensions
        state = cloudwatch.AlarmStatusWidget(
            title=f"StripeMeter {deployment.name}",
            alarms=[
                cloudwatch.Alarm.from_alarm_arn(scope, f"{one.node.id}State", one.attr_arn)
                for one in alarms
            ],
            width=WIDTH,
            height=GRAPH_HEIGHT,
        )
        self.add_widgets(state)
        # jsii's types do not say that a column is a widget.
        columns: Any = [self._column(station) for station in STATIONS]
        self.add_widgets(*columns)

    def _column(self, station: Station) -> cloudwatch.Column:
        arrow = "" if station is STATIONS[-1] else " →"
        heading = cloudwatch.TextWidget(
            markdown=f"## {station.name}{arrow}\n{station.says}",
            width=station.width,
            height=HEADING_HEIGHT,
        )
        graphs = [self._graph(graph, station.width) for graph in station.graphs]
        return cloudwatch.Column(heading, *graphs)

    def _graph(self, graph: Graph, width: int) -> cloudwatch.GraphWidget:
        lines = [
            cloudwatch.Metric(
                namespace=metric.namespace,
                metric_name=metric.name,
                dimensions_map=self._dimensions.of(metric),
                statistic=metric.statistic,
                label=word,
                period=PERIOD,
            )
            for word, metric in graph.lines.items()
        ]
        return cloudwatch.GraphWidget(
            title=graph.title, left=lines, width=width, height=GRAPH_HEIGHT
        )
