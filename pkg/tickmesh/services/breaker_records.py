"""BreakerRecords: what the ``breakers`` bucket says of every breaker, ours and those of all other processes.

In: our own records and the bucket's ``state.*``. Out: what is open, what that stops, and the keys of replicas that are
gone. A replica (``observe.instance``) has records of its own under its own name, for two of them see different things;
it renews them as long as it lives, so that nobody obeys a breaker that no process could ever close again.
"""

from __future__ import annotations

import msgspec

from tickmesh.domain.enums import BreakerState
from tickmesh.domain.subjects import token
from tickmesh.kube.breaker import Transition

EVERYTHING = "everything"
TARGETS = ("venue-rest", "venue-websocket", "database", "cache", "bus", "downstream", EVERYTHING)
"""Targets without a name of their own; the others are account.NAME and strategy.NAME."""
RENEW_NS = 10_000_000_000
FORGET_NS = 40_000_000_000
"""How long a replica's record counts after it was renewed last."""
_DEAF_NS = 5_000_000_000
_SCOPES = ("account", "strategy", "symbol")


class BreakerRecord(msgspec.Struct, kw_only=True):
    """The value of ``state.<name>``. ``stops`` is what an open one stops: "", "all", "strategy.X" or "symbol.X"."""

    name: str
    owner: str
    instance: str = ""
    target: str = ""
    state: BreakerState
    forced: bool = False
    reason: str = ""
    stops: str = ""
    opened: int = 0
    failures: int = 0
    since_ns: int = 0
    next_probe_ns: int = 0
    transitions: list[Transition] = []


class BreakerRecords:
    """Everybody's, by name. Times are mono ns of this process."""

    def __init__(self, instance: str, now_ns: int) -> None:
        self.gone: dict[str, None] = {}
        """Names of replicas that renew no more: their keys are to be deleted."""
        self._instance = instance
        self._records: dict[str, BreakerRecord] = {}
        self._own: set[str] = set()
        self._heard_ns: dict[str, int] = {}
        self._looked_ns = self._renewed_ns = now_ns

    def __getitem__(self, name: str) -> BreakerRecord:
        return self._records[name]

    @property
    def sorted(self) -> list[BreakerRecord]:
        """Every record, by name."""
        return [self._records[name] for name in sorted(self._records)]

    def full_name(self, name: str) -> str:
        """The name in the bucket of a breaker of ours."""
        return token(f"{name}-{self._instance}" if self._instance else name)

    def put(self, record: BreakerRecord) -> None:
        """Note what an own breaker shows."""
        self._own.add(record.name)
        self._records[record.name] = record

    def on_state(self, name: str, value: bytes | None, now_ns: int) -> None:
        """Note what the bucket says of a breaker; our own we know better. Raises MsgspecError."""
        if name in self._own:
            return
        self.gone.pop(name, None)
        self._heard_ns.pop(name, None)
        if not value:
            self._records.pop(name, None)
            return
        record = self._records[name] = msgspec.json.decode(value, type=BreakerRecord)
        if record.instance:
            self._heard_ns[name] = now_ns

    def stopping(self, account: str) -> set[str]:
        """What open breakers stop for ``account``: "strategy.X", "symbol.X", or the name of one that stops it all.

        A half-open breaker of a dependency lets reads through as probes, never new risk.
        """
        return {
            record.name if record.stops in ("all", f"account.{account}") else record.stops
            for record in self._records.values()
            if record.stops and _stops_now(record) and not self._is_of_twin(record)
        }

    def failing(self, target: str) -> str:
        """The breaker of ``target`` that is not closed, and why, in words; empty when all are."""
        found = (r for r in self.sorted if r.target == target and r.state is not BreakerState.CLOSED)
        return next((f"{record.name}: {record.reason}" for record in found), "")

    def is_renewal_due(self, now_ns: int) -> bool:
        """Whether our own records are to be written again, so that others go on believing them."""
        if not self._instance or now_ns - self._renewed_ns <= RENEW_NS:
            return False
        self._renewed_ns = now_ns
        return True

    def forget(self, now_ns: int, *, connected: bool) -> None:
        """Drop what was not renewed in time; while we cannot hear, or could not, nobody is silent."""
        if not connected or now_ns - self._looked_ns > _DEAF_NS:
            self._heard_ns = dict.fromkeys(self._heard_ns, now_ns)
        self._looked_ns = now_ns
        for name in [name for name, heard_ns in self._heard_ns.items() if now_ns - heard_ns > FORGET_NS]:
            del self._heard_ns[name], self._records[name]
            self.gone[name] = None

    def _is_of_twin(self, record: BreakerRecord) -> bool:
        """Whether this is what another replica of this service sees: what we see ourselves decides for us."""
        if record.instance == self._instance:
            return False
        base = record.name.removesuffix(f"-{token(record.instance)}") if record.instance else record.name
        return self.full_name(base) in self._own


def is_target(text: str) -> bool:
    """Whether ``text`` is what a breaker may stand before."""
    kind, _, name = text.partition(".")
    return text in TARGETS or (kind in ("account", "strategy") and bool(name) and name == token(name))


def is_trading(target: str) -> bool:
    """Whether a breaker of ``target`` stands before trading itself, not before a dependency."""
    return target == EVERYTHING or target.partition(".")[0] in _SCOPES


def _stops_now(record: BreakerRecord) -> bool:
    return record.state is BreakerState.OPEN or (
        record.state is BreakerState.HALF_OPEN and not is_trading(record.target)
    )
