"""The scripted calls that every DynamoDB must answer alike: memory, DynamoDB Local and moto.

A script is a list of steps, each an operation with its parameters, over tables that are empty when
it begins. It states no answers: the services are compared with one another.
"""

from dataclasses import dataclass
from typing import Any

type Step = tuple[str, dict[str, Any]]
type Values = dict[str, Any]

EVENTS, BILLING, QUARANTINE = "events", "billing", "quarantine"


@dataclass(frozen=True, slots=True)
class Script:
    """Calls one after the other."""

    name: str
    steps: list[Step]


def s(text: str) -> Values:
    return {"S": text}


def n(text: str) -> Values:
    return {"N": text}


ITEM: Values = {
    "pk": s("p"),
    "sk": s("s"),
    "version": n("7"),
    "h": s("position-5"),
    "code": {"B": b"\x00\xff"},
    "held": {"BOOL": True},
    "nothing": {"NULL": True},
    "b": {"M": {"2026": {"M": {"n": n("3"), "s": n("1.50")}}}},
    "parts": {"L": [s("a"), n("2.0")]},
}
KEY: Values = {"pk": s("p"), "sk": s("s")}


def put(item: Values, table: Any = BILLING, **more: Any) -> Step:
    return "PutItem", {"TableName": table, "Item": item} | more


def get(key: Values = KEY, table: str = BILLING, **more: Any) -> Step:
    return "GetItem", {"TableName": table, "Key": key, "ConsistentRead": True} | more


def update(expression: str, values: Values | None = None, key: Values = KEY, **more: Any) -> Step:
    params = {"TableName": BILLING, "Key": key, "UpdateExpression": expression} | more
    return "UpdateItem", params | ({"ExpressionAttributeValues": values} if values else {})


def delete(key: Values = KEY, **more: Any) -> Step:
    return "DeleteItem", {"TableName": BILLING, "Key": key} | more


def query(condition: str, values: Values, table: str = BILLING, **more: Any) -> Step:
    params = {"TableName": table, "KeyConditionExpression": condition}
    return "Query", params | {"ExpressionAttributeValues": values} | more


def transact(*actions: Values, **more: Any) -> Step:
    return "TransactWriteItems", {"TransactItems": list(actions)} | more


def of_billing(kind: str, **params: Any) -> Values:
    return {kind: {"TableName": BILLING} | params}


def statements(*several: tuple[str, list[Values]], **more: Any) -> Step:
    asked = [{"Statement": text, "Parameters": given} | more for text, given in several]
    return "BatchExecuteStatement", {"Statements": asked}


def scan(**more: Any) -> Step:
    return "Scan", {"TableName": BILLING, "ConsistentRead": True} | more


def at(pk: str, sk: str, **attributes: Values) -> Values:
    return {"pk": s(pk), "sk": s(sk)} | attributes


ALL_OLD: Values = {"ReturnValuesOnConditionCheckFailure": "ALL_OLD"}

# --- numbers --------------------------------------------------------------------------------------

NUMBERS = (
    "0 -0 0.0 1 -1 +5 007 1.10 1.0 100 1E3 1e-3 0.000001 -12.5000 12345678901234.123457 1E+20 1E+37"
    " 1E+38 1E+100 9.9E+125 1E-100 1E-130 1E-131 1E+126 123456789012345678901234567890.12345678"
    " 12345678901234567890123456789012345678 123456789012345678901234567890123456789"
    " 1234567890123456789012345678901234567800000 0.1234567890123456789012345678901234567891"
    " .5 5. abc 1_000 NaN Infinity"
)
numbers = [
    Script(f"the number {text}", [put(ITEM | {"version": n(text)}), get()])
    for text in [*NUMBERS.split(), "", " 1"]
]

# --- conditions -----------------------------------------------------------------------------------

