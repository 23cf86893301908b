"""LeaseCore: who may act, decided by compare-and-set on one key; pure, time comes in with the call.

In: what the key holds (with its revision) and this machine's CLOCK_MONOTONIC. Out: the write to try next. Clocks of
different machines are never compared: a contender measures, on its own clock, how long the holder's revision has stood
still, and takes over after a whole ``ttl``. The holder stops earlier, ``ttl`` minus a quarter after it *began* its last
successful renewal, so that a holder that was stopped and resumed finds itself without the lease before it acts. Every
takeover raises the epoch; an epoch is never used twice.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class LeaseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What the key holds. ``holder`` is empty when it was given back; ``since_ns`` (wall) is for people only."""

    holder: str
    epoch: int
    ttl_ms: int
    since_ns: int = 0


class Move(Enum):
    """What to try next."""

    NOTHING = "nothing"
    CREATE = "create"
    TAKE = "take"
    RENEW = "renew"


class Attempt(msgspec.Struct, frozen=True):
    """A write to try: with ``revision`` 0 only if the key is absent, else only if it is still at that revision."""

    move: Move
    record: LeaseRecord
    revision: int
    began_mono_ns: int


class LeaseCore:
    """One contender for one key. ``me`` must differ between processes that can be alive at the same time."""

    def __init__(self, me: str, ttl_ns: int) -> None:
        if not me or ttl_ns < 40_000_000:
            raise ValueError("a lease needs a name and a time to live of 40 ms or more")
        self.me = me
        self._ttl_ns = ttl_ns
        self._record: LeaseRecord | None = None
        self._revision = 0
        self._changed_mono_ns: int | None = None
        self._highest_epoch = 0
        self._valid_until_ns = 0
        self._held_epoch = 0
        self._reign = range(0)
        self._giving_back = False

    @property
    def epoch(self) -> int:
        """Epoch under which we hold, or held last; 0 before the first time."""
        return self._held_epoch

    @property
    def reign(self) -> int:
        """The first of the epochs, up to the present one, in which nobody but us held it.

        Epochs count by one, and one whose answer got lost is ours all the same once the key shows it.
        """
        return self._reign.start

    @property
    def holder(self) -> str:
        """Who holds it as far as we have seen."""
        return self._record.holder if self._record else ""

    def valid(self, now_mono_ns: int) -> bool:
        """Whether we may act at this moment. Ask again before every act."""
        return now_mono_ns < self._valid_until_ns

    def see(self, record: LeaseRecord | None, revision: int, now_mono_ns: int) -> None:
        """Take note of what the key holds; an older revision than the one known is ignored."""
        if revision < self._revision or (revision == self._revision and self._changed_mono_ns is not None):
            return
        self._record, self._revision, self._changed_mono_ns = record, revision, now_mono_ns
        if record is not None:
            self._highest_epoch = max(self._highest_epoch, record.epoch)
            if record.holder == self.me and record.epoch == self._reign.stop and self._held_epoch:
                self._reign = range(self._reign.start, record.epoch + 1)
            if record.holder != self.me or record.epoch != self._held_epoch:
                self._valid_until_ns = 0  # somebody else has it: whatever we thought is over

    def next(self, now_mono_ns: int, wall_ns: int = 0) -> Attempt | None:
        """The write to try now, or None: not yet seen, not our turn, or not yet time to renew."""
        if self._changed_mono_ns is None or self._giving_back:
            return None
        record = self._record
        if record is None:
            return self._attempt(Move.CREATE, self._highest_epoch + 1, now_mono_ns, wall_ns)
        if record.holder == self.me and record.epoch == self._held_epoch and self._held_epoch:
            if not self.valid(now_mono_ns):
                # Lapsed without anybody taking it: begin anew, so that the epoch fences what we did before.
                return self._attempt(Move.TAKE, record.epoch + 1, now_mono_ns, wall_ns)
            if now_mono_ns < self._valid_until_ns - self._safe_ns + self._ttl_ns // 4:
                return None
            return self._attempt(Move.RENEW, record.epoch, now_mono_ns, record.since_ns)
        free = record.holder == "" or record.holder == self.me
        ttl_ns = record.ttl_ms * 1_000_000
        if free or now_mono_ns - self._changed_mono_ns >= ttl_ns:
            return self._attempt(Move.TAKE, self._highest_epoch + 1, now_mono_ns, wall_ns)
        return None

    def wait_ns(self, now_mono_ns: int) -> int:
        """How long nothing will be due unless the key changes."""
        record = self._record
        if record is None or self._changed_mono_ns is None:
            return self._ttl_ns // 4
        if self.valid(now_mono_ns):
            return max(0, self._valid_until_ns - self._safe_ns + self._ttl_ns // 4 - now_mono_ns)
        return max(0, self._changed_mono_ns + record.ttl_ms * 1_000_000 - now_mono_ns)

    def done(self, attempt: Attempt, revision: int | None) -> bool:
        """The answer to an attempt: the new revision, or None when somebody was faster. Returns whether we hold it.

        A write without an answer is not reported here: it shows when the key is read again.
        """
        if revision is None:
            return False
        self._record, self._revision, self._changed_mono_ns = attempt.record, revision, attempt.began_mono_ns
        self._highest_epoch = max(self._highest_epoch, attempt.record.epoch)
        self._held_epoch = epoch = attempt.record.epoch
        self._reign = range(
            self._reign.start if epoch in (self._reign.stop - 1, self._reign.stop) else epoch, epoch + 1
        )
        self._valid_until_ns = attempt.began_mono_ns + self._safe_ns
        return True

    def give_back(self) -> Attempt | None:
        """Stop acting now; the write that lets the next one take over at once, or None when it is not ours."""
        held = self._record is not None and self._record.holder == self.me and self._record.epoch == self._held_epoch
        self._giving_back = True
        self._valid_until_ns = 0
        if not held or self._record is None:
            return None
        record = msgspec.structs.replace(self._record, holder="")
        return Attempt(Move.RENEW, record, self._revision, 0)

    @property
    def _safe_ns(self) -> int:
        return self._ttl_ns - self._ttl_ns // 4

    def _attempt(self, move: Move, epoch: int, now_mono_ns: int, wall_ns: int) -> Attempt:
        record = LeaseRecord(holder=self.me, epoch=epoch, ttl_ms=self._ttl_ns // 1_000_000, since_ns=wall_ns)
        return Attempt(move, record, self._revision, now_mono_ns)
