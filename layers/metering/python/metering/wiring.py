"""The only place that builds clients, reads the environment and connects ports to adapters.

Adapters are imported when first asked for, so that a function pays only for what it uses.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING

from metering.adapters.clock import SystemClock
from metering.config import Config

if TYPE_CHECKING:
    from types_boto3_dynamodb import DynamoDBClient

    from metering import ports
    from metering.adapters.dynamodb.calls import MapOver
    from metering.adapters.dynamodb.epochs import DynamoEpochs
    from metering.adapters.dynamodb.ledger import DynamoLedger
    from metering.adapters.dynamodb.settings import DynamoSettings
    from metering.aggregator import Aggregator
    from metering.auth import Authenticator, KeyIssuer
    from metering.event_list import EventList
    from metering.ingest import TakesEvents
    from metering.ingest_queue import IngestQueue
    from metering.lane_folder import LaneFolder
    from metering.readiness import Readiness
    from metering.rebuild import Rebuilder
    from metering.reconciler import Reconciler
    from metering.trace import Tracer
    from metering.usage_report import UsageReport
    from metering.writer import Writer


class Wiring:
    """One process's objects, each made once; tests hand in their own client or clock."""

    def __init__(
        self,
        config: Config,
        *,
        clock: "ports.Clock | None" = None,
        dynamodb: "DynamoDBClient | None" = None,
    ) -> None:
        self.config = config
        self.clock: ports.Clock = clock or SystemClock()
        self._dynamodb = dynamodb

    @cached_property
    def dynamodb(self) -> "DynamoDBClient":
        """The low-level client."""
        from metering.adapters.dynamodb.client import make_client

        return self._dynamodb or make_client(self.config)

    def table(self, name: str) -> str:
        """A table's name in this deployment."""
        return self.config.table_prefix + name

    @cached_property
    def _map_calls(self) -> "MapOver":
        from metering.adapters.dynamodb.calls import map_of

        return map_of(self.config.calls_at_once)

    # --- events and counters ---

    @cached_property
    def ledger(self) -> "DynamoLedger":
        """The accepted usage events."""
        from metering.adapters.dynamodb.ledger import DynamoLedger

        shards = self.config.event_index_shards if self.config.event_index else 0
        return DynamoLedger(
            self.dynamodb, self.table("events"), index_shards=shards, map_calls=self._map_calls
        )

    @cached_property
    def quarantine(self) -> "ports.Quarantine":
        """Input that was set aside."""
        from metering.adapters.dynamodb.quarantine import DynamoQuarantine
        from metering.telemetry import CountedQuarantine

        quarantine = DynamoQuarantine(self.dynamodb, self.table("quarantine"))
        return CountedQuarantine(quarantine, self.metrics)

    @cached_property
    def epochs(self) -> "DynamoEpochs":
        """Which epochs of the counters exist; cached for less than a rebuild's lead."""
        from metering.adapters.dynamodb.epochs import DynamoEpochs

        cached_for = timedelta(seconds=self.config.rebuild_lead_s / 3)
        table = self.table("counters")
        return DynamoEpochs(self.dynamodb, table, clock=self.clock, cached_for=cached_for)

    @cached_property
    def counters(self) -> "ports.Counters":
        """What has been counted."""
        from metering.adapters.dynamodb.counters import DynamoCounters

        return DynamoCounters(
            self.dynamodb,
            self.table("counters"),
            epochs=self.epochs,
            clock=self.clock,
            changed_slot=self.config.changed_slot,
        )

    @cached_property
    def lanes(self) -> "ports.Lanes":
        """The writing side of the counters."""
        from metering.adapters.dynamodb.lanes import DynamoLanes

        return DynamoLanes(
            self.dynamodb,
            self.table("counters"),
            clock=self.clock,
            changed_slot=self.config.changed_slot,
            map_calls=self._map_calls,
        )

    @cached_property
    def ingest(self) -> "TakesEvents":
        """Takes events into the ledger."""
        from metering.ingest import Ingest
        from metering.telemetry import CountedIngest

        ingest = Ingest(self.ledger, self.settings, self.quarantine, self.clock)
        return CountedIngest(ingest, self.metrics, self.clock)

    @cached_property
    def ingest_queue(self) -> "IngestQueue":
        """Takes messages' events into the ledger."""
        from metering.ingest_queue import IngestQueue

        return IngestQueue(self.ingest, self.quarantine, self.clock)

    @cached_property
    def aggregator(self) -> "Aggregator":
        """Folds ledger entries into counters."""
        from metering.aggregator import Aggregator

        return Aggregator(self.lanes, self.epochs, self.settings, self.quarantine, self.clock)

    @cached_property
    def lane_folder(self) -> "LaneFolder":
        """Folds lanes at rest into their base."""
        from metering.adapters.dynamodb.lane_store import DynamoLaneStore
        from metering.lane_folder import LaneFolder

        store = DynamoLaneStore(self.dynamodb, self.table("counters"))
        return LaneFolder(store, self.epochs, self.clock)

    @cached_property
    def rebuilder(self) -> "Rebuilder":
        """Rebuilds counters from the ledger."""
        from metering.adapters.dynamodb.recounts import DynamoRecounts
        from metering.rebuild import Rebuilder

        return Rebuilder(
            self.ledger,
            self.epochs,
            DynamoRecounts(self.dynamodb, self.table("counters"), self.lanes),
            self.settings,
            self.clock,
            lead=timedelta(seconds=self.config.rebuild_lead_s),
            settle=timedelta(seconds=self.config.rebuild_settle_s),
        )

    # --- what tenants set up ---

    @cached_property
    def settings(self) -> "ports.Settings":
        """Metrics, mappings and customers, through the short cache."""
        return self._settings_table

    @cached_property
    def settings_store(self) -> "ports.SettingsStore":
        """The writing side; what it writes, `settings` of this process knows at once."""
        return self._settings_table

    @cached_property
    def _settings_table(self) -> "DynamoSettings":
        from metering.adapters.dynamodb.settings import DynamoSettings

        return DynamoSettings(self.dynamodb, self.config, self.clock)

    # --- who calls ---

    @cached_property
    def api_keys(self) -> "ports.KeyStore":
        """API keys by prefix."""
        from metering.adapters.dynamodb.api_keys import DynamoKeyStore

        return DynamoKeyStore(self.dynamodb, self.config, self.clock)

    @cached_property
    def authenticator(self) -> "Authenticator":
        """Finds out who calls."""
        from metering.auth import Authenticator

        return Authenticator(self.api_keys, self.clock, required=self.config.auth)

    @cached_property
    def key_issuer(self) -> "KeyIssuer":
        """Makes API keys."""
        from secrets import token_bytes

        from metering.auth import KeyIssuer

        return KeyIssuer(self.api_keys, self.clock, token_bytes)

    # --- reading ---

    @cached_property
    def event_list(self) -> "EventList":
        """Lists events."""
        from metering.event_list import EventList

        return EventList(self.ledger, self.counters)

    @cached_property
    def usage_report(self) -> "UsageReport":
        """What customers have used."""
        from metering.usage_report import UsageReport

        return UsageReport(self.counters, self.settings, self.clock)

    @cached_property
    def tracer(self) -> "Tracer":
        """What became of an event."""
        from metering.trace import Tracer

        return Tracer(self.ledger, self.counters, self.settings, self.pushes, self.quarantine)

    @cached_property
    def readiness(self) -> "Readiness":
        """Whether everything that is needed answers."""
        from metering.adapters.dynamodb.tables import DynamoTables
        from metering.readiness import Readiness

        has_stripe = bool(self.config.stripe_secret_key or self.config.stripe_secret_name)
        return Readiness(
            DynamoTables(self.dynamodb, self.config),
            self.billing if has_stripe else None,
            self.writer_desk,
            self.clock,
        )

    # --- telemetry ---

    @cached_property
    def metrics(self) -> "ports.Metrics":
        """The process's numbers, shared by its wirings."""
        from metering.telemetry import NO_METRICS

        if not self.config.metrics:
            return NO_METRICS
        from metering.adapters.prometheus import process_metrics

        return process_metrics()

    # --- Stripe and what it was told ---

    @cached_property
    def billing(self) -> "ports.Billing":
        """Stripe, or the stand-in that the configuration names."""
        from metering.adapters.stripe_billing import make_billing

        return make_billing(self.config)

    @cached_property
    def pushes(self) -> "ports.Pushes":
        """Streams and pushes."""
        from metering.adapters.dynamodb.billing import DynamoPushes

        return DynamoPushes(self.dynamodb, self.config)

    @cached_property
    def writer_desk(self) -> "ports.WriterDesk":
        """The writer's lease and cursor."""
        from metering.adapters.dynamodb.writer_desk import DynamoWriterDesk

        return DynamoWriterDesk(self.dynamodb, self.config)

    @cached_property
    def reports(self) -> "ports.Reports":
        """Reconciliation reports."""
        from metering.adapters.dynamodb.reports import DynamoReports
        from metering.telemetry import CountedReports

        return CountedReports(DynamoReports(self.dynamodb, self.config), self.metrics)

    @cached_property
    def writer(self) -> "Writer":
        """Tells Stripe what changed counters add up to."""
        from metering.advance import World
        from metering.writer import Writer

        world = World(self.counters, self.settings, self.pushes, self.billing, self.clock)
        return Writer(world, self.writer_desk)

    @cached_property
    def reconciler(self) -> "Reconciler":
        """Compares ledger, counters, pushes and Stripe: `reconciler.run(tenant, month)`."""
        from metering.reconciler import Reconciler
        from metering.survey import Sources

        sources = Sources(
            self.ledger, self.counters, self.settings, self.pushes, self.billing, self.clock
        )
        return Reconciler(sources, self.reports)


_current: Wiring | None = None
_here: ContextVar[Wiring | None] = ContextVar("wiring", default=None)


def current() -> Wiring:
    """The process's wiring, made from the environment on first use."""
    global _current  # noqa: PLW0603 (made once per cold start)
    here = _here.get()
    if here is not None:
        return here
    if _current is None:
        _current = Wiring(Config.from_environment(os.environ))
    return _current


@contextmanager
def using(wiring: Wiring) -> Iterator[Wiring]:
    """Let `current` answer this wiring for a while."""
    global _current  # noqa: PLW0603
    before, _current = _current, wiring
    try:
        yield wiring
    finally:
        _current = before


@contextmanager
def using_here(wiring: Wiring) -> Iterator[Wiring]:
    """Let `current` answer this wiring in this thread alone: a Lambda execution environment."""
    token = _here.set(wiring)
    try:
        yield wiring
    finally:
        _here.reset(token)
