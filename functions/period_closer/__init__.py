"""The period_closer function."""
