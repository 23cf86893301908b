"""Public REST requests of the feed: exchangeInfo and depth snapshots, over aiohttp.

In: symbols. Out: typed answers. Both are reads, so a retry is always safe; this module does not retry, its
caller decides when. It signs nothing and knows no account.
"""

from __future__ import annotations

from types import TracebackType

import aiohttp

from tickmesh.domain.errors import DependencyError
from tickmesh.domain.instrument import Instrument
from tickmesh.venues.binance_usdm.codec_market import DepthSnapshot, parse_depth_snapshot, parse_exchange_info

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
        return parse_exchange_info(await self._get("/fapi/v1/exchangeInfo", {}), venue)

    async def depth(self, symbol: str, limit: int) -> DepthSnapshot:
        """The book of ``symbol``, at most ``limit`` levels per side."""
        return parse_depth_snapshot(await self._get("/fapi/v1/depth", {"symbol": symbol, "limit": str(limit)}))

    async def _get(self, path: str, parameters: dict[str, str]) -> bytes:
        assert self._session is not None, "use MarketRest as a context manager"
        url = self._base + path
        try:
            async with self._session.get(url, params=parameters) as response:
                body = await response.content.read(MAX_BODY_BYTES)
                while not response.content.at_eof() and len(body) < MAX_BODY_BYTES:
                    body += await response.content.read(MAX_BODY_BYTES)
                if response.status != 200:
                    raise VenueRefusedError(
                        f"{path} answered {response.status}: {body[:120].decode(errors='replace')}",
                        _seconds(response.headers.get("Retry-After")),
                    )
                return body
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
