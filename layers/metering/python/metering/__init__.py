"""Usage metering for Stripe Billing Meters: a pure core, its ports, adapters and one wiring."""
