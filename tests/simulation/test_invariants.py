"""Each invariant can fail: a good world with one thing wrong breaks just the one that says so."""

import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import stripe

from infra import functions
from infra.tables import BILLING, COUNTERS, EVENTS, SETTINGS
from local.stripe.state import DEFAULT_ACCOUNT, INVOICE, EventReceived, MeterEvent
from tests.simulation.aws.mapping import Failure
from tests.simulation.aws.queue import QueueInvocation
from tests.simulation.clients import CANARY, Copy
from tests.simulation.draw import NO_FAULTS, Drawn, Kind, draw
from tests.simulation.invariants import Violation, judge
from tests.simulation.invariants_items import part_of
from tests.simulation.invariants_pushes import DIGITS_MAX, SENDS_MAX, Sent, stream_of
from tests.simulation.model import Books, Line, Used, totals
from tests.simulation.people import Correction, Fate
from tests.simulation.run import Lived, live

type Item = dict[str, Any]


def drawn(kind: Kind = Kind.BILLING, **changes: Any) -> Drawn:
    """A good day with few events."""
    small: dict[str, Any] = {
        "kind": kind,
        "start": datetime(2026, 11, 14, 9, tzinfo=UTC),
        "span": timedelta(hours=1),
        "tenants": 1,
        "customers": 1,
        "metrics": 1,
        "events": 8,
        "late": 0.0,
        "again": 0.0,
        "conflicting": 0.0,
        "queued": 0.0,
        "adjustments": 0,
        "rebuilds": 0,
        "approvals": 0,
        "changes": 0,
        "faults": NO_FAULTS,
    }
    return replace(draw(1), **(small | changes))


@pytest.fixture
def good() -> Lived:
    """A world in which nothing is wrong, up to Stripe."""
    lived = live(drawn())
    assert lived.violations == []
    return lived


def broken(violations: Sequence[Violation]) -> list[str]:
    return [one.invariant for one in violations]


def judged(lived: Lived) -> list[str]:
    """What a second look at the end of a world finds broken, once each."""
    return list(dict.fromkeys(broken(judge(lived))))


def items(lived: Lived, table: str) -> list[Item]:
    return lived.world.tables.items(table)


def put(lived: Lived, table: str, item: Item) -> None:
    lived.world.tables.execute("PutItem", {"TableName": table, "Item": item})


def a_copy(lived: Lived, key: str = "never-sent") -> Copy:
    """A copy like the first one, under a key that nobody has used."""
    first = lived.clients.copies[0]
    return Copy(
        first.tenant, key, first.metric, first.customer, first.quantity, first.at, number=999
    )


def a_stream(lived: Lived) -> Item:
    return deepcopy(next(one for one in items(lived, BILLING.name) if stream_of(one)))


def a_push(lived: Lived) -> Item:
    """The item of a closed push."""
    return next(one for one in items(lived, BILLING.name) if "seq" in one and "identifier" in one)


def an_event(lived: Lived) -> MeterEvent:
    return next(lived.world.core.world.account().events())


def send(lived: Lived, event: MeterEvent) -> None:
    """Tell Stripe of an event, once more perhaps; it may refuse."""
    params: Any = {
        "event_name": event.event_name,
        "identifier": event.identifier,
        "timestamp": event.timestamp,
        "payload": {"stripe_customer_id": event.customer, "value": str(event.value)},
    }
    try:
        lived.world.stripe.v1.billing.meter_events.create(params)
    except stripe.InvalidRequestError as refused:
        assert "already exists" in str(refused)  # noqa: PT017 (either way will do)


# --- good worlds ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_good_world_breaks_nothing(kind: Kind, seed: int) -> None:
    lived = live(replace(draw(seed), kind=kind, events=20, faults=NO_FAULTS))

    assert lived.is_quiet
    assert lived.violations == []
    assert lived.numbers


# --- always ---------------------------------------------------------------------------------------


def test_i0_an_error_of_our_own_is_a_violation(good: Lived) -> None:
    good.world.lambdas[functions.WRITER.name].bugs.append(KeyError("what"))

    assert judged(good) == ["I0"]


def test_i1_an_entry_that_nobody_sent_is_a_phantom(good: Lived) -> None:
    item = deepcopy(items(good, EVENTS.name)[0])
    key = item["k"]["S"]
    item |= {"pk": {"S": f"{item['pk']['S']}x"}, "k": {"S": f"{key}x"}}
    put(good, EVENTS.name, item)

    (violation,) = good.watch.violations
    assert violation.invariant == "I1"
    assert item["q"]["N"] in violation.sentence


