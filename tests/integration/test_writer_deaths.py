"""Writers that die between any two of their calls, and two that live at once.

A process that dies at a read leaves behind what it left by the effect before that read; so a death
before the first effect and one after each of them are all that there are.
"""

from collections import Counter
from datetime import datetime
from decimal import Decimal
from threading import Barrier, Thread

from metering.names import CustomerRef
from metering.period import NEVER
from metering.period_close import PeriodClose, PeriodState
from tests.billing_world import HOUR, MINUTE, NOVEMBER, BillingWorld
from tests.builders import DEMO, an_entry
from tests.mortal import EFFECT, Death, NoLease, write_and_die

SENDING = "/v1/billing/meter_events"
EFFECTS_MAX = 100
AFTER_NOVEMBER = NOVEMBER.end + 36 * HOUR


class Streams:
    """A stream in each situation, round after round: new, open, carried into, closing.

    Each round has a number, which is in every quantity, so that no two errors cancel out. What is
    open was left so by the writer that died in the round before.
    """

    def __init__(self, world: BillingWorld) -> None:
        self.world = world
        world.map()
        customers = [f"cus_new{n}" for n in range(EFFECTS_MAX)]
        world.stand_in.add_customers(["cus_open", "cus_late", "cus_end", *customers])
        self.expected: Counter[tuple[str, str]] = Counter()
        self.rounds = 0
        self._use("cus_late", "1")
        world.write()
        world.set_time(AFTER_NOVEMBER)
        ending = PeriodClose(
            DEMO,
            CustomerRef("cus_end"),
            NOVEMBER,
            PeriodState.CLOSING,
            began_at=NOVEMBER.end,
            finalizes_at=NEVER,
            is_held=True,
        )
        assert world.wiring.period_closes.store(ending)

    def use(self) -> None:
        """Usage in every situation, before the run that is to die."""
        n = self.rounds = self.rounds + 1
        world = self.world
        world.advance(2 * MINUTE)
        self._use("cus_open", f"{10 * n}")
        self._use(f"cus_new{n}", f"{n}")
        self._use("cus_late", f"{n}", at=NOVEMBER.end - MINUTE)
        self._use("cus_end", f"{n}", at=NOVEMBER.end - MINUTE)
        self._use("cus_end", f"{n + 2}")

    def _use(self, customer: str, quantity: str, *, at: datetime | None = None) -> None:
        now = self.world.clock.now()
        self.world.use_all([an_entry(quantity, customer=customer, at=at or now, received_at=now)])
        self.expected["api_calls", customer] += int(quantity)

    def heal(self) -> None:
        """Writers that live; what is carried is told by the run after."""
        self.world.advance(2 * MINUTE)
        self.world.write()
        self.world.advance(MINUTE)
        self.world.write_until_settled()

    def differences(self) -> dict[tuple[str, str], tuple[Decimal, int]]:
        """Where Stripe holds something else than was used."""
        totals = {key: found.total for key, found in self.world.stand_in.totals().items()}
        return {
            key: (totals.get(key, Decimal(0)), used)
            for key, used in self.expected.items()
            if totals.get(key, Decimal(0)) != used
        }


def test_a_writer_killed_between_any_two_calls_loses_and_doubles_nothing(
    billing: BillingWorld,
) -> None:
    streams = Streams(billing)
    struck: list[str] = []
    for number in range(EFFECTS_MAX):
        streams.use()
        death = Death(EFFECT, max(number, 1), after_effect=number > 0)
        process = write_and_die(billing, death)
        if number % 3 == 0 or not process.is_dead:
            streams.heal()
            assert streams.differences() == {}, f"{death}, or one of the two before it"
        if not process.is_dead:
            break
        struck.append(process.died_at)

    assert not process.is_dead
    assert Counter(struck)[f"post {SENDING}"] >= 4, "each push was on its way when it died"
    assert Counter(struck)["transact_write_items"] >= 4
    assert billing.wiring.pushes.in_need() == []


def test_of_two_writers_at_once_one_may_die_between_any_two_calls(billing: BillingWorld) -> None:
    streams = Streams(billing)
    deaths = 0
    for number in (1, 2, 3, 5):
        streams.use()
        desk = NoLease(Barrier(2))
        twin = Thread(target=write_and_die, args=(billing, None), kwargs={"desk": desk})
        twin.start()
        mortal = write_and_die(billing, Death(EFFECT, number, after_effect=True), desk=desk)
        twin.join(60)
        streams.heal()
        assert streams.differences() == {}, f"one of them was killed after its effect {number}"
        deaths += mortal.is_dead

    assert deaths
