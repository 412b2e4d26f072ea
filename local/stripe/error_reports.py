"""Error reports: what became of meter events that were answered 200 and cannot count.

Errors are found in windows of ten seconds. Each window with errors ends in one thin event per
meter, and in one for all event names without a meter. Its samples are few, and may be none.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from local.stripe import thin_events, v2
from local.stripe.state import Account, Rejection, RejectionsReported, World
from local.stripe.wire import Json

WINDOW_S = 10
REPORT = "v1.billing.meter.error_report_triggered"
NO_METER = "v1.billing.meter.no_meter_found"


def catch_up(world: World, account: Account, now: datetime) -> None:
    """Report the errors of every window that has ended."""
    open_from = int(now.timestamp()) // WINDOW_S * WINDOW_S
    _report(world, account, [one for one in _unreported(account) if _window(one) < open_from])


def report_all(world: World, account: Account) -> None:
    """Report whatever was found, as if every window had ended."""
    _report(world, account, _unreported(account))


def _unreported(account: Account) -> list[Rejection]:
    """They come in the order of receipt, so that the new ones are the last."""
    found: list[Rejection] = []
    for rejection in reversed(account.rejections):
        if rejection.number <= account.reported:
            break
        found.append(rejection)
    return found[::-1]


def _window(rejection: Rejection) -> int:
    return int(rejection.at.timestamp()) // WINDOW_S * WINDOW_S


def _report(world: World, account: Account, rejections: list[Rejection]) -> None:
    if not rejections:
        return
    grouped: dict[tuple[int, str | None], list[Rejection]] = defaultdict(list)
    for rejection in rejections:
        grouped[_window(rejection), rejection.meter].append(rejection)
    for (start, meter), found in grouped.items():
        _emit(world, account, start, meter, found)
    world.record(RejectionsReported(account.id, rejections[-1].number))


def _emit(
    world: World, account: Account, start: int, meter: str | None, found: list[Rejection]
) -> None:
    end = start + WINDOW_S
    kind = NO_METER if meter is None else REPORT
    url = f"/v1/billing/meters/{meter}"
    related = None if meter is None else {"id": meter, "type": "billing.meter", "url": url}
    data = _data(found, start, end, samples=world.settings.report_samples)
    thin_events.emit(world, account, kind, data, datetime.fromtimestamp(end, UTC), related=related)


def _data(found: list[Rejection], start: int, end: int, *, samples: int) -> Json:
    by_code: dict[str, list[Rejection]] = defaultdict(list)
    for rejection in found:
        by_code[rejection.code].append(rejection)
    count = len(found)
    return {
        "developer_message_summary": (
            f"There {'is 1 invalid event' if count == 1 else f'are {count} invalid events'}"
        ),
        "reason": {
            "error_count": count,
            "error_types": [
                {
                    "code": code,
                    "error_count": len(alike),
                    "sample_errors": _samples(alike[:samples]),
                }
                for code, alike in sorted(by_code.items())
            ],
        },
        "validation_end": v2.written(end),
        "validation_start": v2.written(start),
    }


def _samples(rejections: Iterable[Rejection]) -> list[Json]:
    return [
        {
            "error_message": rejection.message,
            # Stripe names the request's idempotency key here; a CSV upload, say, has none.
            "request": {"identifier": rejection.idempotency_key or rejection.identifier},
        }
        for rejection in rejections
    ]
