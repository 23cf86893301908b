"""Faults: what the venue does wrong on purpose, switched on and off while it runs.

In: fault descriptions from the admin port, each request and each stream frame. Out: what to do with it. Matching and
chance are decided here, from a seeded source; sleeping and cutting connections is done by ``rest`` and the hub.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random
from typing import Any

import msgspec

from tickmesh.domain.errors import ConfigError
from tickmesh.venues.simvenue.server.clock import VenueClock

UNKNOWN_ERROR = "Unknown error, please check your request or try again later."
MAX_FAULTS = 100


class Kind(StrEnum):
    """What goes wrong; which side of the venue it strikes is in ``TARGETS``."""

    DELAY = "delay"
    DROP = "drop"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    DISCONNECT = "disconnect"
    ACCEPT_THEN_TIMEOUT = "accept_then_timeout"
    ERROR = "error"
    CLOCK_OFFSET = "clock_offset"
    MAINTENANCE = "maintenance"
    EXPIRE_LISTEN_KEYS = "expire_listen_keys"


class Target(StrEnum):
    """What a fault strikes."""

    REST = "rest"
    STREAM = "stream"


TARGETS: dict[Kind, tuple[Target, ...]] = {
    Kind.DELAY: (Target.REST, Target.STREAM),
    Kind.DROP: (Target.REST, Target.STREAM),
    Kind.DUPLICATE: (Target.STREAM,),
    Kind.REORDER: (Target.STREAM,),
    Kind.DISCONNECT: (Target.STREAM, Target.REST),
    Kind.ACCEPT_THEN_TIMEOUT: (Target.REST,),
    Kind.ERROR: (Target.REST,),
    Kind.CLOCK_OFFSET: (),
    Kind.MAINTENANCE: (Target.REST,),
    Kind.EXPIRE_LISTEN_KEYS: (),
}


class Fault(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One fault. It strikes what matches, with ``probability``, at most ``count`` times (0: no limit), ``for_s`` long.

    ``path`` and ``stream`` are patterns with ``*``; the stream ``user`` means any user stream. ``processed`` says
    whether a request that is answered with an error was carried out before.
    """

    kind: Kind
    target: Target | None = None
    method: str = "*"
    path: str = "*"
    stream: str = "*"
    probability: float = 1.0
    count: int = 0
    for_s: float = 0.0
    delay_ms: int = 1000
    timeout_s: float = 30.0
    status: int = 503
    code: int = -1000
    msg: str = UNKNOWN_ERROR
    retry_after_s: int = 0
    processed: bool = False
    offset_ms: int = 0
    id: int = 0
    hits: int = 0


_decoder = msgspec.json.Decoder(Fault)


@dataclass(slots=True)
class Plan:
    """What happens to one request, in this order; ``errors`` and ``timeout_s`` None mean that it does not."""

    delay_ms: int = 0
    drop: bool = False
    error: Fault | None = None
    disconnect: bool = False
    timeout_s: float | None = None


@dataclass(slots=True)
class _Active:
    fault: Fault
    until_s: float | None
    held: dict[Any, bytes] = field(default_factory=dict)


