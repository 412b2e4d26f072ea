"""All spellings of one event are one event; two events that differ at all are two."""

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering import times
from metering.event import UsageEvent, canonical_json, parse
from metering.ingest_request import read_json
from metering.quantity import canonical

names = st.text("ab|:#1é😀", min_size=1, max_size=4)
leaves = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(max_size=5)
jsons = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
contents = st.fixed_dictionaries(
    {
        "metric": names,
        "customerRef": names,
        "quantity": st.decimals("0.001", 1000, places=3),
        "ts": st.datetimes(datetime(2020, 1, 1), datetime(2020, 1, 3), timezones=st.just(UTC)),  # noqa: DTZ001
        "resourceId": st.none() | names,
        "meta": st.dictionaries(names, jsons, max_size=3),
    }
)


def taken(body: str) -> UsageEvent:
    event = parse(read_json(body.encode()), tenant=None, header_key=None)
    assert isinstance(event, UsageEvent), event
    return event


def plainly(content: dict[str, Any]) -> str:
    """The JSON of an event, spelled in the plainest way."""
    quantity, ts = str(content["quantity"]), times.to_text(content["ts"])
    return json.dumps(content | {"tenantId": "demo", "quantity": quantity, "ts": ts})


@st.composite
def otherwise(draw: st.DrawFn, content: dict[str, Any]) -> str:
    """The JSON of the same event, spelled in some other way."""
    offset = timezone(timedelta(minutes=draw(st.integers(-14 * 60, 14 * 60))))
    ts = content["ts"].astimezone(offset).isoformat(timespec="microseconds")
    number = format(content["quantity"], "f") + "0" * draw(st.integers(0, 3))
    shift = draw(st.integers(-4, 4))
    number = draw(st.sampled_from([number, f"{content['quantity'].scaleb(-shift):f}e{shift}"]))
    spelled = content | {"tenantId": "demo", "quantity": "Q", "ts": ts, "source": "sdk"}
    spelled |= {"meta": draw(shuffled(content["meta"])), "surplus": draw(leaves)}
    if content["resourceId"] is None:
        spelled["resourceId"] = draw(st.sampled_from([None, ""]))
    order = draw(st.permutations(sorted(spelled)))
    body = json.dumps({name: spelled[name] for name in order}, ensure_ascii=draw(st.booleans()))
    return body.replace('"Q"', draw(st.sampled_from([number, f'"{number}"'])), 1)


@st.composite
def shuffled(draw: st.DrawFn, value: Any) -> Any:
    """The same JSON value with its objects' members in another order."""
    if isinstance(value, dict):
        return {name: draw(shuffled(value[name])) for name in draw(st.permutations(sorted(value)))}
    if isinstance(value, list):
        return [draw(shuffled(one)) for one in value]
    return value


@given(st.data(), contents)
def test_every_spelling_of_an_event_has_the_same_key_and_content(
    data: st.DataObject, content: dict[str, Any]
) -> None:
    one, other = taken(plainly(content)), taken(data.draw(otherwise(content)))

    assert one.content_hash() == other.content_hash()
    assert one.key == other.key


@given(contents, contents)
def test_two_events_have_the_same_content_exactly_when_nothing_differs(
    one: dict[str, Any], other: dict[str, Any]
) -> None:
    is_same = same(one) == same(other)
    first, second = taken(plainly(one)), taken(plainly(other))

    assert (first.content_hash() == second.content_hash()) == is_same
    assert (first.key == second.key) == is_same


@given(st.data(), contents)
def test_changing_any_one_field_makes_another_event(
    data: st.DataObject, content: dict[str, Any]
) -> None:
    field = data.draw(st.sampled_from(sorted(content)))
    other = content | {field: data.draw(contents)[field]}

    same_hash = taken(plainly(content)).content_hash() == taken(plainly(other)).content_hash()

    assert same_hash == (same(content) == same(other))


def same(content: dict[str, Any]) -> str:
    """A text that is equal for two contents exactly when they mean the same."""
    exact = content | {"quantity": canonical(content["quantity"]), "ts": str(content["ts"])}
    return json.dumps(exact, sort_keys=True)


@given(jsons)
def test_canonical_json_means_what_it_was_made_of(value: Any) -> None:
    text = canonical_json(value)

    assert json.loads(text, parse_float=Decimal) == value
    assert canonical_json(read_json(text.encode())) == text
