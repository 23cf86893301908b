"""Overlap: a new connection's frames, held until it can take over from the old one without a gap.

In: frames of the new connection, from its first. Out: when the old one may go, and the frames to go on with. Both
carry the same streams, so everything held is either known already (and refused by the books as old) or the
continuation. It is bounded: when full it asks to stop reading. It decides nothing about connections.
"""

from __future__ import annotations

from tickmesh.domain.errors import MalformedFrameError
from tickmesh.venues.binance_usdm.codec_market import DepthFrame, parse_frame
from tickmesh.venues.binance_usdm.market_intake import MarketIntake


class Overlap:
    """A session's Receiver while the old session is still the one that counts."""

    def __init__(self, intake: MarketIntake, max_frames: int) -> None:
        self._intake = intake
        self._max_frames = max_frames
        self._first: dict[str, int] = {}
        self.reads: list[tuple[list[bytes], int]] = []
        self.count = 0
        self.connected = False

    def on_connected(self) -> None:
        self.connected = True

    def on_frames(self, frames: list[bytes], mono_ns: int) -> bool:
        self.reads.append((frames, mono_ns))
        self.count += len(frames)
        for frame in frames:
            if len(self._first) < len(self._intake.markets):
                self._look(frame)
        return not self.full

    def on_disconnected(self, reason: str) -> None:
        """What it held is no beginning any more."""
        self.connected = False
        self.reads.clear()
        self.count = 0
        self._first.clear()

    @property
    def covered(self) -> bool:
        """Whether every book has reached the point where this connection's diffs begin."""
        markets = self._intake.markets
        return len(self._first) == len(markets) and all(
            markets[symbol].replica.synchronised and markets[symbol].replica.last_id >= previous_id
            for symbol, previous_id in self._first.items()
        )

    @property
    def hole(self) -> bool:
        """Whether a book has not reached this connection's first diff: what lies between is not here."""
        markets = self._intake.markets
        return any(markets[symbol].replica.last_id < previous_id for symbol, previous_id in self._first.items())

    @property
    def full(self) -> bool:
        return self.count >= self._max_frames

    def _look(self, frame: bytes) -> None:
        try:
            message = parse_frame(frame)
        except MalformedFrameError:
            return  # counted when it is handled
        if isinstance(message, DepthFrame) and message.s in self._intake.markets:
            self._first.setdefault(message.s, message.pu)
