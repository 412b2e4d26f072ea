"""How fast Stripe may be called: a token bucket, as arithmetic."""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self


@dataclass(frozen=True, slots=True)
class TokenBucket:
    """How many calls may leave now; instants are seconds of any clock that never runs backwards.

    A call that must wait takes its token all the same and leaves the bucket in debt, so that those
    who wait leave one after the other.
    """

    a_second: float
    """How many tokens come back each second."""
    size: float
    """How many there are when none was taken for a while."""
    tokens: float
    at: float
    """When there were so many."""

    @classmethod
    def full(cls, limit: int, now: float) -> Self:
        """A bucket that lets at most `limit` calls leave in any one second.

        Whatever second is looked at, it holds what the bucket held and what came back meanwhile:
        together they are the limit.
        """
        size = max(1.0, limit / 20)
        return cls(a_second=max(limit - size, limit / 20), size=size, tokens=size, at=now)

    def take(self, now: float) -> "Taken":
        """One call's token, and the seconds that the call has to wait for it."""
        now = max(now, self.at)
        tokens = min(self.size, self.tokens + (now - self.at) * self.a_second) - 1
        wait_s = max(0.0, -tokens / self.a_second)
        return Taken(replace(self, tokens=tokens, at=now), wait_s)


class Taken(NamedTuple):
    """The bucket after a call took its token; whoever will not wait keeps the one before."""

    bucket: TokenBucket
    wait_s: float
