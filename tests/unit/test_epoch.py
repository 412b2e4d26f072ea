"""Each entry goes into exactly the epochs whose cut it lies behind, however often one rebuilds."""

from datetime import timedelta

from metering.epoch import FIRST_EPOCH, Epochs
from tests.builders import NOON

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
FIRST_CUT, SECOND_CUT = NOON, NOON + 5 * HOUR


def test_before_any_rebuild_everything_goes_into_the_first_epoch() -> None:
    assert Epochs().of(NOON) == (FIRST_EPOCH,)


def test_while_one_is_built_what_arrives_from_its_cut_on_goes_into_both() -> None:
    building = Epochs().opened(FIRST_CUT)

    assert building.of(FIRST_CUT - TICK) == (1,)
    assert building.of(FIRST_CUT) == (1, 2)
    assert building.current == 1


def test_after_the_switch_the_former_epoch_is_fed_until_everybody_has_heard_of_it() -> None:
    switched = Epochs().opened(FIRST_CUT).switched(FIRST_CUT + HOUR)

    assert switched.current == 2
    assert switched.of(FIRST_CUT - TICK) == (1,)  # recounted by the rebuild, so not in its lanes
    assert switched.of(FIRST_CUT) == (1, 2)
    assert switched.of(FIRST_CUT + HOUR - TICK) == (1, 2)
    assert switched.of(FIRST_CUT + HOUR) == (2,)


def test_a_second_rebuild_leaves_alone_what_the_first_one_recounted() -> None:
    building = Epochs().opened(FIRST_CUT).switched(FIRST_CUT + HOUR).opened(SECOND_CUT)
    assert building.of(SECOND_CUT - TICK) == (2,)
    assert building.of(SECOND_CUT) == (2, 3)

    switched = building.switched(SECOND_CUT + HOUR)

    assert switched.current == 3
    assert switched.of(FIRST_CUT - TICK) == ()  # both epochs have it from their rebuilds
    assert switched.of(FIRST_CUT) == (2,)
    assert switched.of(SECOND_CUT - TICK) == (2,)
    assert switched.of(SECOND_CUT) == (2, 3)
    assert switched.of(SECOND_CUT + HOUR) == (3,)


def test_a_rebuild_that_begins_at_once_feeds_three_epochs_for_a_while() -> None:
    switched = Epochs().opened(FIRST_CUT).switched(FIRST_CUT + HOUR)

    assert switched.opened(FIRST_CUT + TICK).of(FIRST_CUT + TICK) == (1, 2, 3)
