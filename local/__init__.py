"""The whole system on a laptop: real services where they exist, a Stripe stand-in, one runner."""