CONDITIONS: dict[str, Values] = {
    "attribute_not_exists(pk)": {},
    "attribute_exists(pk)": {},
    "attribute_exists(fv)": {},
    "attribute_not_exists(fv)": {},
    "attribute_exists(b.n)": {},
    "version = :v": {":v": n("7")},
    "version = :old": {":old": n("7.00")},
    "version = :other": {":other": n("8")},
    "version = :text": {":text": s("7")},
    "version <> :v": {":v": n("7")},
    "version <> :text": {":text": s("7")},
    "fv <> :v": {":v": n("7")},
    "fv = :v": {":v": n("7")},
    "version < :v": {":v": n("10")},
    "version <= :v": {":v": n("7.0")},
    "version > :v": {":v": n("-10")},
    "version >= :v": {":v": n("70")},
    "version < :text": {":text": s("9")},
    "h < :t": {":t": s("position-50")},
    "h > :t": {":t": s("position-10")},
    "h >= :t": {":t": s("Position-5")},
    "code = :b": {":b": {"B": b"\x00\xff"}},
    "code > :b": {":b": {"B": b"\x00\xfe"}},
    "held = :yes": {":yes": {"BOOL": True}},
    "held = :no": {":no": {"BOOL": False}},
    "nothing = :null": {":null": {"NULL": True}},
    "held < :yes": {":yes": {"BOOL": True}},
    "fv < :v": {":v": n("7")},
    "h = version": {},
    "parts[0] = :a": {":a": s("a")},
    "parts[1] = :two": {":two": n("2")},
    "parts[5] = :a": {":a": s("a")},
    "parts = :list": {":list": {"L": [s("a"), n("2")]}},
    "b = :map": {":map": {"M": {"2026": {"M": {"s": n("1.5"), "n": n("3")}}}}},
    "version BETWEEN :a AND :b": {":a": n("6.9"), ":b": n("7")},
    "h BETWEEN :a AND :b": {":a": s("q"), ":b": s("r")},
    "version IN (:a, :b)": {":a": n("1"), ":b": n("7.0")},
    "version IN (:a)": {":a": s("7")},
    "begins_with(h, :p)": {":p": s("position")},
    "begins_with(h, :q)": {":q": s("sition")},
    "begins_with(version, :p)": {":p": s("7")},
    "begins_with(fv, :p)": {":p": s("7")},
    "contains(h, :p)": {":p": s("sition")},
    "contains(parts, :two)": {":two": n("2.00")},
    "contains(parts, :b)": {":b": s("b")},
    "attribute_type(version, :n)": {":n": s("N")},
    "attribute_type(b, :s)": {":s": s("S")},
    "size(h) = :ten": {":ten": n("10")},
    "size(parts) > :two": {":two": n("2")},
    "size(code) = :two": {":two": n("2")},
    "size(fv) = :two": {":two": n("2")},
    "NOT version = :v": {":v": n("7")},
    "NOT fv = :v": {":v": n("7")},
    "not (held = :yes and version = :v)": {":yes": {"BOOL": True}, ":v": n("7")},
    "attribute_not_exists(pk) OR version = :v": {":v": n("7")},
    "attribute_not_exists(pk) OR version = :v AND h = :h": {":v": n("7"), ":h": s("")},
    "(attribute_exists(pk) OR version = :v) AND h = :h": {":v": n("7"), ":h": s("")},
    "h = :position AND attribute_not_exists(fv)": {":position": s("position-5")},
}
conditions = [
    Script(
        f"the condition {text}",
        [
            put(at("p", "s", v=n("1")), ConditionExpression=text, **ALL_OLD, **given),
            put(ITEM),
            put(at("p", "s", v=n("2")), ConditionExpression=text, **ALL_OLD, **given),
            get(),
        ],
    )
    for text, values in CONDITIONS.items()
    for given in [{"ExpressionAttributeValues": values} if values else {}]
]

REFUSED_CONDITIONS: dict[str, Values] = {
    "status = :v": {":v": n("1")},
    "version = :v AND": {":v": n("1")},
    "version == :v": {":v": n("1")},
    "version": {},
    "(version = :v": {":v": n("1")},
    "version = :v": {":v": n("1"), ":unused": n("2")},
    "version = :missing": {":v": n("1")},
    "version = :nothing": {},
    "": {},
    "Attribute_Exists(pk)": {},
}
refused_conditions = [
    Script(
        f"the refused condition {text} of {sorted(values)}",
        [
            put(ITEM),
            put(ITEM, ConditionExpression=text, **given),
        ],
    )
    for text, values in REFUSED_CONDITIONS.items()
    for given in [{"ExpressionAttributeValues": values} if values else {}]
    if not text.startswith("Attribute_")
]
refused_conditions += [
    Script(
        "a name that is not used",
        [
            put(
                ITEM,
                ConditionExpression="attribute_exists(pk)",
                ExpressionAttributeNames={"#a": "a"},
            ),
        ],
    ),
    Script("a name that is not given", [put(ITEM, ConditionExpression="attribute_exists(#a)")]),
    Script(
        "values without an expression",
        [
            put(ITEM, ExpressionAttributeValues={":v": n("1")}),
        ],
    ),
    Script(
        "a name that stands for a reserved word",
        [
            put(ITEM | {"status": s("open")}),
            put(
                ITEM,
                ConditionExpression="#status = :open",
                ExpressionAttributeNames={"#status": "status"},
                ExpressionAttributeValues={":open": s("open")},
            ),
            get(),
        ],
    ),
]

# --- items ----------------------------------------------------------------------------------------

