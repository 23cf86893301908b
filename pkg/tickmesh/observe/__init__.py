"""Metrics, logs with masking, health, and the admin endpoints that every service has."""
