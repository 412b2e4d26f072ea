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
from metering.adapters.machine import SystemMachine
from metering.config import Config

if TYPE_CHECKING:
    from stripe import HTTPClient
    from types_boto3_dynamodb import DynamoDBClient

    from metering import ports
    from metering.adapters.dynamodb.calls import MapOver
    from metering.adapters.dynamodb.epochs import DynamoEpochs
    from metering.adapters.dynamodb.ledger import DynamoLedger
    from metering.adapters.dynamodb.settings import DynamoSettings
    from metering.adapters.stripe_client import StripeConnection
    from metering.adapters.stripe_driver import StripeBillingDriver
    from metering.adjustments import Adjustments
    from metering.advance import World
    from metering.aggregator import Aggregator
    from metering.apart import ApartPorts
    from metering.archive import Archiver
    from metering.auth import Authenticator, KeyIssuer
    from metering.canary import Canary
    from metering.cancellation import Cancellation
    from metering.closing import Closing
    from metering.corrections import Corrections
    from metering.decisions import Decisions
    from metering.event_list import EventList
    from metering.ingest import TakesEvents
    from metering.ingest_queue import IngestQueue
    from metering.key_admin import KeyAdmin
    from metering.lane_folder import LaneFolder
    from metering.rate_limit import RateLimit
    from metering.read_budget import ReadBudget
    from metering.readiness import Readiness
    from metering.rebuild import Rebuilder
    from metering.reconciler import Reconciler
    from metering.shadow import ShadowRun
    from metering.subscriptions import SubscriptionSync
    from metering.telemetry import CountedWebhook
    from metering.trace import Tracer
    from metering.usage_report import UsageReport
    from metering.writer import Writer


