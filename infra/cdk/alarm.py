"""One alarm of CloudWatch, from its row of `infra.alarms`."""

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from infra.alarms import Alarm, Metric
from infra.cdk.construct_id import construct_id
from infra.cdk.metric import Dimensions
from infra.deployments import Deployment

RESULT = "result"


class MeterAlarm(cloudwatch.CfnAlarm):
    """Tells a topic when it begins, and says there where the runbook has its section."""

    def __init__(
        self,
        scope: Construct,
        alarm: Alarm,
        deployment: Deployment,
        dimensions: Dimensions,
        topic_arn: str,
    ) -> None:
        super().__init__(
            scope,
            construct_id(alarm.name),
            alarm_name=deployment.prefix + alarm.name,
            alarm_description=f"{alarm.says} What to do: {alarm.runbook}",
            comparison_operator=str(alarm.comparison),
            threshold=alarm.threshold,
            evaluation_periods=alarm.periods,
            treat_missing_data=str(alarm.missing),
            alarm_actions=[topic_arn],
            ok_actions=[topic_arn],
        )
        self._dimensions = dimensions
        if alarm.expression:
            self._reckon(alarm)
        else:
            (metric,) = alarm.metrics.values()
            self._watch(metric, alarm.period_s)

    def _watch(self, metric: Metric, period_s: int) -> None:
        """One metric as it is."""
        self.namespace = metric.namespace
        self.metric_name = metric.name
        self.period = period_s
        self.dimensions = [*self._named(metric)]
        if metric.statistic.startswith("p"):
            self.extended_statistic = metric.statistic
        else:
            self.statistic = metric.statistic

    def _reckon(self, alarm: Alarm) -> None:
        """An expression of several metrics."""
        read = [self._query(name, one, alarm.period_s) for name, one in alarm.metrics.items()]
        result = self.MetricDataQueryProperty(
            id=RESULT, expression=alarm.expression, label=alarm.name, return_data=True
        )
        self.metrics = [*read, result]

    def _query(
        self, name: str, metric: Metric, period_s: int
    ) -> cloudwatch.CfnAlarm.MetricDataQueryProperty:
        read = self.MetricStatProperty(
            metric=self.MetricProperty(
                namespace=metric.namespace,
                metric_name=metric.name,
                dimensions=self._named(metric),
            ),
            period=period_s,
            stat=metric.statistic,
        )
        return self.MetricDataQueryProperty(id=name, metric_stat=read, return_data=False)

    def _named(self, metric: Metric) -> list[cloudwatch.CfnAlarm.DimensionProperty]:
        return [
            self.DimensionProperty(name=kind, value=value)
            for kind, value in self._dimensions.of(metric).items()
        ]
