"""The ledger keeps each entry once and whole, and lists a counter's entries by time."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from metering.counter import CounterKey
from metering.errors import RetryableError
from metering.event import LedgerEntry, Source
from metering.names import CustomerRef, IdempotencyKey, Metric, TenantId
from metering.period import Span
from metering.ports import Appended, IndexOffError
from metering.wiring import Wiring
from tests.builders import DEMO, NOON, a_counter, an_entry
from tests.faults import FaultyClient, throttled
from tests.readers import EVER, ledger_of

ACCEPTED, DUPLICATE, CONFLICT = Appended.ACCEPTED, Appended.DUPLICATE, Appended.CONFLICT
MINUTE = timedelta(minutes=1)


def over(wiring: Wiring, client: FaultyClient) -> Wiring:
    return Wiring(wiring.config, clock=wiring.clock, dynamodb=client.client)


def later(entry: LedgerEntry, **changes: object) -> LedgerEntry:
    """The same event received a second later, or another one with its key."""
    event = replace(entry.event, **changes)  # type: ignore[arg-type]
    return LedgerEntry(event, entry.received_at + timedelta(seconds=1), is_late=entry.is_late)


def test_an_entry_comes_back_as_it_was_appended(wiring: Wiring) -> None:
    plain = an_entry("12345678901234.123457", is_late=True)
    full = LedgerEntry(
        replace(
            plain.event, key=IdempotencyKey("full"), resource="r", meta='{"a":1}', source=Source.SDK
        ),
        NOON + timedelta(microseconds=1),
        is_late=False,
    )

    assert wiring.ledger.append([plain, full]) == [ACCEPTED, ACCEPTED]

    for entry in (plain, full):
        assert wiring.ledger.get(DEMO, entry.event.key) == entry
    assert ledger_of(wiring) == sorted([plain, full], key=lambda entry: entry.event.key)
    assert wiring.ledger.get(DEMO, IdempotencyKey("none")) is None


@pytest.mark.parametrize("neighbours", [0, 1])
def test_what_stands_in_the_ledger_is_never_changed(wiring: Wiring, neighbours: int) -> None:
    entry = an_entry("1")
    wiring.ledger.append([entry])

    def again(sent: LedgerEntry) -> Appended:
        return wiring.ledger.append([sent, *(an_entry() for _ in range(neighbours))])[0]

    assert again(later(entry)) is DUPLICATE
    assert again(later(entry, quantity=Decimal(2))) is CONFLICT
    assert again(later(entry, customer=CustomerRef("cus_B"))) is CONFLICT
    assert again(later(entry, source=Source.ETL)) is DUPLICATE
    assert again(entry) is ACCEPTED, "our own write, met by our own retry"
    assert wiring.ledger.get(DEMO, entry.event.key) == entry


def test_the_longest_names_find_their_place_in_every_key(wiring: Wiring) -> None:
    longest = an_entry(
        tenant="é" * 100, customer="é" * 255, metric="é" * 100, key="\U0001f600" * 255
    )

    assert wiring.ledger.append([longest]) == [ACCEPTED]

    counter = CounterKey(TenantId("é" * 100), CustomerRef("é" * 255), Metric("é" * 100))
    assert list(wiring.ledger.of_counter(counter, EVER)) == [longest]


def test_a_tenants_entries_are_its_own(wiring: Wiring) -> None:
    wiring.ledger.append([an_entry(key="k"), an_entry(key="k", tenant="acme")])

    assert [entry.event.tenant for entry in wiring.ledger.of_tenant(DEMO)] == ["demo"]


def test_a_counters_entries_are_listed_by_time_across_the_indexs_shards(wiring: Wiring) -> None:
    entries = [an_entry(at=NOON + MINUTE * number) for number in (5, 3, 9, 1, 7, 0, 8, 2, 6, 4)]
    foreign = [an_entry(customer="cus_B"), an_entry(metric="m"), an_entry(tenant="acme")]
    wiring.ledger.append([*entries, *foreign])

    by_time = sorted(entries, key=lambda entry: entry.event.occurred_at)

    assert list(wiring.ledger.of_counter(a_counter(), EVER)) == by_time
    assert list(wiring.ledger.of_counter(a_counter(), EVER, newest_first=True)) == by_time[::-1]


def test_a_span_lists_its_start_and_not_its_end(wiring: Wiring) -> None:
    entries = [an_entry(at=NOON + MINUTE * number) for number in range(4)]
    wiring.ledger.append(entries)

    span = Span(NOON + MINUTE, NOON + MINUTE * 3)

    assert list(wiring.ledger.of_counter(a_counter(), span)) == entries[1:3]


@pytest.mark.parametrize("newest_first", [False, True])
def test_a_list_longer_than_a_page_goes_on(wiring: Wiring, *, newest_first: bool) -> None:
    entries = [an_entry(at=NOON + MINUTE * number) for number in range(20)]
    wiring.ledger.append(entries)

    found = wiring.ledger.of_counter(a_counter(), EVER, newest_first=newest_first, page_size=2)

    assert list(found) == (entries[::-1] if newest_first else entries)


def test_whoever_wants_the_first_few_does_not_read_them_all(wiring: Wiring) -> None:
    wiring.ledger.append([an_entry(at=NOON + MINUTE * number) for number in range(40)])
    counting = FaultyClient(wiring.dynamodb)

    listed = over(wiring, counting).ledger.of_counter(a_counter(), EVER, page_size=2)
    first = next(iter(listed))

    assert first.event.occurred_at == NOON
    assert len(counting.calls) == wiring.config.event_index_shards


def test_without_the_event_index_there_is_no_list_of_a_counters_entries(wiring: Wiring) -> None:
    bare = Wiring(
        replace(wiring.config, event_index=False), clock=wiring.clock, dynamodb=wiring.dynamodb
    )
    bare.ledger.append([an_entry()])

    with pytest.raises(IndexOffError):
        bare.ledger.of_counter(a_counter(), EVER)
    assert list(wiring.ledger.of_counter(a_counter(), EVER)) == [], "nothing paid for, nothing kept"


def test_a_ledger_that_cannot_be_read_says_so(wiring: Wiring) -> None:
    faulty = FaultyClient(wiring.dynamodb)
    faulty.fail("get_item", throttled())

    with pytest.raises(RetryableError):
        over(wiring, faulty).ledger.get(DEMO, IdempotencyKey("k"))
