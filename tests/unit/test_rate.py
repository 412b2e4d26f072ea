"""Calls leave no faster than Stripe takes them."""

from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metering.adapters.stripe_rate import SLEEP_MAX_S, CallRates, limits_of
from metering.config import Config
from metering.push import Mode
from metering.rate import TokenBucket


class Seconds:
    """A clock whose sleepers move it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def departures(limit: int, arrivals: list[float]) -> list[float]:
    """When calls that arrive at those instants leave."""
    bucket, left = TokenBucket.full(limit, 0.0), []
    for at in arrivals:
        bucket, wait_s = bucket.take(at)
        left.append(at + wait_s)
    return left


@given(
    limit=st.integers(1, 200),
    gaps=st.lists(st.floats(0, 0.5), min_size=1, max_size=300),
)
def test_no_second_whatsoever_sees_more_calls_than_the_limit(limit: int, gaps: list[float]) -> None:
    arrivals = [sum(gaps[: n + 1]) for n in range(len(gaps))]

    left = departures(limit, arrivals)

    for n, at in enumerate(left):
        # A call that leaves exactly a second later is in the next one.
        assert sum(1 for other in left[n:] if other < at + 1 - 1e-6) <= limit


def test_a_thousand_a_second_are_reached_and_not_passed() -> None:
    left = departures(1000, [0.0] * 3000)

    assert left[:50] == [0.0] * 50
    assert left[-1] == pytest.approx(2950 / 950)
    assert sum(1 for at in left if at < 1.0) <= 1000


def test_an_hour_without_calls_saves_up_no_more_than_the_bucket_holds() -> None:
    left = departures(1000, [0.0] + [3600.0] * 1500)

    assert left[:51] == [0.0] + [3600.0] * 50
    assert sum(1 for at in left if 3600 <= at < 3601) <= 1000


def test_a_clock_that_steps_back_gives_no_tokens_away() -> None:
    bucket = TokenBucket.full(20, 100.0)
    bucket, _ = bucket.take(100.0)

    bucket, wait_s = bucket.take(50.0)

    assert wait_s > 0
    assert bucket.at == 100.0


def test_calls_wait_their_turn_by_sleeping() -> None:
    clock = Seconds()
    rates = CallRates(lambda *_: 20, seconds=clock, sleep=clock.sleep)

    assert [rates.admit("", Mode.TEST) for _ in range(20)] == [True] * 20

    assert clock.now == pytest.approx(1.0)  # one at once, nineteen at 19 a second


def test_who_would_wait_longer_than_a_second_is_sent_away_and_takes_no_token() -> None:
    clock = Seconds()
    rates = CallRates(lambda *_: 20, seconds=clock, sleep=lambda _: None)

    admitted = [rates.admit("", Mode.TEST) for _ in range(100)]

    assert admitted == [True] * 20 + [False] * 80
    clock.now = 1.0
    assert sum(rates.admit("", Mode.TEST) for _ in range(100)) == 19


def test_accounts_and_modes_have_rates_of_their_own() -> None:
    clock = Seconds()
    rates = CallRates(lambda *_: 1, seconds=clock, sleep=lambda _: None)

    for account, mode in (("", Mode.LIVE), ("", Mode.TEST), ("acct_1", Mode.LIVE)):
        assert rates.admit(account, mode)

    assert clock.slept == []


def test_threads_share_one_bucket() -> None:
    slept: list[float] = []
    rates = CallRates(lambda *_: 1000, seconds=lambda: 0.0, sleep=slept.append)
    admitted: list[bool] = []

    def call() -> None:
        admitted.extend(rates.admit("", Mode.LIVE) for _ in range(300))

    threads = [Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # 50 at once, and whoever has at most a second to wait.
    assert sum(admitted) == 50 + 950
    assert len(slept) == 950
    assert max(slept) <= SLEEP_MAX_S
    assert len(set(slept)) == 950


def test_the_limits_are_stripes() -> None:
    limit_of = limits_of(Config())

    assert limit_of("", Mode.LIVE) == 1000
    assert limit_of("acct_1", Mode.LIVE) == 100
    assert limit_of("", Mode.TEST) == 25  # of a sandbox of Stripe's own
    assert limits_of(Config(stripe_api_base="http://127.0.0.1:1"))("", Mode.TEST) == 1000


def test_a_limit_can_be_set_lower() -> None:
    config = Config.from_environment(
        {"STRIPE_CALLS_A_SECOND": "50", "STRIPE_CONNECTED_CALLS_A_SECOND": "80"}
    )

    assert limits_of(config)("", Mode.LIVE) == 50
    assert limits_of(config)("acct_1", Mode.LIVE) == 50


@pytest.mark.parametrize("wrong", ["0", "-1"])
def test_a_limit_below_one_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="STRIPE_CALLS_A_SECOND must be 1 or more"):
        Config.from_environment({"STRIPE_CALLS_A_SECOND": wrong})


def test_an_unknown_transport_is_refused() -> None:
    assert Config.from_environment({}).stripe_transport == "v1"
    assert Config.from_environment({"STRIPE_TRANSPORT": "v2"}).stripe_transport == "v2"
    with pytest.raises(ValueError, match="STRIPE_TRANSPORT must be one of v1, v2, not 'v3'"):
        Config.from_environment({"STRIPE_TRANSPORT": "v3"})


def test_one_call_a_second_comes_back_slowly_but_does() -> None:
    assert TokenBucket.full(1, 0.0).a_second == pytest.approx(0.05)
