"""What everything else talks about: instruments, market data, intents, orders, fills, errors.

Nothing here does I/O, reads a clock or knows a venue by name.
"""
