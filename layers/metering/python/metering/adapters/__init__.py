"""The ports' answers on AWS and Stripe, at the level of the low-level clients."""
