"""Several calls of one invocation."""

import threading

import pytest

from metering.adapters.dynamodb.calls import map_of


@pytest.mark.parametrize("at_once", [1, 4])
def test_results_come_in_the_order_of_what_they_are_of(at_once: int) -> None:
    assert list(map_of(at_once)(str, range(100))) == [str(number) for number in range(100)]


def test_several_calls_are_under_way_at_once() -> None:
    both_are_there = threading.Barrier(2, timeout=10)

    assert sorted(map_of(2)(lambda _: both_are_there.wait(), "ab")) == [0, 1]


def test_a_single_call_stays_in_its_thread() -> None:
    [thread] = map_of(4)(lambda _: threading.current_thread(), "a")

    assert thread is threading.current_thread()


@pytest.mark.parametrize("at_once", [1, 4])
def test_the_first_call_that_fails_fails_them_all(at_once: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_of(at_once)(lambda number: 1 // number, [1, 0, 2]))
