"""The plan of one seed: which faults strike when. Drawn whole before the run, so that it can be shrunk.

In: the seed. Out: a list of Faults in order of time. Leaving one out leaves the others as they were.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

FAULTS_END_S = 24.0
"""Faults begin before, and every one of them is over, 4 s after this moment of the run."""

ORDER = ("POST /fapi/v1/order",)
_CANCEL = ("DELETE /fapi/v1/order",)
QUERY = ("GET /fapi/v1/order", "GET /fapi/v1/openOrders", "GET /fapi/v1/allOrders", "GET /fapi/v1/userTrades")
LISTS = (*QUERY, "GET /fapi/v3/positionRisk")
_ANY = ("",)
_TEMPERS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("hang_lost", ORDER), ("hang_done", ORDER), ("reset_lost", ORDER), ("reset_done", ORDER),
    ("unknown_503_lost", ORDER), ("unknown_503_done", ORDER), ("unavailable_503", ORDER),
    ("unexpected_1006_lost", ORDER), ("timeout_1007_lost", ORDER), ("timeout_1007_done", ORDER),
    ("gateway_502_lost", ORDER), ("garbage_done", ORDER), ("orders_1015", ORDER), ("overloaded_1008", ORDER),
    ("hang_done", _CANCEL), ("reset_done", _CANCEL), ("hang_lost", _CANCEL), ("phantom_2011", _CANCEL),
    ("unknown_503_done", _CANCEL), ("garbage_done", _CANCEL),
    ("lag_2013", QUERY), ("hang_done", QUERY), ("reset_done", QUERY), ("unavailable_503", QUERY),
    ("limited_429", _ANY), ("banned_418", _ANY), ("hang_done", _ANY), ("reset_lost", _ANY),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault; ``number`` names it in the plan. What ``size`` means depends on the kind."""

    number: int
    at_s: float
    kind: str
    for_s: float = 0.0
    size: float = 0.0
    detail: str = ""
    paths: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"[{self.number}] {self.at_s:6.2f} s {self.kind}"
        if self.detail:
            text += f" {self.detail}"
        if self.for_s:
            text += f" for {self.for_s:.2f} s"
        if self.size:
            text += f" ({self.size:g})"
        return text + (f" on {' '.join(p or 'everything' for p in self.paths)}" if self.paths else "")


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that the seed decides before the run."""

    seed: int
    faults: tuple[Fault, ...]
    standby: bool
    """Whether a second machine runs the same service for the same account."""

    def without(self, numbers: set[int]) -> Plan:
        return Plan(self.seed, tuple(f for f in self.faults if f.number not in numbers), self.standby)

    def only(self, numbers: set[int]) -> Plan:
        return Plan(self.seed, tuple(f for f in self.faults if f.number in numbers), self.standby)


def draw(seed: int) -> Plan:
    """The plan of ``seed``: always the same."""
    random = Random(f"plan {seed}")
    kinds = ["kill", "kill_after_send", "pause", "nats_cut", "nats_down", "venue_silent", "venue_refused",
             "venue_breaks", "temper", "temper", "temper", "temper", "stream_lost", "stream_late", "stream_repeated",
             "stream_cut", "listen_key", "maintenance", "venue_clock", "machine_clock", "halt", "by_hand",
             "redelivery", "liquidate"]  # fmt: skip
    standby = random.random() < 0.4
    if standby:
        kinds += ["pause", "pause", "pause", "nats_cut", "nats_cut", "kill_after_send"]
    some = random.sample(kinds, random.randint(1, 6))
    faults = []
    for number in range(random.choice((1, 2, 3, 5, 8, 12, 18))):
        faults.append(_draw_one(random, number, random.choice(some)))
    faults += _lags(seed, faults) + _more(seed) + _latest(seed)
    return Plan(seed, tuple(sorted(faults, key=lambda f: f.at_s)), standby)


def _lags(seed: int, faults: list[Fault]) -> list[Fault]:
    """A venue that loses answers often looks orders up in a copy that lags: one is not found though it is there."""
    random = Random(f"lag {seed}")
    lost = [f for f in faults if f.detail.endswith("_done") and f.paths == ORDER and random.random() < 0.5]
    return [Fault(f.number + 100, f.at_s, "temper", f.for_s + 2.0, 1.0, "lag_2013", QUERY) for f in lost]


def _more(seed: int) -> list[Fault]:
    """Kinds that were added later draw from a chance of their own: older ones stay where they were."""
    random = Random(f"more {seed}")
    faults = []
    for _ in range(random.choice((0, 0, 0, 0, 1, 1, 2))):
        faults.append(("succession", random.uniform(3.0, 10.0), 0.0, random.choice(("s1", "s2"))))
    if random.random() < 0.15:
        scope = random.choice(("all", "account.main", "symbol.BTCUSDT"))
        faults.append(("flatten", random.uniform(1.0, 8.0), 0.0, scope))
    if random.random() < 0.15:
        faults.append(("runaway", random.uniform(3.0, 6.0), random.choice((0.0, 2.0)), random.choice(("s1", "s2"))))
    if random.random() < 0.2:
        faults.append(("stop", 0.0, 0.0, random.choice(("cancel", "hand_over"))))
    starts_s = [random.uniform(4.0, FAULTS_END_S - 4.0) for _ in faults]
    return [
        Fault(200 + number, at_s, kind, for_s, size, detail)
        for number, (at_s, (kind, for_s, size, detail)) in enumerate(zip(starts_s, faults, strict=True))
    ]


def _latest(seed: int) -> list[Fault]:
    """As ``_more``, for what came after it."""
    random = Random(f"latest {seed}")
    faults = []
    if random.random() < 0.1:
        at_s, for_s = random.uniform(4.0, 18.0), random.uniform(1.0, 8.0)
        faults.append(Fault(300, at_s, "temper", for_s, random.choice((0.2, 0.5, 1.0)), "off_grid_done", LISTS))
    if random.random() < 0.1:
        faults += crowded(310, random.uniform(4.0, 16.0), random.choice(("halt", "succession", "")), random)
    for number in range(random.choice((0, 0, 0, 0, 0, 0, 1, 3))):
        faults.append(Fault(320 + number, random.uniform(4.0, FAULTS_END_S), "stop_by_hand"))
    for number in range(random.choice((0, 0, 0, 0, 1, 2, 6))):
        faults.append(Fault(330 + number, random.uniform(4.0, FAULTS_END_S), "amend_by_hand"))
    if random.random() < 0.15:
        scope = random.choice(("all", "account.main", "strategy.s1", "symbol.BTCUSDT"))
        faults.append(Fault(340, random.uniform(4.0, 20.0), "reduce", random.uniform(1.0, 8.0), detail=scope))
    return faults


def crowded(number: int, at_s: float, then: str, random: Random) -> list[Fault]:
    """Orders wait for a connection because the venue answers none; ``then`` happens shortly before they come free."""
    silence = random.choice(("hang_lost", "hang_done"))
    faults = [
        Fault(number, at_s, "runaway", 4.0, 2.0, "s1"),
        Fault(number + 1, at_s, "temper", 1.2, 1.0, silence, ORDER),
    ]
    if then:
        detail = random.choice(("all", "account.main", "strategy.s1")) if then == "halt" else "s1"
        faults.append(Fault(number + 2, at_s + random.uniform(1.3, 2.0), then, 6.0, detail=detail))
    return faults


def _draw_one(random: Random, number: int, kind: str) -> Fault:
    at_s = random.uniform(0.5 if random.random() < 0.2 else 4.0, FAULTS_END_S)
    for_s = min(random.choice((0.2, 1.0, 3.0, 6.0, 12.0)) * random.uniform(0.5, 1.5), FAULTS_END_S + 4 - at_s)
    if kind == "pause":  # around the lease's time to live, and past it
        for_s = min(random.uniform(1.0, 9.0), FAULTS_END_S + 4 - at_s)
        return Fault(number, at_s, kind, for_s, detail="first")
    if kind == "kill_after_send":
        return Fault(number, at_s, kind, size=random.choice((1, 2, 3, 4, 6, 9, 15, 40, 120)))
    if kind == "temper":
        temper, paths = random.choice(_TEMPERS)
        return Fault(number, at_s, kind, for_s, random.choice((0.1, 0.3, 0.6, 1.0)), temper, paths)
    if kind in ("stream_lost", "stream_late", "stream_repeated"):
        return Fault(number, at_s, kind, for_s, random.choice((0.1, 0.5, 1.0)))
    if kind == "venue_clock":
        return Fault(number, at_s, kind, for_s, random.choice((-9000, -2000, -800, 700, 3000, 8000)))
    if kind == "machine_clock":
        return Fault(number, at_s, kind, for_s, random.choice((-5000, -300, 300, 5000)))
    if kind in ("halt", "by_hand", "liquidate"):
        scopes = ("all", "account.main", "strategy.s1", "symbol.BTCUSDT")
        return Fault(number, at_s, kind, for_s, detail=random.choice(scopes) if kind == "halt" else "")
    if kind in ("kill", "venue_breaks", "stream_cut", "listen_key", "redelivery"):
        return Fault(number, at_s, kind)
    return Fault(number, at_s, kind, for_s, detail=random.choice(("first", "second")))