items = [
    Script("an item of every type comes back", [put(ITEM), get()]),
    Script("what does not stand there", [get()]),
    Script("an item in the place of another", [put(ITEM), put(at("p", "s", v=n("1"))), get()]),
    Script(
        "the former item comes back",
        [
            put(ITEM, ReturnValues="ALL_OLD"),
            put(at("p", "s"), ReturnValues="ALL_OLD"),
        ],
    ),
    Script(
        "some attributes alone",
        [
            put(ITEM),
            get(ProjectionExpression="pk, #v, b", ExpressionAttributeNames={"#v": "version"}),
            get(ProjectionExpression="fv"),
        ],
    ),
    Script(
        "deleting",
        [
            delete(),
            put(ITEM),
            delete(ReturnValues="ALL_OLD"),
            get(),
            delete(ReturnValues="ALL_OLD"),
        ],
    ),
    Script(
        "deleting under a condition",
        [
            put(ITEM),
            delete(
                ConditionExpression="version = :v",
                ExpressionAttributeValues={":v": n("1")},
                **ALL_OLD,
            ),
            delete(ConditionExpression="version = :v", ExpressionAttributeValues={":v": n("7")}),
            get(),
        ],
    ),
    Script(
        "a refused condition that does not ask what stands there",
        [
            put(ITEM),
            put(ITEM, ConditionExpression="attribute_not_exists(pk)"),
        ],
    ),
    Script(
        "a condition on what does not stand there",
        [
            put(ITEM, ConditionExpression="attribute_exists(pk)", **ALL_OLD),
            get(),
        ],
    ),
    Script(
        "the table has no sort key",
        [
            put({"pk": s("p"), "h": {"B": b"1"}}, EVENTS),
            get({"pk": s("p")}, EVENTS),
        ],
    ),
    Script("an item without its sort key", [put({"pk": s("p")})]),
    Script("an item without its partition key", [put({"sk": s("p")})]),
    Script(
        "a key of the wrong type", [put(ITEM | {"sk": n("1")}), get({"pk": s("p"), "sk": n("1")})]
    ),
    Script("an empty key", [put(at("", "s")), put(at("p", "")), get(at("p", ""))]),
    Script("a key with too much in it", [get(KEY | {"v": n("1")})]),
    Script("a key with too little in it", [get({"pk": s("p")}), delete({"pk": s("p")})]),
    Script(
        "keys as long as they may be",
        [
            put(at("p" * 2048, "s" * 1024)),
            put(at("é" * 1024, "é" * 512)),
            get(at("p" * 2048, "s" * 1024), ProjectionExpression="fv"),
        ],
    ),
    Script("a partition key too long", [put(at("p" * 2049, "s"))]),
    Script("a sort key too long", [put(at("p", "s" * 1025))]),
    Script("a sort key too long in UTF-8", [put(at("p", "é" * 513))]),
    Script(
        "empty texts and bytes beside the key",
        [
            put(ITEM | {"h": s(""), "code": {"B": b""}, "b": {"M": {}}, "parts": {"L": []}}),
            get(),
        ],
    ),
    Script("the largest item", [put(at("p", "s", h=s("x" * (400 * 1024 - 7)))), get()]),
    Script("an item too large", [put(at("p", "s", h=s("x" * (400 * 1024 - 5))))]),
    Script(
        "an item updated to be too large",
        [
            put(at("p", "s", h=s("x" * 300_000))),
            update("SET a = :x", {":x": s("x" * 99_000)}),
            update("SET a = :x", {":x": s("x" * 111_000)}),
        ],
    ),
    Script("a value with two types", [put(ITEM | {"v": {"S": "a", "N": "1"}})]),
    Script("a table that does not exist", [put(ITEM, "nowhere"), get(table="nowhere")]),
    Script(
        "an index key that is no text",
        [
            put(at("p", "s", gp=n("1"), gs=s("x")), QUARANTINE),
            put(at("p", "s", gp=s(""), gs=s("x")), QUARANTINE),
            put(at("p", "s", gp=s("x"), gs=s("s" * 1025)), QUARANTINE),
        ],
    ),
]

# --- updates --------------------------------------------------------------------------------------