class Faults:
    """The faults that are on.

    Args:
        now_s: a monotonic clock, for ``for_s``.
    """

    def __init__(self, clock: VenueClock, random: Random, now_s: Callable[[], float]) -> None:
        self._clock, self._random, self._now_s = clock, random, now_s
        self._active: dict[int, _Active] = {}
        self._next_id = 1
        self.cut_streams: Callable[[str], None] = lambda _pattern: None
        self.release: Callable[[Any, bytes], None] = lambda _outlet, _frame: None
        self.expire_listen_keys: Callable[[], None] = lambda: None
        self.on_streams: Callable[[bool], None] = lambda _any: None

    def add(self, body: bytes) -> Fault:
        """Switch a fault on. Raises ConfigError for one that cannot be."""
        try:
            fault = _decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"this is no fault: {error}; kinds are {', '.join(Kind)}") from None
        targets = TARGETS[fault.kind]
        if fault.target is None:
            fault.target = targets[0] if targets else None
        elif fault.target not in targets:
            raise ConfigError(
                f"{fault.kind} cannot strike {fault.target}; it strikes {', '.join(targets) or 'neither'}"
            )
        if not (0 < fault.probability <= 1) or fault.count < 0 or fault.for_s < 0 or fault.delay_ms < 0:
            raise ConfigError("probability must lie in (0, 1]; count, for_s and delay_ms may not be negative")
        if len(self._active) >= MAX_FAULTS:
            raise ConfigError(f"{MAX_FAULTS} faults are on already; DELETE /faults first")
        fault.id, fault.hits = self._next_id, 0
        self._next_id += 1
        self._begin(fault)
        return fault

    def _begin(self, fault: Fault) -> None:
        if fault.kind is Kind.EXPIRE_LISTEN_KEYS:
            fault.hits = 1
            self.expire_listen_keys()
            return
        until_s = self._now_s() + fault.for_s if fault.for_s else None
        self._active[fault.id] = _Active(fault, until_s)
        if fault.kind is Kind.CLOCK_OFFSET:
            self._set_clock()
        if fault.kind is Kind.MAINTENANCE:
            self.cut_streams("*")
        if fault.kind is Kind.DISCONNECT and fault.target is Target.STREAM:
            # Once, now; what lasts, or comes by chance or count, strikes again with the frames that follow.
            self.cut_streams(fault.stream)
            fault.hits += 1
            if fault.probability == 1.0 and fault.count <= 1 and not fault.for_s:
                del self._active[fault.id]
        self._tell()

    def remove(self, fault_id: int | None) -> int:
        """Switch one fault off, or all; returns how many were on."""
        chosen = list(self._active) if fault_id is None else [fault_id] if fault_id in self._active else []
        for found in chosen:
            for outlet, frame in self._active.pop(found).held.items():
                self.release(outlet, frame)
        self._set_clock()
        self._tell()
        return len(chosen)

    def listing(self) -> list[Fault]:
        """Faults that are on, with their hits."""
        return [active.fault for active in self._active.values()]

    def tick(self) -> None:
        """Switch off what is over."""
        now_s = self._now_s()
        for fault_id, active in list(self._active.items()):
            if active.until_s is not None and active.until_s <= now_s:
                self.remove(fault_id)

    @property
    def in_maintenance(self) -> bool:
        return any(active.fault.kind is Kind.MAINTENANCE for active in self._active.values())

    def _set_clock(self) -> None:
        offsets = [a.fault.offset_ms for a in self._active.values() if a.fault.kind is Kind.CLOCK_OFFSET]
        self._clock.offset_ms = sum(offsets)

    def _tell(self) -> None:
        self.on_streams(any(a.fault.target is Target.STREAM for a in self._active.values()))

    def _strikes(self, active: _Active) -> bool:
        fault = active.fault
        if fault.count and fault.hits >= fault.count:
            return False
        if fault.probability < 1 and self._random.random() >= fault.probability:
            return False
        fault.hits += 1
        return True

    def _forget_spent(self) -> None:
        for fault_id, active in list(self._active.items()):
            if active.fault.count and active.fault.hits >= active.fault.count and not active.held:
                self.remove(fault_id)

    # -- requests -------------------------------------------------------------------------------------

    def plan(self, method: str, path: str) -> Plan | None:
        """What happens to a request; None, at once, when no fault is on."""
        if not self._active:
            return None
        plan = Plan()
        for active in list(self._active.values()):
            fault = active.fault
            if fault.target is not Target.REST or not _matches(fault, method, path) or not self._strikes(active):
                continue
            if fault.kind is Kind.DELAY:
                plan.delay_ms += fault.delay_ms
            elif fault.kind is Kind.DROP:
                plan.drop = True
            elif fault.kind is Kind.MAINTENANCE:
                plan.error = _MAINTENANCE
            elif fault.kind is Kind.ERROR:
                plan.error = plan.error or fault
            elif fault.kind is Kind.DISCONNECT:
                plan.disconnect = True
            else:
                plan.timeout_s = fault.timeout_s
        self._forget_spent()
        return plan

    # -- frames ---------------------------------------------------------------------------------------

    def frames(self, stream: str, frame: bytes, outlet: Any) -> tuple[list[bytes], int, bool]:
        """What becomes of a frame on one connection: frames to send, after how many ms, and whether to cut it off."""
        frames, delay_ms, cut = [frame], 0, False
        for active in list(self._active.values()):
            fault = active.fault
            if fault.target is not Target.STREAM or not same_stream(fault.stream, stream):
                continue
            if fault.kind is Kind.REORDER and outlet in active.held:
                frames.append(active.held.pop(outlet))
                continue
            if not self._strikes(active):
                continue
            if fault.kind is Kind.DELAY:
                delay_ms += fault.delay_ms
            elif fault.kind is Kind.DROP:
                frames = []
            elif fault.kind is Kind.DUPLICATE:
                frames = frames * 2
            elif fault.kind is Kind.DISCONNECT:
                cut = True
            elif frames:
                active.held[outlet] = frames.pop(0)
        self._forget_spent()
        return frames, delay_ms, cut


_MAINTENANCE = Fault(
    kind=Kind.MAINTENANCE, status=503, code=-1016, msg="Service Unavailable: the venue is under maintenance."
)


def _matches(fault: Fault, method: str, path: str) -> bool:
    return fault.method in ("*", method) and fnmatch.fnmatchcase(path, fault.path)


def same_stream(pattern: str, stream: str) -> bool:
    """True when a stream's name fits; ``user`` fits every listen key."""
    if pattern == "user":
        return "@" not in stream and not stream.startswith("!")
    return fnmatch.fnmatchcase(stream, pattern)
