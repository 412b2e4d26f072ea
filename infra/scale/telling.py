"""How fast Stripe can be told, and read: the writer, and the reconciler's ration of reads."""

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

from infra.cost.assumed import ASSUMED, Assumed
from infra.cost.measurement import Measurement
from infra.cost.month import by_core, pushes_a_second
from infra.functions import RECONCILER, WRITER, Schedule
from infra.scale.limits import STRIPE_CALLS, STRIPE_READS
from metering.reconciler import READS_MAX
from metering.writer import RESERVE, THREADS

READS_A_TRANSACTION = 500
"""Stripe's grant; each invoice is a transaction."""
DEADLINE_S = Decimal(45 * 60)
"""From a period's end to a quarter of an hour before its invoice is finalized."""
ROW_READ_EVERY_S = Decimal(23 * 3600)
MONTH_S = Decimal(30 * 86_400)
OUTAGE_S = Decimal(3600)


@dataclass(frozen=True, slots=True)
class Telling:
    """The writer, with so many threads."""

    measured: Measurement
    assumed: Assumed = ASSUMED
    threads: int = THREADS

    @property
    def by_cpu(self) -> Decimal:
        """Pushes a second that its core allows."""
        return by_core(self.measured, self.assumed)

    @property
    def by_waiting(self) -> Decimal:
        """Pushes a second that its threads allow, each waiting for Stripe once a push."""
        return self.threads * 1000 / self.assumed.stripe_wait_ms

    @property
    def a_second(self) -> Decimal:
        """Pushes a second while a run lasts."""
        able = pushes_a_second(self.measured, self.assumed, self.threads)
        return min(able, STRIPE_CALLS.value)

    @property
    def working(self) -> Decimal:
        """The part of the time that runs work; in its last seconds a run begins nothing new."""
        assert isinstance(WRITER.trigger, Schedule)
        return (WRITER.timeout_s - Decimal(RESERVE.total_seconds())) / WRITER.trigger.every_s

    @property
    def an_hour(self) -> Decimal:
        """Pushes in an hour of runs."""
        return self.a_second * self.working * 3600

    def round_s(self, counters: Decimal) -> Decimal:
        """How long it takes to tell Stripe of so many changed counters once, a minute at least."""
        return max(counters / self.an_hour * 3600, Decimal(60))

    def writers(self, counters: Decimal, within_s: Decimal) -> int:
        """How many writers it would take to tell of all within a time."""
        return int((self.round_s(counters) / within_s).to_integral_value(ROUND_CEILING))


@dataclass(frozen=True, slots=True)
class Reading:
    """The reconciler's reads of Stripe for so many customers with one metric and one invoice."""

    customers: Decimal

    @property
    def granted(self) -> Decimal:
        """Reads in 30 days."""
        return max(self.customers * READS_A_TRANSACTION, STRIPE_READS.value)

    @property
    def wanted(self) -> Decimal:
        """One a row and 23 hours, as designed."""
        return self.customers * MONTH_S / ROW_READ_EVERY_S

    @property
    def a_day(self) -> Decimal:
        """That its runs make at most."""
        assert isinstance(RECONCILER.trigger, Schedule)
        runs = Decimal(86_400) / RECONCILER.trigger.every_s
        return min(READS_MAX * runs, self.granted / 30)

    @property
    def days(self) -> Decimal:
        """Until every row was read once."""
        return max(self.customers / self.a_day, ROW_READ_EVERY_S / 86_400)