NEW: Values = {"ReturnValues": "UPDATED_NEW"}
updates = [
    Script("an update makes the item", [update("SET a = :a", {":a": n("1.0")}, **NEW), get()]),
    Script(
        "several attributes at once",
        [
            put(ITEM),
            update("SET fv = :v, h = :h REMOVE held", {":v": n("1"), ":h": s("x")}),
            get(),
        ],
    ),
    Script(
        "adding to a number",
        [
            update(
                "ADD #n :one", {":one": n("1")}, ExpressionAttributeNames={"#n": "number"}, **NEW
            ),
            update(
                "ADD #n :x", {":x": n("2.50")}, ExpressionAttributeNames={"#n": "number"}, **NEW
            ),
            update(
                "ADD #n :x", {":x": n("-3.5")}, ExpressionAttributeNames={"#n": "number"}, **NEW
            ),
        ],
    ),
    Script("adding to what is no number", [put(ITEM), update("ADD h :one", {":one": n("1")})]),
    Script("adding what is no number", [put(ITEM), update("ADD version :t", {":t": s("1")})]),
    Script(
        "arithmetic",
        [
            put(ITEM),
            update("SET version = version + :x, v = version - :x", {":x": n("0.5")}, **NEW),
            get(),
        ],
    ),
    Script(
        "arithmetic on what is not there", [put(ITEM), update("SET v = v + :x", {":x": n("1")})]
    ),
    Script("arithmetic on a text", [put(ITEM), update("SET h = h + :x", {":x": n("1")})]),
    Script(
        "a sum of 39 digits",
        [
            put(ITEM | {"version": n("9" * 38)}),
            update("ADD version :x", {":x": n("0.5")}),
            get(),
        ],
    ),
    Script(
        "a number where there was none",
        [
            update(
                "SET lease_owner = :o, fence = if_not_exists(fence, :zero) + :one",
                {":o": s("me"), ":zero": n("0"), ":one": n("1")},
                **NEW,
            )
            for _ in range(2)
        ],
    ),
    Script(
        "the first value stays",
        [
            update("SET c = if_not_exists(c, :now)", {":now": s("1")}),
            update("SET c = if_not_exists(c, :now)", {":now": s("2")}),
            get(),
        ],
    ),
    Script("one attribute from another", [put(ITEM), update("SET a = h, h = version"), get()]),
    Script("an attribute from one that is not there", [put(ITEM), update("SET a = fv")]),
    Script("removing what is not there", [put(ITEM), update("REMOVE fv", **NEW), get()]),
    Script("removing from what does not stand there", [update("REMOVE fv"), get()]),
    Script(
        "an update of nothing",
        [
            ("UpdateItem", {"TableName": BILLING, "Key": KEY, "ReturnValues": "ALL_NEW"}),
            get(),
        ],
    ),
    Script(
        "the same attribute twice",
        [
            put(ITEM),
            update("SET a = :a, a = :a", {":a": n("1")}),
            update("SET a = :a REMOVE a", {":a": n("1")}),
        ],
    ),
    Script("the same clause twice", [put(ITEM), update("SET a = :a SET c = :a", {":a": n("1")})]),
    Script(
        "changing the key", [put(ITEM), update("SET sk = :a", {":a": s("x")}), update("REMOVE pk")]
    ),
    Script(
        "no syntax of an update",
        [
            update("SET a", {":a": n("1")}),
            update("CHANGE a = :a", {":a": n("1")}),
            update(""),
        ],
    ),
    Script("a reserved word in an update", [update("SET owner = :a", {":a": n("1")})]),
    Script(
        "a map as a value",
        [
            update("SET looked = :m", {":m": {"M": {"at": s("1"), "n": n("1.0")}}}, **NEW),
            get(),
        ],
    ),
    *[
        Script(
            f"what an update answers: {which}",
            [
                put(ITEM),
                update("SET version = :v, fv = :v REMOVE h", {":v": n("9")}, ReturnValues=which),
                update("SET version = :v", {":v": n("9")}, at("q", "s"), ReturnValues=which),
            ],
        )
        for which in ("NONE", "ALL_OLD", "ALL_NEW", "UPDATED_OLD", "UPDATED_NEW")
    ],
    *[
        Script(
            f"an update under the condition {text}",
            [
                update(
                    "SET lease_until = :u",
                    {":u": s("2"), ":now": s(now)},
                    ConditionExpression=text,
                    **ALL_OLD,
                    **NEW,
                )
                for now in ("1", "1", "2", "3")
            ],
        )
        for text in ("attribute_not_exists(pk) OR lease_until <= :now", "lease_until < :now")
    ],
]

# --- transactions ---------------------------------------------------------------------------------

PUT_NEW = of_billing(
    "Put", Item=at("t", "1", v=n("1")), ConditionExpression="attribute_not_exists(pk)"
)
CAS = of_billing(
    "Update",
    Key=KEY,
    UpdateExpression="SET fv = :new, u = :now",
    ConditionExpression="version = :before AND attribute_not_exists(fv)",
    ExpressionAttributeValues={":new": n("2"), ":now": s("now"), ":before": n("7")},
)
CHECK = of_billing(
    "ConditionCheck",
    Key=at("c", "c"),
    ConditionExpression="attribute_not_exists(pk) OR recuts = :recuts",
    ExpressionAttributeValues={":recuts": s("0")},
)
DELETE = of_billing("Delete", Key=at("d", "d"))


def answering(action: Values) -> Values:
    return {kind: content | ALL_OLD for kind, content in action.items()}


