"""Traces are paid for each, so a deployment says how many it wants."""

from infra.tracing import EVERY_SECOND, TRACED_SHARE
from tests.infra.conftest import Synthesized


def test_x_ray_traces_a_share_of_the_deployments_functions(stacks: Synthesized) -> None:
    (made,) = stacks.pipeline.all("AWS::XRay::SamplingRule")

    rule = made.properties["SamplingRule"]
    assert rule["FixedRate"] == float(TRACED_SHARE)
    assert rule["ReservoirSize"] == EVERY_SECOND
    assert rule["ServiceName"] == f"{stacks.deployment.prefix}*"
    assert len(rule["RuleName"]) <= 32
