"""Writes `docs/permissions.md`: the table of permissions for people.

python -m infra.permission_page
"""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

from infra.functions import FUNCTIONS, Function
from infra.permissions import (
    BucketResource,
    Everything,
    ExportResource,
    IndexResource,
    ObjectsResource,
    OwnLogs,
    Permission,
    QueueResource,
    Resource,
    SecretResource,
    StreamResource,
    TableResource,
    statements_of,
)

_KINDS: dict[type[Resource], str] = {
    TableResource: "table",
    IndexResource: "index",
    StreamResource: "stream of table",
    ExportResource: "exports of table",
    QueueResource: "queue",
    SecretResource: "secret",
    BucketResource: "bucket",
}
PATH = Path(__file__).parents[1] / "docs/permissions.md"
_HEAD = """# What each function may do

One role for each function, with the actions below and no others: no managed policies, no wildcards
in actions, no grants by the CDK, which are wider. The table is `infra/permissions.py`; this page is
made from it by `python -m infra.permission_page`, and a test compares the two.

Another test (`tests/infra/test_permissions.py`) records what functions do: every call of DynamoDB
and every secret, in simulated worlds of every kind, on every route of the API, and at every
function's own door. What was used and is not granted fails it, for it would be an `AccessDenied` in
production; so does what is granted and never used. Only what stands in brackets is not recorded,
with the reason why.

## How IAM sees a call

- A transaction needs the action of each of its parts (`PutItem`, `UpdateItem`, `DeleteItem`,
  `ConditionCheckItem`), not one of its own.
- A PartiQL statement needs its verb: `PartiQLInsert`, `PartiQLUpdate`. To hold `PutItem` does not
  help, and to hold `PartiQLInsert` does not let one overwrite: DynamoDB refuses an INSERT of a key
  that exists.
- `BatchGetItem` and `BatchWriteItem` are actions of their own.
- A query of an index needs the index; the table is not asked.
- So that the ledger is append only is IAM's word, not only our code's: whoever adds to it holds
  `PartiQLInsert` alone, and nobody may put, update or delete an item there.

## What IAM cannot say

- **Tenants share tables.** `dynamodb:LeadingKeys` could narrow a role to one tenant's keys; a role
  is a function's here, and a function serves all tenants. What keeps them apart is the key of every
  item and the tests that send every route every other tenant's names.
- **Some rows of a table and not others.** The writer may put any item into `billing`, notices too.
- **Which bucket an export goes to** is said by the grant on the bucket's objects: an export into
  another bucket is refused by S3, not by DynamoDB.
- **What a secret is used for.** Who may read Stripe's key may do all that the key may: give it a
  restricted one.

Roles that are no function's: EventBridge Scheduler's may invoke the scheduled functions and put
what it could not deliver into its dead letters; API Gateway, the partner's event bus and the log
groups are let in by resource policies. The CDK makes these.
"""


def page() -> str:
    """The whole page."""
    return "\n".join([_HEAD, *(line for one in FUNCTIONS for line in _section(one))])


def _section(function: Function) -> Iterator[str]:
    yield f"## {function.name}\n"
    yield f"{function.purpose}\n"
    yield "| On | Actions | What for |"
    yield "|---|---|---|"
    for permission in statements_of(function):
        yield f"| {_named(permission.on)} | {_actions(permission)} | {_reason(permission)} |"
    yield ""


def _actions(permission: Permission) -> str:
    """The names; the service is told by the resource, except where it is not."""
    return ", ".join(f"`{action}`" for action in permission.actions)


def _reason(permission: Permission) -> str:
    said = permission.why
    if permission.only is not None:
        said += f" Only {permission.only}."
    if permission.unrecorded is not None:
        said += f" ({permission.unrecorded})"
    return said


def _named(resource: Resource) -> str:
    match resource:
        case OwnLogs():
            return "its own log group"
        case Everything(why):
            return f"`*`: {why}"
        case ObjectsResource(bucket, prefix):
            return f"objects `{bucket}/{prefix}*`"
    kind = _KINDS[type(resource)]
    name = "/".join(getattr(resource, one.name) for one in fields(resource))
    return f"{kind} `{name}`"


if __name__ == "__main__":
    PATH.write_text(page())
