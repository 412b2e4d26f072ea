# ruff: noqa: F401 (pytest collects the tests and fixtures that are imported)
"""Every call that the product makes is answered alike by DynamoDB Local and in memory.

Some of the adapters' own tests are run once more, over a client that makes each call to both and
compares. Between them they come by every place at which an adapter calls its client: a call that
is new must be reached by one of them.
"""

from collections.abc import Iterator

import pytest

from metering.adapters.dynamodb.tables import DynamoTables
from metering.wiring import Wiring
from tests.contract.mirror import Mirror, sites_in_adapters
from tests.integration.test_adjustments import (
    books,
    test_a_pending_list_leaves_out_what_the_ledger_has_approved,
    test_of_a_greatest_or_last_value_a_late_event_cannot_be_taken_back,
    test_only_what_is_approved_can_be_reverted,
)
from tests.integration.test_api_admin_keys import (
    guarded,
    test_pages_go_through_all_keys_once,
    test_who_lost_the_answer_rotates_again_and_gains_no_time,
)
from tests.integration.test_api_keys import (
    test_a_revoked_key_is_refused_here_at_once_and_elsewhere_when_the_cache_ends,
)
from tests.integration.test_archive_tables import (
    test_a_windows_start_can_be_taken_once,
    test_windows_are_read_as_they_were_kept_in_the_order_of_time,
    windows,
)
from tests.integration.test_closing import (
    closing,
    test_two_metered_subscriptions_are_a_trouble_that_can_be_read,
)
from tests.integration.test_lane_folder import (
    test_a_record_for_a_lane_that_is_closed_for_good_is_quarantined_and_stops_nothing,
    test_lanes_that_dynamodb_did_not_remove_are_removed_by_the_next_run,
)
from tests.integration.test_ledger import (
    test_what_stands_in_the_ledger_is_never_changed,
)
from tests.integration.test_next_life import (
    test_the_first_who_asks_is_told_when_to_ask_again,
)
from tests.integration.test_notices import (
    test_a_changed_meter_is_told_to_operators_and_done,
    test_a_suspicion_that_was_settled_is_not_changed_back,
)
from tests.integration.test_period_closes import (
    test_a_close_is_kept_whole,
)
from tests.integration.test_rate_limits import (
    limited,
    test_limits_are_kept_as_they_were_set_and_can_be_taken_back,
    test_the_shared_instant_begins_when_usage_did_and_never_runs_backwards,
)
from tests.integration.test_rebuild import (
    test_a_reader_that_does_not_know_of_the_switch_yet_still_finds_the_old_counters,
    traffic,
)
from tests.integration.test_reconciler import (
    test_a_superseded_report_is_given_time_to_live,
    test_an_index_that_follows_too_slowly_does_not_make_the_counter_wrong,
    test_stripe_out_of_reach_leaves_the_other_numbers,
    world,
)
from tests.integration.test_stripe_claims import (
    test_what_was_released_is_whoevers_names_it_next,
)
from tests.integration.test_writer_store import (
    test_a_pause_is_of_one_account_and_mode,
    test_a_stream_is_in_need_while_it_has_an_open_push_or_a_stop,
    test_each_life_of_the_store_has_the_next_number,
)

