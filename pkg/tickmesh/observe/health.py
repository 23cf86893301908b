"""Health of a service: started once, ready while every named condition holds."""

from __future__ import annotations


class Health:
    """Liveness is that the event loop answers; readiness and start-up are told by the service."""

    def __init__(self) -> None:
        self.started = False
        self._conditions: dict[str, str] = {"starting": "initialisation has not finished"}

    def require(self, condition: str, why_not: str) -> None:
        """The service is not ready until ``satisfy(condition)``; ``why_not`` is one sentence."""
        self._conditions[condition] = why_not

    def satisfy(self, condition: str) -> None:
        self._conditions.pop(condition, None)

    def set_started(self) -> None:
        """Initialisation is complete."""
        self.started = True
        self.satisfy("starting")

    @property
    def ready(self) -> bool:
        return not self._conditions

    @property
    def unready_because(self) -> dict[str, str]:
        return dict(self._conditions)
