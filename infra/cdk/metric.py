"""From a metric of `infra.alarms` to what CloudWatch calls it in one deployment."""

import re
from collections.abc import Mapping

from infra.alarms import Metric
from infra.deployments import Deployment

_SYMBOL = re.compile(r"\$\{([\w-]+)\}")


class Dimensions:
    """Knows what stands for `${...}` in dimensions: names that AWS made up."""

    def __init__(self, deployment: Deployment, symbols: Mapping[str, str]) -> None:
        self._deployment = deployment
        self._symbols = symbols

    def of(self, metric: Metric) -> dict[str, str]:
        """The dimension that the metric is found by."""
        named = metric.dimension(self._deployment)
        return {str(kind): self._known(value) for kind, value in named.items()}

    def _known(self, value: str) -> str:
        symbol = _SYMBOL.fullmatch(value)
        return self._symbols[symbol[1]] if symbol else value
