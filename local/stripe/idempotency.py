"""Idempotency keys: the first answer of a v1 POST is kept for a day and given again.

Kept is what an execution answered, an error too (a 500 above all); what was refused before anything
began (401, 429, 409, wrong parameters) is not.
"""

from datetime import timedelta
from hashlib import blake2b
from itertools import takewhile
from urllib.parse import parse_qsl

from local.stripe import refusals
from local.stripe.state import DAY, Account, AnswerForgotten, StoredAnswer, World
from local.stripe.wire import Request

KEY_MAX = 255
MEMORY: timedelta = DAY


def key_of(request: Request) -> str | None:
    """The request's idempotency key; only POSTs have one.

    Raises:
        RefusedError: it is longer than 255 characters.
    """
    key = request.headers.get("idempotency-key")
    if not key or request.method != "POST":
        return None
    if len(key) > KEY_MAX:
        message = f"Idempotency keys can be at most {KEY_MAX} characters long."
        raise refusals.RefusedError(message, before_execution=True)
    return key


def fingerprint(request: Request) -> str:
    """What must be the same when a key is used again: path and parameters, in any order."""
    pairs = sorted(parse_qsl(request.form, keep_blank_values=True))
    return blake2b(repr((request.path, pairs)).encode(), digest_size=16).hexdigest()


def earlier_answer(
    world: World, account: Account, key: str, request: Request
) -> StoredAnswer | None:
    """The answer that was already given to a key, None when this is its first use.

    Raises:
        RefusedError: the first use is still being answered (409), or had other parameters.
    """
    if in_flight_name(account, key) in world.in_flight:
        raise refusals.key_in_use(key)
    _forget_old(world, account)
    stored = account.answers.get(key)
    if stored is None:
        return None
    if stored.fingerprint != fingerprint(request):
        raise refusals.key_reused(key)
    return stored


def _forget_old(world: World, account: Account) -> None:
    oldest_kept = world.clock.now() - MEMORY
    aged = takewhile(lambda pair: pair[1].at <= oldest_kept, account.answers.items())
    for key, _ in list(aged):
        world.record(AnswerForgotten(account.id, key))


def in_flight_name(account: Account, key: str) -> tuple[str, str, str]:
    """What is busy while a key's request is being answered."""
    return (account.id, "idempotency key", key)
