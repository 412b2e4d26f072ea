"""Composite keys never collide, and hashes stay the same for ever."""

import pytest

from metering.keys import digest, join, shard_of, split


def test_parts_that_hold_a_separator_do_not_collide() -> None:
    assert join("a|b", "c") != join("a", "b|c")
    assert join("1:a", "b") != join("1", "a1:b")
    assert join("a", "") != join("", "a") != join("a")


@pytest.mark.parametrize(
    "parts",
    [("a", "bc"), ("",), ("", "", ""), ("a:b", "3:x", "#|\0"), ("😀", "é" * 255), ("\ud800",)],
)
def test_a_key_reads_back_as_its_parts(parts: tuple[str, ...]) -> None:
    assert split(join(*parts)) == parts


def test_a_leading_part_is_a_prefix_of_no_other() -> None:
    assert join("cus_A", "m").startswith(join("cus_A"))
    assert not join("cus_AB", "m").startswith(join("cus_A"))


def test_what_is_stored_under_a_hash_today_is_found_under_it_for_ever() -> None:
    assert digest("usage").hex() == "852cdbaec3dc8744a039ff75d9fba695"
    assert len(digest("usage", size=6)) == 6
    assert [shard_of(f"key-{number}", 4) for number in range(8)] == [3, 3, 1, 0, 1, 0, 0, 1]


def test_shards_share_the_load() -> None:
    shards = [shard_of(f"key-{number}", 4) for number in range(4000)]

    assert set(shards) == {0, 1, 2, 3}
    assert all(900 < shards.count(shard) < 1100 for shard in range(4))