class Wiring:
    """One process's objects, each made once; tests hand in their own clients or clock."""

    def __init__(
        self,
        config: Config,
        *,
        clock: "ports.Clock | None" = None,
        dynamodb: "DynamoDBClient | None" = None,
        stripe_http: "HTTPClient | None" = None,
        machine: "ports.Machine | None" = None,
    ) -> None:
        self.config = config
        self.machine: ports.Machine = machine or SystemMachine()
        self.clock: ports.Clock = clock or SystemClock()
        self._dynamodb = dynamodb
        self._stripe_http = stripe_http

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
    def adjustments(self) -> "Adjustments":
        """Corrects counters by decisions of people."""
        from metering.adapters.dynamodb.adjustments import DynamoAdjustments
        from metering.adjustments import Adjustments

        store = DynamoAdjustments(self.dynamodb, self.table("adjustments"))
        return Adjustments(
            store,
            self.ledger,
            self.settings,
            self.clock,
            self.machine.token_bytes,
            self.machine.threads,
        )

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
        from metering.failed_keys import FailedKeys

        return Authenticator(
            self.api_keys,
            self.clock,
            required=self.config.auth,
            failures=FailedKeys(self.config.failed_keys_a_minute),
        )

    @cached_property
    def key_issuer(self) -> "KeyIssuer":
        """Makes API keys."""
        from metering.auth import KeyIssuer

        return KeyIssuer(self.api_keys, self.clock, self.machine.token_bytes)

    @cached_property
    def key_admin(self) -> "KeyAdmin":
        """What a tenant's people do with its API keys."""
        from metering.key_admin import KeyAdmin

        return KeyAdmin(self.api_keys, self.key_issuer, self.clock)

    @cached_property
    def tenant_rates(self) -> "ports.TenantRates":
        """What tenants may send, and have sent lately."""
        from metering.adapters.dynamodb.tenant_rates import DynamoTenantRates

        return DynamoTenantRates(self.dynamodb, self.config, self.clock)

    @cached_property
    def event_rate(self) -> "RateLimit":
        """How many events each tenant may send."""
        from metering.rate_limit import RateKind, RateLimit

        default = self.config.tenant_events_a_second
        return RateLimit(RateKind.EVENTS, default, self.tenant_rates, self.clock)

    @cached_property
    def request_rate(self) -> "RateLimit":
        """How many requests each tenant may send to all routes but ingest."""
        from metering.rate_limit import RateKind, RateLimit

        default = self.config.tenant_requests_a_second
        return RateLimit(RateKind.REQUESTS, default, self.tenant_rates, self.clock)

    @cached_property
    def stripe_claims(self) -> "ports.StripeClaims":
        """Which tenant an object at Stripe belongs to."""
        from metering.adapters.dynamodb.stripe_claims import DynamoStripeClaims

        return DynamoStripeClaims(self.dynamodb, self.config)

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
        from metering.closing import ROUND
        from metering.readiness import Readiness

        has_stripe = bool(self.config.stripe_secret_key or self.config.stripe_secret_name)
        return Readiness(
            DynamoTables(self.dynamodb, self.config),
            self.billing if has_stripe else None,
            self.writer_desk,
            lambda: self.rounds.last(ROUND),
            self.clock,
        )

    # --- telemetry ---

    @cached_property
    def metrics(self) -> "ports.Metrics":
        """Numbers for operators; those for a scraper are the process's, shared by its wirings."""
        from metering.telemetry import NO_METRICS

        if self.config.metrics == "off":
            return NO_METRICS
        if self.config.metrics == "emf":
            from metering.adapters.emf import EmfMetrics

            return EmfMetrics(self.config.deployment)
        from metering.adapters.prometheus import process_metrics

        return process_metrics()

    # --- Stripe and what it was told ---

    @cached_property
    def stripe_connection(self) -> "StripeConnection":
        """The deployment's own connection to Stripe; all that it reads is on the read budget."""
        from metering.adapters.stripe_client import StripeConnection
        from metering.adapters.stripe_key import own_key

        return StripeConnection(
            own_key(self.config), note_reads=self.read_budget.note, http_client=self._stripe_http
        )

    @cached_property
    def read_budget(self) -> "ReadBudget":
        """How many reads Stripe still grants; flush it once a run."""
        from metering.adapters.dynamodb.read_counts import DynamoReadCounts
        from metering.read_budget import ReadBudget

        counts = DynamoReadCounts(self.dynamodb, self.config)
        return ReadBudget(counts, self.clock, self.config.stripe_reads_a_month)

    @cached_property
    def stripe_driver(self) -> "StripeBillingDriver":
        """Everything that is sent to Stripe goes through this: the own key's, and the shadow's."""
        from metering.adapters.stripe_driver import StripeBillingDriver
        from metering.adapters.stripe_rate import CallRates, limits_of

        rates = CallRates(
            limits_of(self.config), seconds=self.machine.seconds, sleep=self.machine.sleep
        )
        return StripeBillingDriver.of(
            self.config,
            self.stripe_connection,
            rates,
            self.clock,
            shadow=self.shadow_connection,
        )

    @cached_property
    def shadow_connection(self) -> "StripeConnection":
        """The connection to the test account that is told the same; only a test key opens it."""
        from metering.adapters.stripe_client import StripeConnection
        from metering.adapters.stripe_key import shadow_key

        return StripeConnection(
            shadow_key(self.config),
            note_reads=self.shadow_read_budget.note,
            http_client=self._stripe_http,
        )

    @cached_property
    def shadow_read_budget(self) -> "ReadBudget":
        """How many reads the test account still grants: none of the primary's."""
        from metering.adapters.dynamodb.read_counts import DynamoReadCounts
        from metering.read_budget import ReadBudget
        from metering.shadow import ShadowReadCounts

        counts = ShadowReadCounts(DynamoReadCounts(self.dynamodb, self.config))
        return ReadBudget(counts, self.clock, self.config.stripe_reads_a_month)

    @cached_property
    def billing(self) -> "ports.Billing":
        """Stripe, or the stand-in that the configuration names."""
        return self.stripe_driver.own

    @cached_property
    def shadow_billing(self) -> "ports.Billing | None":
        """Stripe's test account that is told the same in parallel; None when no key is set for it.

        Raises:
            SetupError: its key opens the live world.
        """
        return self.stripe_driver.shadow

    @cached_property
    def pushes(self) -> "ports.Pushes":
        """Streams and pushes."""
        from metering.adapters.dynamodb.billing import DynamoPushes

        return DynamoPushes(self.dynamodb, self.config)

    @cached_property
    def shadow_pushes(self) -> "ports.Pushes":
        """The shadow's streams and pushes: what `pushes` never sees."""
        from metering.adapters.dynamodb.billing import DynamoPushes
        from metering.push import Role

        return DynamoPushes(self.dynamodb, self.config, Role.SHADOW)

    @cached_property
    def subscriptions(self) -> "ports.Subscriptions":
        """Subscriptions at Stripe."""
        from metering.adapters.stripe_subscriptions import StripeSubscriptions

        return StripeSubscriptions(self.stripe_connection)

    @cached_property
    def invoices(self) -> "ports.Invoices":
        """Invoices at Stripe."""
        from metering.adapters.stripe_invoices import StripeInvoices

        return StripeInvoices(self.stripe_connection)

    @cached_property
    def rounds(self) -> "ports.Rounds":
        """When what is done from time to time was last done."""
        from metering.adapters.dynamodb.rounds import DynamoRounds

        return DynamoRounds(self.dynamodb, self.config)

    @cached_property
    def subscription_sync(self) -> "SubscriptionSync":
        """Keeps customers' billing periods as their subscriptions say."""
        from metering.subscriptions import SubscriptionPorts, SubscriptionSync

        return SubscriptionSync(
            SubscriptionPorts(
                self.settings,
                self.settings_store,
                self.counters,
                self.subscriptions,
                self.notices,
                self.rounds,
                self.clock,
                self.rebuilder,
            )
        )

    @cached_property
    def period_closes(self) -> "ports.PeriodCloses":
        """The ends of billing periods."""
        from metering.adapters.dynamodb.period_closes import DynamoPeriodCloses
        from metering.telemetry import CountedCloses

        closes = DynamoPeriodCloses(self.dynamodb, self.config)
        return CountedCloses(closes, self.metrics, self.clock)

    @cached_property
    def webhook(self) -> "CountedWebhook":
        """Takes Stripe's events."""
        from metering.adapters.stripe_webhook import StripeWebhookSettings
        from metering.telemetry import CountedWebhook
        from metering.webhook import Webhook

        settings = StripeWebhookSettings(self.config, self.clock)
        return CountedWebhook(Webhook(self.notices, settings, self.clock), self.metrics)

    @cached_property
    def notices(self) -> "ports.Notices":
        """What Stripe told us has happened there."""
        from metering.adapters.dynamodb.notices import DynamoNotices

        return DynamoNotices(self.dynamodb, self.config)

    @cached_property
    def meter_error_reports(self) -> "ports.MeterErrorReports":
        """Stripe's reports of meter events that did not count."""
        from metering.adapters.stripe_error_reports import StripeErrorReports

        return StripeErrorReports(self.stripe_connection)

    @cached_property
    def suspects(self) -> "ports.Suspects":
        """What these reports make us doubt."""
        from metering.adapters.dynamodb.suspects import DynamoSuspects

        return DynamoSuspects(self.dynamodb, self.config)

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
        from metering.writer import Writer

        return Writer(self._world, self.writer_desk, self.machine.threads)

    @cached_property
    def shadow_run(self) -> "ShadowRun":
        """Tells the test account the same, after the primary was told."""
        from metering.shadow import ShadowRun

        return ShadowRun(lambda: self._shadow_writer, self.metrics)

    @cached_property
    def _shadow_writer(self) -> "Writer | None":
        """None without a key; SetupError with one that opens live mode."""
        if self.shadow_billing is None:
            return None
        from metering.adapters.dynamodb.writer_desk import DynamoWriterDesk
        from metering.advance import World
        from metering.push import Role
        from metering.shadow import ShadowCloses, ShadowCounters, ShadowSettings
        from metering.writer import Writer

        settings = ShadowSettings(self.settings)
        world = World(
            ShadowCounters(self.counters, settings),
            settings,
            self.shadow_pushes,
            self.shadow_billing,
            self.clock,
            ShadowCloses(self.period_closes),
            self._apart_of(self.shadow_connection),
        )
        desk = DynamoWriterDesk(self.dynamodb, self.config, Role.SHADOW)
        return Writer(world, desk, self.machine.threads)

    @cached_property
    def _world(self) -> "World":
        from metering.advance import World

        return World(
            self.counters,
            self.settings,
            self.pushes,
            self.billing,
            self.clock,
            self.period_closes,
            self.apart,
        )

    @cached_property
    def apart(self) -> "ApartPorts":
        """What bills usage of closed periods apart."""
        return self._apart_of(self.stripe_connection)

    @staticmethod
    def _apart_of(connection: "StripeConnection") -> "ApartPorts":
        from metering.adapters.stripe_invoice_items import StripeInvoiceItems, StripePrices
        from metering.adapters.stripe_invoice_lines import StripeInvoiceLines
        from metering.adapters.stripe_invoices import StripeInvoices
        from metering.apart import ApartPorts

        return ApartPorts(
            StripeInvoices(connection),
            StripeInvoiceLines(connection),
            StripePrices(connection),
            StripeInvoiceItems(connection),
        )

    @cached_property
    def closing(self) -> "Closing":
        """Closes billing periods: `closing.run(has_time)`."""
        from metering.closing import Closing, ClosingPorts

        return Closing(
            ClosingPorts(
                self._world,
                self.settings_store,
                self.invoices,
                self.notices,
                self.rounds,
                self.subscription_sync,
                self.subscriptions,
            ),
            self.machine.threads,
        )

    @cached_property
    def cancellation(self) -> "Cancellation":
        """Ends subscriptions once Stripe has all their usage."""
        from metering.cancellation import Cancellation, CancellationPorts

        return Cancellation(
            CancellationPorts(
                self._world, self.settings_store, self.subscriptions, self.subscription_sync
            )
        )

    @cached_property
    def decisions(self) -> "Decisions":
        """What an operator decides about pushes: `decisions.take(tenant, stream, decision)`."""
        from metering.decisions import Decisions

        return Decisions(self.pushes, self.clock)

    @cached_property
    def shadow_decisions(self) -> "Decisions":
        """The same about the shadow's."""
        from metering.decisions import Decisions

        return Decisions(self.shadow_pushes, self.clock)

    @cached_property
    def corrections(self) -> "Corrections":
        """What people have cancelled of what others wrote: `corrections.approve(tenant, asked)`."""
        from metering.corrections import CorrectionPorts, Corrections

        ports_ = CorrectionPorts(self.pushes, self.billing, self.period_closes, self.clock)
        return Corrections(ports_, self.reconciler)

    @cached_property
    def reconciler(self) -> "Reconciler":
        """Compares ledger, counters, pushes and Stripe: `reconciler.run(tenant, month)`."""
        from metering.adapters.stripe_customers import FoundCustomers
        from metering.adapters.stripe_invoice_lines import StripeInvoiceLines
        from metering.reconciler import Reconciler, Signals
        from metering.survey import Sources

        sources = Sources(
            self.ledger,
            self.counters,
            self.settings,
            self.pushes,
            self.billing,
            self.clock,
            self.period_closes,
            StripeInvoiceLines(self.stripe_connection),
            FoundCustomers(self.stripe_connection),
        )
        signals = Signals(self.notices, self.meter_error_reports, self.suspects)
        threads = self.machine.threads
        return Reconciler(sources, self.reports, signals, self.read_budget, threads=threads)

    @cached_property
    def shadow_reports(self) -> "ports.Reports":
        """Reconciliation reports of the shadow."""
        from metering.adapters.dynamodb.reports import DynamoReports
        from metering.push import Role

        return DynamoReports(self.dynamodb, self.config, Role.SHADOW)

    @cached_property
    def shadow_reconciler(self) -> "Reconciler | None":
        """Compares what was metered with what the test account was told; None without a key.

        Raises:
            SetupError: the key opens live mode.
        """
        if self.shadow_billing is None:
            return None
        from metering.adapters.stripe_customers import FoundCustomers
        from metering.reconciler import Reconciler
        from metering.shadow import (
            NoInvoiceLines,
            ShadowCloses,
            ShadowCounters,
            ShadowSettings,
        )
        from metering.survey import Sources

        settings = ShadowSettings(self.settings)
        sources = Sources(
            self.ledger,
            ShadowCounters(self.counters, settings),
            settings,
            self.shadow_pushes,
            self.shadow_billing,
            self.clock,
            ShadowCloses(self.period_closes),
            NoInvoiceLines(),
            FoundCustomers(self.shadow_connection),
        )
        reports, budget = self.shadow_reports, self.shadow_read_budget
        return Reconciler(sources, reports, None, budget, threads=self.machine.threads)

    # --- operations ---

    @cached_property
    def canary(self) -> "Canary | None":
        """Checks the whole way by a customer of known usage; None where it is switched off.

        Raises:
            SetupError: its key would be sent as plain text.
        """
        if not self.config.canary_api_url or not (
            self.config.canary_key or self.config.canary_key_name
        ):
            return None
        from metering.adapters.canary_api import HttpsCanaryApi
        from metering.canary import Canary

        api = HttpsCanaryApi(self.config, self.clock)
        return Canary(api, self.metrics, self.clock, self.machine)

    @cached_property
    def archiver(self) -> "Archiver | None":
        """Exports the ledger, window by window; None where it is switched off."""
        if not self.config.archive_bucket:
            return None
        from metering.adapters.dynamodb.archive_windows import DynamoArchiveWindows
        from metering.adapters.dynamodb.exports import DynamoExports
        from metering.archive import Archiver

        return Archiver(
            DynamoExports(self.dynamodb, self.table("events"), self.config.archive_bucket),
            DynamoArchiveWindows(self.dynamodb, self.config),
            self.metrics,
            self.clock,
        )


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
