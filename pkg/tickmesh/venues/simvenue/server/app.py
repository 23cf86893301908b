"""The aiohttp application: REST and WebSocket of the venue on one port.

In: a Venue's parts. Out: an Application. It decides nothing.
"""

from __future__ import annotations

from aiohttp import web

from tickmesh.venues.simvenue.server.rest import Rest
from tickmesh.venues.simvenue.server.sockets import Sockets

MAX_BODY_BYTES = 1024 * 1024
_PREFIXES = ("", "/public", "/market", "/private")


def build(rest: Rest, sockets: Sockets) -> web.Application:
    """Routes; the venue serves its streams under several prefixes, all of them are one here."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    for prefix in _PREFIXES:
        app.router.add_get(f"{prefix}/ws", sockets.ws)
        app.router.add_get(f"{prefix}/ws/", sockets.ws)
        app.router.add_get(f"{prefix}/ws/{{streams:.+}}", sockets.ws)
        app.router.add_get(f"{prefix}/stream", sockets.stream)
    app.router.add_route("*", "/{path:.*}", rest.handle)
    return app