def test_i1_an_entry_with_another_quantity_than_was_sent_is_a_phantom() -> None:
    lived = live(drawn(events=3))
    copy = lived.clients.copies[0]
    lived.clients.copies[0] = replace(copy, quantity=copy.quantity + 1, answers=copy.answers)
    lived.clients.copies.append(a_copy(lived))
    del lived.watch.ledger.entries[copy.tenant, copy.key]
    item = next(one for one in items(lived, EVENTS.name) if one["k"]["S"] == copy.key)
    lived.world.tables.execute("DeleteItem", {"TableName": "events", "Key": {"pk": item["pk"]}})
    lived.watch.violations.clear()
    put(lived, EVENTS.name, item)

    assert broken(lived.watch.violations) == ["I1"]


def test_i2_what_was_accepted_and_is_not_there_is_lost(good: Lived) -> None:
    copy = a_copy(good)
    good.clients.told(copy, "accepted")

    (violation,) = good.watch.violations
    assert violation.invariant == "I2"
    assert f"holds nothing there, not {copy.quantity}" in violation.sentence


def test_i2_a_message_is_done_with_only_when_its_events_are_kept(good: Lived) -> None:
    copy = a_copy(good)
    body = json.dumps({"tenantId": copy.tenant, **copy.spelled(0)})
    good.world.queue.send(body, good.world.kernel.now)
    (invocation,) = waiting(good)
    good.world.queue.finished(invocation, Failure("died"), good.world.kernel.now)
    assert good.watch.violations == []
    good.world.queue.finished(invocation, {"batchItemFailures": []}, good.world.kernel.now)

    assert broken(good.watch.violations) == ["I2"]


def waiting(lived: Lived) -> list[QueueInvocation]:
    """The invocations that the queue's messages make, once its window is over."""
    return lived.world.queue.due(lived.world.kernel.now + timedelta(minutes=10))


def test_i3_a_key_is_accepted_once(good: Lived) -> None:
    good.clients.told(good.clients.copies[0], "accepted")

    (violation,) = good.watch.violations
    assert violation.invariant == "I3"
    assert "accepted 2 times, not once" in violation.sentence


def test_i3_a_conflict_needs_another_content(good: Lived) -> None:
    good.clients.told(good.clients.copies[0], "conflict")

    assert broken(good.watch.violations) == ["I3"]


def a_lane(lived: Lived) -> Item:
    return deepcopy(next(one for one in items(lived, COUNTERS.name) if "h" in one))


def raised(lane: Item) -> Item:
    """The lane with 1 more than it held."""
    (bucket, *_) = lane["b"]["M"].values()
    held = bucket["M"]["c"]["M"]
    held["s"] = {"N": str(Decimal(held["s"]["N"]) + 1)}
    return lane


def test_i4_a_lane_holds_its_shards_records_and_nothing_else(good: Lived) -> None:
    lane = a_lane(good)
    before = part_of(lane)
    put(good, COUNTERS.name, raised(lane))

    (violation,) = good.watch.violations
    assert violation.invariant == "I4"
    assert before is not None
    (held,) = before.buckets.values()
    assert f"of {held.sum}, " in violation.sentence
    assert f"of {held.sum + 1}, " in violation.sentence


def test_i4_in_the_end_all_parts_of_a_counter_come_to_the_ledger(good: Lived) -> None:
    lane = a_lane(good)
    at = {"pk": lane["pk"], "sk": lane["sk"]}
    good.world.tables.execute("DeleteItem", {"TableName": COUNTERS.name, "Key": at})

    assert "I4" in judged(good)


def test_i5_a_stream_leaves_no_number_out(good: Lived) -> None:
    stream = a_stream(good)
    stream["next_seq"] = {"N": str(int(stream["next_seq"]["N"]) + 2)}
    put(good, BILLING.name, stream)

    assert broken(good.watch.violations) == ["I5"]


def planned(lived: Lived, *, delta: str) -> Item:
    """A stream with one push more, that has not left."""
    stream, push = a_stream(lived), deepcopy(a_push(lived))
    number = stream["next_seq"]["N"]
    push |= {"seq": {"N": number}, "delta": {"N": delta}, "value": {"S": delta}}
    push["identifier"] = {"S": push["identifier"]["S"].rpartition(".")[0] + f".{number}"}
    del push["first_attempt_at"]
    open_push = {name: one for name, one in push.items() if name not in {"pk", "sk"}}
    next_seq = {"N": str(int(number) + 1)}
    return stream | {"open": {"M": open_push}, "next_seq": next_seq}


def test_i5_no_more_is_told_than_was_used(good: Lived) -> None:
    stream = planned(good, delta="1")
    put(good, BILLING.name, stream)

    (violation,) = good.watch.violations
    accepted = int(stream["accepted"]["N"])
    assert violation.invariant == "I5"
    assert f"{accepted + 1} in all, and never more than {accepted}" in violation.sentence


