"""`/v1/admin/api-keys`: a tenant's API keys, made and ended by its own people."""

from datetime import timedelta
from decimal import Decimal
from typing import Annotated, Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.event_handler.openapi.params import Body as FromBody
from aws_lambda_powertools.event_handler.openapi.params import Path, Query
from pydantic import AfterValidator, Field

from functions.api import call
from functions.api.answers import answer
from functions.api.fields import Body, Instant, TenantQuery, When, printable
from functions.api.routing import new_router, serve
from metering import wiring
from metering.auth import DEFAULT_SCOPES, IssuedKey, KeyRecord, Scope
from metering.key_admin import OVERLAP, OVERLAP_MAX

router = new_router()

WRITE = (Scope.PROJECT_WRITE,)
_HOUR = timedelta(hours=1)
KeyPath = Annotated[str, Path(min_length=1, max_length=100)]


class NewKey(Body):
    """An API key to be made."""

    tenant_id: str | None = None
    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(printable)] = (
        "New API Key"
    )
    """For people."""
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=len(Scope))] = Field(
        sorted(DEFAULT_SCOPES)
    )
    """None that the caller's own key lacks; `project:write` holds every `...:write`, and
    `project:read` every `...:read`."""
    expires_at: Instant | None = None
    """No later than the caller's own key ends; left out, when that one does."""


class Rotation(Body):
    """How a key is to be replaced."""

    tenant_id: str | None = None
    overlap_hours: Annotated[Decimal, Field(ge=0, le=OVERLAP_MAX // _HOUR)] = Decimal(
        OVERLAP // _HOUR
    )
    """How long the old key stays valid at most."""
    expires_at: Instant | None = None
    """When the new key ends; left out, when the old one would have."""


class Revocation(Body):
    """Nothing needs to be said."""

    tenant_id: str | None = None


class KeyState(Body):
    """A key as it stands, without its secret, which nobody keeps."""

    id: str
    """The key's public half, in front of its dot."""
    tenant_id: str
    name: str
    prefix: str
    """The same as `id`."""
    scopes: list[str]
    active: bool
    """Whether it opens anything now."""
    created_at: When
    created_by: str
    """The id of the key that asked for it, or `operator`."""
    expires_at: When | None
    retires_at: When | None
    """When it ends because another key has taken its place."""
    revoked_at: When | None


class NewKeyAnswer(Body):
    """A key and, this once, its secret."""

    api_key: str
    """The whole key: write it down, nobody can show it again."""
    key: KeyState


class KeyAnswer(Body):
    """A key as it stands."""

    key: KeyState


class KeyPage(Body):
    """Part of a tenant's keys, by id."""

    keys: list[KeyState]
    next_after: str | None
    """What to send as `after` for the next part; null at the end."""


@serve(
    router,
    "POST /v1/admin/api-keys",
    NewKeyAnswer,
    scopes=WRITE,
    tag="admin",
    status=201,
    may={409},
)
def create_api_key(
    sent: Annotated[NewKey, FromBody()], tenant_id: TenantQuery = None
) -> Response[Any]:
    """Make an API key; its secret is answered this once.

    403 when it would be allowed more, or last longer, than the key that asks.
    """
    current = call.current()
    issued = wiring.current().key_admin.create(
        current.owner(),
        current.caller,
        name=sent.name,
        scopes=sent.scopes,
        expires_at=sent.expires_at,
    )
    return answer(_new(issued), 201)


@serve(router, "GET /v1/admin/api-keys", KeyPage, scopes=WRITE, tag="admin")
def list_api_keys(
    tenant_id: TenantQuery = None,
    after: Annotated[str | None, Query(min_length=1, max_length=100)] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Response[Any]:
    """The tenant's API keys, ended ones too, without their secrets."""
    found = wiring.current().key_admin.page(call.current().owner(), after, limit)
    next_after = found[-1].prefix if len(found) == limit else None
    return answer(KeyPage(keys=[_state(one) for one in found], next_after=next_after))


@serve(
    router,
    "POST /v1/admin/api-keys/<key_id>/rotate",
    NewKeyAnswer,
    scopes=WRITE,
    tag="admin",
    may={409},
)
def rotate_api_key(
    key_id: KeyPath,
    sent: Annotated[Rotation | None, FromBody()] = None,
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """Put a new key with the same scopes in a key's place; the old one ends after the overlap.

    Who lost the answer rotates again, best with another key: the old one does not last longer by
    that, and what it makes itself from then on ends with it.
    """
    current, sent = call.current(), sent or Rotation()
    issued = wiring.current().key_admin.rotate(
        current.owner(),
        current.caller,
        key_id,
        overlap=timedelta(seconds=round(sent.overlap_hours * 3600)),
        expires_at=sent.expires_at,
    )
    return answer(_new(issued))


@serve(
    router,
    "POST /v1/admin/api-keys/<key_id>/revoke",
    KeyAnswer,
    scopes=WRITE,
    tag="admin",
    may={409},
)
def revoke_api_key(
    key_id: KeyPath,
    sent: Annotated[Revocation | None, FromBody()] = None,
    tenant_id: TenantQuery = None,
) -> Response[Any]:
    """End a key for good.

    It is refused everywhere within the deployment's settings cache: 30 seconds, unless
    `SETTINGS_CACHE_S` says otherwise.
    """
    current = call.current()
    revoked = wiring.current().key_admin.revoke(current.owner(), current.caller, key_id)
    return answer(KeyAnswer(key=_state(revoked)))


def _new(issued: IssuedKey) -> NewKeyAnswer:
    return NewKeyAnswer(api_key=issued.text, key=_state(issued.key))


def _state(key: KeyRecord) -> KeyState:
    return KeyState(
        id=key.prefix,
        tenant_id=key.tenant,
        name=key.name,
        prefix=key.prefix,
        scopes=sorted(key.scopes),
        active=key.is_usable(wiring.current().clock.now()),
        created_at=key.created_at,
        created_by=key.created_by,
        expires_at=key.expires_at,
        retires_at=key.retires_at,
        revoked_at=key.revoked_at,
    )
