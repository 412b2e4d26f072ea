"""Where moto does not answer as DynamoDB does; by the names of scripts (`*`: all that begin so).

Our own in-memory DynamoDB is compared with moto only where moto is right. That the list is still
true is tested too: what moto has learnt since must be struck out.
"""

from fnmatch import fnmatchcase

MOTO_GAPS: dict[str, str] = {
    "the number -0": "keeps numbers as they were written",
    "the number 1E+126": "knows no range of numbers",
    "the number 123456789012345678901234567890123456789": "takes more than 38 digits",
    "the number 0.1234567890123456789012345678901234567891": "takes more than 38 digits",
    "the number 1_000": "takes what Python's Decimal takes",
    "a sum of 39 digits": "takes more than 38 digits",
    "the condition version < :text": "fails on comparing two types",
    "the condition nothing = :null": "finds what is not there equal to NULL",
    "the condition h = version": "finds two attributes that are not there equal",
    "the condition held < :yes": "orders what has no order",
    "the condition size(*": "cannot measure what is not there",
    "the refused condition version*": "fails on what it cannot parse, and on unknown values",
    "the refused condition (version*": "fails on what it cannot parse",
    "the refused condition  of []": "takes an empty condition",
    "a name that is not given": "fails",
    "values without an expression": "takes them",
    "a key of the wrong type": "reads by it",
    "the largest item": "measures items otherwise",
    "a value with two types": "takes it",
    "an index key that is no text": "takes it",
    "an update makes the item": "counts the key among the updated attributes",
    "adding to a number": "counts the key among the updated attributes",
    "a number where there was none": "counts the key among the updated attributes",
    "a map as a value": "counts the key among the updated attributes",
    "what an update answers: UPDATED_NEW": "counts the key among the updated attributes",
    "an update under the condition attribute_not_exists*": "counts the key among them",
    "removing what is not there": "answers an empty map of attributes",
    "an update of nothing": "fails",
    "the same token is done once": "keeps no tokens",
    "a token with other parameters": "keeps no tokens",
    "an action without its key": "answers a reason that DynamoDB does not have",
    "a value that is not used in a transaction": "takes it",
    "an insert*": "cannot take parameters in an INSERT",
    "several inserts": "cannot take parameters in an INSERT",
    "26 statements": "cannot take parameters in an INSERT",
    "the same item twice in a batch": "cannot take parameters in an INSERT",
    "an update from*": "cannot take parameters in an INSERT",
    "an update that is refused*": "cannot take parameters in an INSERT",
    "an update of a lane*": "fails on an UPDATE of several SETs",
    "an update of what does not stand there*": "fails on an UPDATE of several SETs",
    "an update and an insert*": "cannot take parameters in an INSERT",
    "a bound that is raised": "knows no comparison in WHERE",
    "too few parameters": "cannot take parameters in an INSERT",
    "a statement on a table*": "cannot take parameters in an INSERT",
    "no keys": "answers nothing",
    "writing one item twice": "does both",
    "26 writes": "takes any number",
    "one of many that does not fit": "does those before it",
    "the query pk = :pk AND sk BETWEEN :b AND :a": "finds nothing",
    "the query pk = :pk AND sk <> :s": "fails",
    "the query pk = :pk OR sk = :s": "fails",
    "the query pk = :pk AND sk = :s AND sk = :s": "looks at the first two",
    "the query pk = :n": "finds nothing",
    "as many as there are": "ends where the limit does",
    "a filter on the key": "filters by it",
    "an index that does not exist": "calls it a resource",
}


def gap_of(script: str) -> str | None:
    """What moto gets wrong in a script, by its name."""
    return next((why for name, why in MOTO_GAPS.items() if fnmatchcase(script, name)), None)
