"""Usage metering for Stripe Billing Meters: a pure core, its ports, adapters and one wiring."""

__version__ = "0.1.0"
"""As in `pyproject.toml`; on Lambda there is no installed package to ask."""
