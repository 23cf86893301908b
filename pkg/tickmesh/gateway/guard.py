"""Guard: every request passes here first. Refuses strangers' pages, missing tokens, floods; errors leave as JSON.

What it defends against: a page of another site that talks to a gateway on this machine (Origin), a name of
another site that resolves to this machine (Host), a request without the token where one is set, and commands
on an open address for which nobody has set a token.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from tickmesh.domain.errors import DependencyError, TickmeshError
from tickmesh.hotpath import TokenBucket
from tickmesh.observe.admin import json_response
from tickmesh.observe.metrics import Metrics

log = logging.getLogger(__name__)

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]

COOKIE = "tickmesh_session"
SESSION_S = 12 * 3600
"""A trading day; the token is asked for again after it."""
_MAX_CLIENTS_TRACKED = 10_000
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class RequestRefusedError(TickmeshError):
    """The request is not answered; ``status`` and one sentence say why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class RateLimit:
    """A token bucket per client address, bounded in clients."""

    def __init__(self, per_second: float) -> None:
        self.per_second = per_second
        self._buckets: OrderedDict[str, TokenBucket] = OrderedDict()

    def allow(self, client: str, now_s: float) -> bool:
        """Take one token; False when the client asks too often."""
        bucket = self._buckets.pop(client, None)
        if bucket is None:
            bucket = TokenBucket(max(1, int(self.per_second)), max(1, int(1e9 / self.per_second)))
        self._buckets[client] = bucket
        while len(self._buckets) > _MAX_CLIENTS_TRACKED:
            self._buckets.popitem(last=False)
        return bucket.take(1, int(now_s * 1e9))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Access:
    """Who may do what. ``token`` empty means nobody has to show one."""

    token: str = ""
    local: bool = True
    allowed_origins: tuple[str, ...] = ()

    @property
    def commands(self) -> bool:
        """Whether commands are taken at all: on this machine, or from somebody who shows the token."""
        return self.local or bool(self.token)

    def session(self, expires_s: int) -> str:
        """A cookie that proves that its owner once showed the token; any gateway with the same token takes it."""
        proof = hmac.new(self.token.encode(), f"tickmesh session {expires_s}".encode(), hashlib.sha256).hexdigest()
        return f"{expires_s}.{proof}"

    def token_fits(self, offered: str) -> bool:
        return hmac.compare_digest(offered.encode(), self.token.encode())

    def authorized(self, request: web.Request) -> bool:
        """Whether the request carries the token or a session made from it."""
        if not self.token:
            return True
        scheme, _, offered = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Bearer" and self.token_fits(offered):
            return True
        cookie = request.cookies.get(COOKIE, "")
        expires, _, _ = cookie.partition(".")
        if not expires.isdecimal() or len(expires) > 12 or int(expires) < time.time():
            return False
        return hmac.compare_digest(cookie.encode(), self.session(int(expires)).encode())

    def check_origin(self, request: web.Request) -> None:
        """Raises RequestRefusedError when a page of another site asks, or asks under another site's name."""
        host = request.host
        if self.local and not self.allowed_origins and _name(host) not in _LOCAL_NAMES:
            raise RequestRefusedError(
                403, "this gateway listens on this machine only and answers to localhost, not to that name"
            )
        origin = request.headers.get("Origin")
        if origin is None or origin in self.allowed_origins:
            return
        if urlsplit(origin).netloc != host:
            raise RequestRefusedError(
                403, "a page of another site may not use this gateway; see TICKMESH_GATEWAY__ALLOWED_ORIGINS"
            )


def _name(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


class Guard:
    """The middleware."""

    def __init__(self, access: Access, limit: RateLimit, open_paths: Callable[[str], bool], metrics: Metrics) -> None:
        self._answers = {
            kind: metrics.counter("http_answers_total", "HTTP answers by class of status", status=f"{kind}xx")
            for kind in (1, 2, 3, 4, 5)
        }
        self._access = access
        self._limit = limit
        self._open = open_paths

    @web.middleware
    async def middleware(self, request: web.Request, handler: RequestHandler) -> web.StreamResponse:
        try:
            self._check(request)
            response = await handler(request)
        except RequestRefusedError as error:
            response = _refusal(error.status, str(error))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            response = _refusal(error.status, _sentence(error, request))
        except ValueError as error:
            response = _refusal(400, str(error))
        except DependencyError as error:
            sent = "" if request.method == "GET" else "nothing was sent: "
            response = _refusal(503, f"{sent}{error}; try again")
        except Exception:  # a mistake of ours is one answer and one log entry, never the end of the gateway
            log.exception("%s %s failed", request.method, request.path)
            response = _refusal(500, f"{request.method} {request.path} failed inside the gateway; its log says why")
        self._answers[response.status // 100].inc()
        if not response.prepared:
            for name, value in _HEADERS.items():
                response.headers.setdefault(name, value)
            response.headers.setdefault("Cache-Control", "no-store")
        return response

    def _check(self, request: web.Request) -> None:
        self._access.check_origin(request)
        if not self._limit.allow(request.remote or "?", time.monotonic()):
            raise RequestRefusedError(
                429, f"more than {self._limit.per_second:g} requests a second; slow down or use /ws/live"
            )
        if not self._open(request.path) and not self._access.authorized(request):
            raise RequestRefusedError(
                401, "a token is needed: send Authorization: Bearer TOKEN (TICKMESH_GATEWAY__TOKEN)"
            )
        if request.path.startswith("/api/v1/control/") and not self._access.commands:
            raise RequestRefusedError(
                403,
                "commands are off because this address is open to others; set TICKMESH_GATEWAY__TOKEN to allow them",
            )


def _refusal(status: int, sentence: str) -> web.Response:
    response = json_response({"error": sentence}, status=status)
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    elif status == 429:
        response.headers["Retry-After"] = "1"
    return response


def _sentence(error: web.HTTPException, request: web.Request) -> str:
    if error.status == 404:
        return f"there is no {request.path}; /api/v1/openapi.json lists what there is"
    if error.status == 405:
        return f"{request.path} does not take {request.method}; /api/v1/openapi.json lists what it takes"
    return f"{error.reason}: {request.method} {request.path}"