LOOK = [get(), get(at("t", "1")), get(at("c", "c")), get(at("d", "d"))]
transactions = [
    Script(
        "all four kinds",
        [
            put(ITEM),
            put(at("d", "d")),
            transact(PUT_NEW, CAS, CHECK, DELETE),
            *LOOK,
        ],
    ),
    Script(
        "one condition fails and nothing is done",
        [
            put(ITEM),
            put(at("c", "c", recuts=s("1"))),
            put(at("d", "d")),
            transact(PUT_NEW, CAS, answering(CHECK), DELETE),
            *LOOK,
        ],
    ),
    Script(
        "several conditions fail",
        [
            put(at("t", "1", x=n("1.0"))),
            transact(answering(PUT_NEW), answering(CAS), CHECK),
            *LOOK,
        ],
    ),
    Script(
        "a failed condition that hands nothing back", [put(at("t", "1")), transact(PUT_NEW, CHECK)]
    ),
    Script(
        "the same again fails", [put(ITEM), transact(PUT_NEW, CAS), transact(PUT_NEW, CAS), *LOOK]
    ),
    Script(
        "the same token is done once",
        [
            put(ITEM),
            transact(
                of_billing(
                    "Update",
                    Key=KEY,
                    UpdateExpression="ADD version :one",
                    ExpressionAttributeValues={":one": n("1")},
                ),
                DELETE,
                ClientRequestToken="a-token-of-ours-1",
            ),
            transact(
                of_billing(
                    "Update",
                    Key=KEY,
                    UpdateExpression="ADD version :one",
                    ExpressionAttributeValues={":one": n("1")},
                ),
                DELETE,
                ClientRequestToken="a-token-of-ours-1",
            ),
            get(),
        ],
    ),
    Script(
        "another token is another time",
        [
            put(ITEM),
            *[
                transact(
                    of_billing(
                        "Update",
                        Key=KEY,
                        UpdateExpression="ADD version :one",
                        ExpressionAttributeValues={":one": n("1")},
                    ),
                    ClientRequestToken=f"a-token-of-ours-{number}",
                )
                for number in (2, 3)
            ],
            get(),
        ],
    ),
    Script(
        "a token with other parameters",
        [
            transact(PUT_NEW, ClientRequestToken="a-token-of-ours-4"),
            transact(DELETE, ClientRequestToken="a-token-of-ours-4"),
        ],
    ),
    Script(
        "a token whose transaction failed",
        [
            put(at("t", "1")),
            transact(PUT_NEW, CHECK, ClientRequestToken="a-token-of-ours-5"),
            delete(at("t", "1")),
            transact(PUT_NEW, CHECK, ClientRequestToken="a-token-of-ours-5"),
            get(at("t", "1")),
        ],
    ),
    Script(
        "two actions on one item",
        [transact(PUT_NEW, of_billing("Delete", Key=at("t", "1"))), *LOOK],
    ),
    Script(
        "an action on a table that does not exist",
        [
            transact(PUT_NEW, {"Put": {"TableName": "nowhere", "Item": ITEM}}),
            *LOOK,
        ],
    ),
    Script(
        "100 actions",
        [
            transact(*[of_billing("Put", Item=at("m", str(one))) for one in range(100)]),
            scan(Select="COUNT"),
        ],
    ),
    Script(
        "101 actions",
        [transact(*[of_billing("Put", Item=at("m", str(one))) for one in range(101)])],
    ),
    Script(
        "across tables",
        [
            transact(
                PUT_NEW,
                {"Put": {"TableName": QUARANTINE, "Item": at("q", "q", gp=s("t"), gs=s("1"))}},
            ),
            get(at("q", "q"), QUARANTINE),
            get(at("t", "1")),
        ],
    ),
    Script(
        "an action without its key",
        [transact(PUT_NEW, of_billing("Put", Item={"pk": s("x")})), *LOOK],
    ),
    Script(
        "an update in a transaction makes the item",
        [
            transact(
                PUT_NEW,
                of_billing(
                    "Update",
                    Key=KEY,
                    UpdateExpression="SET created_at = if_not_exists(created_at, :now)",
                    ExpressionAttributeValues={":now": s("now")},
                ),
            ),
            get(),
        ],
    ),
    Script(
        "only a check",
        [put(at("c", "c", recuts=s("1"))), transact(CHECK), transact(answering(CHECK))],
    ),
    Script(
        "a value that is not used in a transaction",
        [
            transact(
                PUT_NEW,
                of_billing(
                    "Put",
                    Item=ITEM,
                    ConditionExpression="attribute_exists(pk)",
                    ExpressionAttributeValues={":v": n("1")},
                ),
            ),
        ],
    ),
]

# --- PartiQL --------------------------------------------------------------------------------------

