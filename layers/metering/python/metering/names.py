"""The identifiers that must never be mixed up, as types of their own."""

from typing import NewType

TenantId = NewType("TenantId", str)
Metric = NewType("Metric", str)
CustomerRef = NewType("CustomerRef", str)
IdempotencyKey = NewType("IdempotencyKey", str)
"""Of a usage event; unique within its tenant, for ever."""
Identifier = NewType("Identifier", str)
"""Stripe's, of a meter event; unique for at least 24 hours."""
