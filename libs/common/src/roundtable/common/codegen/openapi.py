"""Build layer: the gateway's HTTP paths as OpenAPI 3.1. Pure. What a path does is said here; the types are the schema's."""

from __future__ import annotations

from typing import Any, Final

from .. import VERSION
from ..schema import errors
from ..schema.basics import ROOM_PATTERN
from .asyncapi import BEARER, LICENSE, PREFIX, TICKET, Document
from .json_schema import definitions, reachable, references

_MSGPACK: Final = "application/msgpack"
_ANYBODY: Final[list[Document]] = []
_TOKEN: Final[list[Document]] = [{"bearer": []}]
_TABLE: Final[list[Document]] = [{"bearer": []}, {"ticket": []}]

_ABOUT: Final = """\
The ways to a table for those whom WebSockets do not reach, tokens, exports, and what operators look at.
The WebSocket itself stands in `/asyncapi.json`.
"""

_STREAM: Final = """\
An endless stream: `event:` is the event's name, `id:` the cursor after it, `data:` an `SSEEvent` on one line. An event
`error`, with an error message as its data, says why the stream ends.
"""

_ROOM: Final = {"type": "string", "pattern": ROOM_PATTERN.replace(r"\Z", "$")}
_PARAMETERS: Final[Document] = {
    "room": {
        "name": "room",
        "in": "query",
        "description": "The room; default: the token's `room`, else `lobby`.",
        "schema": _ROOM,
    },
    "roomPath": {"name": "room", "in": "path", "required": True, "description": "The room.", "schema": _ROOM},
    "cursor": {
        "name": "cursor",
        "in": "query",
        "description": "Where an earlier connection or poll ended: what came after is told.",
        "schema": {"type": "string"},
    },
    "connection": {
        "name": "connection",
        "in": "query",
        "description": "The `connectionId` of the welcome to which this request belongs.",
        "schema": {"type": "string", "maxLength": 64},
    },
    "lastEventId": {
        "name": "Last-Event-ID",
        "in": "header",
        "description": "The cursor, as browsers send it by themselves when they reconnect.",
        "schema": {"type": "string"},
    },
    "timeout": {
        "name": "timeout",
        "in": "query",
        "description": "Seconds to wait for something to tell.",
        "schema": {"type": "number", "minimum": 0, "default": 25},
    },
}


def openapi() -> Document:
    document: Document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Roundtable over HTTP",
            "version": VERSION,
            "description": _ABOUT,
            "license": LICENSE,
        },
        "servers": [{"url": "/", "description": "The gateway that serves this document"}],
        "tags": [{"name": name} for name in ("table", "auth", "exports", "operations")],
        "security": _TABLE,
        "paths": {**_table(), **_auth(), **_exports(), **_operations()},
    }
    used = [ref.removeprefix(PREFIX) for ref in references(document["paths"]) if ref.startswith(PREFIX)]
    document["components"] = {
        "schemas": reachable([*used, "ErrorMessage"], PREFIX, definitions(PREFIX)),
        "parameters": _PARAMETERS,
        "responses": _refusals(),
        "securitySchemes": {
            "bearer": {**BEARER, "description": "A JWT that says who asks and for which rooms."},
            "ticket": {"type": "apiKey", "in": "query", "name": "ticket", "description": TICKET},
        },
    }
    return document


def _table() -> Document:
    stream = {"schema": {"type": "string"}, "x-event-data": _ref("SSEEvent")}
    message = _any_of("ClientMessage", "ClientBatch")
    reply = {
        "anyOf": [
            _ref("Response"),
            _ref("ErrorMessage"),
            {"type": "array", "items": _any_of("Response", "ErrorMessage")},
        ]
    }
    return {
        "/sse": {
            "get": _operation(
                "table",
                "listen",
                "Events as a stream (server-sent events)",
                ["room", "cursor", "lastEventId"],
                [400, 401, 403, 429, 503],
                {"200": {"description": _STREAM, "content": {"text/event-stream": stream}}},
            )
        },
        "/poll": {
            "get": _operation(
                "table",
                "poll",
                "Events as they come, by long poll",
                ["room", "connection", "cursor", "lastEventId", "timeout"],
                [400, 401, 403, 429, 503],
                _content(
                    "What came after the cursor; a heartbeat if nothing did.", _ref("PollAnswer"), _MSGPACK
                ),
            )
        },
        "/rpc": {
            "post": _operation(
                "table",
                "send",
                "Messages of a client that reads by `/sse` or `/poll`",
                ["room", "connection"],
                [400, 401, 403, 413, 415, 429, 503],
                _content(
                    "The reply; for an array the replies in order. Events have none when all is well.",
                    reply,
                    _MSGPACK,
                ),
            )
            | {
                "requestBody": {
                    "required": True,
                    "content": {media: {"schema": message} for media in ("application/json", _MSGPACK)},
                }
            }
        },
    }