INSERT = f"INSERT INTO \"{BILLING}\" VALUE {{'pk': ?, 'sk': ?, 'h': ?, 'u': ?, 'b': ?}}"
INSERT_EVENT = f"INSERT INTO \"{EVENTS}\" VALUE {{'pk': ?, 'h': ?, 'q': ?}}"
UPDATE = (
    f'UPDATE "{BILLING}" SET h = ? SET u = ? SET b = ? '
    "WHERE pk = ? AND sk = ? AND h = ? AND attribute_not_exists(fv)"
)
RAISE = f'UPDATE "{BILLING}" SET newest = ? WHERE pk = ? AND sk = ? AND newest < ?'
TALLY: Values = {"M": {"2026": {"M": {"n": n("3"), "s": n("1.50")}}}}


def lane(sk: str, h: str) -> list[Values]:
    return [s("l"), s(sk), s(h), s("now"), TALLY]


def step(sk: str, h: str, before: str) -> list[Values]:
    return [s(h), s("later"), {"M": {}}, s("l"), s(sk), s(before)]


def statement_script(name: str, *steps: Step) -> Script:
    return Script(name, list(steps))


LANES = [get(at("l", "1")), get(at("l", "2"))]
partiql = [
    statement_script("an insert", statements((INSERT, lane("1", "5"))), *LANES),
    statement_script(
        "several inserts",
        statements(*[(INSERT, lane(str(one), "5")) for one in range(25)]),
        scan(Select="COUNT"),
    ),
    statement_script(
        "26 statements", statements(*[(INSERT, lane(str(one), "5")) for one in range(26)])
    ),
    statement_script(
        "an insert where something stands",
        statements((INSERT, lane("1", "5"))),
        statements((INSERT, lane("1", "6")), (INSERT, lane("2", "6")), **ALL_OLD),
        *LANES,
    ),
    statement_script(
        # DynamoDB Local does the first one and then refuses both; nothing of ours relies on it.
        "the same item twice in a batch",
        statements((INSERT, lane("1", "5")), (INSERT, lane("1", "5"))),
    ),
    statement_script(
        "an insert of numbers",
        statements((INSERT_EVENT, [s("e"), {"B": b"1"}, n("1.500")])),
        get({"pk": s("e")}, EVENTS),
    ),
    statement_script(
        "an update from the right position",
        statements((INSERT, lane("1", "5"))),
        statements((UPDATE, step("1", "6", "5")), **ALL_OLD),
        *LANES,
    ),
    statement_script(
        "an update from another position hands back what stands there",
        statements((INSERT, lane("1", "5")), (INSERT, lane("2", "5"))),
        statements((UPDATE, step("1", "6", "4")), (UPDATE, step("2", "6", "5")), **ALL_OLD),
        *LANES,
    ),
    statement_script(
        "an update that is refused and hands nothing back",
        statements((INSERT, lane("1", "5"))),
        statements((UPDATE, step("1", "6", "4"))),
        *LANES,
    ),
    statement_script(
        "an update of a lane that was folded",
        put(at("l", "1", h=s("5"), fv=n("1"))),
        statements((UPDATE, step("1", "6", "5")), **ALL_OLD),
        *LANES,
    ),
    statement_script(
        "an update of what does not stand there",
        statements((UPDATE, step("1", "6", "5")), **ALL_OLD),
        *LANES,
    ),
    statement_script(
        "a bound that is raised",
        put(at("l", "1", newest=s("2026-01"))),
        statements((RAISE, [s("2026-02"), s("l"), s("1"), s("2026-02")])),
        statements((RAISE, [s("2026-01"), s("l"), s("1"), s("2026-01")])),
        *LANES,
    ),
    statement_script(
        "an update and an insert of one batch",
        statements((INSERT, lane("1", "5"))),
        statements((INSERT, lane("2", "5")), (UPDATE, step("1", "6", "5"))),
        *LANES,
    ),
    statement_script(
        "an insert with an empty key",
        statements((INSERT, lane("", "5")), (INSERT, lane("2", "5"))),
        *LANES,
    ),
    statement_script(
        "an insert with a key too long",
        statements((INSERT, lane("s" * 1025, "5")), (INSERT, lane("2", "5"))),
        *LANES,
    ),
    statement_script(
        "an insert of too many digits",
        statements(
            (INSERT_EVENT, [s("e"), {"B": b"1"}, n("1" * 39)]),
            (INSERT_EVENT, [s("f"), {"B": b"1"}, n("1")]),
        ),
        get({"pk": s("e")}, EVENTS),
        get({"pk": s("f")}, EVENTS),
    ),
    statement_script(
        "too few parameters",
        statements((INSERT, lane("1", "5")[:4]), (INSERT, lane("2", "5"))),
        *LANES,
    ),
    statement_script(
        "a statement on a table that does not exist",
        statements((INSERT.replace(BILLING, "nowhere"), lane("1", "5")), (INSERT, lane("2", "5"))),
        *LANES,
    ),
]

# --- batches --------------------------------------------------------------------------------------


def batch_get(keys: list[Values], table: str = BILLING, **more: Any) -> Step:
    return "BatchGetItem", {"RequestItems": {table: {"Keys": keys, "ConsistentRead": True} | more}}


