"""The pipeline book, strategy, risk, execution, portfolio in one place: pure, time comes with the event.

``engine.Engine`` is all of it behind ``step(event)``; the services use its parts one step at a time.
"""