def test_i6_an_identifier_stands_for_one_event(good: Lived) -> None:
    event = an_event(good)
    send(good, replace(event, value=event.value + 1))

    (violation,) = good.watch.violations
    assert violation.invariant == "I6"
    assert f"'{event.value + 1}'" in violation.sentence
    assert f"'{event.value}'" in violation.sentence


def test_i7_nothing_is_sent_again_behind_the_fence(good: Lived) -> None:
    send(good, an_event(good))
    assert good.watch.violations == []
    good.world.kernel.now = an_event(good).received_at + timedelta(hours=23, minutes=20)
    send(good, an_event(good))

    assert broken(good.watch.violations) == ["I7"]


def test_i8_stripe_never_holds_more_than_was_planned(good: Lived) -> None:
    event = replace(an_event(good), identifier="u1.another-for-the-same.1")
    sent = Sent(event.event_name, event.customer, str(event.value), event.timestamp)
    good.watch.pushes.stamped[event.identifier] = sent
    send(good, event)

    (violation,) = good.watch.violations
    assert violation.invariant == "I8"
    assert "pushes together planned" in violation.sentence


def test_i9_the_ledger_only_grows(good: Lived) -> None:
    key = {"pk": items(good, EVENTS.name)[0]["pk"]}
    good.world.tables.execute("DeleteItem", {"TableName": EVENTS.name, "Key": key})

    assert broken(good.watch.violations) == ["I9"]


def test_i9_an_entry_that_changed_unseen_is_found_in_the_end(good: Lived) -> None:
    item = items(good, EVENTS.name)[0]
    item["q"] = {"N": str(Decimal(item["q"]["N"]) + 1)}

    assert judged(good) == ["I9"]


def test_i10_no_call_for_one_tenant_names_another() -> None:
    lived = live(drawn(Kind.COUNTING, tenants=2))
    assert lived.violations == []
    key = {"pk": {"S": "8:tenant-15:key-1"}}
    lived.watch.serving["api#99"] = "tenant-0"
    lived.world.kernel.spawn(
        "api#99",
        lambda: lived.world.tables.execute("GetItem", {"TableName": "events", "Key": key}),
    )
    lived.world.kernel.run_until(lived.world.kernel.now + timedelta(seconds=1))

    (violation,) = lived.watch.violations
    assert violation.invariant == "I10"
    assert "serves tenant-0 and names tenant-1" in violation.sentence


def test_i11_no_number_is_stored_as_anything_but_text(good: Lived) -> None:
    items(good, SETTINGS.name)[0]["rate"] = {"N": 1.5}

    assert judged(good) == ["I11"]


def test_i11_no_value_has_more_digits_than_stripe_takes(good: Lived) -> None:
    put(good, BILLING.name, planned(good, delta="-1" + "0" * DIGITS_MAX))

    assert "I11" in broken(good.watch.violations)


@pytest.mark.parametrize("what", ["payload", "key"])
def test_i12_no_log_line_holds_a_payload_or_a_secret(good: Lived, what: str) -> None:
    secret = good.world.keys[good.world.tenants[0]]
    good.watch.logged.append(f"took {CANARY if what == 'payload' else secret} from somebody")

    assert judged(good) == ["I12"]


def test_i13_nothing_is_sent_for_ever(good: Lived) -> None:
    for _ in range(SENDS_MAX):
        send(good, an_event(good))

    (violation,) = good.watch.violations
    assert violation.invariant == "I13"
    assert f"{SENDS_MAX + 1} times" in violation.sentence


def test_i13_a_world_takes_no_more_steps_than_its_events_need(good: Lived) -> None:
    trace = good.world.kernel._trace
    trace += trace[-1:] * 100_000

    assert judged(good) == ["I13"]


def test_i14_nothing_is_planned_into_a_period_that_is_over(good: Lived) -> None:
    a_push(good)["planned_at"] = {"S": "2026-12-01T02:00:00.000000Z"}

    assert judged(good) == ["I14"]


# --- in the end -----------------------------------------------------------------------------------


def test_i15_every_client_has_its_answer(good: Lived) -> None:
    good.clients.copies[0].answers.clear()

    assert judged(good) == ["I15"]


def test_i16_stripe_holds_what_it_accepted(good: Lived) -> None:
    event = an_event(good)
    for stream in good.world.core.world.account().streams.values():
        stream[:] = [one for one in stream if one.number != event.number]

    (violation,) = judge(good)
    accepted = sum(one.accepted for one in good.watch.pushes.streams.values())
    assert violation.invariant == "I16"
    assert f"pushes of {accepted} were accepted" in violation.sentence
    assert f"books hold {accepted - event.value}" in violation.sentence


