"""Instruments travel in the ``config`` bucket: feed writes what the venue lists, everybody else reads it."""

from __future__ import annotations

import asyncio

import msgspec

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.ports import Bus

BUCKET = "config"
_decoder = msgspec.json.Decoder(Instrument)


def instrument_key(venue: str, symbol: str) -> str:
    return f"instrument.{venue}.{symbol}"


async def publish_instrument(bus: Bus, instrument: Instrument) -> None:
    """Write one instrument if it differs from what is there."""
    bucket = await bus.kv(BUCKET)
    key, value = instrument_key(instrument.venue, instrument.symbol), msgspec.json.encode(instrument)
    current = await bucket.get(key)
    if current is None or current.value != value:
        await bucket.put(key, value)


async def wait_for_instruments(
    bus: Bus, venue: str, symbols: list[str], timeout_s: float = 30.0
) -> dict[str, Instrument]:
    """Read the instruments of ``symbols``, waiting for the feed to write them.

    Raises:
        DependencyError: one of them is not there in time; the feed is down or the venue does not list it.
    """
    bucket = await bus.kv(BUCKET)
    found: dict[str, Instrument] = {}
    try:
        async with asyncio.timeout(timeout_s):
            while len(found) < len(set(symbols)):
                for symbol in symbols:
                    if symbol not in found and (entry := await bucket.get(instrument_key(venue, symbol))):
                        found[symbol] = _decoder.decode(entry.value or b"")
                if len(found) < len(set(symbols)):
                    await asyncio.sleep(0.1)
    except TimeoutError:
        missing = ", ".join(s for s in symbols if s not in found)
        raise DependencyError("feed", f"the feed has not published the instrument {missing} of {venue}") from None
    return found
