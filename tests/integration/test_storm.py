"""A small storm of pushes; `make storm` is the long one."""

from local.storm import Order, Storm, config_at
from local.stripe.faults import FaultKind
from metering.config import Config


def test_a_storm_of_200_pushes_loses_and_doubles_nothing(config: Config) -> None:
    assert config.dynamodb_endpoint is not None
    storm = Storm(config_at(config.dynamodb_endpoint, config.table_prefix), Order(200, 3, 0.2))

    *_, left = storm.rage()
    storm.heal()
    verdict = storm.verdict()

    assert verdict.differences == ()
    assert left >= 200
    troubles = set(FaultKind) - {FaultKind.DELAY}
    assert set(storm.troubled.met) == {f"stripe {kind}" for kind in troubles}
    assert storm.runs["died"] > 5
    assert {"accepted: duplicate", "accepted: replayed", "accepted: minute_window"} <= set(
        verdict.pushes
    )
