"""Steps of the push protocol in a period of whose close nothing is known but its bounds."""

from datetime import datetime

from metering import delivery, push
from metering.delivery import Step
from metering.period_close import takes_usage_until
from metering.push import Held, PushStream


def plan(stream: PushStream, desired: int, now: datetime, used_at: datetime) -> PushStream | Held:
    """See `push.plan`."""
    return push.plan(stream, desired, now, used_at, closes_at=closes_at(stream))


def next_step(stream: PushStream, now: datetime) -> Step:
    """See `delivery.next_step`."""
    return delivery.next_step(stream, now, closes_at=closes_at(stream))


def closes_at(stream: PushStream) -> datetime:
    """From when on the stream's period takes no usage."""
    return takes_usage_until(stream.key.period, None)
