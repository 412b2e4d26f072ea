"""The many texts of one thing: numbers, instants, names and JSON values as clients spell them.

Each strategy draws texts that mean exactly what it was given, written without the product's help.
"""

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

quantities = st.builds(
    lambda digits, exponent: Decimal(digits).scaleb(exponent),
    st.integers(1, 10**27 - 1),
    st.integers(-12, 0),
).filter(lambda number: number < 10**15)
"""All that an event may carry: up to 15 integer digits and 12 decimals."""


def of_number(number: Decimal) -> st.SearchStrategy[str]:
    """JSON texts of one number."""
    plain = format(number, "f")
    padded = plain + ("" if "." in plain else ".") + "0"
    exponents = [f"{format(number.scaleb(-shift), 'f')}e{shift}" for shift in (-3, 0, 2, 5)]
    signed = f"{format(number.scaleb(-4), 'f')}e+04"
    every = [plain, padded, padded + "00", *exponents, *map(str.upper, exponents), signed]
    return st.sampled_from(every)


@st.composite
def of_instant(draw: st.DrawFn, instant: datetime) -> str:
    """RFC 3339 texts of one instant: in any offset, with more or fewer digits of its second."""
    minutes = draw(st.integers(-14 * 60, 14 * 60))
    local = instant.astimezone(timezone(timedelta(minutes=minutes)))
    whole = local.replace(tzinfo=None).isoformat(draw(st.sampled_from("Tt ")), "seconds")
    digits = f"{local.microsecond:06d}"
    fraction = draw(st.sampled_from([digits.rstrip("0"), digits, f"{digits}000"]))
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    zulu = ["Z", "z", "-00:00"] if minutes == 0 else []
    offset = draw(st.sampled_from([f"{sign}{hours:02d}:{rest:02d}", *zulu]))
    return whole + (f".{fraction}" if fraction else "") + offset


@st.composite
def of_text(draw: st.DrawFn, text: str) -> str:
    """JSON texts of one string: each character as it is, or escaped in one way or another."""
    return '"' + "".join(draw(st.sampled_from(_of_character(one))) for one in text) + '"'


def _of_character(character: str) -> list[str]:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    pairs = [units[at : at + 4] for at in range(0, len(units), 4)]
    escaped = "".join(f"\\u{unit}" for unit in pairs)
    raised = "".join(f"\\u{unit.upper()}" for unit in pairs)
    return [json.dumps(character, ensure_ascii=False)[1:-1], escaped, raised]


@st.composite
def of_json(draw: st.DrawFn, value: Any) -> str:
    """JSON texts of one value: members in any order, blanks anywhere, numbers in any form."""
    blank = draw(st.sampled_from(["", "", " ", "\n\t"]))
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return draw(of_text(value))
        case int() | Decimal():
            return draw(of_number(Decimal(value)))
        case list():
            return f"[{blank}" + f",{blank}".join(draw(of_json(one)) for one in value) + "]"
    names = draw(st.permutations(sorted(value)))
    members = (f"{draw(of_text(name))}{blank}:{draw(of_json(value[name]))}" for name in names)
    return "{" + blank + ",".join(members) + "}"
