from datetime import timedelta

from metering.cache import ShortCache
from tests.conftest import SetClock


def test_a_cache_with_no_lifetime_always_asks(clock: SetClock) -> None:
    answers = iter(range(9))
    cache: ShortCache[str, int] = ShortCache(clock, timedelta(0))

    assert [cache.get("a", lambda: next(answers)) for _ in range(3)] == [0, 1, 2]


def test_nothing_there_is_remembered_like_any_answer(clock: SetClock) -> None:
    asked: list[str] = []
    cache: ShortCache[str, None] = ShortCache(clock, timedelta(seconds=1))

    for _ in range(3):
        cache.get("a", lambda: asked.append("a"))

    assert asked == ["a"]


def test_a_clock_set_back_keeps_nothing_alive(clock: SetClock) -> None:
    answers = iter(range(9))
    cache: ShortCache[str, int] = ShortCache(clock, timedelta(seconds=30))
    cache.get("a", lambda: next(answers))

    clock.advance(timedelta(seconds=-1))

    assert cache.get("a", lambda: next(answers)) == 1


def test_guessed_names_do_not_fill_the_memory(clock: SetClock) -> None:
    asked: list[int] = []
    cache: ShortCache[int, None] = ShortCache(clock, timedelta(seconds=30), entries_max=10)

    for number in [*range(100), 95, 5]:
        cache.get(number, lambda number=number: asked.append(number))  # type: ignore[misc]

    assert asked == [*range(100), 5]


def test_of_many_only_those_not_kept_are_asked_for(clock: SetClock) -> None:
    asked: list[set[int]] = []
    cache: ShortCache[int, int] = ShortCache(clock, timedelta(seconds=30))

    def load(keys: set[int]) -> dict[int, int]:
        asked.append(keys)
        return {key: key * 10 for key in keys}

    cache.get_many({1, 2}, load)

    assert cache.get_many({2, 3}, load) == {2: 20, 3: 30}
    assert cache.get_many({1, 3}, load) == {1: 10, 3: 30}
    assert asked == [{1, 2}, {3}]
