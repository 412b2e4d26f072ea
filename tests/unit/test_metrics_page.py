"""The page of operators' numbers names each of them, as the code knows it."""

import re
from pathlib import Path

from metering.adapters.emf import RULES
from metering.telemetry import DEFINITIONS

PAGE = (Path(__file__).parents[2] / "docs/metrics.md").read_text()
CLOUDWATCH, PROMETHEUS = PAGE.split("## On CloudWatch\n")[1].split("## For Prometheus\n")


def first_cells(table: str) -> list[str]:
    return re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)


def test_every_metric_of_cloudwatchs_is_there_with_what_it_adds_up() -> None:
    assert first_cells(CLOUDWATCH) == list(RULES)
    for line in CLOUDWATCH.splitlines():
        if line.startswith("| `"):
            name, source, *rest = re.findall(r"`(\w+)`", line)
            rule = RULES[name]
            assert (source, set(rest[1:])) == (rule.source, set(rule.values)), name


def test_what_cloudwatch_costs_is_there() -> None:
    assert f"{len(RULES)} metrics, $0.30 each: ${len(RULES) * 0.30:.2f} a month" in CLOUDWATCH


def test_every_number_of_prometheus_is_there_with_its_labels() -> None:
    assert first_cells(PROMETHEUS) == list(DEFINITIONS)
    for line in PROMETHEUS.splitlines():
        if line.startswith("| `"):
            name, *labels = re.findall(r"`(\w+)`", line.rsplit("|", 2)[0])
            assert tuple(labels) == DEFINITIONS[name].labels, name