def batch_write(*requests: Values, table: str = BILLING) -> Step:
    return "BatchWriteItem", {"RequestItems": {table: list(requests)}}


def putting(item: Values) -> Values:
    return {"PutRequest": {"Item": item}}


def deleting(key: Values) -> Values:
    return {"DeleteRequest": {"Key": key}}


batches = [
    Script(
        "many items at once",
        [
            put(ITEM),
            put(at("p", "2")),
            batch_get([KEY, at("p", "2"), at("p", "3")]),
        ],
    ),
    Script("nothing of what is asked for", [batch_get([KEY])]),
    Script(
        "some attributes of many",
        [
            put(ITEM),
            put(at("p", "2", h=s("x"))),
            batch_get([KEY, at("p", "2")], ProjectionExpression="pk, sk, h"),
        ],
    ),
    Script("one key twice", [put(ITEM), batch_get([KEY, KEY])]),
    Script("100 keys", [put(ITEM), batch_get([at("p", str(one)) for one in range(99)] + [KEY])]),
    Script("101 keys", [batch_get([at("p", str(one)) for one in range(101)])]),
    Script("no keys", [("BatchGetItem", {"RequestItems": {}})]),
    Script(
        "keys of two tables",
        [
            put(ITEM),
            put(at("q", "q"), QUARANTINE),
            (
                "BatchGetItem",
                {
                    "RequestItems": {
                        BILLING: {"Keys": [KEY]},
                        QUARANTINE: {"Keys": [at("q", "q")]},
                    }
                },
            ),
        ],
    ),
    Script("a key that does not fit", [batch_get([{"pk": s("p")}])]),
    Script(
        "writing many at once",
        [
            put(ITEM),
            batch_write(putting(at("p", "2")), deleting(KEY), putting(at("p", "3", b=TALLY))),
            scan(),
        ],
    ),
    Script("deleting what is not there", [batch_write(deleting(KEY))]),
    Script("writing one item twice", [batch_write(putting(ITEM), deleting(KEY)), get()]),
    Script(
        "25 writes",
        [batch_write(*[putting(at("p", str(one))) for one in range(25)]), scan(Select="COUNT")],
    ),
    Script("26 writes", [batch_write(*[putting(at("p", str(one))) for one in range(26)])]),
    Script(
        "one of many that does not fit",
        [batch_write(putting(ITEM), putting({"pk": s("p")})), get()],
    ),
]

# --- queries and scans ----------------------------------------------------------------------------

