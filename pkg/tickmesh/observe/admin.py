"""The admin endpoints of every service: /healthz /readyz /startupz /metrics /stats, and what it adds."""

from __future__ import annotations

import errno
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from tickmesh.domain.errors import ConfigError
from tickmesh.observe.health import Health
from tickmesh.observe.metrics import Metrics

Route = Callable[[web.Request], Awaitable[web.StreamResponse]]


def json_response(body: object, *, status: int = 200) -> web.Response:
    """Decimals travel as text, as on the bus."""
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")


class AdminServer:
    """One small HTTP server; routes are added before ``start``."""

    def __init__(self, host: str, port: int, metrics: Metrics, health: Health) -> None:
        self._host = host
        self._port = port
        self._metrics = metrics
        self._health = health
        self._app = web.Application()
        self._runner: web.AppRunner | None = None
        self.add_get("/healthz", self._healthz)
        self.add_get("/readyz", self._readyz)
        self.add_get("/startupz", self._startupz)
        self.add_get("/metrics", self._metrics_text)
        self.add_get("/stats", self._stats)

    def add_get(self, path: str, handler: Route) -> None:
        self._app.router.add_get(path, handler)

    def add_post(self, path: str, handler: Route) -> None:
        self._app.router.add_post(path, handler)

    def add_delete(self, path: str, handler: Route) -> None:
        self._app.router.add_delete(path, handler)

    @property
    def port(self) -> int:
        return self._port

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: the port is taken.
        """
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {self._port} of {self._metrics.service} is busy; stop what uses it or set "
                    f"TICKMESH_{self._metrics.service.upper()}__ADMIN_PORT"
                ) from None
            raise

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = self._health.unready_because
        return json_response({"ready": not reasons, "because": reasons}, status=503 if reasons else 200)

    async def _startupz(self, _: web.Request) -> web.Response:
        return web.Response(
            text="ok\n" if self._health.started else "starting\n", status=200 if self._health.started else 503
        )

    async def _metrics_text(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def _stats(self, _: web.Request) -> web.Response:
        return json_response(
            {
                "service": self._metrics.service,
                "ready": self._health.ready,
                "because": self._health.unready_because,
                **self._metrics.stats(),
            }
        )
