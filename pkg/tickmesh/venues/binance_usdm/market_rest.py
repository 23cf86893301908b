"""Public REST requests of the feed: exchangeInfo and depth snapshots, over aiohttp.

In: symbols. Out: typed answers. Both are reads, so a retry is always safe; this module does not retry, its
caller decides when. It signs nothing and knows no account.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType

import aiohttp

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.binance_usdm.codec_market import DepthSnapshot, parse_depth_snapshot, parse_exchange_info
from tickmesh.venues.binance_usdm.codec_trading import Outcome, VenueCallError, classify
from tickmesh.venues.binance_usdm.rest import CallGate, CallKind, OpenGate, Usage

_DEPTH_WEIGHTS = ((50, 2), (100, 5), (500, 10), (1000, 20))
MAX_BODY_BYTES = 64 * 1024 * 1024


class MarketRest:
    """A session for public requests; use it as an async context manager.

    Every request raises DependencyError when the venue does not answer properly (``retry_after_s`` tells how
    long it wants to be left alone, 0.0 when it said nothing), MalformedFrameError when the answer is no such thing.
    """

    def __init__(self, base_url: str, *, timeout_s: float) -> None:
        self._base = base_url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self.gate: CallGate = OpenGate()
        self._usage = Usage()

    async def __aenter__(self) -> MarketRest:
        self._session = aiohttp.ClientSession(timeout=self._timeout)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def instruments(self, venue: str) -> dict[str, Instrument]:
        """Every contract the venue lists, by symbol."""
        return parse_exchange_info(await self._get("/fapi/v1/exchangeInfo", {}, 1), venue)

    async def depth(self, symbol: str, limit: int) -> DepthSnapshot:
        """The book of ``symbol``, at most ``limit`` levels per side."""
        weight = next((cost for levels, cost in _DEPTH_WEIGHTS if limit <= levels), 20)
        return parse_depth_snapshot(await self._get("/fapi/v1/depth", {"symbol": symbol, "limit": str(limit)}, weight))

    async def _get(self, path: str, parameters: dict[str, str], weight: int) -> bytes:
        try:
            ticket = self.gate.permit(CallKind.READ, weight)
        except VenueCallError as error:
            raise VenueRefusedError(f"{path}: {error.message}", error.retry_after_s) from error
        try:
            status, headers, body = await self._ask(path, parameters)
        except DependencyError as error:
            self.gate.done(ticket, self._usage, VenueCallError(Outcome.UNKNOWN, str(error)))
            raise
        except BaseException:
            self.gate.dropped(ticket)
            raise
        used = headers.get("X-MBX-USED-WEIGHT-1M", "")
        if used.isdigit():
            self._usage.weight_1m, self._usage.read_mono_ns = int(used), time.monotonic_ns()
        if status == 200:
            self.gate.done(ticket, self._usage, None)
            return body
        failure = classify(status, body, headers.get("Retry-After"))
        self.gate.done(ticket, self._usage, failure)
        said = body[:120].decode(errors="replace")
        raise VenueRefusedError(f"{path} answered {status}: {said}", _seconds(headers.get("Retry-After")))

    async def _ask(self, path: str, parameters: dict[str, str]) -> tuple[int, Mapping[str, str], bytes]:
        assert self._session is not None, "use MarketRest as a context manager"
        url = self._base + path
        try:
            async with self._session.get(url, params=parameters) as response:
                body = await response.content.read(MAX_BODY_BYTES)
                while not response.content.at_eof() and len(body) < MAX_BODY_BYTES:
                    body += await response.content.read(MAX_BODY_BYTES)
                return response.status, response.headers, body
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise DependencyError(
                "venue", f"the venue does not answer at {url} ({error or type(error).__name__}); is it running?"
            ) from error


class VenueRefusedError(DependencyError):
    """The venue answered with an error status."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__("venue", message)
        self.retry_after_s = retry_after_s


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdecimal() else 0.0
