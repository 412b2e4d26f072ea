"""A lane folds in what it has not seen, in the shard's order, and nothing else."""

from datetime import datetime
from decimal import Decimal

from metering.counter import Tally, Usage
from metering.lane import Lane, Placed, Record, advance, position_of
from tests.builders import NOON, an_entry
from tests.readers import true_usage

TODAY = NOON.replace(hour=0)
LATER_TODAY = NOON.replace(hour=11)


def placed(number: int, quantity: str = "", *, bucket: datetime = TODAY) -> Placed:
    entry = an_entry(quantity or str(number), key=f"lane-{number}")
    return Placed(Record(position_of(str(number)), entry), bucket)


FIVE = [placed(number) for number in range(8, 13)]


def folded(records: list[Placed], lane: Lane = Lane()) -> Lane:  # noqa: B008 (frozen)
    step = advance(lane, records)
    assert step is not None
    return step.after


def test_positions_compare_as_numbers_do() -> None:
    numbers = ["9", "10", "100000000000000000000", "999999999999999999999", "1" + "0" * 39]

    assert sorted(map(position_of, reversed(numbers))) == [position_of(one) for one in numbers]
    assert len({len(position_of(number)) for number in numbers}) == 1


def test_a_lane_holds_all_it_was_brought() -> None:
    lane = folded(FIVE)

    assert lane.position == position_of("12")
    assert lane.buckets == {TODAY: true_usage(placed.record.entry for placed in FIVE)}
    assert lane.buckets[TODAY].counted.sum == Decimal(50)


def test_a_batch_seen_before_changes_nothing() -> None:
    lane = folded(FIVE)

    assert advance(lane, FIVE) is None
    assert advance(lane, FIVE[1:3]) is None
    assert advance(lane, []) is None


def test_of_an_overlapping_batch_only_the_unseen_tail_is_added() -> None:
    lane = folded(FIVE[1:], folded(FIVE[:3]))

    assert lane == folded(FIVE)


def test_a_step_starts_from_the_lane_that_was_read() -> None:
    lane = folded(FIVE[:2])
    step = advance(lane, FIVE)

    assert step is not None
    assert step.before is lane
    assert step.unfoldable == ()


def test_a_quantity_that_cannot_be_added_exactly_is_passed_over_and_named() -> None:
    full = Lane(position_of("1"), {TODAY: Usage(counted=Tally(1, Decimal(10) ** 37))})
    fits, too_fine, fits_too = placed(2, "1"), placed(3, "0.5"), placed(4, "2")

    step = advance(full, [fits, too_fine, fits_too])

    assert step is not None
    assert step.unfoldable == (too_fine.record,)
    assert step.after.position == position_of("4")
    assert step.after.buckets[TODAY].counted.count == 3
    assert step.after.buckets[TODAY].counted.sum == Decimal("1" + "0" * 36 + "3")


def test_a_lane_that_was_folded_into_the_base_takes_no_more() -> None:
    first = FIVE[0].record
    lane = Lane(first.position, {TODAY: true_usage([first.entry])}, folded=True)
    step = advance(lane, FIVE)

    assert step is not None
    assert step.before is step.after is lane
    assert step.unfoldable == tuple(placed.record for placed in FIVE[1:])
    assert advance(lane, FIVE[:1]) is None


def test_a_day_cut_by_a_billing_period_keeps_both_sides_under_one_position() -> None:
    before, after = placed(1), placed(2, bucket=LATER_TODAY)

    lane = folded([before, after])

    assert lane.position == position_of("2")
    assert lane.buckets == {
        TODAY: true_usage([before.record.entry]),
        LATER_TODAY: true_usage([after.record.entry]),
    }


def test_a_batch_that_comes_again_under_another_billing_calendar_is_still_seen() -> None:
    lane = folded([placed(1), placed(2)])

    assert advance(lane, [placed(1, bucket=LATER_TODAY), placed(2, bucket=LATER_TODAY)]) is None
