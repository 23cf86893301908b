"""Limits, pre-trade checks, breakers, halt state, emergency triggers: pure; the only maker of an ApprovedOrder."""
