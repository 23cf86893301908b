"""Postgres (history, configuration) and the gateway's cache."""
