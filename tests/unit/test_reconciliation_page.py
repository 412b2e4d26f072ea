"""The page on reconciliation tells of every cause, and of no other."""

import re
from pathlib import Path

from metering.reconciliation import Cause

PAGE = Path(__file__).parents[2] / "docs/reconciliation.md"


def test_the_page_lists_every_cause_with_what_to_do_in_their_order() -> None:
    lines = re.findall(r"^\| `(\w+)` \| (.+) \| (.+) \|$", PAGE.read_text(), re.MULTILINE)

    assert [cause for cause, _, _ in lines] == [cause.value for cause in Cause]
    assert all(meaning and todo for _, meaning, todo in lines)