ROWS = [
    at("p", text, m=s(f"{number % 2}"))
    for number, text in enumerate(["a", "aa", "b", "c#1", "c#2", "é", "𝄞", "\uffff"])
]
FILLED = [put(row) for row in [*ROWS, at("q", "a")]]
PK = {":pk": s("p")}
KEY_CONDITIONS: dict[str, Values] = {
    "pk = :pk": PK,
    "pk = :none": {":none": s("nobody")},
    "pk = :pk AND sk = :s": PK | {":s": s("b")},
    "sk = :s AND pk = :pk": PK | {":s": s("b")},
    "pk = :pk AND sk < :s": PK | {":s": s("b")},
    "pk = :pk AND sk <= :s": PK | {":s": s("b")},
    "pk = :pk AND sk > :s": PK | {":s": s("b")},
    "pk = :pk AND sk >= :s": PK | {":s": s("b")},
    "pk = :pk AND sk BETWEEN :a AND :b": PK | {":a": s("aa"), ":b": s("c#1")},
    "pk = :pk AND sk BETWEEN :b AND :a": PK | {":a": s("aa"), ":b": s("c#1")},
    "pk = :pk AND begins_with(sk, :s)": PK | {":s": s("c#")},
    "(pk = :pk) AND (sk = :s)": PK | {":s": s("b")},
    "pk = :pk AND sk <> :s": PK | {":s": s("b")},
    "pk = :pk OR sk = :s": PK | {":s": s("b")},
    "pk > :pk": PK,
    "sk = :pk": PK,
    "pk = :pk AND m = :s": PK | {":s": s("1")},
    "pk = :pk AND sk = :s AND sk = :s": PK | {":s": s("1")},
    "pk = :n": {":n": n("1")},
    "pk = :pk AND sk = :empty": PK | {":empty": s("")},
    "pk = :pk AND contains(sk, :s)": PK | {":s": s("1")},
}
BY_TENANT: Values = {"IndexName": "by_tenant"}
INDEXED = [
    put(at("x", str(number), gp=s("t"), gs=s(gs), v=n("1")), QUARANTINE)
    for number, gs in enumerate(["2", "1", "2", "3"])
] + [put(at("x", "none", gp=s("t")), QUARANTINE), put(at("x", "nor", gs=s("1")), QUARANTINE)]
T = {":t": s("t")}
MOVE = (
    "UpdateItem",
    {
        "TableName": QUARANTINE,
        "Key": at("x", "1"),
        "UpdateExpression": "SET gs = :s",
        "ExpressionAttributeValues": {":s": s("9")},
    },
)
LEAVE = (
    "UpdateItem",
    {"TableName": QUARANTINE, "Key": at("x", "3"), "UpdateExpression": "REMOVE gp"},
)
queries = [
    *[
        Script(f"the query {text}", [*FILLED, query(text, values, ConsistentRead=True)])
        for text, values in KEY_CONDITIONS.items()
    ],
    Script("the other way round", [*FILLED, query("pk = :pk", PK, ScanIndexForward=False)]),
    Script("the last one", [*FILLED, query("pk = :pk", PK, ScanIndexForward=False, Limit=1)]),
    Script(
        "as many as there are",
        [*FILLED, query("pk = :pk", PK, Limit=8), query("pk = :pk", PK, Limit=9)],
    ),
    Script("from after an item", [*FILLED, query("pk = :pk", PK, ExclusiveStartKey=at("p", "b"))]),
    Script(
        "from after what is not there",
        [*FILLED, query("pk = :pk", PK, ExclusiveStartKey=at("p", "bb"), Limit=2)],
    ),
    Script(
        "back from before an item",
        [
            *FILLED,
            query("pk = :pk", PK, ExclusiveStartKey=at("p", "b"), ScanIndexForward=False),
        ],
    ),
    Script(
        "filtered", [*FILLED, query("pk = :pk", PK | {":m": s("1")}, FilterExpression="m = :m")]
    ),
    Script(
        "filtered, with a limit",
        [
            *FILLED,
            query("pk = :pk", PK | {":m": s("1")}, FilterExpression="m = :m", Limit=3),
        ],
    ),
    Script(
        "a filter on the key",
        [*FILLED, query("pk = :pk", PK | {":m": s("1")}, FilterExpression="sk = :m")],
    ),
    Script("counted", [*FILLED, query("pk = :pk", PK, Select="COUNT")]),
    Script("some attributes", [*FILLED, query("pk = :pk", PK, ProjectionExpression="m")]),
    Script(
        "an index",
        [
            *INDEXED,
            query(
                "gp = :t",
                T,
                QUARANTINE,
                **BY_TENANT,
                ScanIndexForward=True,
                ProjectionExpression="gs",
            ),
        ],
    ),
    Script(
        "an index backwards, the first two",
        [
            *INDEXED,
            query("gp = :t", T, QUARANTINE, **BY_TENANT, ScanIndexForward=False, Limit=1),
        ],
    ),
    Script(
        "an index between",
        [
            *INDEXED,
            query(
                "gp = :t AND gs BETWEEN :a AND :b",
                T | {":a": s("1"), ":b": s("1")},
                QUARANTINE,
                **BY_TENANT,
            ),
        ],
    ),
    Script(
        "an index after changes",
        [
            *INDEXED,
            MOVE,
            LEAVE,
            query("gp = :t", T, QUARANTINE, **BY_TENANT, ProjectionExpression="gs"),
            ("DeleteItem", {"TableName": QUARANTINE, "Key": at("x", "1")}),
            query("gp = :t", T, QUARANTINE, **BY_TENANT, ProjectionExpression="gs"),
        ],
    ),
    Script(
        "an index from after an item",
        [
            *INDEXED,
            query(
                "gp = :t",
                T,
                QUARANTINE,
                **BY_TENANT,
                ExclusiveStartKey=at("x", "1", gp=s("t"), gs=s("1")),
                ProjectionExpression="gs",
            ),
        ],
    ),
    Script(
        "an index, consistently",
        [query("gp = :t", T, QUARANTINE, **BY_TENANT, ConsistentRead=True)],
    ),
    Script(
        "an index that does not exist", [query("gp = :t", T, QUARANTINE, IndexName="by_nobody")]
    ),
    Script("a scan", [*FILLED, scan()]),
    Script(
        "a scan that is filtered",
        [
            *FILLED,
            scan(
                FilterExpression="#m = :m",
                ExpressionAttributeNames={"#m": "m"},
                ExpressionAttributeValues={":m": s("1")},
            ),
            scan(FilterExpression="attribute_exists(h)"),
        ],
    ),
    Script("a scan that is counted", [*FILLED, scan(Select="COUNT")]),
    Script(
        "some attributes of a scan",
        [
            *FILLED,
            scan(ProjectionExpression="#m, #pk", ExpressionAttributeNames={"#m": "m", "#pk": "pk"}),
        ],
    ),
]

SCRIPTS: tuple[Script, ...] = (
    *numbers,
    *conditions,
    *refused_conditions,
    *items,
    *updates,
    *transactions,
    *partiql,
    *batches,
    *queries,
)
