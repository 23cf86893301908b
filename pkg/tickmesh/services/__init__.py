"""One module per pod, each ``async def run(service: Service) -> None``; a shell around cores, nothing clever.

``run`` connects, works until ``service.stopping`` is set, drains and returns. It raises ConfigError or
DependencyError, as one sentence, when it cannot do its job; whoever started it starts it again.
"""
