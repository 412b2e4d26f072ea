"""Idempotency keys: the first answer of a POST is kept and given again.

v1 keeps for a day what an execution answered, an error too (a 500 above all); what was refused
before anything began (401, 429, 409, wrong parameters) is not kept. v2 keeps successes only, for 30
days: a failed call is executed again.
"""

from datetime import timedelta
from hashlib import blake2b
from itertools import takewhile
from urllib.parse import parse_qsl

from local.stripe import refusals, v2
from local.stripe.state import DAY, Account, AnswerForgotten, StoredAnswer, World
from local.stripe.wire import Request

OK = 200
KEY_MAX = 255
MEMORY: timedelta = DAY
MEMORY_OF_V2: timedelta = 30 * DAY


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
    if v2.is_v2(request.path):
        params = v2.canonical(request)
    else:
        params = repr(sorted(parse_qsl(request.form, keep_blank_values=True)))
    return blake2b(f"{request.path} {params}".encode(), digest_size=16).hexdigest()


def earlier_answer(
    world: World, account: Account, key: str, request: Request
) -> StoredAnswer | None:
    """The answer that was already given to a key, None when this is its first use.

    Raises:
        RefusedError: the first use is still being answered (409), or had other parameters.
    """
    if in_flight_name(account, key) in world.in_flight:
        raise refusals.key_in_use(key)
    of_v2 = v2.is_v2(request.path)
    _forget_old(world, account, of_v2=of_v2)
    stored = _answers(account, of_v2=of_v2).get(key)
    if stored is None:
        return None
    if stored.fingerprint != fingerprint(request):
        raise refusals.key_reused(key)
    return stored


def _answers(account: Account, *, of_v2: bool) -> dict[str, StoredAnswer]:
    return account.answers_of_v2 if of_v2 else account.answers


def _forget_old(world: World, account: Account, *, of_v2: bool) -> None:
    oldest_kept = world.clock.now() - (MEMORY_OF_V2 if of_v2 else MEMORY)
    answers = _answers(account, of_v2=of_v2)
    aged = takewhile(lambda pair: pair[1].at <= oldest_kept, answers.items())
    for key, _ in list(aged):
        world.record(AnswerForgotten(account.id, key, of_v2))


def is_kept(request: Request, status: int) -> bool:
    """Whether the answer of an execution is given again."""
    return status == OK or not v2.is_v2(request.path)


def in_flight_name(account: Account, key: str) -> tuple[str, str, str]:
    """What is busy while a key's request is being answered."""
    return (account.id, "idempotency key", key)
