"""Reads the services' /stats once a second and keeps totals over restarts, for the line and the summary."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp


class StatsPoller:
    """The newest stats of each service; a counter of a killed life is kept and added to the next life's."""

    def __init__(self, admin_urls: dict[str, str]) -> None:
        self._urls = admin_urls
        self._session: aiohttp.ClientSession | None = None
        self.latest: dict[str, dict[str, Any]] = {}
        self._past: dict[str, dict[str, float]] = {}

    async def open(self) -> None:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.0))

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def url(self, service: str) -> str:
        """Base URL of the admin endpoints of ``service``."""
        return self._urls[service]

    async def get(self, url: str) -> Any | None:
        """JSON of ``url``, or None when nobody answers (the caller shows that)."""
        assert self._session is not None
        try:
            async with self._session.get(url) as response:
                return await response.json(content_type=None) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return None

    async def post(self, url: str) -> bool:
        """POST without a body; whether it was taken."""
        assert self._session is not None
        try:
            async with self._session.post(url) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def ready(self, service: str) -> bool:
        """Whether /readyz of ``service`` says yes."""
        return await self.get(self._urls[service] + "/readyz") is not None

    async def poll(self, *services: str) -> None:
        """Refresh ``services`` (all when none is named)."""
        names = services or tuple(self._urls)
        answers = await asyncio.gather(*(self.get(self._urls[n] + "/stats") for n in names))
        for name, stats in zip(names, answers, strict=True):
            if stats is None:
                continue
            before = self.latest.get(name, {}).get("counters", {})
            now = stats.get("counters", {})
            if any(now.get(key, 0) < value for key, value in before.items()):
                past = self._past.setdefault(name, {})
                for key, value in before.items():
                    past[key] = past.get(key, 0) + value
            self.latest[name] = stats

    def counter(self, service: str, prefix: str) -> int:
        """Sum of the counters of ``service`` that start with ``prefix``, over all its lives in this run."""
        tables = (self.latest.get(service, {}).get("counters", {}), self._past.get(service, {}))
        return int(sum(v for t in tables for k, v in t.items() if k.partition("{")[0] == prefix))

    def latency(self, service: str, name: str) -> dict[str, float]:
        """Quantiles of ``name`` in the present life of ``service``."""
        empty = {"n": 0, "p50": 0.0, "p95": 0.0, "p99": 0.0, "max": 0.0}
        found = self.latest.get(service, {}).get("latency_us", {})
        exact = found.get(name)
        if exact is not None:
            return dict(exact)
        children = [v for k, v in found.items() if k.partition("{")[0] == name and v.get("n")]
        return dict(max(children, key=lambda child: child["n"])) if children else empty
