"""Which part of requests X-Ray traces."""

from decimal import Decimal

TRACED_SHARE = Decimal("0.01")
"""X-Ray's own rule would trace the first request of each second and a twentieth of the others: at
$5 per million traces up to $5 per million events that are sent singly, more than all else."""
EVERY_SECOND = 0
"""How many requests a second are traced in any case."""
