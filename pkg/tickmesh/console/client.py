"""GatewayClient: one question to the gateway, one answer or one sentence; for people's commands, not for speed."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote

from tickmesh.domain.errors import ConfigError, DependencyError, TickmeshError
from tickmesh.settings import Settings

_TIMEOUT_S = 5.0
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}


class RefusedError(TickmeshError):
    """The gateway understood and said no; its own sentence is the text. Asking again does not help."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


class GatewayClient:
    """Asks the gateway of ``settings``, or the one at ``url``."""

    def __init__(self, settings: Settings, url: str | None = None) -> None:
        if url is not None and not url.startswith(("http://", "https://")):
            raise ConfigError(f"--url {url} must begin with http:// or https://")
        host = _EVERYWHERE.get(settings.observe.host, settings.observe.host)
        self._execution = f"http://{host}:{settings.execution.admin_port}"
        self.url = (url or f"http://{host}:{settings.gateway.port}").rstrip("/")
        self._token = settings.gateway.token.get_secret_value()

    def get(self, path: str) -> Any:
        """JSON of ``path``.

        Raises:
            DependencyError: nobody answers there; a retry helps once it runs.
            RefusedError: the gateway's own refusal.
        """
        return self._ask(self.url + path, None)[1]

    def post(self, path: str, body: dict[str, str]) -> tuple[int, Any]:
        """Status and JSON of a command; raises as ``get``."""
        return self._ask(self.url + path, json.dumps(body).encode())

    def halt_without_gateway(self, reason: str, *, flatten: bool) -> str:
        """Stop the account at the execution service itself; returns the account's name. Raises as ``get``."""
        _, answer = self._ask(f"{self._execution}/halt?reason={quote(reason)}&flatten={str(flatten).lower()}", b"")
        return str(answer["halted"])

    def _ask(self, url: str, body: bytes | None) -> tuple[int, Any]:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(url, data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
                return int(response.status), json.load(response)
        except urllib.error.HTTPError as error:
            raise RefusedError(error.code, _sentence(error)) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise DependencyError(
                "gateway",
                f"nothing answers at {self.url} ({reason}); start the system with `make run`, or say --url",
            ) from None


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError, OSError):
        return f"the gateway answered {error.code} {error.reason}"