REACHED: dict[str, tuple[str, ...]] = {
    "test_an_index_that_follows_too_slowly_does_not_make_the_counter_wrong": (
        "billing._get.get_item",
        "billing._query.get_paginator",
        "billing._write.put_item",
        "billing._write.transact_write_items",
        "counters._listed.get_paginator",
        "counters._parts.get_paginator",
        "counters._sort_keys.get_paginator",
        "epochs.read.get_item",
        "lanes._codes.batch_execute_statement",
        "lanes._items.batch_get_item",
        "lanes._write.batch_execute_statement",
        "ledger.to_recount.get_paginator",
        "notices._query.get_paginator",
        "period_closes._query.get_paginator",
        "read_counts.add.update_item",
        "read_counts.since.get_paginator",
        "reports._head.query",
        "reports._parts.get_item",
        "reports._put.put_item",
        "settings._get.get_item",
        "settings._get_many.batch_get_item",
        "settings._note_tenant.update_item",
        "settings._query.query",
        "settings._write_mapping.transact_write_items",
        "suspects.open.get_paginator",
        "writer_desk._update.update_item",
        "writer_desk.cursor.get_item",
    ),
    "test_stripe_out_of_reach_leaves_the_other_numbers": ("ledger._of_shard.get_paginator",),
    "test_two_metered_subscriptions_are_a_trouble_that_can_be_read": (
        "rounds.last.get_item",
        "rounds.note.put_item",
        "settings._put_customer.put_item",
    ),
    "test_of_a_greatest_or_last_value_a_late_event_cannot_be_taken_back": (
        "adjustments._write.put_item",
        "adjustments.get.get_item",
        "ledger._items.batch_get_item",
        "ledger.get.get_item",
        "ledger.of_tenant.get_paginator",
        "settings._put.put_item",
    ),
    "test_only_what_is_approved_can_be_reverted": ("adjustments._write.transact_write_items",),
    "test_a_reader_that_does_not_know_of_the_switch_yet_still_finds_the_old_counters": (
        "epochs.change.put_item",
        "epochs.under_rebuild.get_paginator",
        "lane_store.stored_lanes.get_paginator",
        "ledger._insert.batch_execute_statement",
        "recounts._write.batch_write_item",
    ),
    "test_a_record_for_a_lane_that_is_closed_for_good_is_quarantined_and_stops_nothing": (
        "lane_store.base.get_item",
        "lane_store.fold.transact_write_items",
        "quarantine._query.get_paginator",
        "quarantine.put.put_item",
    ),
    "test_lanes_that_dynamodb_did_not_remove_are_removed_by_the_next_run": (
        "lane_store.remove.batch_write_item",
    ),
    "test_a_pending_list_leaves_out_what_the_ledger_has_approved": (
        "adjustments.of_tenant.get_paginator",
        "ledger.held.get_paginator",
    ),
    "test_what_stands_in_the_ledger_is_never_changed[1]": ("ledger._standing.batch_get_item",),
    "test_a_revoked_key_is_refused_here_at_once_and_elsewhere_when_the_cache_ends": (
        "api_keys.stored.get_item",
        "api_keys._write.transact_write_items",
    ),
    "test_pages_go_through_all_keys_once": ("api_keys.listed.query",),
    "test_who_lost_the_answer_rotates_again_and_gains_no_time": (),
    "test_limits_are_kept_as_they_were_set_and_can_be_taken_back": (
        "tenant_rates._read.get_item",
        "tenant_rates.put_limits.put_item",
    ),
    "test_the_shared_instant_begins_when_usage_did_and_never_runs_backwards": (
        "tenant_rates._begin.update_item",
        "tenant_rates.spend.update_item",
    ),
    "test_what_was_released_is_whoevers_names_it_next": (
        "stripe_claims.release.delete_item",
        "stripe_claims.take.transact_write_items",
    ),
    "test_a_changed_meter_is_told_to_operators_and_done": (
        "notices.done.delete_item",
        "notices.keep.transact_write_items",
    ),
    "test_a_suspicion_that_was_settled_is_not_changed_back": (
        "suspects._put.put_item",
        "suspects.done.delete_item",
    ),
    "test_a_superseded_report_is_given_time_to_live": ("reports._expire.update_item",),
    "test_a_stream_is_in_need_while_it_has_an_open_push_or_a_stop": (
        "billing._get_many.batch_get_item",
    ),
    "test_a_close_is_kept_whole": (
        "period_closes._get.get_item",
        "period_closes._write.transact_write_items",
    ),
    "test_a_pause_is_of_one_account_and_mode": ("billing.pause.put_item",),
    "test_each_life_of_the_store_has_the_next_number": ("billing.raise_incarnation.update_item",),
    "test_the_first_who_asks_is_told_when_to_ask_again": ("billing.announce_life.update_item",),
    "test_every_table_is_found_readable": ("tables.unreadable.get_item",),
    "test_a_windows_start_can_be_taken_once": ("archive_windows._put.put_item",),
    "test_windows_are_read_as_they_were_kept_in_the_order_of_time": (
        "archive_windows.all.get_paginator",
    ),
}
"""By test: the calls (module, function, method) that it is here for."""
ONLY_ON_AWS = "exports."
"""Neither DynamoDB Local nor our tables in memory export; botocore's model and moto judge these."""


@pytest.fixture(autouse=True)
def reaches_its_calls(mirror: Mirror, request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that no longer makes the calls it is here for fails."""
    yield
    wanted = REACHED.get(request.node.name, ())
    assert set(wanted) <= {str(site) for site in mirror.sites}


def test_every_table_is_found_readable(wiring: Wiring) -> None:
    assert DynamoTables(wiring.dynamodb, wiring.config).unreadable() == []


def test_no_call_of_an_adapter_is_left_out() -> None:
    reached = {site for sites in REACHED.values() for site in sites}

    there = {str(site) for site in sites_in_adapters()}
    assert reached == {site for site in there if not site.startswith(ONLY_ON_AWS)}