def test_i16_stripe_was_told_what_was_counted(good: Lived) -> None:
    for name, stream in good.watch.pushes.streams.items():
        good.watch.pushes.streams[name] = stream._replace(accepted=stream.accepted - 1)

    assert judged(good) == ["I16", "I19"]


def test_i17_every_copy_is_explained(good: Lived) -> None:
    copy = a_copy(good)
    copy.answers.append("duplicate")
    good.clients.copies.append(copy)

    (violation,) = judge(good)
    assert violation.invariant == "I17"
    assert copy.key in violation.sentence


def test_i18_nothing_waits_when_all_is_quiet(good: Lived) -> None:
    good.world.queue.send("{}", good.world.kernel.now)

    assert judged(good) == ["I18"]


def test_i19_what_stripe_gained_by_itself_must_be_named(good: Lived) -> None:
    event = replace(an_event(good), number=999, identifier="gained", foreign=True)
    good.world.core.world.record(EventReceived(DEFAULT_ACCOUNT, event))

    assert judged(good) == ["I19"]


def test_i20_the_ledger_comes_to_what_the_model_says(good: Lived) -> None:
    copy = good.clients.copies[0]
    never_counted = Correction(
        "adj_x", copy.tenant, copy.customer, copy.metric, copy.at, Decimal(7), Fate.APPROVED
    )
    good.people.done.corrections.append(never_counted)

    (violation,) = judge(good)
    held = sum((one.quantity for one in good.watch.ledger.entries.values()), Decimal(0))
    assert violation.invariant == "I20"
    assert f"the ledger comes to {held}, what was sent and taken to {held + 7}" in str(violation)


def lines_of(lived: Lived) -> list[Item]:
    """The lines of all invoices, as Stripe's books hold them."""
    invoices = lived.world.core.world.account().all(INVOICE).values()
    return [line for invoice in invoices for line in invoice["lines"]]


def test_i20_an_invoice_bills_what_stripe_was_told() -> None:
    # In some good worlds nobody is billed.
    worlds = (live(drawn(Kind.CLOSING, seed=seed)) for seed in range(1, 20))
    lived = next(one for one in worlds if lines_of(one))
    assert lived.violations == []
    line = lines_of(lived)[0]
    told = Decimal(line["quantity_decimal"])
    line["quantity_decimal"] = f"{told - 1}"

    billed = [one.sentence for one in judge(lived) if one.invariant == "I20"]
    ours, theirs = (f"{number.scaleb(-3)}" for number in (told, told - 1))
    assert len(billed) == 1
    assert f"the invoice bills {theirs}, Stripe was told {ours}" in billed[0]


# --- the model ------------------------------------------------------------------------------------

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
SECOND = datetime(2026, 11, 11, 12, tzinfo=UTC)
DAY = timedelta(days=1)
LINE = Line("t", "c", "m", FIRST)


def used(key: str, quantity: str, at: datetime, received_after: timedelta = DAY) -> Used:
    return Used("t", "c", "m", at, key, Decimal(quantity), at + received_after)


EVENTS_OF_TWO_PERIODS = (
    used("a", "2.5", FIRST),
    used("b", "7", FIRST + DAY),
    used("z", "1", FIRST + DAY),
    used("d", "4", SECOND - DAY, received_after=3 * DAY),
    used("e", "3", SECOND),
)


def modelled(aggregation: str, *, held: bool, approved: frozenset[tuple[str, str]]) -> list[Any]:
    correction = ("t", "c", "m", SECOND + DAY, Decimal("-0.5"))
    books = Books(EVENTS_OF_TWO_PERIODS, approved, [correction], {("t", "c"): [FIRST, SECOND]})
    metrics = frozenset({"m"} if held else ())
    found = totals(books, {"m": aggregation}, metrics, 2 * DAY)
    return [str(found[LINE]), str(found[LINE._replace(start=SECOND)])]


@pytest.mark.parametrize(
    ("aggregation", "first", "second"),
    [
        ("sum", "14.5", "2.5"),
        ("count", "4", "0.5"),
        ("max", "7", "2.5"),
        ("last", "4", "2.5"),
    ],
)
def test_the_model_adds_up_each_period(aggregation: str, first: str, second: str) -> None:
    assert modelled(aggregation, held=False, approved=frozenset()) == [first, second]


def test_the_model_leaves_late_events_out_until_they_are_approved() -> None:
    approved = frozenset({("t", "d")})

    assert modelled("sum", held=True, approved=frozenset())[0] == "10.5"
    assert modelled("last", held=True, approved=frozenset())[0] == "1"  # `z` is after `b`.
    assert modelled("sum", held=True, approved=approved)[0] == "14.5"
