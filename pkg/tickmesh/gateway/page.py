"""The web page's files: an allow-list read once, served with ETags so that a reload costs nothing."""

from __future__ import annotations

import hashlib
from importlib import resources

from aiohttp import web

_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
PREFIX = "/web/"


class Pages:
    """The files of ``tickmesh.web``; nothing outside of that folder can be named."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[bytes, str, str]] = {}
        for entry in resources.files("tickmesh.web").iterdir():
            kind = next((t for suffix, t in _TYPES.items() if entry.name.endswith(suffix)), None)
            if kind is not None:
                body = entry.read_bytes()
                self._files[entry.name] = (body, kind, hashlib.sha256(body).hexdigest()[:20])

    def names(self) -> list[str]:
        return sorted(self._files)

    def serve(self, request: web.Request, name: str) -> web.StreamResponse:
        """The file, or 304 when the client has it already; raises HTTPNotFound for a name that is not ours."""
        found = self._files.get(name)
        if found is None:
            raise web.HTTPNotFound
        body, kind, tag = found
        held = request.if_none_match or ()
        unchanged = any(entry.value in (tag, "*") for entry in held)
        response = (
            web.Response(status=304) if unchanged else web.Response(body=body, content_type=kind, charset="utf-8")
        )
        response.etag = tag
        response.headers["Cache-Control"] = "no-cache"
        return response
