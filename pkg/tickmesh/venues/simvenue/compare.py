"""Compare the synthetic market with a capture: ``python -m tickmesh.venues.simvenue.compare FILE`` prints a table.

The synthetic market plays on the real exchange for some minutes of its own time; its wire frames are measured by the
code that measures the capture (flow/measure.py). docs/calibration.md keeps the result.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from random import Random

import msgspec

from tickmesh.domain.errors import ConfigError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.capture import Kind, Record
from tickmesh.venues.simvenue.exchange.exchange import Exchange
from tickmesh.venues.simvenue.flow.calibrate import measured
from tickmesh.venues.simvenue.flow.driver import SYNTHETIC_STEP_S
from tickmesh.venues.simvenue.flow.measure import Measured, measure
from tickmesh.venues.simvenue.flow.parameters import PROBABILITIES
from tickmesh.venues.simvenue.flow.synthetic import SyntheticMarket
from tickmesh.venues.simvenue.server.listing import instruments_for
from tickmesh.venues.simvenue.server.market_streams import MarketStreams

SYMBOL = "BTCUSDT"
DURATION_S = 120
_KINDS = {"@depth@0ms": Kind.DEPTH, "@bookTicker": Kind.BOOK_TICKER, "@trade": Kind.TRADE}
_STREAMS = {f"{SYMBOL.lower()}{suffix}": kind for suffix, kind in _KINDS.items()}


class _Recorder:
    """A sink that keeps the frames of one symbol."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.records: list[Record] = []

    def wanted(self, stream: str) -> bool:
        return stream in _STREAMS

    def send(self, stream: str, data: bytes) -> None:
        if stream in _STREAMS:
            self.records.append(Record(self.now_ns, _STREAMS[stream], SYMBOL, data, stream))


def synthetic_records(duration_s: int, seed: int) -> Iterator[Record]:
    """Frames of the synthetic market on the exchange, after a warm-up of ten seconds."""
    instruments: dict[str, Instrument] = instruments_for([SYMBOL])
    exchange, recorder = Exchange(list(instruments.values())), _Recorder()
    streams = MarketStreams(exchange, instruments.values(), recorder, publish_flow=True)
    market = SyntheticMarket(exchange, instruments, Random(seed))
    market.open(0)
    exchange.drain_events()
    step_ns, warm_ns = round(SYNTHETIC_STEP_S * 1e9), 10_000_000_000
    for number in range(1, (warm_ns + duration_s * 1_000_000_000) // step_ns):
        recorder.now_ns = now_ns = number * step_ns
        market.advance(step_ns, now_ns)
        exchange.advance(now_ns // 1_000_000)
        if now_ns == warm_ns:
            exchange.drain_events()
            yield _snapshot(exchange, now_ns)
            for stream in _STREAMS:
                streams.on_subscribed(stream)
        elif now_ns > warm_ns:
            streams.on_events(exchange.drain_events(), now_ns // 1_000_000)
            streams.tick(now_ns // 1_000_000)
            yield from recorder.records
            recorder.records.clear()


def _snapshot(exchange: Exchange, now_ns: int) -> Record:
    depth, instrument = exchange.depth(SYMBOL, 10_000), exchange.market_of(SYMBOL).instrument
    body = {
        "lastUpdateId": depth.update_id,
        "bids": [(str(instrument.price(t)), str(instrument.qty(q))) for t, q in depth.bids],
        "asks": [(str(instrument.price(t)), str(instrument.qty(q))) for t, q in depth.asks],
    }
    return Record(now_ns, Kind.SNAPSHOT, SYMBOL, msgspec.json.encode(body))


def table(capture: Measured, synthetic: Measured) -> str:
    """Both side by side, as Markdown."""
    rows = ["| statistic | capture | synthetic |", "|---|---|---|"]
    for name in Measured.__struct_fields__:
        pair = [getattr(which, name) for which in (capture, synthetic)]
        rows.append(f"| `{name}` | {' | '.join(_cell(value) for value in pair)} |")
    quantile_names = ", ".join(f"{p:g}" for p in PROBABILITIES)
    return "\n".join(rows) + f"\n\nTuples are quantiles at {quantile_names}.\n"


def _cell(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def main(arguments: list[str]) -> int:
    """Prints the table; 2 and one sentence when it cannot."""
    if len(arguments) != 1:
        print("usage: python -m tickmesh.venues.simvenue.compare FILE", file=sys.stderr)
        return 2
    try:
        capture = measured(arguments[0], SYMBOL)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    grid = instruments_for([SYMBOL])[SYMBOL]
    synthetic = measure(synthetic_records(DURATION_S, seed=1), grid, "the synthetic market")
    print(table(capture, synthetic), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
