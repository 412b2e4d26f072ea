"""Reads, settings, reconciliation reports, health, metrics and the API's description."""
