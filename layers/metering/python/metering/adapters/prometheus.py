"""Numbers for operators in memory, as `prometheus-client` keeps and prints them.

With `PROMETHEUS_MULTIPROC_DIR` set, several processes share theirs through files in that folder.
"""

import os
from collections.abc import Mapping
from functools import cache
from threading import Lock

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from metering.telemetry import DEFINITIONS, Definition, Kind

LABEL_SETS_MAX = 200
"""Of one name; tenants choose their meters' names, and memory must not follow them."""
OTHER = "other"

type Series = Counter | Gauge | Histogram


class PrometheusMetrics:
    """Answers `metering.ports.Metrics`."""

    def __init__(self, definitions: Mapping[str, Definition] = DEFINITIONS) -> None:
        self._registry = CollectorRegistry()
        self._families = {
            name: _family(name, definition, self._registry)
            for name, definition in definitions.items()
        }
        self._series: dict[tuple[str, tuple[tuple[str, str], ...]], Series] = {}
        self._label_sets = dict.fromkeys(definitions, 0)
        self._lock = Lock()

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        """Raise a count."""
        series = self._of(name, labels)
        assert isinstance(series, Counter), f"{name} is no count"
        series.inc(by)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Note one of many values."""
        series = self._of(name, labels)
        assert isinstance(series, Histogram), f"{name} is no histogram"
        series.observe(value)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set what something is now."""
        series = self._of(name, labels)
        assert isinstance(series, Gauge), f"{name} is no gauge"
        series.set(value)

    def flush(self) -> None:
        """Nothing leaves by itself: a scraper comes for it."""

    def exposition(self) -> tuple[str, str] | None:
        """Content type and text."""
        return CONTENT_TYPE_LATEST, generate_latest(self._source()).decode()

    def _source(self) -> CollectorRegistry:
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return self._registry
        shared = CollectorRegistry()
        MultiProcessCollector(shared)  # type: ignore[no-untyped-call]
        return shared

    def _of(self, name: str, labels: dict[str, str]) -> Series:
        known = self._series.get((name, tuple(labels.items())))
        return known if known is not None else self._new(name, labels)

    def _new(self, name: str, labels: dict[str, str]) -> Series:
        family = self._families[name]
        if not labels:
            return family
        with self._lock:
            if self._label_sets[name] >= LABEL_SETS_MAX:
                return family.labels(**dict.fromkeys(labels, OTHER))
            self._label_sets[name] += 1
            series = family.labels(**labels)
            self._series[name, tuple(labels.items())] = series
            return series


def _family(name: str, definition: Definition, registry: CollectorRegistry) -> Series:
    match definition.kind:
        case Kind.COUNT:
            return Counter(name, definition.help, definition.labels, registry=registry)
        case Kind.DURATION:
            buckets = definition.buckets
            return Histogram(
                name, definition.help, definition.labels, registry=registry, buckets=buckets
            )
        case Kind.GAUGE:
            return Gauge(
                name,
                definition.help,
                definition.labels,
                registry=registry,
                multiprocess_mode="mostrecent",
            )


@cache
def process_metrics() -> PrometheusMetrics:
    """The one set of numbers of this process."""
    return PrometheusMetrics()
