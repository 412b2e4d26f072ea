"""Each minute of a period is given out once, as near to the usage as there is one free."""

from datetime import UTC, datetime, timedelta

from metering.minutes import GAPS_MAX, Gap, Minutes
from metering.period import Span

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
N = int(NOON.timestamp()) // 60
FAR = 2**40
WINDOW = Span(NOON, NOON + 10 * MINUTE)
ALL = Gap(0, FAR)


def take(
    minutes: Minutes, near: int, *, window: Span = WINDOW, only_later: bool = False
) -> tuple[int, Minutes] | None:
    taken = minutes.take(window, NOON + near * MINUTE, only_later=only_later)
    return taken and ((taken.taken - NOON) // MINUTE, taken.rest)


def test_the_minute_of_the_usage_is_taken_and_splits_the_gap() -> None:
    assert take(Minutes(), 3) == (3, Minutes((Gap(0, N + 2), Gap(N + 4, FAR))))
    assert Minutes().take(WINDOW, NOON + 3 * MINUTE) == Minutes().take(
        WINDOW, NOON + 3 * MINUTE + timedelta(seconds=59), only_later=False
    )


def test_a_wish_outside_of_the_window_is_met_at_its_edge() -> None:
    assert take(Minutes(), -5) == (0, Minutes((Gap(0, N - 1), Gap(N + 1, FAR))))
    assert take(Minutes(), 10) == (9, Minutes((Gap(0, N + 8), Gap(N + 10, FAR))))


def test_the_nearest_free_minute_is_taken_and_of_two_the_earlier() -> None:
    minutes = Minutes((Gap(N, N + 1), Gap(N + 5, N + 5), Gap(N + 8, N + 9)))

    assert take(minutes, 2) == (1, Minutes((Gap(N, N), Gap(N + 5, N + 5), Gap(N + 8, N + 9))))
    assert take(minutes, 3) == (1, Minutes((Gap(N, N), Gap(N + 5, N + 5), Gap(N + 8, N + 9))))
    assert take(minutes, 4) == (5, Minutes((Gap(N, N + 1), Gap(N + 8, N + 9))))
    assert take(minutes, 7) == (8, Minutes((Gap(N, N + 1), Gap(N + 5, N + 5), Gap(N + 9, N + 9))))


def test_a_window_of_one_minute_has_one_minute() -> None:
    one = Span(NOON, NOON + MINUTE)

    assert take(Minutes(), 0, window=one) == (0, Minutes((Gap(0, N - 1), Gap(N + 1, FAR))))
    assert take(Minutes((Gap(N + 1, FAR),)), 0, window=one) is None
    assert take(Minutes(), 0, window=Span(NOON, NOON)) is None


def test_gaps_outside_of_the_window_are_no_choice() -> None:
    minutes = Minutes((Gap(0, N - 1), Gap(N + 10, FAR)))

    assert take(minutes, 4) is None
    assert take(Minutes((Gap(0, N), Gap(N + 10, FAR))), 9) == (
        0,
        Minutes((Gap(0, N - 1), Gap(N + 10, FAR))),
    )


def test_what_must_be_later_than_all_before_leaves_no_earlier_minute() -> None:
    assert take(Minutes(), 3, only_later=True) == (3, Minutes((Gap(N + 4, FAR),)))


def test_a_minute_that_another_stream_used_is_not_given_out() -> None:
    instant = NOON + timedelta(seconds=59)

    assert Minutes().without(instant) == Minutes((Gap(0, N - 1), Gap(N + 1, FAR)))
    assert Minutes((Gap(0, 5), Gap(N, FAR))).without(instant) == Minutes(
        (Gap(0, 5), Gap(N + 1, FAR))
    )
    assert Minutes((Gap(0, 5), Gap(N, N))).without(instant) == Minutes((Gap(0, 5),))
    assert Minutes((Gap(0, N),)).without(instant) == Minutes((Gap(0, N - 1),))
    assert Minutes((Gap(0, 5),)).without(instant) == Minutes((Gap(0, 5),))


def test_after_an_instant_every_later_minute_is_free() -> None:
    assert Minutes(()).after(NOON + timedelta(seconds=59)) == Minutes((Gap(N + 1, FAR),))


def test_of_many_gaps_the_widest_are_remembered_in_their_order() -> None:
    gaps = [Gap(1000 * n, 1000 * n + n) for n in range(1, GAPS_MAX + 3)]

    left = Minutes(tuple(gaps)).without(NOON)

    assert left == Minutes(tuple(gaps[2:]))
