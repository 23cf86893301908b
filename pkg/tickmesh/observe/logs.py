"""Logs on stderr, one line an event, with secrets masked (first four characters stay, as operators expect)."""

from __future__ import annotations

import json
import logging
import re
import sys
import time

_SECRET_PARAMETERS = re.compile(
    r"(?i)\b(signature|api[_-]?key|api[_-]?secret|secret|token|password|x-mbx-apikey|listenKey)"
    r"(['\"]?\s*[=:]\s*['\"]?)([^\s'\"&,}]+)"
)
_URL_PASSWORD = re.compile(r"(\w+://[^:/@\s]+):([^@/\s]+)@")
_known_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Never let ``secret`` appear in a log line, wherever it comes from."""
    if len(secret) >= 6:
        _known_secrets.add(secret)


def mask(text: str) -> str:
    """``text`` with every known secret and everything that looks like one cut to four characters."""
    for secret in _known_secrets:
        if secret in text:
            text = text.replace(secret, secret[:4] + "****")
    text = _URL_PASSWORD.sub(r"\1:****@", text)
    return _SECRET_PARAMETERS.sub(lambda m: f"{m[1]}{m[2]}{m[3][:4]}****", text)


class _Masked(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__(
            "%(asctime)s.%(msecs)03dZ %(levelname)-7s %(service)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S"
        )
        self._service = service
        self.converter = time.gmtime

    def format(self, record: logging.LogRecord) -> str:
        record.service = self._service
        return mask(super().format(record))


class _Json(_Masked):
    """Masks each text before it is quoted: afterwards a secret inside of JSON would look different."""

    def format(self, record: logging.LogRecord) -> str:
        body = {
            "ts": int(record.created * 1e9),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": mask(record.getMessage()),
        }
        if record.exc_info:
            body["error"] = mask(self.formatException(record.exc_info))
        correlation_id = getattr(record, "correlation_id", "")
        if correlation_id:
            body["correlation_id"] = mask(str(correlation_id))
        return json.dumps(body, default=str)


def set_up(service: str, level: str = "INFO", style: str = "text") -> None:
    """Configure the root logger of this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter((_Json if style == "json" else _Masked)(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.getLogger("asyncio").setLevel(logging.WARNING)
