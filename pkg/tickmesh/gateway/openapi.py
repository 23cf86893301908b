"""The OpenAPI document, made from the table of routes and the types of the answers: it cannot fall behind them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import msgspec
from aiohttp import web

from tickmesh import __version__
from tickmesh.gateway import view

RequestHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_REF = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One query or path parameter."""

    name: str
    text: str
    where: str = "query"
    kind: str = "string"


@dataclass(frozen=True, slots=True)
class Route:
    """One route: what answers it and how it is described. ``answers`` maps a status to a type."""

    method: str
    path: str
    handler: RequestHandler
    summary: str
    answers: tuple[tuple[int, Any], ...] = ()
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    errors: tuple[int, ...] = ()


_ALWAYS = {401: "the token is missing", 403: "a page of another site asks, or commands are off", 429: "too many"}
_ERRORS = _ALWAYS | {400: "the request is wrong", 404: "it is not known", 503: "a server is missing; try again"}


def document(routes: tuple[Route, ...]) -> dict[str, Any]:
    """OpenAPI 3.1 of ``routes``."""
    types = [kind for route in routes for _, kind in route.answers if kind is not None]
    types += [route.body for route in routes if route.body is not None]
    types += [view.ErrorView, view.SnapshotMessage]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    schema_of = {repr(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "tickmesh gateway",
            "version": __version__,
            "description": "State of a running tickmesh, and its few commands. Decimals travel as text.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "TICKMESH_GATEWAY__TOKEN"},
                "session": {"type": "apiKey", "in": "cookie", "name": "tickmesh_session"},
            },
        },
        "security": [{}, {"bearer": []}, {"session": []}],
    }


def _operation(route: Route, schema_of: dict[str, Any]) -> dict[str, Any]:
    error = {"application/json": {"schema": schema_of[repr(view.ErrorView)]}}
    responses: dict[str, Any] = {}
    for status, kind in route.answers:
        responses[str(status)] = {"description": route.summary}
        if kind is not None:
            responses[str(status)]["content"] = {"application/json": {"schema": schema_of[repr(kind)]}}
    for status in sorted({*_ALWAYS, *route.errors}):
        responses[str(status)] = {"description": _ERRORS[status], "content": error}
    operation: dict[str, Any] = {"summary": route.summary, "responses": responses}
    if route.parameters:
        operation["parameters"] = [
            {"name": p.name, "in": p.where, "required": p.where == "path", "description": p.text,
             "schema": {"type": p.kind}}
            for p in route.parameters
        ]  # fmt: skip
    if route.body is not None:
        content = {"application/json": {"schema": schema_of[repr(route.body)]}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
