"""What a tenant decides for all of its usage."""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from metering.names import TenantId


class AfterClose(StrEnum):
    """What becomes of usage that is counted after its period's invoice was closed."""

    CARRY_FORWARD = "carry_forward"
    """Told in the next open period as a marked correction."""
    INVOICE_ITEM = "invoice_item"
    """Billed apart: an invoice item with the price it would have had in its own period."""
    UNBILLED = "unbilled"
    """Recorded, shown and never billed."""


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """A tenant's decisions; these defaults serve a tenant that made none."""

    tenant: TenantId
    after_close: AfterClose = AfterClose.CARRY_FORWARD
    four_eyes: bool = False
    """Whether an adjustment must be approved by another than its author."""
    adjustment_max: Decimal = Decimal(1_000_000)
    """The greatest adjustment, without its sign, in the metric's unit."""
    holds_invoices: bool = True
    """Whether a draft invoice is held back when the period's numbers do not agree in time."""
