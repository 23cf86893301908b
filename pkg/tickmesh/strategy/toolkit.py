"""What strategy plugins keep needing: a decaying mean with its deviation, and the way to a target position.

In: numbers with the time of their event. Out: numbers and Signals. No clock: an irregular series is weighted by the
time that passed between its values.
"""

from __future__ import annotations

from math import sqrt

from tickmesh.domain.enums import Side, Urgency
from tickmesh.strategy.interface import Position, Signal


class Decaying:
    """Exponentially weighted mean and variance of an irregular series."""

    def __init__(self, half_life_s: float) -> None:
        self._half_life_ns = max(half_life_s, 1e-9) * 1e9
        self.mean = 0.0
        self.variance = 0.0
        self.first_ns = 0
        self.last_ns = 0

    def update(self, value: float, at_ns: int) -> None:
        """Take a value in; one from the past counts as simultaneous."""
        if not self.last_ns:
            self.mean, self.first_ns, self.last_ns = value, at_ns, at_ns
            return
        weight = 1.0 - 0.5 ** (max(at_ns - self.last_ns, 0) / self._half_life_ns)
        delta = value - self.mean
        self.mean += weight * delta
        self.variance = (1.0 - weight) * (self.variance + weight * delta * delta)
        self.last_ns = max(self.last_ns, at_ns)

    @property
    def deviation(self) -> float:
        return sqrt(self.variance)

    def warm(self, half_lives: float = 1.0) -> bool:
        """Whether it has seen at least that many half-lives."""
        return self.last_ns - self.first_ns >= half_lives * self._half_life_ns

    def save(self) -> list[float]:
        """Plain data for ``get_state``."""
        return [self.mean, self.variance, self.first_ns, self.last_ns]

    def load(self, saved: object) -> None:
        """Take over what ``save`` gave; anything else is passed over."""
        if isinstance(saved, list) and len(saved) == 4 and all(isinstance(v, int | float) for v in saved):
            self.mean, self.variance = float(saved[0]), float(saved[1])
            self.first_ns, self.last_ns = int(saved[2]), int(saved[3])


def towards(
    position: Position, target_lots: int, *, urgency: Urgency, strength: float = 1.0, reason: str = "",
    rest_ns: int = 2_000_000_000,
) -> list[Signal]:  # fmt: skip
    """The directional signal that brings a position to its target; through zero in two steps, down first.

    An order that works towards a target that is reached, or no longer wanted, is withdrawn.
    """
    held = position.qty_lots
    gap = target_lots - held
    if gap == 0:
        if position.open_buy_lots or position.open_sell_lots:
            return [Signal(symbol=position.symbol, side=Side.BUY, withdraw=True, reason="target reached")]
        return []
    reducing = held != 0 and held * gap < 0
    return [
        Signal(
            symbol=position.symbol, side=Side.BUY if gap > 0 else Side.SELL, strength=strength, urgency=urgency,
            qty_lots=min(abs(gap), abs(held)) if reducing else abs(gap), reduce_only=reducing, reason=reason,
            rest_ns=rest_ns,
        )
    ]  # fmt: skip
