"""Test clocks: customers with a time of their own, which stands until it is advanced.

While a clock advances, everything that is due on it happens in the order of time. It arrives after
the setting `clock_advance_s` on the stand-in's own clock; until then nothing has happened yet.
"""

from local.stripe import billing_cycle, customers, events, params, refusals
from local.stripe.call import Call
from local.stripe.lists import page
from local.stripe.params import Fields, Text
from local.stripe.state import CUSTOMER, PRICE, SUBSCRIPTION, TEST_CLOCK
from local.stripe.wire import Json

DELETES_AFTER_S = 7 * 86_400
INTERVALS_MAX = 2
YEARS_MAX = 2

CREATE = Fields(
    {"frozen_time": params.INSTANT, "name": Text(300)},
    required=("frozen_time",),
    not_yet=("customer",),
)
ADVANCE = Fields({"frozen_time": params.INSTANT}, required=("frozen_time",))
LIST = Fields(params.LIST_FIELDS)


def create(call: Call) -> Json:
    """A new clock that stands."""
    clock = {
        "id": call.new_id("clock_"),
        "object": TEST_CLOCK,
        # On the stand-in's own clock; answers leave it out.
        "arrives_at": None,
        "created": call.now,
        "deletes_after": call.now + DELETES_AFTER_S,
        "frozen_time": call.params["frozen_time"],
        "livemode": False,
        "name": call.params.get("name"),
        "status": "ready",
        "status_details": {},
    }
    return shown(_told(call, "created", call.put(clock)))


def shown(clock: Json) -> Json:
    """A clock as answers show it."""
    return {name: value for name, value in clock.items() if name != "arrives_at"}


def _told(call: Call, what: str, clock: Json) -> Json:
    kind = f"test_helpers.test_clock.{what}"
    events.emit(call.world, call.account, kind, shown(clock), call.now)
    return clock


def retrieve(call: Call) -> Json:
    """One clock."""
    return shown(call.targeted(TEST_CLOCK))


def list_all(call: Call) -> Json:
    """The account's clocks, newest first."""
    found = (shown(clock) for clock in call.account.newest_first(TEST_CLOCK))
    return page(found, call.params, call.path)


def advance(call: Call) -> Json:
    """The clock starts on its way to a later instant.

    Raises:
        RefusedError: it is on its way already, or the instant is not after the present one, or
            farther than two intervals of its shortest subscription (two years without any).
    """
    clock, to = call.targeted(TEST_CLOCK), call.params["frozen_time"]
    _check_ready(clock)
    if to <= clock["frozen_time"]:
        message = f"A test clock only runs forward: {to} is not after {clock['frozen_time']}."
        raise refusals.RefusedError(message, param="frozen_time")
    farthest = _farthest(call, clock)
    if to > farthest:
        message = (
            f"The test clock can be advanced to {farthest} at most: two intervals of its shortest "
            f"subscription, or two years without any; {to} is beyond that."
        )
        raise refusals.RefusedError(message, param="frozen_time")
    on_its_way = {
        "arrives_at": call.now + int(call.world.settings.clock_advance_s),
        "status": "advancing",
        "status_details": {"advancing": {"target_frozen_time": to}},
    }
    return shown(_told(call, "advancing", call.put(clock | on_its_way)))


def _check_ready(clock: Json) -> None:
    if clock["status"] != "ready":
        message = f"The test clock {clock['id']} is advancing; wait until it is ready."
        raise refusals.RefusedError(message)


def _farthest(call: Call, clock: Json) -> int:
    now = clock["frozen_time"]
    cycles = [billing_cycle.Cycle(now, "year", YEARS_MAX // INTERVALS_MAX, _day(now))]
    for subscription in call.account.all(SUBSCRIPTION).values():
        if subscription["test_clock"] == clock["id"] and subscription["status"] != "canceled":
            for item in call.account.items(subscription["id"]):
                recurring = call.account.all(PRICE)[item["price"]]["recurring"]
                interval, count = recurring["interval"], recurring["interval_count"]
                cycles.append(billing_cycle.Cycle(now, interval, count, _day(now)))
    return min(cycle.boundary(INTERVALS_MAX) for cycle in cycles)


def _day(instant: int) -> int:
    return billing_cycle.moment(instant).day


def arrived(call: Call, clock: Json) -> Json:
    """The clock stands at the instant it was advanced to."""
    to = clock["status_details"]["advancing"]["target_frozen_time"]
    ready = {"arrives_at": None, "frozen_time": to, "status": "ready", "status_details": {}}
    return _told(call, "ready", call.put(clock | ready))


def delete(call: Call) -> Json:
    """The clock is gone, and its customers with it."""
    clock = call.targeted(TEST_CLOCK)
    _check_ready(clock)
    for customer in list(call.account.newest_first(CUSTOMER)):
        if customer["test_clock"] == clock["id"]:
            customers.gone(call.on_clock_of(customer), customer)
    stub = call.put({"id": clock["id"], "object": TEST_CLOCK, "deleted": True})
    _told(call, "deleted", clock)
    return stub
