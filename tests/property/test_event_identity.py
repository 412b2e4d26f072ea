"""All spellings of one event are one event; two events that differ at all are two."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from metering import times
from metering.adjustment import decision_key, held_id, revert_key
from metering.errors import Refusal
from metering.event import UsageEvent, canonical_json, key_from_header
from metering.ingest_request import read_json
from metering.names import IdempotencyKey
from metering.sent_event import parse
from tests.books import an_adjustment
from tests.builders import NOON
from tests.property.spellings import of_instant, of_json, of_number

names = st.text("ab|:#1é😀", min_size=1, max_size=4)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.decimals(-1000, 1000, places=3)
    | st.text(st.characters(codec="utf-8"), max_size=5)
)
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
SNAKE = {"tenantId": "tenant_id", "customerRef": "customer_ref", "resourceId": "resource_id"}


def taken(body: str) -> UsageEvent:
    event = parse(read_json(body.encode()), tenant=None, header_key=None)
    assert isinstance(event, UsageEvent), event
    return event


def plainly(content: dict[str, Any]) -> str:
    """The JSON of an event, spelled in the plainest way."""
    quantity, ts = str(content["quantity"]), times.to_text(content["ts"])
    rest = content | {"tenantId": "demo", "quantity": quantity, "ts": ts}
    members = (f'"{name}":{_plain_json(value)}' for name, value in rest.items())
    return "{" + ",".join(members) + "}"


def _plain_json(value: Any) -> str:
    match value:
        case Decimal():
            return format(value, "f")
        case dict():
            members = (f"{json.dumps(name)}:{_plain_json(one)}" for name, one in value.items())
            return "{" + ",".join(members) + "}"
        case list():
            return "[" + ",".join(map(_plain_json, value)) + "]"
    return json.dumps(value)


@st.composite
def otherwise(draw: st.DrawFn, content: dict[str, Any]) -> str:
    """The JSON of the same event, spelled in some other way."""
    absent = [name for name in ("resourceId", "meta") if not content[name] and draw(st.booleans())]
    said = {name: value for name, value in content.items() if name not in absent}
    said |= {"tenantId": "demo", "source": "sdk", "surplus": draw(leaves)}
    if content["resourceId"] is None and "resourceId" in said:
        said["resourceId"] = draw(st.sampled_from([None, ""]))
    texts = {name: draw(of_json(said[name])) for name in said if name not in {"ts", "quantity"}}
    texts["ts"] = json.dumps(draw(of_instant(content["ts"])))
    number = draw(of_number(content["quantity"]))
    texts["quantity"] = draw(st.sampled_from([number, f'"{number}"']))
    names = {name: draw(st.sampled_from([name, SNAKE.get(name, name)])) for name in texts}
    order = draw(st.permutations(sorted(texts)))
    return "{" + ",".join(f'"{names[name]}":{texts[name]}' for name in order) + "}"


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
    return repr(_comparable(content))


def _comparable(value: Any) -> Any:
    """Lists, sorted members and fractions: what is equal in JSON is equal here."""
    match value:
        case bool() | None | str():
            return value
        case int() | Decimal():
            return Fraction(value), "number"
        case dict():
            return [(name, _comparable(value[name])) for name in sorted(value)], "members"
        case list():
            return [_comparable(one) for one in value]
    return str(value)


@given(jsons)
def test_canonical_json_means_what_it_was_made_of(value: Any) -> None:
    text = canonical_json(value)

    assert json.loads(text, parse_float=Decimal) == value
    assert canonical_json(read_json(text.encode())) == text


@given(st.tuples(names, st.integers(0, 999)), st.tuples(names, st.integers(0, 999)))
def test_a_headers_key_names_one_place_of_one_request(
    one: tuple[str, int], other: tuple[str, int]
) -> None:
    assert (key_from_header(*one) == key_from_header(*other)) == (one == other)


@given(names, names, names)
def test_decisions_about_two_adjustments_never_share_a_key(one: str, other: str, sent: str) -> None:
    held = [an_adjustment("1", id=held_id(IdempotencyKey(key))) for key in sorted({one, other})]
    decisions = [*held, an_adjustment("1", id=f"adj_{sent}")]

    keys = [key for about in decisions for key in (decision_key(about), revert_key(about))]

    assert len(set(keys)) == len(keys)
    body = plainly({"metric": "m", "customerRef": "c", "quantity": Decimal(1), "ts": NOON})
    for key in keys:
        refused = parse(
            read_json(body.encode()) | {"idempotencyKey": key + sent}, tenant=None, header_key=None
        )
        assert isinstance(refused, Refusal)
