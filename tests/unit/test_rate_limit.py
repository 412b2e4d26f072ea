"""How much a tenant may send: one bucket for all environments, told of seldom."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from metering.errors import RateLimitedError, RetryableError
from metering.names import TenantId
from metering.rate_limit import BURST_S, RateKind, RateLimit, TenantLimits
from tests.conftest import SetClock

ACME, OTHER = TenantId("acme"), TenantId("other")


class HeldRates:
    """The shared instants in a dictionary; counts its writes."""

    def __init__(self) -> None:
        self.own: dict[TenantId, TenantLimits] = {}
        self.until: dict[tuple[RateKind, TenantId], float] = {}
        self.writes = 0
        self.trouble = False

    def limits(self, tenant: TenantId) -> TenantLimits:
        if self.trouble:
            raise RetryableError("throttled")
        return self.own.get(tenant, TenantLimits())

    def put_limits(self, tenant: TenantId, limits: TenantLimits) -> None:
        self.own[tenant] = limits

    def spend(
        self, kind: RateKind, tenant: TenantId, seconds: float, *, since: float, heard: float
    ) -> float:
        if self.trouble:
            raise RetryableError("throttled")
        self.writes += 1
        until = max(self.until.get((kind, tenant), 0.0), since) + seconds
        self.until[kind, tenant] = until
        return until


@pytest.fixture
def rates() -> HeldRates:
    return HeldRates()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(datetime(2026, 11, 20, 12, tzinfo=UTC))


def limited(rates: HeldRates, clock: SetClock, limit: int) -> RateLimit:
    return RateLimit(RateKind.EVENTS, limit, rates, clock)


def is_taken(limit: RateLimit, amount: int = 1, tenant: TenantId = ACME) -> bool:
    try:
        limit.take(tenant, amount)
    except RateLimitedError:
        return False
    return True


def ticks(clock: SetClock, seconds: float, a_second: int) -> Iterator[None]:
    """So many moments a second, evenly, for so long."""
    for _ in range(round(seconds * a_second)):
        clock.advance(timedelta(seconds=1) / a_second)
        yield


def test_nothing_is_limited_or_told_when_the_limit_is_off(
    rates: HeldRates, clock: SetClock
) -> None:
    rates.own[ACME] = TenantLimits(events_a_second=1)
    off = limited(rates, clock, 0)

    assert all(is_taken(off, 1000) for _ in range(1000))
    assert rates.writes == 0


def test_over_time_one_environment_takes_the_limit_and_one_burst(
    rates: HeldRates, clock: SetClock
) -> None:
    limit = limited(rates, clock, 100)

    taken = sum(10 for _ in ticks(clock, 100, 50) if is_taken(limit, 10))  # asks for 500 a second

    burst = 100 * BURST_S
    # It forgets one event a second, and the last request may go over by itself.
    assert 100 * 100 + burst <= taken <= 100 * 101 + burst + 10


def test_many_environments_keep_one_limit_together(rates: HeldRates, clock: SetClock) -> None:
    environments = [limited(rates, clock, 1000) for _ in range(15)]

    taken = 0
    for number, _ in enumerate(ticks(clock, 60, 3000)):  # three times the limit, one by one
        taken += is_taken(environments[number % 15])

    told_late = 15 * max(200, 1000 // 100)  # what each takes in a second at the most, or a quantum
    assert 1000 * 60 <= taken <= 1000 * (60 + BURST_S) + 15 * 60 + told_late
    assert rates.writes <= 15 * 61


def test_below_the_limit_nobody_is_refused(rates: HeldRates, clock: SetClock) -> None:
    environments = [limited(rates, clock, 1000) for _ in range(5)]

    assert all(
        is_taken(environments[number % 5], 9) for number, _ in enumerate(ticks(clock, 60, 100))
    )


def test_an_environment_that_takes_an_event_a_second_never_writes(
    rates: HeldRates, clock: SetClock
) -> None:
    limit = limited(rates, clock, 1000)

    assert all(is_taken(limit) for _ in ticks(clock, 1000, 1))
    assert rates.writes == 0


@pytest.mark.parametrize(("a_second", "size"), [(100, 1), (1000, 1), (2, 1000), (1, 10)])
def test_an_environment_writes_once_a_second_at_the_most(
    rates: HeldRates, clock: SetClock, a_second: int, size: int
) -> None:
    limit = limited(rates, clock, 1_000_000)

    for _ in ticks(clock, 20, a_second):
        limit.take(ACME, size)

    assert rates.writes <= 20


def test_a_refused_request_counts_for_nothing(rates: HeldRates, clock: SetClock) -> None:
    limit = limited(rates, clock, 10)
    assert is_taken(limit, 110)

    assert not any(is_taken(limit, 1000) for _ in range(50))
    clock.advance(timedelta(seconds=1.1))

    assert is_taken(limit)


def test_a_refusal_says_when_to_come_again_and_then_it_is_taken(
    rates: HeldRates, clock: SetClock
) -> None:
    limit = limited(rates, clock, 10)
    limit.take(ACME, 135)

    with pytest.raises(RateLimitedError, match=r"may send 10 events a second") as refused:
        limit.take(ACME, 1)

    assert refused.value.retry_after_s == 4  # 13.5 s are spent, 10 may be
    assert refused.value.headers == {"retry-after": "4"}
    clock.advance(timedelta(seconds=4))
    assert is_taken(limit)


def test_what_is_larger_than_the_limit_is_taken_when_nothing_is_owed(
    rates: HeldRates, clock: SetClock
) -> None:
    limit = limited(rates, clock, 1)

    assert is_taken(limit, 1000)
    assert not is_taken(limit)
    clock.advance(timedelta(seconds=1000))
    assert is_taken(limit, 1000)


def test_tenants_have_buckets_of_their_own(rates: HeldRates, clock: SetClock) -> None:
    limit = limited(rates, clock, 10)
    limit.take(ACME, 1000)

    assert is_taken(limit, 10, OTHER)
    assert not is_taken(limit)


@pytest.mark.parametrize(("own", "is_full"), [(None, True), (0, False), (1, True), (1000, False)])
def test_a_tenants_own_limit_goes_before_the_deployments(
    rates: HeldRates, clock: SetClock, own: int | None, *, is_full: bool
) -> None:
    rates.own[ACME] = TenantLimits(events_a_second=own, requests_a_second=7)
    limit = limited(rates, clock, 10)
    limit.take(ACME, 200)

    assert is_taken(limit) is not is_full


def test_a_table_that_does_not_answer_refuses_nothing_and_is_told_later(
    rates: HeldRates, clock: SetClock
) -> None:
    limit = limited(rates, clock, 100)
    rates.trouble = True
    limit.take(ACME, 500)
    clock.advance(timedelta(seconds=2))
    rates.trouble = False

    limit.take(ACME, 10)

    # 5.1 s were taken, and two of them are over.
    assert rates.until[RateKind.EVENTS, ACME] - clock.now().timestamp() == pytest.approx(3.1)


def test_what_others_took_is_heard(rates: HeldRates, clock: SetClock) -> None:
    here, there = limited(rates, clock, 100), limited(rates, clock, 100)
    there.take(ACME, 5000)

    assert is_taken(here, 10)  # it has heard of nothing yet, and tells
    assert not is_taken(here)


def test_a_clock_that_is_set_back_gives_nothing_away(rates: HeldRates, clock: SetClock) -> None:
    limit = limited(rates, clock, 10)
    limit.take(ACME, 105)
    clock.advance(timedelta(seconds=-3600))

    assert not is_taken(limit)


def test_what_was_taken_and_not_told_is_paid_for_by_waiting(
    rates: HeldRates, clock: SetClock
) -> None:
    limit = limited(rates, clock, 10)
    limit.take(ACME, 10)
    clock.advance(timedelta(seconds=0.5))
    limit.take(ACME, 1000)  # too soon after the last telling to be told
    clock.advance(timedelta(seconds=0.5))

    with pytest.raises(RateLimitedError) as refused:
        limit.take(ACME)

    clock.advance(timedelta(seconds=refused.value.retry_after_s))
    assert is_taken(limit)


def test_what_a_refused_tenant_took_is_told_to_the_others(
    rates: HeldRates, clock: SetClock
) -> None:
    here, there = limited(rates, clock, 10), limited(rates, clock, 10)
    here.take(ACME, 10)
    clock.advance(timedelta(seconds=0.5))
    here.take(ACME, 1000)
    clock.advance(timedelta(seconds=0.5))

    assert not is_taken(here)

    # 101 s were taken, the first of them is over; a quarter of an event is forgotten.
    assert rates.until[RateKind.EVENTS, ACME] - clock.now().timestamp() == pytest.approx(99.975)
    assert is_taken(there, 10)
    assert not is_taken(there)


def test_a_table_that_was_silent_for_an_hour_leaves_no_refusals_behind(
    rates: HeldRates, clock: SetClock
) -> None:
    environments = [limited(rates, clock, 100) for _ in range(5)]

    def is_served(seconds: int) -> bool:  # at half the limit
        moments = enumerate(ticks(clock, seconds, 10))
        return all(is_taken(environments[number % 5], 5) for number, _ in moments)

    assert is_served(10)
    rates.trouble = True
    assert is_served(3600)
    rates.trouble = False
    assert is_served(60)