def _auth() -> Document:
    tokens = _content("A token, and what the next one is got with.", _ref("Tokens"))
    ended: Document = {"204": {"description": "Every gateway ends the session's connections within 2 s."}}
    ticket = _content("A ticket for `?ticket=`.", _ref("Ticket"))
    return {
        "/auth/token": _post(
            "getToken",
            "A token for anybody; in development only",
            tokens,
            "TokenRequest",
            _ANYBODY,
            400,
            404,
            413,
            415,
        ),
        "/auth/refresh": _post(
            "refreshToken",
            "A new token for a refresh token, which is thereby used up",
            tokens,
            "RefreshRequest",
            _ANYBODY,
            *(400, 401, 404, 413, 415),
        ),
        "/auth/ticket": _post(
            "getTicket", "A one-use ticket for who can set no header", ticket, None, _TOKEN, 401
        ),
        "/auth/logout": _post("logout", "End the session of the token", ended, None, _TOKEN, 400, 401),
    }


def _exports() -> Document:
    kinds = {
        "canvas.json": (
            "application/json",
            _ref("CanvasStateAnswer"),
            "The visible operations, in drawing order",
        ),
        "canvas.svg": ("image/svg+xml", {"type": "string"}, "The canvas as a vector drawing"),
        "canvas.png": ("image/png", {"contentMediaType": "image/png"}, "The canvas as a picture"),
        "activity.jsonl": (
            "application/jsonl",
            {"type": "string"},
            "The feed as the asker may see it, an `Activity` a line",
        ),
    }
    paths: Document = {}
    for name, (media, schema, text) in kinds.items():
        answer = {"200": {"description": f"{text}.", "content": {media: {"schema": schema}}}}
        ident = "export" + "".join(part.capitalize() for part in name.split("."))
        paths[f"/rooms/{{room}}/{name}"] = {
            "get": _operation("exports", ident, text, ["roomPath"], [400, 401, 403, 429, 503], answer)
        }
    return paths


def _operations() -> Document:
    health = {
        "type": "object",
        "properties": {
            "status": {"const": "alive"},
            "service": {"type": "string"},
            "uptime": {"type": "number"},
        },
    }
    ready = {
        "type": "object",
        "properties": {
            "status": {"enum": ["ready", "not ready"]},
            "service": {"type": "string"},
            "instance": {"type": "string"},
            "checks": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    text: Document = {
        "200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    documents = {"asyncapi": "The WebSocket, as AsyncAPI 3.0", "openapi": "This document"}
    paths = {
        "/healthz": ("isAlive", "Whether the process lives", _content("It does.", health)),
        "/readyz": (
            "isReady",
            "Whether NATS and all services answer; `?exclude=NAME`, once or more, leaves one out",
            {
                **_content("They do.", ready),
                "503": {"description": "One does not.", "content": {"application/json": {"schema": ready}}},
            },
        ),
        "/metrics": ("getMetrics", "Measurements for Prometheus", text),
        **{
            f"/{name}.json": (f"get{name.capitalize()}", said, _content(said + ".", {"type": "object"}))
            for name, said in documents.items()
        },
    }
    return {
        path: {"get": _operation("operations", ident, said, [], [], answers) | {"security": _ANYBODY}}
        for path, (ident, said, answers) in paths.items()
    }


# -- parts


def _ref(name: str) -> Document:
    return {"$ref": PREFIX + name}


def _any_of(*names: str) -> Document:
    return {"anyOf": [_ref(name) for name in names]}


def _operation(
    tag: str,
    ident: str,
    text: str,
    parameters: list[str],
    refusals: list[int],
    answers: Document | None = None,
) -> Document:
    named = (
        {"parameters": [{"$ref": f"#/components/parameters/{name}"} for name in parameters]}
        if parameters
        else {}
    )
    return {
        "tags": [tag],
        "operationId": ident,
        "summary": text,
        **named,
        "responses": {**(answers or {}), **_answers(*refusals)},
    }


def _post(
    ident: str, text: str, answers: Document, body: str | None, security: list[Any], *refusals: int
) -> Document:
    operation = _operation("auth", ident, text, [], [*refusals, 429], answers) | {"security": security}
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _ref(body)}}}
    return {"post": operation}


def _content(text: str, schema: Document, *more: str) -> Document:
    return {
        "200": {
            "description": text,
            "content": {media: {"schema": schema} for media in ("application/json", *more)},
        }
    }


def _answers(*statuses: int) -> Document:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in statuses}


def _refusals() -> Document:
    """One for each status of the error table, with its reasons."""
    found: dict[int, list[str]] = {}
    for reason, kind in errors.REASONS.items():
        if kind.error and kind.status >= 400:
            found.setdefault(kind.status, []).append(f"`{reason}` ({kind.meaning})")
    wait = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return {
        str(status): {
            "description": f"Refused: {', '.join(reasons)}.",
            **({"headers": wait} if status == 429 else {}),
            "content": {"application/json": {"schema": _ref("ErrorMessage")}},
        }
        for status, reasons in sorted(found.items())
    }
