"""Calibration: a capture in, the FlowParameters of one symbol out. ``python -m ...flow.calibrate FILE`` prints YAML."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import yaml

from tickmesh.domain.errors import ConfigError
from tickmesh.venues.capture import Capture, infer_instruments
from tickmesh.venues.simvenue.flow.measure import Measured, measure
from tickmesh.venues.simvenue.flow.parameters import FlowParameters


def calibrate(path: Path | str, symbol: str = "") -> FlowParameters:
    """Measures a capture (``symbol`` empty: its first). Raises ConfigError when it lacks quotes, trades or diffs."""
    return parameters(measured(path, symbol))


def measured(path: Path | str, symbol: str = "") -> Measured:
    """Statistics of one symbol of a capture. Raises ConfigError."""
    grids = infer_instruments(path)
    symbol = symbol.upper() or next(iter(grids), "")
    if symbol not in grids:
        raise ConfigError(f"{path} holds no depth of {symbol or 'any symbol'}; calibrate on a capture that does")
    return measure(Capture(path).records(), grids[symbol], f"{symbol} in {path}")


def parameters(found: Measured) -> FlowParameters:
    """What the synthetic market uses of the statistics."""
    return FlowParameters(**{name: getattr(found, name) for name in FlowParameters.__struct_fields__})


def main(arguments: list[str]) -> int:
    """Prints a capture's parameters; 2 and one sentence when it cannot."""
    if len(arguments) not in (1, 2):
        print("usage: python -m tickmesh.venues.simvenue.flow.calibrate FILE [SYMBOL]", file=sys.stderr)
        return 2
    try:
        found = calibrate(*arguments)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    print(yaml.safe_dump(msgspec.to_builtins(found), sort_keys=False), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
